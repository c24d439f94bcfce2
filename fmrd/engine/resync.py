"""Drains a plex's map: runs of regions, copied inside the kernel, a few windows in flight, application I/O first.

A window is locked only while it is copied, so a resync never holds up a write for longer than one window takes. The map
only drains: a write to a region not copied yet skips the plex (or heals the region), so a resync always ends.
Every CHECKPOINT_BYTES or CHECKPOINT_SECONDS the plex is fdatasync'ed and its map written, which bounds what a crash
makes it copy again (rule 2b), and the last checkpoint is what allows the promotion (rule 6).
"""

from dataclasses import dataclass, field
from functools import partial

import trio

from fmrd.backing.hops import Call
from fmrd.backing.protocol import SourceError
from fmrd.core.plex import Plex
from fmrd.engine.mirror import Mirror
from fmrd.engine.tasks import Task
from fmrd.errors import FmrdError

WINDOW_BYTES = 4 << 20
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
    _unsynced_bytes: int = 0
    _since: float = 0.0
    _generation: int = 0
    _failure: tuple[str, str] | None = None
    _stuck: dict[int, str] = field(default_factory=dict)
    """Regions that no source could serve, and why."""

    async def run(self) -> tuple[str, str] | None:
        self._generation = self.plex.generation
        self._since = trio.current_time()
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
        window = max(1, WINDOW_BYTES // self.mirror.volume.geometry.region_bytes)
        while self._goes_on():
            await self.task.while_paused()
            run = self.plex.map.next_run(self._cursor, window)
            if run is None or not self._goes_on():
                return
            self._cursor = run.stop
            began = trio.current_time()
            copied = await self._window(run)
            if self._due():
                await self.checkpoint()
            await self._give_way(copied, trio.current_time() - began)

    async def _window(self, run: range) -> int:
        """Copy what is still missing of these regions; returns the bytes they hold."""
        geometry = self.mirror.volume.geometry
        offset, length = geometry.bytes_of(run)
        total = 0
        async with self.mirror.ranges.hold(offset, offset + length):
            at = run.start
            while (part := self.plex.map.next_run(at, run.stop - at)) is not None and part.start < run.stop:
                part = range(part.start, min(part.stop, run.stop))
                at = part.stop
                if not self._goes_on():
                    break
                total += await self._copy(part)
                if at >= run.stop:
                    break
        return total

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
            target, origin = self.mirror.disks[self.plex.uuid], self.mirror.disks[source.plex.uuid]
            call = Call(target.lane, partial(target.backing.copy_from, origin.backing, offset, length))
            dropped = self.plex.dropped
            origin.lane.enter()
            try:
                [outcome] = await self.mirror.hops.in_turn([call], self.mirror.timeout_seconds)
            finally:
                origin.lane.leave()
            if not self._goes_on():
                return 0
            if isinstance(outcome.error, SourceError):
                source.plex.errors += 1
                tried.append(source.plex)
                continue
            if outcome.error is not None:
                self._target_failed(outcome.error)
                return 0
            assert isinstance(outcome.value, int)
            if not volume.copied(self.plex, regions, dropped):
                return 0
            self._unsynced_bytes += length
            self.task.progressed(len(regions), length, outcome.value)
            return length
        return 0

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
        rate = self.task.rate or self.mirror.volume.settings.rate
        if rate:
            pause = max(pause, copied * WINDOWS / rate - seconds)
        if pause > 0 and self._goes_on():
            changed = self.task.changed
            with trio.move_on_after(pause):
                await changed.wait()
