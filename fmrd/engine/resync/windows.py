"""A window is what a resync copies in one thread hop: as many runs of missing regions as make up its bytes."""

from dataclasses import dataclass

from bitarray import bitarray
from bitarray.util import zeros

from fmrd.core.geometry import Geometry
from fmrd.core.maps.regionmap import RegionMap
from fmrd.engine.serving.ranges import Span

WINDOW_BYTES = 4 << 20
LONG_WINDOW_BYTES = 32 << 20
BUSY_WINDOW_BYTES = 16 << 20
"""At most while the application is served. From one window to the next costs as much as a few requests, so there must
be few; and a write that meets one waits for a piece and a round of the event loop, so they must be short.
"""
WINDOW_SPAN = 1 << 22
"""So many regions lie between the first and the last at most: what is done with their bits is one step."""
MOST_FAR_BYTES, LEAST_FAR_BYTES = 512 << 10, 4 << 10
FAR_PIECE_SECONDS = 0.001
"""Of the pieces over a line beside an application."""
FAR_WINDOW_BYTES = 1 << 20
"""A window over a line is held for as long as it takes there, with its rests: beside an application it is short."""
QUICK_SECONDS = 0.02
"""A window that took longer is not followed by one above WINDOW_BYTES."""


@dataclass(frozen=True)
class Window:
    """A window has runs of regions, in order. ``spans`` are the same in bytes, and ``bits`` as bits, because a
    scattered map has many of them.
    """

    runs: list[range]
    spans: list[Span]
    bits: bitarray
    """Counted from the first region of the first run."""

    @property
    def regions(self) -> range:
        """Return the regions from the first to the last, with the gaps."""
        return range(self.runs[0].start, self.runs[-1].stop)

    @property
    def bytes(self) -> int:
        return sum([stop - start for start, stop in self.spans])


def window_of(runs: list[range], geometry: Geometry) -> Window:
    """Return the window of these runs, of which there is at least one."""
    size, length, first = geometry.region_bytes, geometry.length_bytes, runs[0].start
    spans = [(run.start * size, run.stop * size) for run in runs]
    if spans[-1][1] > length:
        spans[-1] = (spans[-1][0], length)
    bits = zeros(runs[-1].stop - first)
    for run in runs:
        bits[run.start - first : run.stop - first] = 1
    return Window(runs, spans, bits)


def still_missing(window: Window, missing: RegionMap, geometry: Geometry) -> Window | None:
    """Return what is left of a window in the map, once its locks are held, None if nothing is: writes may have healed
    regions meanwhile.
    """
    now = missing.these(window.regions) & window.bits
    if now == window.bits:
        return window
    first = window.regions.start
    left = RegionMap(len(now), len(now))
    left.mark_these(0, now)
    runs = [range(first + run.start, first + run.stop) for run in left.runs()]
    return window_of(runs, geometry) if runs else None


def until(window: Window, stop: int, geometry: Geometry) -> Window:
    """Return the part of a window that ends at byte ``stop``, where a region ends, or all of it: a region at least."""
    if stop == window.spans[-1][1]:
        return window
    end = stop // geometry.region_bytes
    return window_of([range(run.start, min(run.stop, end)) for run in window.runs if run.start < end], geometry)


class FarPiece:
    """This says how long a piece is that goes over a line beside an application, whose requests queue up behind it: so
    long that it takes twice the round trip, and a little. On a thin line that is a region.
    """

    def __init__(self) -> None:
        self.bytes = MOST_FAR_BYTES // 2

    def took(self, seconds: float, round_trip_seconds: float) -> None:
        """Note how long a piece took, and what a short request takes there."""
        should = 2 * round_trip_seconds + FAR_PIECE_SECONDS
        self.bytes = max(LEAST_FAR_BYTES, min(MOST_FAR_BYTES, int(self.bytes * min(2.0, should / max(seconds, 1e-6)))))


class WindowSize:
    """This says how long the next window is: longer on a quick disk, where waking a thread up costs much beside it."""

    def __init__(self) -> None:
        self._bytes = WINDOW_BYTES

    def window_bytes(self, rate: int, *, busy: bool) -> int:
        """Return the bytes of the next window. ``rate`` is bytes a second, 0 for no limit; it is kept by small steps.
        ``busy``: the application is served.
        """
        most = min(self._bytes, BUSY_WINDOW_BYTES) if busy else self._bytes
        return min(most, rate // 8) if rate else most

    def copied(self, size: int, seconds: float) -> None:
        """Note that so many bytes took so many seconds of copying."""
        if seconds > QUICK_SECONDS:
            self._bytes = WINDOW_BYTES
        elif size >= self._bytes:
            self._bytes = min(2 * self._bytes, LONG_WINDOW_BYTES)
