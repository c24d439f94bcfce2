"""What a resync copies in one thread hop: as many runs of missing regions as make up the bytes of a window."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from bitarray import bitarray
from bitarray.util import zeros

from fmrd.backing.protocol import Backing
from fmrd.core.geometry import Geometry
from fmrd.core.regionmap import RegionMap
from fmrd.engine.ranges import Span

WINDOW_BYTES = 4 << 20
LONG_WINDOW_BYTES = 32 << 20
QUICK_SECONDS = 0.02
"""A window that took longer is not followed by one above WINDOW_BYTES."""
PIECE_BYTES, SHORT_PIECE_BYTES = 1 << 20, 128 << 10
"""A window is copied in pieces, the short ones in memory. After each it ends early if somebody waits for its bytes, and
while the application is served its thread rests: a copy of some milliseconds would keep a processor from those who
serve, and to wake the thread up from outside for each piece would cost them more.
"""
REST = 2
"""A rest is so many times as long as the piece took: a resync keeps a third of its speed, and gains on any load."""
LONGEST_REST_SECONDS = 0.05


@dataclass(frozen=True)
class Window:
    """Runs of regions, in order. The same as byte spans, and as bits, because a scattered map has many of them."""

    runs: list[range]
    spans: list[Span]
    bits: bitarray
    """Counted from the first region of the first run."""

    @property
    def regions(self) -> range:
        """From the first to the last, with the gaps."""
        return range(self.runs[0].start, self.runs[-1].stop)

    @property
    def bytes(self) -> int:
        return sum([stop - start for start, stop in self.spans])


def window_of(runs: list[range], geometry: Geometry) -> Window:
    """``runs``: at least one."""
    size, length, first = geometry.region_bytes, geometry.length_bytes, runs[0].start
    spans = [(run.start * size, run.stop * size) for run in runs]
    if spans[-1][1] > length:
        spans[-1] = (spans[-1][0], length)
    bits = zeros(runs[-1].stop - first)
    for run in runs:
        bits[run.start - first : run.stop - first] = 1
    return Window(runs, spans, bits)


def still_missing(window: Window, missing: RegionMap, geometry: Geometry) -> Window | None:
    """What is left of a window in the map, once it has its locks: writes may have healed regions meanwhile."""
    now = missing.these(window.regions) & window.bits
    if now == window.bits:
        return window
    first = window.regions.start
    left = RegionMap(len(now), len(now))
    left.mark_these(0, now)
    runs = [range(first + run.start, first + run.stop) for run in left.runs()]
    return window_of(runs, geometry) if runs else None


def until(window: Window, stop: int, geometry: Geometry) -> Window:
    """Its regions before byte ``stop``, where a region ends, or the window; one at least."""
    if stop == window.spans[-1][1]:
        return window
    end = stop // geometry.region_bytes
    return window_of([range(run.start, min(run.stop, end)) for run in window.runs if run.start < end], geometry)


class Pace:
    """How long the next window is: longer on a quick disk, so that waking a thread up costs little beside the copy."""

    def __init__(self) -> None:
        self._bytes = WINDOW_BYTES

    def window_bytes(self, rate: int, *, busy: bool) -> int:
        """``rate``: bytes a second, 0 for no limit; it is kept by small steps. ``busy``: the application is served."""
        most = min(self._bytes, WINDOW_BYTES) if busy else self._bytes
        return min(most, rate // 8) if rate else most

    def copied(self, size: int, seconds: float) -> None:
        """That many bytes, in so many seconds of copying."""
        if seconds > QUICK_SECONDS:
            self._bytes = WINDOW_BYTES
        elif size >= self._bytes:
            self._bytes = min(2 * self._bytes, LONG_WINDOW_BYTES)


class Wanted:
    """Does somebody wait for the bytes of a window? Told on trio's thread, asked on a worker's."""

    def __init__(self) -> None:
        self.now = False

    def tell(self) -> None:
        self.now = True


class Transfer:
    """The copy of one window, piece by piece. Where it is wanted it ends after the piece under way."""

    def __init__(self, target: Backing, source: Backing, window: Window, wanted: Wanted, region_bytes: int) -> None:
        self._target = target
        self._source = source
        self.window = window
        self._wanted = wanted
        self._end = window.spans[-1][1]
        most = SHORT_PIECE_BYTES if target.inline and source.inline else PIECE_BYTES
        self._pieces = pieces_of(window.spans, max(1, most // region_bytes) * region_bytes)
        self.stop = 0
        """What lies before this byte is copied."""
        self.written = 0
        self.seconds = 0.0
        """Spent on copying."""

    def step(self) -> bool:
        """Copy a piece; False if there is none left, or enough is done: one is always copied, so that a resync gains on
        whatever comes between.
        """
        if self._wanted.now and self.stop:
            return False
        piece = next(self._pieces)
        began = time.perf_counter()
        self.written += self._target.copy_spans(self._source, piece)
        self.seconds += time.perf_counter() - began
        self.stop = piece[-1][1]
        return self.stop < self._end

    def go(self) -> None:
        """All of it, on a worker thread."""
        while self.step():
            pass

    def go_gently(self) -> None:
        """The same, with rests."""
        before = 0.0
        while self.step():
            time.sleep(min(REST * (self.seconds - before), LONGEST_REST_SECONDS))
            before = self.seconds


def pieces_of(spans: list[Span], most: int) -> Iterator[list[Span]]:
    """The same bytes in the same order, cut after every ``most``."""
    piece: list[Span] = []
    left = most
    for start, stop in spans:
        while start < stop:
            end = min(stop, start + left)
            piece.append((start, end))
            left -= end - start
            start = end
            if not left:
                yield piece
                piece, left = [], most
    if piece:
        yield piece
