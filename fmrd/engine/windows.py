"""What a resync copies in one thread hop: as many runs of missing regions as make up the bytes of a window."""

from dataclasses import dataclass

from bitarray import bitarray
from bitarray.util import zeros

from fmrd.core.geometry import Geometry
from fmrd.core.regionmap import RegionMap
from fmrd.engine.ranges import Span

WINDOW_BYTES = 4 << 20
LONG_WINDOW_BYTES = 32 << 20
"""While the application is idle, and a window of half that size took less than QUICK_SECONDS."""
QUICK_SECONDS = 0.02


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


class Pace:
    """How long the next window is: longer while nobody waits for it, so that waking a thread up costs little beside the
    copy, which on busy processors takes longer than a short one.
    """

    def __init__(self) -> None:
        self._bytes = WINDOW_BYTES

    def window_bytes(self, rate: int) -> int:
        """``rate``: bytes a second, 0 for no limit; it is kept by small steps."""
        return min(self._bytes, rate // 8) if rate else self._bytes

    def copied(self, size: int, seconds: float, *, busy: bool) -> None:
        """``busy``: the application was served meanwhile, or waits."""
        if busy or seconds > QUICK_SECONDS:
            self._bytes = WINDOW_BYTES
        elif size >= self._bytes:
            self._bytes = min(2 * self._bytes, LONG_WINDOW_BYTES)
