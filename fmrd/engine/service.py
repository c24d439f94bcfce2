"""One started volume: the mirror, its copies in the background, and the verbs that change its plexes.

Verbs are one at a time per volume (``_verb``). What lets go of a plex runs by itself after its gate has closed:
record, wait for its last system call, fdatasync, stamp, record again, close.
"""

import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from fmrd.core import instant, snapshot
from fmrd.core.plex import Plex
from fmrd.core.states import PlexState
from fmrd.core.volume import Volume
from fmrd.engine.attach import Attacher
from fmrd.engine.checksums import Checksums
from fmrd.engine.context import Context
from fmrd.engine.copy_tasks import CopyTasks
from fmrd.engine.files import let_go
from fmrd.engine.open_plex import Lanes
from fmrd.engine.reattach import Reattacher
from fmrd.engine.release import Releaser
from fmrd.engine.starting import Opening
from fmrd.errors import Failed, FmrdError

log = logging.getLogger(__name__)


LAST_TRIES = 3


class Service:
    """``mirror`` serves the data; everything else here is administration."""

    def __init__(self, context: Context, opening: Opening) -> None:
        self.context = context
        self.mirror = opening.mirror
        self.home = opening.home
        self.lanes = opening.home.lanes
        self.open_count = 0
        self.copying = CopyTasks(self)
        self.attacher = Attacher(self)
        self.releaser = Releaser(self)
        self._stopping = trio.Event()
        self.reattacher = Reattacher(self, self._stopping)
        self.checksums = Checksums(self)
        if context.checksums:
            self.mirror.leaving = self.checksums.void
        self.ended = False
        self.gone = trio.Event()
        """Set when it has ended."""
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
            if plex.is_open and (plex.map.any() or plex.attaching) and not instant.is_instant(self.volume):
                self.copying.start(plex, self.copying.unfinished(plex))
        if self.volume.settings.auto_attach:
            self.context.nursery.start_soon(self._attach_those_that_answer)

    async def _attach_those_that_answer(self) -> None:
        for plex in list(self.volume.plexes):
            if plex.state in (PlexState.STALE, PlexState.IOFAIL) and not plex.excluded and not self._stopping.is_set():
                try:
                    await self.attacher.attach(plex)
                except (FmrdError, OSError) as error:
                    log.warning("volume %s: plex %s stays %s: %s", self.volume.name, plex.name, plex.state, error)
                    if plex.state is PlexState.IOFAIL:
                        self.reattacher.expect(plex)

    async def _clean_now_and_then(self) -> None:
        tick = self.volume.drl.end_tick()
        while True:
            with trio.move_on_after(self.context.clean_seconds):
                await self._stopping.wait()
                return
            tick, before = self.volume.drl.end_tick(), tick
            try:
                await self.mirror.clean(before)
                if self._stopping.is_set():
                    return
                self.copying.relieve()
                await self.renew_copies()
            except (FmrdError, OSError) as error:
                log.warning("volume %s is not settled yet: %s", self.volume.name, error)

    async def renew_copies(self) -> None:
        """Those that failed; an instant snapshot keeps none."""
        if not instant.is_instant(self.volume):
            await self.mirror.store.renew_copies()

    async def _renew_copies(self) -> None:
        try:
            await self.renew_copies()
        except FmrdError as error:
            log.warning("volume %s stops with a copy of the DCO that is behind: %s", self.volume.name, error)

    # Detach

    async def detach(self, plex: Plex, state: PlexState = PlexState.STALE) -> str | None:
        """Returns a notice when there was nothing to change. Refused('last_plex') by rule 9."""
        async with self.verb():
            self.must_have(plex)
            if plex.state is state:
                return f"nothing to change: {plex.name} is already {state}"
            halted = plex.is_open and await self.copying.halt(plex)
            try:
                if plex.is_open:
                    async with self.at_rest():
                        # Taken before the gate closes, so that one commit holds both: nothing writes to the file now.
                        stamp = await self.releaser.stamp(self.mirror.opened[plex.uuid])
                        failed = not plex.is_open  # meanwhile, by itself
                        self.volume.close_gate(plex, state)
                        plex.stamp = None if failed else stamp
                else:
                    failed = True
                    self.volume.close_gate(plex, state)
                if failed:
                    await self.mirror.store.commit()
                await self.mirror.until_recorded()
            except FmrdError:
                if halted and plex.is_open:
                    self.copying.start(plex, self.copying.unfinished(plex))
                raise
        with trio.move_on_after(self.timeout_seconds):  # a plex that hangs is let go of when it answers
            await self.releaser.wait(plex)
        return None

    def at_rest(self) -> "_AtRest":
        """Writes held and drained, all open plexes fdatasync'ed, maps durable, DRL cleared."""
        return _AtRest(self)

    def _gate_closed(self, plex: Plex) -> None:
        for task in self.context.tasks.running(self.volume.name, plex.name):
            task.abort()
        self.releaser.begin(plex)
        if plex.state is PlexState.IOFAIL:
            self.reattacher.expect(plex)

    # Plexes come and go

    async def dissociate(self, plex: Plex) -> None:
        """Out for good: association and map are gone, the file stays."""
        if plex.is_open:
            await self.detach(plex)
        async with self.verb():
            self._must_be_closed(plex)
            self.lanes_of(plex)
            await self.releaser.complete(plex)
            self.volume.remove_plex(plex)
            await self.mirror.store.commit()

    async def convert(self, plex: Plex) -> None:
        """A regular plex becomes a snapshot plex."""
        async with self.verb():
            self.must_have(plex)
            snapshot.convert(self.volume, plex)
            await self.mirror.store.commit()

    def must_have(self, plex: Plex) -> None:
        """Failed('plex_unknown') for one that left while a verb waited for its turn."""
        if plex not in self.volume.plexes:
            raise Failed("plex_unknown", f"plex {plex.name} left volume {self.volume.name} meanwhile")

    def _must_be_closed(self, plex: Plex) -> None:
        self.must_have(plex)
        if plex.is_open:
            raise Failed("plex_state", f"plex {plex.name} was attached meanwhile")

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

    def _is_settled(self) -> bool:
        """At a stop: nothing to recover, and a stamp of each plex that can have one (a disk that hangs gave none)."""
        opened = self.volume.open_plexes()
        stamped = all(p.stamp is not None or self.mirror.opened[p.uuid].backing.is_block for p in opened)
        return stamped and not self.volume.drl.count and self.volume.suspicion() is None

    async def close(self, *, stopped: bool) -> None:
        """Orderly stop: requests answered, copies halted, maps exact, stamps taken, files closed. ``stopped``: by the
        administrator, so that the daemon does not start it again by itself.
        """
        async with self.verb():
            self._stopping.set()
            await self.copying.halt_all()
            await self.mirror.quiesce()
            async with self.at_rest():
                for plex in list(self.volume.plexes):
                    if plex.is_open:
                        plex.stamp = await self.releaser.stamp(self.mirror.opened[plex.uuid])
                    elif plex.uuid in self.mirror.opened and not self.lanes[plex.uuid].outstanding:
                        await self.releaser.complete(plex)
                await self._renew_copies()
                settings = replace(self.volume.settings, stopped=stopped, settled=self._is_settled())
                self.volume.configure(settings)
                try:
                    await self._commit_at_last()
                finally:
                    await self.checksums.close()
                    self.end()

    async def _commit_at_last(self) -> None:
        """Nobody asks again later, and a suspicion that is not written down is forgotten: a passing error of the home
        copy does not decide.
        """
        for _ in range(LAST_TRIES - 1):
            with contextlib.suppress(Failed):
                await self.mirror.store.commit()
                return
        await self.mirror.store.commit()

    def give_up(self, uuid: str) -> None:
        """Of a plex that went to another volume: its files are let go of."""
        opened = self.mirror.opened.pop(uuid, None)
        if opened is not None:
            let_go(self.context, opened.lanes, opened)

    def resume(self) -> None:
        """What it was brought to rest for did not come to be."""
        self.mirror.resume()
        self.copying.resume()

    def end(self) -> None:
        """Nothing is done on it any more; the home copy is closed with the last of its family."""
        self._stopping.set()
        self.ended = self.mirror.ended = True
        self.gone.set()
        self.releaser.close_all()
        self.mirror.store.ledger.stores.pop(self.volume.settings.uuid, None)
        self.home.mirrors.pop(self.volume.settings.uuid, None)
        self.home.close_if_idle()


class _AtRest:
    """The whole volume held, and settled as far as its disks allow."""

    def __init__(self, service: Service) -> None:
        mirror = service.mirror
        self._mirror = mirror
        self._resting = False
        self._hold = mirror.ranges.hold((0, max(mirror.volume.geometry.length_bytes, 1)))

    async def __aenter__(self) -> None:
        await self._hold.__aenter__()
        try:
            await self._mirror.rest_lock.acquire()
            self._resting = True
            await self._settle()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise

    async def _settle(self) -> None:
        try:
            await self._mirror.sync()
            while await self._mirror.clean():
                pass
            await self._mirror.store.write_pages(self._mirror.volume.touched_pages())
        except FmrdError as error:
            log.warning("volume %s could not be settled: %s", self._mirror.volume.name, error)

    async def __aexit__(self, *details: object) -> None:
        if self._resting:
            self._mirror.rest_lock.release()
        await self._hold.__aexit__(None, None, None)
