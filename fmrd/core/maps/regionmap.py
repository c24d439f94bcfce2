"""A region map is a set of regions (or of extents): one bit each, over bitarray, so that a map of a tebibyte is 2 MiB.

It also remembers which of its pages were touched since their content was last taken for the DCO.

Whatever looks at all of a map is one step of trio's thread. New memory costs most of it: a copy of 2^28 bits takes 20
ms, a look at them 2. So a map that was never marked has none, and a union goes part by part.
"""

from collections.abc import Iterator
from functools import lru_cache

from bitarray import bitarray, frozenbitarray
from bitarray.util import ones, zeros

PART_PAGES = 16
"""Pages of a map that are worked on at a time: 64 KiB, which malloc has at hand."""


class RegionMap:
    """A map has ``size`` bits, in pages of ``page_bits``. Ranges are half open and must lie inside."""

    __slots__ = ("_bits", "_size", "blank", "page_bits", "touched")

    def __init__(self, size: int, page_bits: int, *, full: bool = False) -> None:
        self._size = size
        self._bits: bitarray | None = ones(size) if full else None
        self.page_bits = page_bits
        self.touched: set[int] = set()
        self.blank = not full
        """Surely empty: asking an empty map whether it is must not cost a look at all of it, with every request."""

    @property
    def bits(self) -> bitarray:
        """Return all of it; a map that was blank has its memory from now on."""
        self.reserve()
        assert self._bits is not None
        return self._bits

    def __len__(self) -> int:
        return self._size

    def __contains__(self, region: int) -> bool:
        return not self.blank and bool(self.bits[region])

    @property
    def has_last(self) -> bool:
        """Tell whether the last region, which may be short, is in the set."""
        return self._size - 1 in self

    @property
    def pages(self) -> int:
        return -(-self._size // self.page_bits)

    def mark(self, regions: range) -> None:
        if regions and self.bits.find(0, regions.start, regions.stop) != -1:
            self.bits[regions.start : regions.stop] = 1
            self.blank = False
            self._touch(regions)

    def clear(self, regions: range) -> None:
        if not self.blank and regions and self.bits.find(1, regions.start, regions.stop) != -1:
            self.bits[regions.start : regions.stop] = 0
            self._touch(regions)

    def mark_these(self, start: int, bits: bitarray) -> None:
        """Add the regions that ``bits`` names, counted from ``start``: for many runs at once."""
        if not bits.any():
            return
        self.bits[start : start + len(bits)] |= bits
        self.blank = False
        self._touch_these(start, bits)

    def clear_these(self, start: int, bits: bitarray) -> None:
        """Take out the regions that ``bits`` names, counted from ``start``."""
        if not self.blank:
            self.bits[start : start + len(bits)] &= ~bits
        self._touch_these(start, bits)

    def these(self, regions: range) -> bitarray:
        """Return which of these regions are in the set, as bits counted from the first."""
        if self.blank:
            return zeros(max(0, min(regions.stop, self._size) - regions.start))
        return self.bits[regions.start : regions.stop]

    def union(self, other: "RegionMap | bitarray") -> None:
        """Add all of another, which is as long."""
        assert len(other) == self._size, "maps of one geometry"
        if isinstance(other, RegionMap):
            if other.blank:
                return
            other = other.bits
        for start, part in parts_of(other, self.page_bits, self._size):
            gained = part if self.blank else part & ~self.bits[start : start + len(part)]
            self.mark_these(start, gained)

    def take_over(self, bits: bitarray) -> None:
        """Be these bits, which are as many and the caller's no more; only of a map that is blank."""
        assert self.blank and len(bits) == self._size, "nothing is lost"
        self._bits, self.blank = bits, False
        self._touch_these(0, bits)

    def reserve(self) -> None:
        """Have the memory, ahead of a step that will mark much in many maps."""
        if self._bits is None:
            self._bits = zeros(self._size)

    def add_to(self, bits: bitarray) -> None:
        """Set in ``bits``, which are as many, whatever is in this set."""
        if not self.blank:
            bits |= self.bits

    def take_from(self, bits: bitarray) -> None:
        """Clear in ``bits``, which are as many, whatever is in this set."""
        if not self.blank:
            bits |= self.bits
            bits ^= self.bits

    def touch_surplus(self, bits: bitarray) -> None:
        """Count as touched the pages of which ``bits`` has more than this set."""
        for start, part in parts_of(bits, self.page_bits, self._size):
            self._touch_these(start, part & ~self.these(range(start, start + len(part))))

    def fill(self) -> None:
        self.mark(range(self._size))

    def empty(self) -> None:
        self.clear(range(self._size))

    def any(self) -> bool:
        self.blank = self.blank or not self.bits.any()
        return not self.blank

    def touches(self, regions: range) -> bool:
        """Tell whether any of these regions is in the set."""
        return not self.blank and bool(regions) and self.bits.find(1, regions.start, regions.stop) != -1

    def count(self) -> int:
        return 0 if self.blank else self.bits.count()

    def percent(self) -> float:
        return 100.0 * self.count() / self._size if self._size else 0.0

    def next_run(self, start: int, most: int) -> range | None:
        """Return the first run of adjacent regions from ``start`` on, cut to ``most`` regions; None if none is left."""
        first = -1 if self.blank else self.bits.find(1, start)
        if first == -1:
            return None
        limit = min(first + most, self._size)
        stop = self.bits.find(0, first, limit)
        return range(first, limit if stop == -1 else stop)

    def next_runs(self, start: int, most: int, span: int) -> list[range]:
        """Return the next runs from ``start`` on, ``most`` regions together at most, and ``span`` from the first to the
        last; the last run may be cut.
        """
        found: list[range] = []
        if self.blank:
            return found
        find = self.bits.find
        first = find(1, start)
        stop = min(first + span, self._size)
        while most > 0 and first != -1:
            limit = min(first + most, stop)
            start = find(0, first, limit)
            if start == -1:
                start = limit
            found.append(range(first, start))
            most -= start - first
            first = find(1, start, stop)
        return found

    def runs(self) -> Iterator[range]:
        return iter(()) if self.blank else runs_of(self.bits)

    def grow(self, size: int, *, full: bool) -> None:
        """Become longer by regions that are all in the set, or all out of it; the new pages count as touched."""
        old, self._size = self._size, size
        if full and self._bits is None:
            self._bits = zeros(old)
        if self._bits is not None:
            self._bits.extend(ones(size - old) if full else zeros(size - old))
        self.blank = self.blank and not full
        self._touch(range(old, size))

    def page(self, page: int) -> frozenbitarray:
        """Return the bits of one page as they are now; the page no longer counts as touched."""
        self.touched.discard(page)
        start, stop = page * self.page_bits, min((page + 1) * self.page_bits, self._size)
        return no_bits(stop - start) if self.blank else frozenbitarray(self.bits[start:stop])

    def _touch(self, regions: range) -> None:
        if regions:
            self.touched.update(range(regions.start // self.page_bits, (regions.stop - 1) // self.page_bits + 1))

    def _touch_these(self, start: int, bits: bitarray) -> None:
        at = bits.find(1)
        while at != -1:
            page = (start + at) // self.page_bits
            self.touched.add(page)
            at = bits.find(1, (page + 1) * self.page_bits - start)


@lru_cache(maxsize=64)
def no_bits(width: int) -> frozenbitarray:
    """Return so many zeros, the same each time: most pages of most maps hold nothing else."""
    return frozenbitarray(zeros(width))


def parts_of(bits: bitarray, page_bits: int, size: int) -> Iterator[tuple[int, bitarray]]:
    """Yield (where, bits) of the parts of ``bits`` that have any, up to ``size``."""
    width = page_bits * PART_PAGES
    first = bits.find(1, 0, size)
    while first != -1:
        start = first // width * width
        stop = min(start + width, size)
        yield start, bits[start:stop]
        first = bits.find(1, stop, size)


def runs_of(bits: bitarray) -> Iterator[range]:
    """Yield the runs of adjacent ones, in order."""
    start = bits.find(1)
    while start != -1:
        stop = bits.find(0, start)
        if stop == -1:
            stop = len(bits)
        yield range(start, stop)
        start = bits.find(1, stop)
