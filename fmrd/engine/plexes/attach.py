"""A plex joins a started volume here (PROTOCOLS, "Join"): an attach, or a new plex. What it copies is joining.py's."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from fmrd.backing.calls.system_calls import ask
from fmrd.core.decisions import joining
from fmrd.core.decisions.joining import Decision
from fmrd.core.decisions.telling import telling_of
from fmrd.core.reasons import Reason
from fmrd.core.record import PlexRecord
from fmrd.core.records.parts import Failure
from fmrd.core.states import PlexState, TaskType
from fmrd.core.volume.plex import Plex
from fmrd.dco.rows.widening import make_room
from fmrd.engine.copies.carried import copy_of, name_owner
from fmrd.engine.events import telling
from fmrd.engine.far.redialing import is_lost, redial
from fmrd.engine.opening.closing import close
from fmrd.engine.opening.files import PlexFiles, compare, off_the_loop, open_plex, tail_bytes
from fmrd.engine.plexes.release import Releaser
from fmrd.engine.resync.copy_tasks import CopyTasks, Then
from fmrd.engine.running import Running
from fmrd.engine.tasks import Task
from fmrd.errors import Failed, FmrdError, Refused

log = logging.getLogger(__name__)


class Attacher:
    """An attacher joins plexes to one started volume."""

    def __init__(self, running: Running, copying: CopyTasks, releaser: Releaser) -> None:
        self._running = running
        self._copying = copying
        self._releaser = releaser

    async def decide(self, plex: Plex, *, full: bool = False, discard: bool = False, settled: bool = False) -> Decision:
        """What an attach would copy, and why; nothing changes."""
        self._running.must_have(plex)
        if plex.is_open:
            return self._decision_of_open(plex)
        await self._running.lanes_of(plex)
        async with self._running.verb():
            files = await self._reopen(plex, full=full)
            try:
                if not settled:
                    self._running.must_be_over(plex, files)
                return await self._decision(plex, files, full=full, discard=discard)
            finally:
                await close(self._running.context, files.lanes, files)

    async def attach(
        self, plex: Plex, *, full: bool = False, discard: bool = False, settled: bool = False, rate: int = 0,
        kind: TaskType | None = None, then: Then | None = None, still: Callable[[], bool] | None = None,
    ) -> tuple[Task, str | None]:  # fmt: skip
        """Join by PROTOCOLS, "Join". Return the task, and a notice if it was attached already. ``kind`` and ``then``
        are the task's (CopyTasks.start). Failed('plex_state') where ``still`` says no once it is this one's turn;
        Refused as joining.decide says; OSError or FmrdError where the plex cannot be had. Its gate stays closed then.
        """
        async with self._running.verb():
            self._running.must_have(plex)
            if still is not None and not still():
                raise Failed("plex_state", f"plex {plex.name} is {plex.state} meanwhile")
            try:
                return await self.attach_held(
                    plex, full=full, discard=discard, settled=settled, rate=rate, kind=kind, then=then
                )
            except (FmrdError, OSError) as error:
                if not plex.is_open and (plex.failure is None or getattr(error, "code", "") == Reason.SESSION_OPEN):
                    failure, before = Failure.by(error), plex.failure
                    since = before.since if before is not None else self._running.context.now()
                    plex.failure = failure and replace(failure, since=since)
                raise

    async def attach_held(
        self, plex: Plex, *, full: bool = False, discard: bool = False, settled: bool = False, rate: int = 0,
        kind: TaskType | None = None, then: Then | None = None,
    ) -> tuple[Task, str | None]:  # fmt: skip
        """The same for who has the verb lock."""
        running = self._running
        if plex.is_open:
            if is_lost(running, plex):
                await redial(running, plex, settled=settled)
            elif settled:
                running.home.lanes_of(plex.uuid, plex.name).settle()
            return self._attached_already(plex, rate)
        files = await self._reopen(plex, full=full)
        try:
            if not settled:
                running.must_be_over(plex, files)
            decision = await self._decision(plex, files, full=full, discard=discard)
            files.lanes.settle()
            await self._join(plex, files, decision)
        except BaseException:
            joined = running.mirror.opened.get(plex.uuid)
            if joined is None or joined.backing is not files.backing:
                await close(running.context, files.lanes, files)
            raise
        return self._copying.start(plex, (decision.code, decision.message), rate, kind, then), None

    def _decision_of_open(self, plex: Plex) -> Decision:
        """Holes, and what an earlier copy had to leave, unless a copy is at it."""
        running = self._running
        regions = 0 if running.volume.settings.is_instant or plex.lags else plex.map.count()
        if not regions or running.context.tasks.running(running.volume.name, plex.name):
            return Decision(Reason.NOTHING_MISSED, "it is attached", False, 0, 0)
        size = running.volume.geometry.bytes_in(regions, plex.map.has_last)
        return Decision(*self._copying.unfinished(plex), False, regions, size)

    def _attached_already(self, plex: Plex, rate: int) -> tuple[Task, str | None]:
        running = self._running
        decision = self._decision_of_open(plex)
        if decision.regions:
            return self._copying.start(plex, (decision.code, decision.message), rate), None
        if plex.attaching and not running.context.tasks.running(running.volume.name, plex.name):
            return self._copying.start(plex, self._copying.unfinished(plex), rate), None
        task = running.context.tasks.last(running.volume.name, plex.name)
        if task is None:
            reason = (Reason.NOTHING_MISSED, "it is attached")
            task = running.context.tasks.ended(TaskType.PLXATT, running.volume.name, plex.name, reason)
        return task, f"nothing to change: {plex.name} is already {plex.state}"

    async def _decision(self, plex: Plex, files: PlexFiles, *, full: bool, discard: bool) -> Decision:
        running = self._running
        family, volume, image = running.mirror.store.family, running.volume, files.image
        told = None
        if image is not None and not full:
            reading = telling_of(volume, family.record(family.sequence), image)
            told = await off_the_loop(running.context, volume.settings, reading.told)
        return joining.decide(
            volume, family.record(family.sequence), plex, image, files.stamp,
            is_block=files.backing.is_block, full=full, discard=discard, told=told,
        )  # fmt: skip

    async def _reopen(self, plex: Plex, *, full: bool) -> PlexFiles:
        """Its files, opened anew, after whatever is left of an earlier parting."""
        running = self._running
        running.must_have(plex)
        if plex.state is PlexState.OFFLINE:
            raise Refused(
                "plex_state", f"plex {plex.name} is OFFLINE", f"plex on {running.volume.name} {plex.name} first"
            )
        lanes = await running.lanes_of(plex)
        await self._releaser.complete(plex)
        await running.lanes_of(plex)
        tail = tail_bytes(running.volume.geometry)
        files = await open_plex(
            running.context, plex.path, plex.dco_path, lanes, tail, running.timeout_seconds, known=plex.tail,
            readable=not full, volume=running.volume.settings.uuid,
        )  # fmt: skip
        return await compare(running.context, files, () if full else (plex.stamp, files.left), running.timeout_seconds)

    async def _join(self, plex: Plex, files: PlexFiles, decision: Decision) -> None:
        running = self._running
        store, volume = running.mirror.store, running.volume
        family = store.family
        if files.backing.length < volume.geometry.length_bytes:
            length = volume.geometry.length_bytes
            await ask(
                running.context.system, files.lanes.data, partial(files.backing.extend, length), running.timeout_seconds
            )
            # A kill before the next record leaves a file that nobody stamped: it is copied in full then, and says so.
            longer = await ask(running.context.system, files.lanes.data, files.backing.stamp, running.timeout_seconds)
            plex.stamp = replace(longer, content=plex.stamp.content if plex.stamp is not None else (), ctime_ns=0)
        copy = await copy_of(
            running.context, files, plex.name, plex.uuid, family.uuid, volume.geometry, family.rows,
            plex.path, plex.dco_path, running.timeout_seconds,
        )  # fmt: skip
        plex.tail = copy.file.tail
        joining.inherit(plex, decision)
        theirs = files.record
        ours = theirs is not None and theirs.family == family.uuid
        if ours and theirs is not None and files.loaded is not None:
            family.sequence = max(family.sequence, theirs.sequence)
            ledger = store.ledger
            ledger.page_sequence = max(ledger.page_sequence, files.loaded.page_sequence)
        new = plex.has is None and plex.map.count() == len(plex.map)
        plex.has = theirs.position if ours and theirs is not None else None
        if new and not ours:  # or a crash before the copy is written would leave a plex that nothing names
            # Not one that was there before: its map is not full on home yet, and that would be believed of this disk.
            await name_owner(running.context, copy, store.ledger.last_record, running.timeout_seconds)
        left = plex.stamp
        plex.session = any(each.far for each in files.reaches)

        def open_gate() -> None:
            running.mirror.opened[plex.uuid] = files.with_dco(copy)
            volume.open_gate(plex)
            plex.failure = None
            telling.attached(running.context.events, volume, plex)

        # The record of the join has it closed, and data follows before the next one: its time of change is no sign of a
        # stranger then. What it misses is told by its map and by the DRL in its own copy, as of any plex at a crash.
        if left is not None:
            plex.stamp = replace(left, mtime_ns=0, since_ns=None, ctime_ns=0, content=())
        try:
            await store.join(plex, copy, open_gate)
        except BaseException as error:
            if not plex.is_open:
                plex.stamp = left
                running.note_session(plex)
                if left is not None and isinstance(error, FmrdError | OSError):
                    await self._unrecord()
            raise

    async def _unrecord(self) -> None:
        """A record that landed may tell of a plex that did not come."""
        try:
            await self._running.mirror.store.commit()
        except FmrdError as error:
            log.warning(
                "volume %s: the record still tells of a plex that did not come: %s", self._running.volume.name, error
            )

    async def add(
        self, path: str, dco_path: str | None, files: PlexFiles, rate: int = 0, *, snap: bool = False,
        then: Then | None = None,
    ) -> Task:  # fmt: skip
        """Join one more mirror on files just made, and copy all of it; ``snap``: to be broken off later; ``then`` is
        the task's. If it fails the plex is forgotten again, and the caller closes the files.
        """
        running = self._running
        async with running.verb():
            family = running.mirror.store.family
            await make_room(running.mirror.store.ledger, 1, running.volume)  # another verb may have had what was free
            record = PlexRecord(
                name=family.new_plex_name(running.volume), uuid=running.context.new_uuid(), path=path,
                dco_path=dco_path, state=PlexState.STALE, map=family.new_column(running.volume),
                reason=Reason.FULL_NEW_PLEX, snap=snap,
            )  # fmt: skip
            running.volume.add_plex(Plex(record, running.volume.geometry))
            plex = running.volume.plexes[-1]
            running.home.lanes[plex.uuid] = files.lanes
            decision = Decision(Reason.FULL_NEW_PLEX, f"plex {plex.name} is new: all of it is copied", True, 0, 0)
            try:
                await self._join(plex, files, decision)
            except BaseException as error:
                running.volume.remove_plex(plex)
                if isinstance(error, FmrdError | OSError):
                    await self._unrecord()
                raise
            return self._copying.start(plex, (decision.code, decision.message), rate, None, then)
