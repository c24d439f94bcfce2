"""Drains a plex's map: runs of regions, copied inside the kernel, a few windows in flight, application I/O first.

A window is as many runs as make up its bytes, all copied in one thread hop, since a hop costs more than a region; or,
in memory and beside an application, in pieces on trio's thread (backing/spare.py), since there a thread costs the
application more than the copy. It is locked only while it is copied, and ends early for whoever waits for it. The map
only drains: a write to a region not copied yet skips the plex (or heals the region), so a resync always ends.
Every CHECKPOINT_BYTES or CHECKPOINT_SECONDS the plex is fdatasync'ed and its map written, which bounds what a crash
makes it copy again (rule 2b), and the last checkpoint is what allows the promotion (rule 6).
"""

import errno
from dataclasses import dataclass, field

import trio

from fmrd.backing.hops import Outcome
from fmrd.backing.protocol import SourceError
from fmrd.core.plex import Plex
from fmrd.engine.disks import NOT_LANDED, Disk
from fmrd.engine.mirror import Mirror
from fmrd.engine.tasks import Task
from fmrd.engine.windows import Pace, Transfer, Wanted, Window, still_missing, until, window_of
from fmrd.errors import FmrdError

WINDOWS = 2
"""Windows in flight: one copies while the other looks for holes. More did not copy faster on two cores."""
CHECKPOINT_BYTES = 256 << 20
CHECKPOINT_SECONDS = 5.0
PATIENCE = 3
"""Passes without any gain after which the rest counts as unreadable."""
SERVED_SECONDS = 0.02
"""An application that was served so short a while ago will come again."""


@dataclass
class Resync:
    """One drain of one plex. ``run`` returns None, or (code, message) of what stopped it; where it left off because the
    task is paused, ``waits`` is true, and ``run`` goes on.
    """

    mirror: Mirror
    plex: Plex
    task: Task
    waits: bool = False
    _cut_short: bool = False
    _cursor: int = 0
    _served: int = 0
    _busy_until: float = 0.0
    _pace: Pace = field(default_factory=Pace)
    _unsynced_bytes: int = 0
    _since: float = 0.0
    _generation: int | None = None
    _failure: tuple[str, str] | None = None
    _stuck: dict[int, str] = field(default_factory=dict)
    """Regions that no source could serve, and why."""

    async def run(self) -> tuple[str, str] | None:
        self._since = trio.current_time()
        self._busy_until = 0.0
        self._served = self.mirror.load.served
        if self._generation is None:
            await self._begin()
        self.waits = False
        fruitless = 0
        while self._goes_on():
            if self.task.paused:
                self.waits = True
                break
            self._cut_short = False
            before = self.plex.map.count()
            await self._drain()
            if self._goes_on():
                await self.checkpoint()
            if not self._goes_on() or await self._arrived():
                break
            if self.mirror.volume.relieve(self.plex):
                continue
            if self._cut_short:
                continue
            fruitless = fruitless + 1 if self.plex.map.count() >= before else 0
            if fruitless == PATIENCE:
                self._fail(*self._unreadable())
        return self._failure

    async def _begin(self) -> None:
        self._generation = self.plex.generation
        regions = self.plex.map.count()
        self.task.total_regions = regions
        self.task.total_bytes = self.mirror.volume.geometry.bytes_in(regions, bool(self.plex.map.bits[-1]))
        if not self.plex.home_open:
            await self.mirror.store.commit()

    async def _drain(self) -> None:
        """One pass over the map."""
        self._cursor = 0
        async with trio.open_nursery() as nursery:
            for number in range(WINDOWS):
                nursery.start_soon(self._worker, number)

    def _goes_on(self) -> bool:
        return (
            self._failure is None
            and not self.task.aborting
            and self.plex.is_open
            and self.plex.generation == self._generation
        )

    async def _worker(self, number: int) -> None:
        """All but the first rest while the application is served: it needs the processors, too."""
        try:
            while self._goes_on():
                if self.task.paused:
                    self._cut_short = True
                    return
                if number and self._is_busy() and self.plex.map.next_run(self._cursor, 1):
                    await self.task.rest(SERVED_SECONDS)
                    continue
                window = self._next_window()
                if window is None:
                    return
                await self._copy_at_a_pace(window)
        except FmrdError as error:  # of the home copy; out of the nursery it would come as a group
            self._fail(error.code, error.message)

    async def _copy_at_a_pace(self, window: Window) -> None:
        began = trio.current_time()
        copied = await self._copy_window(window)
        seconds = trio.current_time() - began
        if self._due():
            await self.checkpoint()
        await self._keep_rate(copied, seconds)

    def _next_window(self) -> Window | None:
        """The cursor moves behind it."""
        geometry = self.mirror.volume.geometry
        most = max(1, self._pace.window_bytes(self._rate(), busy=self._is_busy()) // geometry.region_bytes)
        runs = self.plex.map.next_runs(self._cursor, most)
        if not runs:
            return None
        self._cursor = runs[-1].stop
        return window_of(runs, geometry)

    def _rate(self) -> int:
        return self.task.rate or self.mirror.volume.settings.rate

    async def _copy_window(self, window: Window) -> int:
        """Copy what is still missing of it; returns the bytes that these regions hold. Who waits for some of them has
        them after the piece under way, and the rest is another window.
        """
        wanted = Wanted()
        async with self.mirror.ranges.hold(*window.spans, wanted=wanted.tell):
            left = still_missing(window, self.plex.map, self.mirror.volume.geometry)
            if left is None or not self._goes_on():
                return 0
            if len(left.runs) > 1 and (source := self._source_of_all(left.regions)) is not None:
                outcome, copied = await self._transfer(source, left, wanted)
                if not isinstance(outcome.error, SourceError):
                    return self._account(left, copied, outcome)
            size = 0
            for run in left.runs:
                if wanted.now and size:
                    self._again(run)
                    break
                size += await self._copy(run, wanted)
            return size

    def _again(self, regions: range) -> None:
        """From there on, in this same pass."""
        self._cursor = min(self._cursor, regions.start)

    def _source_of_all(self, regions: range) -> Plex | None:
        """One plex that is current from the first to the last of these regions, as one in sync is."""
        volume = self.mirror.volume
        current = [p for p in volume.plexes if p is not self.plex and p.is_current(regions)]
        return volume.policy.choose(current, *volume.geometry.bytes_of(regions)) if current else None

    async def _copy(self, regions: range, wanted: Wanted) -> int:
        """One run under the lock; a source that cannot be read is tried around region by region."""
        volume = self.mirror.volume
        offset, length = volume.geometry.bytes_of(regions)
        tried: list[Plex] = []
        while self._goes_on():
            try:
                [source, *more] = volume.plan_read(offset, length, without=(self.plex, *tried))
            except FmrdError as error:
                if len(regions) > 1:
                    return await self._one_by_one(regions, wanted)
                self._stuck[regions.start] = error.message
                return 0
            if more:
                return await self._one_by_one(regions, wanted)
            window = window_of([regions], volume.geometry)
            outcome, copied = await self._transfer(source.plex, window, wanted)
            if not isinstance(outcome.error, SourceError):
                return self._account(window, copied, outcome)
            source.plex.errors += 1
            tried.append(source.plex)
        return 0

    async def _transfer(self, source: Plex, window: Window, wanted: Wanted) -> tuple[Outcome, Window]:
        """Copy it in one hop, or as much of it as there is time for: the second value. An outcome without a value: it
        may have been copied, and does not count.
        """
        target, origin = self.mirror.disks[self.plex.uuid], self.mirror.disks[source.uuid]
        if origin.late(tuple(window.spans)):  # what it will hold there is not known yet
            return Outcome(error=SourceError(OSError(errno.EAGAIN, f"plex {source.name}: {NOT_LANDED}"))), window
        volume = self.mirror.volume
        transfer = Transfer(target.backing, origin.backing, window, wanted, volume.geometry.region_bytes)
        dropped = self.plex.dropped
        origin.lane.enter()
        try:
            outcome = await self._carry_out(transfer, origin, target)
        finally:
            origin.lane.leave()
        if not self._goes_on():
            return Outcome(), window
        if outcome.error is not None:
            return outcome, window
        window = until(window, transfer.stop, volume.geometry)
        self._pace.copied(window.bytes, transfer.seconds)
        if not volume.copied_these(self.plex, window.regions.start, window.bits, dropped):
            return Outcome(), window
        return Outcome(transfer.written), window

    async def _carry_out(self, transfer: Transfer, origin: Disk, target: Disk) -> Outcome:
        """On a thread; beside an application, where nothing can block, on this one. What is not known to be data cannot
        block either, but tmpfs may take milliseconds to find out.
        """
        busy, spans = self._is_busy(), tuple(transfer.window.spans)
        quick = target.inline and origin.inline and origin.backing.is_known_data(spans[0][0], spans[-1][1])
        if busy and quick and not target.late(spans):
            target.lane.enter()
            try:
                return await self.mirror.hops.in_spare_time(transfer.step)
            finally:
                target.lane.leave()
        run = transfer.go_gently if busy else transfer.go
        [outcome] = await self.mirror.hops.in_turn(
            [target.writing(run, spans, inline=False)], self.mirror.timeout_seconds
        )
        return outcome

    def _account(self, window: Window, copied: Window, outcome: Outcome) -> int:
        """Of a transfer that did not fail on its reading side; returns the bytes it brought."""
        if outcome.error is not None:
            self._target_failed(outcome.error)
        if not isinstance(outcome.value, int):
            return 0
        if copied is not window:
            self._again(range(copied.regions.stop, window.regions.stop))
        self._unsynced_bytes += copied.bytes
        self.task.progressed(copied.bits.count(), copied.bytes, outcome.value)
        return copied.bytes

    async def _one_by_one(self, regions: range, wanted: Wanted) -> int:
        return sum([await self._copy(range(r, r + 1), wanted) for r in regions])

    def _target_failed(self, error: Exception) -> None:
        sentence = self.mirror.volume.fail_plex(self.plex, error)
        self._fail("io_error", sentence or f"plex {self.plex.name}: {error}")

    def _fail(self, code: str, message: str) -> None:
        self._failure = self._failure or (code, message)

    def _unreadable(self) -> tuple[str, str]:
        volume = self.mirror.volume
        why = next(iter(self._stuck.values()), "nobody holds them")
        doubtful = 0 if self.plex.suspect is None else self.plex.suspect.count()
        message = f"{self.plex.map.count()} region(s) cannot be read from any other plex: {why}"
        if doubtful:
            message = f"{doubtful} region(s) are suspect since a flush failed, and no other plex holds them yet"
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

    async def _keep_rate(self, copied: int, seconds: float) -> None:
        rate = self._rate()
        if rate and (pause := copied * WINDOWS / rate - seconds) > 0 and self._goes_on():
            await self.task.rest(pause)

    def _is_busy(self) -> bool:
        """Was the application served a moment ago, or does it wait? Each time it is asked it looks for itself: windows
        alone would be too far apart, and those that are copied while this says no take the longest.
        """
        load, now = self.mirror.load, trio.current_time()
        if load.requests > 0 or load.served != self._served:
            self._busy_until = now + SERVED_SECONDS
        self._served = load.served
        return now < self._busy_until
