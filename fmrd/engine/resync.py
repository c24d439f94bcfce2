"""Drains a plex's map: runs of regions, copied inside the kernel, a few windows in flight, application I/O first.

A window is as many runs as make up its bytes, all copied in one thread hop, since a hop costs more than a region. It is
locked only while it is copied, so a resync never holds up a write for longer than one window takes. The map only
drains: a write to a region not copied yet skips the plex (or heals the region), so a resync always ends.
Every CHECKPOINT_BYTES or CHECKPOINT_SECONDS the plex is fdatasync'ed and its map written, which bounds what a crash
makes it copy again (rule 2b), and the last checkpoint is what allows the promotion (rule 6).
"""

from dataclasses import dataclass, field
from functools import partial

import trio

from fmrd.backing.hops import Call, Outcome
from fmrd.backing.protocol import Backing, SourceError
from fmrd.core.plex import Plex
from fmrd.engine.mirror import Mirror
from fmrd.engine.tasks import Task
from fmrd.errors import FmrdError

WINDOW_BYTES = 4 << 20
LONG_WINDOW_BYTES = 32 << 20
"""While the application is idle, and a window of half that size took less than QUICK_SECONDS."""
QUICK_SECONDS = 0.02
WINDOWS = 2
"""Windows in flight: one copies while the other looks for holes. More did not copy faster on two cores."""
CHECKPOINT_BYTES = 256 << 20
CHECKPOINT_SECONDS = 5.0
PATIENCE = 3
"""Passes without any gain after which the rest counts as unreadable."""
GIVE_WAY_SECONDS = 0.05
"""The longest pause after a window while the application is busy; a pause is never longer than the copy was, so a
resync keeps at least half of its speed and gains on any load."""


@dataclass
class Resync:
    """One drain of one plex. ``run`` returns None, or (code, message) of what stopped it."""

    mirror: Mirror
    plex: Plex
    task: Task
    _cursor: int = 0
    _window_bytes: int = 0
    _served: int = 0
    _unsynced_bytes: int = 0
    _since: float = 0.0
    _generation: int = 0
    _failure: tuple[str, str] | None = None
    _stuck: dict[int, str] = field(default_factory=dict)
    """Regions that no source could serve, and why."""

    async def run(self) -> tuple[str, str] | None:
        self._generation = self.plex.generation
        self._since = trio.current_time()
        self._window_bytes = WINDOW_BYTES
        geometry = self.mirror.volume.geometry
        regions = self.plex.map.count()
        self.task.total_regions = regions
        self.task.total_bytes = geometry.bytes_in(regions, bool(self.plex.map.bits[-1]))
        if not self.plex.home_open:
            await self.mirror.store.commit()
        fruitless = 0
        while self._goes_on():
            before = self.plex.map.count()
            await self._drain()
            if self._goes_on():
                await self.checkpoint()
            if not self._goes_on() or await self._arrived():
                break
            fruitless = fruitless + 1 if self.plex.map.count() >= before else 0
            if fruitless == PATIENCE:
                self._fail(*self._unreadable())
        return self._failure

    async def _drain(self) -> None:
        """One pass over the map."""
        self._cursor = 0
        async with trio.open_nursery() as nursery:
            for _ in range(WINDOWS):
                nursery.start_soon(self._worker)

    def _goes_on(self) -> bool:
        return (
            self._failure is None
            and not self.task.aborting
            and self.plex.is_open
            and self.plex.generation == self._generation
        )

    async def _worker(self) -> None:
        while self._goes_on():
            await self.task.while_paused()
            runs = self._next_runs()
            if not runs or not self._goes_on():
                return
            began = trio.current_time()
            copied = await self._window(runs)
            seconds = trio.current_time() - began
            self._adapt(copied, seconds)
            if self._due():
                await self.checkpoint()
            await self._give_way(copied, seconds)

    def _next_runs(self) -> list[range]:
        """What one window copies; the cursor moves behind it."""
        most = max(1, self._limit() // self.mirror.volume.geometry.region_bytes)
        runs: list[range] = []
        while most and (run := self.plex.map.next_run(self._cursor, most)) is not None:
            runs.append(run)
            self._cursor = run.stop
            most -= len(run)
        return runs

    def _limit(self) -> int:
        """Bytes of the next window: a rate is kept by small steps."""
        rate = self._rate()
        return min(self._window_bytes, rate // 8) if rate else self._window_bytes

    def _rate(self) -> int:
        return self.task.rate or self.mirror.volume.settings.rate

    def _adapt(self, copied: int, seconds: float) -> None:
        """Longer windows while nobody waits for them, so that waking a thread up costs little beside the copy."""
        load = self.mirror.load
        busy = load.requests > 0 or load.served != self._served
        self._served = load.served
        if busy or seconds > QUICK_SECONDS:
            self._window_bytes = WINDOW_BYTES
        elif copied >= self._window_bytes:
            self._window_bytes = min(2 * self._window_bytes, LONG_WINDOW_BYTES)

    async def _window(self, runs: list[range]) -> int:
        """Copy what is still missing of these regions; returns the bytes they hold."""
        bytes_of = self.mirror.volume.geometry.bytes_of
        spans = [(offset, offset + length) for offset, length in map(bytes_of, runs)]
        async with self.mirror.ranges.hold(*spans):
            parts = [part for run in runs for part in self._missing(run)]
            if not parts or not self._goes_on():
                return 0
            if len(parts) > 1 and (source := self._source_of_all(parts)) is not None:
                outcome = await self._transfer(source, parts)
                if not isinstance(outcome.error, SourceError):
                    return self._settle(parts, outcome)
            return sum([await self._copy(part) for part in parts])

    def _missing(self, run: range) -> list[range]:
        """What writes have not healed while the window waited for its lock."""
        parts = []
        at = run.start
        while at < run.stop and (part := self.plex.map.next_run(at, run.stop - at)) is not None:
            at = min(part.stop, run.stop)
            if part.start < at:
                parts.append(range(part.start, at))
        return parts

    def _source_of_all(self, parts: list[range]) -> Plex | None:
        """One plex that is current from the first to the last of these regions, as one in sync is."""
        volume = self.mirror.volume
        span = range(parts[0].start, parts[-1].stop)
        current = [p for p in volume.plexes if p is not self.plex and p.is_current(span)]
        return volume.policy.choose(current, *volume.geometry.bytes_of(span)) if current else None

    async def _copy(self, regions: range) -> int:
        """One run under the lock; a source that cannot be read is tried around region by region."""
        volume = self.mirror.volume
        offset, length = volume.geometry.bytes_of(regions)
        tried: list[Plex] = []
        while self._goes_on():
            try:
                [source, *more] = volume.plan_read(offset, length, without=(self.plex, *tried))
            except FmrdError as error:
                if len(regions) > 1:
                    return await self._one_by_one(regions)
                self._stuck[regions.start] = error.message
                return 0
            if more:
                return await self._one_by_one(regions)
            outcome = await self._transfer(source.plex, [regions])
            if not isinstance(outcome.error, SourceError):
                return self._settle([regions], outcome)
            source.plex.errors += 1
            tried.append(source.plex)
        return 0

    async def _transfer(self, source: Plex, parts: list[range]) -> Outcome:
        """Copy these in one hop. An outcome without a value: it may have been copied, and does not count."""
        target, origin = self.mirror.disks[self.plex.uuid], self.mirror.disks[source.uuid]
        spans = [self.mirror.volume.geometry.bytes_of(part) for part in parts]
        call = Call(target.lane, partial(_copy_spans, target.backing, origin.backing, spans))
        dropped = self.plex.dropped
        origin.lane.enter()
        try:
            [outcome] = await self.mirror.hops.in_turn([call], self.mirror.timeout_seconds)
        finally:
            origin.lane.leave()
        if not self._goes_on():
            return Outcome()
        if outcome.error is None and not all(self.mirror.volume.copied(self.plex, part, dropped) for part in parts):
            return Outcome()
        return outcome

    def _settle(self, parts: list[range], outcome: Outcome) -> int:
        """Account for a transfer that did not fail on its reading side; returns the bytes it brought."""
        if outcome.error is not None:
            self._target_failed(outcome.error)
        if not isinstance(outcome.value, int):
            return 0
        length = sum(self.mirror.volume.geometry.bytes_of(part)[1] for part in parts)
        self._unsynced_bytes += length
        self.task.progressed(sum(map(len, parts)), length, outcome.value)
        return length

    async def _one_by_one(self, regions: range) -> int:
        return sum([await self._copy(range(r, r + 1)) for r in regions])

    def _target_failed(self, error: Exception) -> None:
        sentence = self.mirror.volume.fail_plex(self.plex, error)
        self._fail("io_error", sentence or f"plex {self.plex.name}: {error}")

    def _fail(self, code: str, message: str) -> None:
        self._failure = self._failure or (code, message)

    def _unreadable(self) -> tuple[str, str]:
        volume = self.mirror.volume
        why = next(iter(self._stuck.values()), "nobody holds them")
        message = f"{self.plex.map.count()} region(s) cannot be read from any other plex: {why}"
        if self.plex.attaching:
            volume.fail_plex(self.plex, message)
        return "io_error", f"plex {self.plex.name}: {message}"

    def _due(self) -> bool:
        late = trio.current_time() - self._since >= CHECKPOINT_SECONDS
        return self._unsynced_bytes >= CHECKPOINT_BYTES or (late and self._unsynced_bytes > 0)

    async def checkpoint(self) -> None:
        """What was copied so far stays copied, also after a crash: fdatasync, then the map."""
        self._unsynced_bytes = 0
        self._since = trio.current_time()
        await self.mirror.sync(self.plex)
        await self.mirror.recorded()
        await self.mirror.store.write_pages(self.mirror.volume.touched_pages())

    async def _arrived(self) -> bool:
        """Rule 6: in sync, and recorded so, when nothing is missing and nothing unsynced."""
        volume = self.mirror.volume
        if self.plex.map.any():
            return False
        if volume.promote(self.plex):
            await self.mirror.store.commit()
            return True
        if self.plex.attaching:
            return False
        if self.plex.settled:
            volume.recovered(self.plex)
        return True

    async def _give_way(self, copied: int, seconds: float) -> None:
        """Rate limit, and room for the application."""
        pause = 0.0
        if self.mirror.load.requests:
            pause = min(seconds, GIVE_WAY_SECONDS)
        rate = self._rate()
        if rate:
            pause = max(pause, copied * WINDOWS / rate - seconds)
        if pause > 0 and self._goes_on():
            changed = self.task.changed
            with trio.move_on_after(pause):
                await changed.wait()


def _copy_spans(target: Backing, source: Backing, spans: list[tuple[int, int]]) -> int:
    """On a worker thread."""
    return sum([target.copy_from(source, offset, length) for offset, length in spans])
