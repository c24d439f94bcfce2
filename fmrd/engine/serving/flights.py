"""Requests that begin in the step in which they are asked for, and end by a callback: no task, no thread, no wait.

They may where nothing has to be waited for first (quick.py asks that), and where every plex that takes part can end its
calls so (Backing.begins), or does not block. A write under way counts in the load, holds its bytes, and has its extents
pending, as one that a task carries through requests.py; nobody can tell them apart. All plexes begin before any has
ended, far ones first. Only what failed, or must wait for the record of what another one met (rule 5), becomes work for
a task.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import perf_counter_ns

from fmrd.backing.calls.fan import Fan
from fmrd.backing.calls.system_calls import Outcome
from fmrd.core.measures.latency import MANY, SAMPLE
from fmrd.core.plans import FINE, ReadPart, SyncPlan, WritePlan
from fmrd.core.volume import flushing
from fmrd.engine.far import together
from fmrd.engine.serving import reading
from fmrd.engine.serving.mirror import Mirror
from fmrd.engine.serving.ranges import Claim

Written = Callable[[int | Exception], None]
"""Told how many bytes were written, or what went wrong."""
Read = Callable[[memoryview | bytes | Exception], None]
"""Told what was read, or what went wrong."""
Flushed = Callable[[Exception | None], None]
"""Told that it is durable, or what went wrong."""
Start = Callable[[Callable[[], Awaitable[None]]], object]
"""This has a task do that."""

KEPT_BYTES = 32 << 10
"""From here on a buffer of its own costs less than a copy."""


class Flights:
    """These are the requests of one open volume that began so. ``start`` has a task do what has to wait; ``changed`` is
    called when one has ended, before that is told.
    """

    def __init__(self, mirror: Mirror, start: Start, changed: Callable[[], None]) -> None:
        self._mirror = mirror
        self._start = start
        self._changed = changed
        self._begun = 0

    def begin(self, offset: int, data: bytes | memoryview, done: Written) -> bool | None:
        """Write bytes that nobody holds, on extents that are durable in the DRL. None: nothing was done, for some
        plex that takes part waits in a thread, or for a write that may land yet. True: ``data`` is referred to until
        no disk reads it any more, and must stay as it is until then.
        """
        mirror, length = self._mirror, len(data)
        plan = mirror.volume.choose_targets(offset, length)
        span = ((offset, offset + length),)
        opened = mirror.opened
        disks, whole = [], True
        for target in plan.targets:
            disk = opened[target.plex.uuid]
            if not (disk.begins or disk.inline) or (disk.lane.late and disk.late(span)):
                return None
            whole = whole and disk.begins and target.parts[0][1] == length
            disks.append(disk)
        if not plan.targets:
            return None
        self._begun += 1
        many = mirror.load.requests >= MANY
        weight = 0 if many and self._begun % SAMPLE else SAMPLE if many else 1
        began = perf_counter_ns() if weight else 0
        keeps = length >= KEPT_BYTES
        kept = data if keeps else bytes(data)  # whoever asks has its buffer back at once
        for target in plan.targets:
            target.plex.writes += 1
            target.plex.write_bytes += length if whole else sum([size for _, size in target.parts])
        self.hold(plan, span)
        landed = partial(self._landed, plan, span, done, began, weight)
        if whole:
            mirror.system.begin(Fan(disks, offset, kept, weight), mirror.timeout_seconds, landed)
        else:
            view = memoryview(kept)
            calls = [
                disk.writing_parts([(at, view[at - offset : at - offset + size]) for at, size in target.parts], weight)
                for disk, target in zip(disks, plan.targets, strict=True)
            ]
            together.begin(mirror.system, calls, mirror.timeout_seconds, landed)
        return keeps

    def read(self, part: ReadPart, done: Read) -> bool:
        """Begin to read what the caller found to be settled there. False: nothing was done, it waits in a thread."""
        mirror = self._mirror
        if not mirror.opened[part.plex.uuid].begins:
            return False
        reader, call = reading.asking(mirror, part)
        mirror.load.requests += 1
        mirror.system.begin([call], mirror.timeout_seconds, partial(self._read, part, reader, done, perf_counter_ns()))
        return True

    def _read(
        self, part: ReadPart, reader: reading.Reader, done: Read, began: int, outcomes: Sequence[Outcome]
    ) -> None:
        met, reads = outcomes[0].error, self._mirror.load.reads
        if met is None:
            reads.ended(part.length, perf_counter_ns() - began)
            self._mirror.load.left()
            done(reader.buffer)
            return

        async def by_others() -> None:
            try:
                with self._mirror.load.entered():
                    found = await reading.read_part(self._mirror, part, met=met)
            except Exception as error:
                reads.ended(part.length, perf_counter_ns() - began, failed=True)
                done(error)
            else:
                reads.ended(part.length, perf_counter_ns() - began)
                done(found)

        self._start(by_others)

    def flush(self, done: Flushed) -> bool:
        """Begin a round of fdatasyncs of every plex that a flush must reach; False: nothing was done, for one of them
        waits in a thread, or another round is under way, which proves nothing of what was written since it began.
        """
        mirror = self._mirror
        plexes = mirror.volume.to_flush()
        for plex in plexes:
            if not mirror.opened[plex.uuid].begins:
                return False
        if not plexes or not mirror.turns.take_now(plexes):
            return False
        mirror.load.requests += 1
        plan = mirror.volume.begin_sync(plexes)
        calls = [mirror.opened[target.plex.uuid].syncing() for target in plan.targets]
        synced = partial(self._synced, plan, done, perf_counter_ns())
        together.begin(mirror.system, calls, mirror.timeout_seconds, synced)
        return True

    def _synced(self, plan: SyncPlan, done: Flushed, began: int, outcomes: Sequence[Outcome]) -> None:
        mirror, volume, flushes = self._mirror, self._mirror.volume, self._mirror.load.flushes
        errors: dict[str, Exception] = {}
        for target, outcome in zip(plan.targets, outcomes, strict=True):
            if outcome.error is not None:
                errors[target.plex.uuid] = outcome.error
        verdict = volume.end_sync(plan, errors)
        told = flushing.to_tell(volume, verdict.error)
        mirror.turns.give_back([target.plex for target in plan.targets])
        for sentence in verdict.events:
            mirror.say(sentence)
        if volume.demotions_recorded >= volume.demotions:
            mirror.load.left()
            flushes.ended(0, perf_counter_ns() - began, failed=told is not None)
            done(told)
            return

        async def recorded() -> None:
            try:
                with mirror.load.entered():
                    await mirror.until_recorded()
            except Exception as error:
                flushes.ended(0, perf_counter_ns() - began, failed=True)
                done(error)
            else:
                flushes.ended(0, perf_counter_ns() - began, failed=told is not None)
                done(told)

        self._start(recorded)

    def hold(self, plan: WritePlan, span: Claim) -> None:
        """From here on the write is under way."""
        self._mirror.volume.drl.enter(plan.extents)
        self._mirror.ranges.take(span)
        self._mirror.load.requests += 1

    def failed(self, plan: WritePlan, span: Claim, errors: dict[str, Exception], done: Written, began: int) -> None:
        """Have a write that is held judged, and answered. ``errors`` is by plex uuid; ``began`` in ns, when it came."""
        writes = self._mirror.load.writes

        async def judged() -> None:
            try:
                await self._judge(plan, span, errors)
            except Exception as error:
                writes.ended(plan.length, perf_counter_ns() - began, failed=True)
                self._changed()
                done(error)
            else:
                writes.ended(plan.length, perf_counter_ns() - began)
                self._changed()
                done(plan.length)

        self._start(judged)

    async def _judge(self, plan: WritePlan, span: Claim, errors: dict[str, Exception]) -> None:
        mirror = self._mirror
        with mirror.load.entered():
            try:
                verdict = await mirror.judge_entered(plan, errors)
            finally:
                mirror.ranges.release(span)
            await mirror.answer(verdict)

    def _landed(
        self, plan: WritePlan, span: Claim, done: Written, began: int, weight: int, outcomes: Sequence[Outcome]
    ) -> None:
        mirror, volume = self._mirror, self._mirror.volume
        errors: dict[str, Exception] = {}
        for at, outcome in enumerate(outcomes):
            if outcome.error is not None:
                errors[plan.targets[at].plex.uuid] = outcome.error
        if errors or volume.demotions_recorded < volume.demotions or volume.end_write(plan, errors) != FINE:
            self.failed(plan, span, errors, done, began or perf_counter_ns())
            return
        if mirror.unreadable.spans:
            mirror.unreadable.remove(plan.offset, plan.offset + plan.length)
        volume.drl.leave(plan.extents)
        mirror.ranges.release(span)
        mirror.load.left()
        writes = mirror.load.writes
        writes.count += 1
        writes.bytes += plan.length
        if began:
            writes.latency.add(perf_counter_ns() - began, weight)
        self._changed()
        done(plan.length)
