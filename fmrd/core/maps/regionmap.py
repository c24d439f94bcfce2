"""A region map is a set of regions (or of extents): one bit each, over bitarray, so that a map of a tebibyte is 2 MiB.

It also remembers which of its pages were touched since their content was last taken for the DCO.
"""

from collections.abc import Iterator

from bitarray import bitarray, frozenbitarray
from bitarray.util import ones, zeros


class RegionMap:
    """A map has ``size`` bits, in pages of ``page_bits``. Ranges are half open and must lie inside."""

    __slots__ = ("bits", "blank", "page_bits", "touched")

    def __init__(self, size: int, page_bits: int, *, full: bool = False) -> None:
        self.bits: bitarray = ones(size) if full else zeros(size)
        self.page_bits = page_bits
        self.touched: set[int] = set()
        self.blank = not full
        """Surely empty: asking an empty map whether it is must not cost a look at all of it, with every request."""

    def __len__(self) -> int:
        return len(self.bits)

    def __contains__(self, region: int) -> bool:
        return bool(self.bits[region])

    @property
    def pages(self) -> int:
        return -(-len(self.bits) // self.page_bits)

    def mark(self, regions: range) -> None:
        if regions and self.bits.find(0, regions.start, regions.stop) != -1:
            self.bits[regions.start : regions.stop] = 1
            self.blank = False
            self._touch(regions)

    def clear(self, regions: range) -> None:
        if regions and self.bits.find(1, regions.start, regions.stop) != -1:
            self.bits[regions.start : regions.stop] = 0
            self._touch(regions)

    def mark_these(self, start: int, bits: bitarray) -> None:
        """Add the regions that ``bits`` names, counted from ``start``: for many runs at once."""
        stop = start + len(bits)
        self.bits[start:stop] |= bits
        self.blank = self.blank and not bits.any()
        self._touch_these(start, bits)

    def clear_these(self, start: int, bits: bitarray) -> None:
        """Take out the regions that ``bits`` names, counted from ``start``."""
        self.bits[start : start + len(bits)] &= ~bits
        self._touch_these(start, bits)

    def these(self, regions: range) -> bitarray:
        """Return which of these regions are in the set, as bits counted from the first."""
        return self.bits[regions.start : regions.stop]

    def union(self, other: "RegionMap | bitarray") -> None:
        bits = other.bits if isinstance(other, RegionMap) else other
        gained = bits & ~self.bits
        if gained.any():
            self.bits |= gained
            self.blank = False
            for run in runs_of(gained):
                self._touch(run)

    def fill(self) -> None:
        self.mark(range(len(self.bits)))

    def empty(self) -> None:
        self.clear(range(len(self.bits)))

    def any(self) -> bool:
        self.blank = self.blank or not self.bits.any()
        return not self.blank

    def touches(self, regions: range) -> bool:
        """Tell whether any of these regions is in the set."""
        return bool(regions) and self.bits.find(1, regions.start, regions.stop) != -1

    def count(self) -> int:
        return 0 if self.blank else self.bits.count()

    def percent(self) -> float:
        return 100.0 * self.bits.count() / len(self.bits) if self.bits else 0.0

    def next_run(self, start: int, most: int) -> range | None:
        """Return the first run of adjacent regions from ``start`` on, cut to ``most`` regions; None if none is left."""
        first = self.bits.find(1, start)
        if first == -1:
            return None
        limit = min(first + most, len(self.bits))
        stop = self.bits.find(0, first, limit)
        return range(first, limit if stop == -1 else stop)

    def next_runs(self, start: int, most: int) -> list[range]:
        """Return the next runs from ``start`` on, ``most`` regions together at most; the last run may be cut."""
        find, size = self.bits.find, len(self.bits)
        found: list[range] = []
        while most > 0 and (first := find(1, start)) != -1:
            limit = min(first + most, size)
            start = find(0, first, limit)
            if start == -1:
                start = limit
            found.append(range(first, start))
            most -= start - first
        return found

    def runs(self) -> Iterator[range]:
        return runs_of(self.bits)

    def grow(self, size: int, *, full: bool) -> None:
        """Become longer by regions that are all in the set, or all out of it; the new pages count as touched."""
        old = len(self.bits)
        self.bits.extend(ones(size - old) if full else zeros(size - old))
        self.blank = self.blank and not full
        self._touch(range(old, size))

    def page(self, page: int) -> frozenbitarray:
        """Return the bits of one page as they are now; the page no longer counts as touched."""
        self.touched.discard(page)
        return frozenbitarray(self.bits[page * self.page_bits : (page + 1) * self.page_bits])

    def _touch(self, regions: range) -> None:
        if regions:
            self.touched.update(range(regions.start // self.page_bits, (regions.stop - 1) // self.page_bits + 1))

    def _touch_these(self, start: int, bits: bitarray) -> None:
        at = bits.find(1)
        while at != -1:
            page = (start + at) // self.page_bits
            self.touched.add(page)
            at = bits.find(1, (page + 1) * self.page_bits - start)


def runs_of(bits: bitarray) -> Iterator[range]:
    """Yield the runs of adjacent ones, in order."""
    start = bits.find(1)
    while start != -1:
        stop = bits.find(0, start)
        if stop == -1:
            stop = len(bits)
        yield range(start, stop)
        start = bits.find(1, stop)
