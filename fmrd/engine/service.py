"""One started volume: the mirror, its copies in the background, and the verbs that change its plexes.

Verbs are one at a time per volume (``_verb``). What lets go of a plex runs by itself after its gate has closed:
record, wait for its last system call, fdatasync, stamp, record again, close.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import trio

from fmrd.backing.hops import Lane, ask
from fmrd.backing.protocol import Backing, DcoFile
from fmrd.core.plex import Plex
from fmrd.core.states import PlexState
from fmrd.core.volume import Volume
from fmrd.engine.context import Context
from fmrd.engine.files import Lanes, dco_bytes
from fmrd.engine.joins import Joins
from fmrd.engine.opening import Opening
from fmrd.engine.partings import Partings
from fmrd.engine.resync import Resync
from fmrd.engine.tasks import Task
from fmrd.errors import Failed, FmrdError

log = logging.getLogger(__name__)


class Service:
    """``mirror`` serves the data; everything else here is administration."""

    def __init__(self, context: Context, opening: Opening) -> None:
        self.context = context
        self.mirror = opening.mirror
        self.lanes = opening.lanes
        self.files = opening.files
        self.open_count = 0
        self.joins = Joins(self)
        self.partings = Partings(self)
        self.ended = False
        self._stopping = trio.Event()
        self._verb = trio.Lock()
        self.volume.gate_closed = self._gate_closed

    @property
    def volume(self) -> Volume:
        return self.mirror.volume

    @property
    def timeout_seconds(self) -> float:
        return self.mirror.timeout_seconds

    @asynccontextmanager
    async def verb(self) -> AsyncIterator[None]:
        """One verb at a time, and none on a volume that was stopped while it waited."""
        async with self._verb:
            if self.ended:
                raise Failed("volume_stopped", f"volume {self.volume.name} was stopped meanwhile")
            yield

    def lanes_of(self, plex: Plex) -> Lanes:
        """Failed('plex_hung') while a call on a plex that is out has not returned: a write that lands after a join
        would overwrite newer bytes.
        """
        lanes = self.lanes.setdefault(plex.uuid, Lanes(plex.name))
        if lanes.outstanding and not plex.is_open:
            raise Failed("plex_hung", f"plex {plex.name}: {lanes.outstanding} system call(s) have not returned yet")
        return lanes

    def start(self) -> None:
        """Go on where a stop or a crash left off: drains, returning plexes, and the cleaning of the DRL."""
        self.context.nursery.start_soon(self._clean_now_and_then)
        for plex in self.volume.plexes:
            if plex.is_open and (plex.map.any() or plex.attaching):
                self.drain(plex, self.unfinished(plex))
        if self.volume.settings.auto_attach:
            self.context.nursery.start_soon(self._attach_those_that_answer)

    def unfinished(self, plex: Plex) -> tuple[str, str]:
        """Why an open plex still has something in its map, or is not recorded in sync: (reason code, sentence)."""
        count = plex.map.count()
        if not count:
            return "nothing_missed", f"plex {plex.name} only has to be recorded in sync"
        if plex.reason == "recovery":
            return "recovery", f"plex {plex.name}: {count} region(s) were being written when the volume went down"
        if plex.state is PlexState.ACTIVE:
            return "hole", f"plex {plex.name}: {count} region(s) failed on it, and are copied back from the others"
        code = plex.reason if plex.reason.startswith("full_") else "fast"
        return code, f"plex {plex.name} goes on with the {count} region(s) that it still misses"

    async def _attach_those_that_answer(self) -> None:
        for plex in list(self.volume.plexes):
            if plex.state in (PlexState.STALE, PlexState.IOFAIL) and not plex.excluded and not self._stopping.is_set():
                try:
                    await self.joins.attach(plex)
                except (FmrdError, OSError) as error:
                    log.warning("volume %s: plex %s stays %s: %s", self.volume.name, plex.name, plex.state, error)

    async def _clean_now_and_then(self) -> None:
        tick = self.volume.drl.tick
        while True:
            with trio.move_on_after(self.context.clean_seconds):
                await self._stopping.wait()
                return
            tick, before = self.volume.drl.tick, tick
            try:
                await self.mirror.clean(before)
                self._relieve()
            except (FmrdError, OSError) as error:
                log.warning("volume %s: the DRL was not cleaned: %s", self.volume.name, error)

    # Copies

    def drain(self, plex: Plex, reason: tuple[str, str], rate: int = 0) -> Task:
        """Start copying to an open plex what its map holds."""
        kind = "PLXATT" if plex.state is PlexState.TEMP else "RDWRBACK"
        task = self.context.tasks.new(kind, self.volume.name, plex.name, reason, rate)
        task.total_regions = plex.map.count()
        task.total_bytes = self.volume.geometry.bytes_in(task.total_regions, bool(plex.map.bits[-1]))
        self.context.nursery.start_soon(self._drain, plex, task)
        return task

    async def _drain(self, plex: Plex, task: Task) -> None:
        log.info(
            "volume %s: task %d, plex %s: %s (%s)", self.volume.name, task.id, plex.name, task.reason[1], task.reason[0]
        )
        try:
            problem = await self._drain_in_turn(plex, task)
        except (FmrdError, OSError) as error:
            problem = (getattr(error, "code", "io_error"), str(error))
        if problem is None and plex.is_open and not plex.map.any() and not plex.attaching:
            task.end("done")
            self._relieve()
        elif problem is None:
            task.end("aborted")
        else:
            log.warning("volume %s: task %d failed: %s", self.volume.name, task.id, problem[1])
            task.end("failed", problem)

    def _relieve(self) -> None:
        """What a failed flush left suspect is copied back once another plex holds it, or was written anew: go on."""
        for plex in self.volume.open_plexes():
            if self.context.tasks.running(self.volume.name, plex.name):
                continue
            if self.volume.relieve(plex) or (plex.attaching and plex.settled):
                self.drain(plex, self.unfinished(plex))

    async def _drain_in_turn(self, plex: Plex, task: Task) -> tuple[str, str] | None:
        """One copy a disk at a time; a paused one lets others go first."""
        resync = Resync(self.mirror, plex, task)
        while True:
            await task.while_paused()
            async with self._turn(task):
                problem = await resync.run()
            if not resync.waits:
                return problem

    @asynccontextmanager
    async def _turn(self, task: Task) -> AsyncIterator[None]:
        """The locks of every disk that the copy touches, taken in one order by all; without them if it was aborted."""
        held: list[trio.Lock] = []
        try:
            with task.unless_aborted():
                for name in sorted({disk.backing.disk for disk in self.mirror.disks.values()}):
                    lock = self.context.disks[name]
                    await lock.acquire()
                    held.append(lock)
            yield
        finally:
            for lock in held:
                lock.release()

    async def halt(self, plex: Plex) -> bool:
        """Stop the copy to this plex, if there is one, and wait for it; its map is kept."""
        tasks = self.context.tasks.running(self.volume.name, plex.name)
        for task in tasks:
            task.abort()
        for task in tasks:
            await task.finished.wait()
        return bool(tasks)

    # Detach

    async def detach(self, plex: Plex, state: PlexState = PlexState.STALE) -> str | None:
        """Returns a notice when there was nothing to change. Refused('last_plex') by rule 9."""
        async with self.verb():
            if plex.state is state:
                return f"nothing to change: {plex.name} is already {state}"
            halted = plex.is_open and await self.halt(plex)
            try:
                if plex.is_open:
                    async with self.at_rest():
                        # Taken before the gate closes, so that one commit holds both: nothing writes to the file now.
                        stamp = await self.partings.stamp(self.files[plex.uuid])
                        failed = not plex.is_open  # meanwhile, by itself
                        self.volume.close_gate(plex, state)
                        plex.stamp = None if failed else stamp
                else:
                    failed = True
                    self.volume.close_gate(plex, state)
                if failed:
                    await self.mirror.store.commit()
                await self.mirror.recorded()
            except FmrdError:
                if halted and plex.is_open:
                    self.drain(plex, self.unfinished(plex))
                raise
        with trio.move_on_after(self.timeout_seconds):  # a plex that hangs is let go of when it answers
            await self.partings.wait(plex)
        return None

    def at_rest(self) -> "_AtRest":
        """Writes held and drained, all open plexes fdatasync'ed, maps durable, DRL cleared."""
        return _AtRest(self)

    def _gate_closed(self, plex: Plex) -> None:
        for task in self.context.tasks.running(self.volume.name, plex.name):
            task.abort()
        self.partings.begin(plex)

    # Plexes come and go

    async def dissociate(self, plex: Plex) -> None:
        """Out for good: association and map are gone, the file stays."""
        if plex.is_open:
            await self.detach(plex)
        async with self.verb():
            self._must_be_closed(plex)
            self.lanes_of(plex)
            await self.partings.complete(plex)
            self.volume.remove_plex(plex)
            await self.mirror.store.commit()

    def _must_be_closed(self, plex: Plex) -> None:
        if plex.is_open or plex not in self.volume.plexes:
            raise Failed("plex_state", f"plex {plex.name} was attached or dissociated meanwhile")

    async def set_state(self, plex: Plex, state: PlexState) -> None:
        """OFFLINE -> STALE."""
        async with self.verb():
            self._must_be_closed(plex)
            self.volume.close_gate(plex, state)
            plex.excluded = False
            await self.mirror.store.commit()

    # Settings, length, end

    async def configure(self, **changes: object) -> None:
        """Settings of the record; 'fmr' also frees the maps."""
        async with self.verb():
            fmr = changes.pop("fmr", None)
            self.volume.configure(replace(self.volume.settings, **changes))  # type: ignore[arg-type]  # checked by the caller
            if fmr is not None:
                self.volume.set_fmr(bool(fmr))
            self.mirror.store.timeout_seconds = self.timeout_seconds
            await self.mirror.store.commit()

    async def grow(self, length_bytes: int) -> None:
        """Longer, online: files first (sparse), then the copies of the DCO, then the record."""
        async with self.verb(), self.at_rest():
            geometry = replace(self.volume.geometry, length_bytes=length_bytes).check()
            size = dco_bytes(geometry, self.mirror.family.columns)
            for plex in self.volume.open_plexes():
                files = self.files[plex.uuid]
                await self._extend(plex.name, files.lanes.data, files.backing, length_bytes)
                if files.dco is not None:
                    await self._extend(f"the DCO of {plex.name}", files.lanes.dco, files.dco, size)
            home = self.mirror.store.home
            await self._extend("the home copy of the DCO", home.lane, home.file, size)
            self.volume.grow(length_bytes)
            await self.mirror.store.commit(everything=True)

    async def _extend(self, what: str, lane: Lane, file: Backing | DcoFile, length_bytes: int) -> None:
        try:
            await ask(self.context.hops, lane, partial(file.extend, length_bytes), self.timeout_seconds)
        except OSError as error:
            raise Failed("io_error", f"volume {self.volume.name}: {what} cannot grow: {error}") from error

    async def close(self, *, stopped: bool) -> None:
        """Orderly stop: requests answered, copies halted, maps exact, stamps taken, files closed. ``stopped``: by the
        administrator, so that the daemon does not start it again by itself.
        """
        async with self.verb():
            self._stopping.set()
            for plex in self.volume.plexes:
                await self.halt(plex)
            await self.mirror.drain()
            async with self.at_rest():
                for plex in list(self.volume.plexes):
                    if plex.is_open:
                        plex.stamp = await self.partings.stamp(self.files[plex.uuid])
                    elif plex.uuid in self.files and not self.lanes[plex.uuid].outstanding:
                        await self.partings.complete(plex)
                settled = not self.volume.drl.count and self.volume.suspicion() is None
                self.mirror.family.settled = settled
                self.volume.configure(replace(self.volume.settings, stopped=stopped))
                try:
                    await self.mirror.store.commit()
                finally:
                    self.ended = self.mirror.ended = True
                    self.partings.close_all()


class _AtRest:
    """The whole volume held, and settled as far as its disks allow."""

    def __init__(self, service: Service) -> None:
        mirror = service.mirror
        self._mirror = mirror
        self._hold = mirror.ranges.hold((0, max(mirror.volume.geometry.length_bytes, 1)))

    async def __aenter__(self) -> None:
        await self._hold.__aenter__()
        try:
            await self._mirror.sync()
            while await self._mirror.clean():
                pass
            await self._mirror.store.write_pages(self._mirror.volume.touched_pages())
        except FmrdError as error:
            log.warning("volume %s could not be settled: %s", self._mirror.volume.name, error)
        except BaseException:
            await self._hold.__aexit__(None, None, None)
            raise

    async def __aexit__(self, *details: object) -> None:
        await self._hold.__aexit__(None, None, None)
