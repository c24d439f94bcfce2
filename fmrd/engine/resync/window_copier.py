"""This module copies the windows of a resync: which comes next, which plex it is copied from, and what came of it.

A window is as many runs as make up its bytes, all copied in one thread hop, since a hop costs more than a region; or,
in memory and beside an application, in pieces on trio's thread (backing/calls/idle_time.py), since there a thread costs
the application more than the copy. It is locked only while it is copied, and ends early for whoever waits for it.
"""

import errno
from dataclasses import dataclass, field

import trio

from fmrd.backing.calls.system_calls import Outcome
from fmrd.backing.protocol import SourceError
from fmrd.core.volume.plex import Plex
from fmrd.engine.resync.transfers import FAR_PIECE_BYTES, Transfer, Wanted
from fmrd.engine.resync.windows import (
    FAR_WINDOW_BYTES,
    WINDOW_SPAN,
    FarPiece,
    Window,
    WindowSize,
    still_missing,
    until,
    window_of,
)
from fmrd.engine.serving.mirror import Mirror
from fmrd.engine.serving.open_plex import OpenPlex
from fmrd.engine.serving.writes_under_way import NOT_LANDED
from fmrd.engine.tasks import Task
from fmrd.errors import FmrdError, PlexChanged

SERVED_SECONDS = 0.02
"""An application that was served so short a while ago will come again."""


@dataclass
class WindowCopier:
    """A window copier works on one plex, for one task. Failures of disks are noted; those of the home copy raised."""

    mirror: Mirror
    plex: Plex
    task: Task
    generation: int | None = None
    """The plex's when it began; when that changes, the drain is over."""
    cursor: int = 0
    """The region from which a pass over the map goes on."""
    unsynced_bytes: int = 0
    """Copied since the last checkpoint."""
    failure: tuple[str, str] | None = None
    stuck: dict[int, str] = field(default_factory=dict)
    """Regions that no source could serve, and why."""
    _served: int = 0
    _busy_until: float = 0.0
    _window_size: WindowSize = field(default_factory=WindowSize)
    _far_piece: FarPiece = field(default_factory=FarPiece)

    def begin(self) -> None:
        """Begin, or go on after a pause: what the application did before does not count."""
        self._busy_until = 0.0
        self._served = self.mirror.load.served

    def goes_on(self) -> bool:
        """Tell whether there is more to do: nothing failed, nobody aborted, and the gate is open as it was."""
        return (
            self.failure is None
            and not self.task.aborting
            and self.plex.is_open
            and self.plex.generation == self.generation
        )

    def is_busy(self) -> bool:
        """Tell whether the application was served a moment ago, or waits. Each time it is asked it looks for itself:
        windows alone would be too far apart, and those that are copied while this says no take the longest.
        """
        load, now = self.mirror.load, trio.current_time()
        if load.requests > 0 or load.served != self._served:
            self._busy_until = now + SERVED_SECONDS
        self._served = load.served
        return now < self._busy_until

    def rate(self) -> int:
        """Return how many bytes a second may be copied: the task's rate, or else the volume's; 0 is no limit."""
        return self.task.rate or self.mirror.volume.settings.rate

    def next_window(self) -> Window | None:
        """Return the next window of the map, and move the cursor behind it; None at the end of the pass."""
        geometry = self.mirror.volume.geometry
        busy, target = self.is_busy(), self.mirror.opened.get(self.plex.uuid)
        size = self._window_size.window_bytes(self.rate(), busy=busy)
        if busy and target is not None and target.backing.far:
            size = min(size, FAR_WINDOW_BYTES)
        runs = self.plex.map.next_runs(self.cursor, max(1, size // geometry.region_bytes), WINDOW_SPAN)
        if not runs:
            return None
        self.cursor = runs[-1].stop
        return window_of(runs, geometry)

    async def copy_window(self, window: Window) -> int:
        """Copy what is still missing of it; return the bytes that these regions hold. Who waits for some of them has
        them after the piece under way, and the rest is another window.
        """
        wanted = Wanted()
        async with self.mirror.ranges.hold(*window.spans, wanted=wanted.tell):
            left = still_missing(window, self.plex.map, self.mirror.volume.geometry)
            if left is None or not self.goes_on():
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
        self.cursor = min(self.cursor, regions.start)

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
        while self.goes_on():
            try:
                [source, *more] = volume.plan_read(offset, length, without=(self.plex, *tried))
            except FmrdError as error:
                if len(regions) > 1:
                    return await self._one_by_one(regions, wanted)
                self.stuck[regions.start] = error.message
                return 0
            if more:
                return await self._one_by_one(regions, wanted)
            window = window_of([regions], volume.geometry)
            outcome, copied = await self._transfer(source.plex, window, wanted)
            if not isinstance(outcome.error, SourceError):
                return self._account(window, copied, outcome)
            if isinstance(outcome.error.error, PlexChanged):
                self.mirror.say(volume.fail_plex(source.plex, outcome.error.error))
            source.plex.errors += 1
            tried.append(source.plex)
        return 0

    async def _transfer(self, source: Plex, window: Window, wanted: Wanted) -> tuple[Outcome, Window]:
        """Copy it in one hop, or as much of it as there is time for: the second value. An outcome without a value: it
        may have been copied, and does not count.
        """
        target, origin = self.mirror.opened[self.plex.uuid], self.mirror.opened[source.uuid]
        if origin.late(tuple(window.spans)):  # what it will hold there is not known yet
            return Outcome(error=SourceError(OSError(errno.EAGAIN, f"plex {source.name}: {NOT_LANDED}"))), window
        volume = self.mirror.volume
        transfer = Transfer(
            target.backing, origin.backing, window, wanted, volume.geometry.region_bytes,
            self._far_piece.bytes if self.is_busy() else FAR_PIECE_BYTES,
        )  # fmt: skip
        dropped = self.plex.dropped
        origin.lane.enter()
        try:
            outcome = await self._carry_out(transfer, origin, target)
        finally:
            origin.lane.leave()
        if not self.goes_on():
            return Outcome(), window
        if outcome.error is not None:
            return outcome, window
        window = until(window, transfer.stop, volume.geometry)
        self._window_size.copied(window.bytes, transfer.seconds)
        if transfer.is_far and transfer.steps > 1:  # in pieces of that length
            standing = target.backing.standing or origin.backing.standing
            round_trip = standing.median_seconds or 0.0 if standing is not None else 0.0
            self._far_piece.took(transfer.seconds / transfer.steps, round_trip)
        if not volume.copied_these(self.plex, window.regions.start, window.bits, dropped):
            return Outcome(), window
        return Outcome(transfer.written), window

    async def _carry_out(self, transfer: Transfer, origin: OpenPlex, target: OpenPlex) -> Outcome:
        """On a thread; beside an application, where nothing can block, on this one. What is not known to be data cannot
        block either, but tmpfs may take milliseconds to find out.
        """
        busy, spans = self.is_busy(), tuple(transfer.window.spans)
        quick = target.inline and origin.inline and origin.backing.is_known_data(spans[0][0], spans[-1][1])
        if busy and quick and not target.late(spans):
            target.lane.enter()
            try:
                return await self.mirror.system.in_idle_time(transfer.step)
            finally:
                target.lane.leave()
        run = transfer.go_gently if busy else transfer.go
        [outcome] = await self.mirror.system.in_turn(
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
        self.unsynced_bytes += copied.bytes
        self.task.progressed(copied.bits.count(), copied.bytes, outcome.value)
        return copied.bytes

    async def _one_by_one(self, regions: range, wanted: Wanted) -> int:
        return sum([await self._copy(range(r, r + 1), wanted) for r in regions])

    def _target_failed(self, error: Exception) -> None:
        sentence = self.mirror.volume.fail_plex(self.plex, error)
        self.fail("io_error", sentence or f"plex {self.plex.name}: {error}")

    def fail(self, code: str, message: str) -> None:
        """Note why it cannot go on; the first reason counts."""
        self.failure = self.failure or (code, message)
