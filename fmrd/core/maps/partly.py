"""A map of regions of which some are lacked in part: blocks of them, which is kept beside the map, in memory alone.

The map is the truth, and the DCO has nothing else. What is known of blocks only narrows it: a region that is in the map
and of which nothing is known is lacked whole. So it may be forgotten at any time, and whatever marks a region without
saying which bytes, or takes it out, forgets what was known of it.
"""

from collections.abc import Iterator

from bitarray import bitarray

from fmrd.core.maps.regionmap import RegionMap

BLOCK_BYTES = 4096
"""No block is smaller: what lies behind it is a page cache, mostly."""
BLOCKS = 64
"""So many in a region, at most."""
KNOWN = 1 << 16
"""Of so many regions it is known, at most; each takes some hundred bytes."""
GAP_BYTES = 12 << 10
"""Lacked blocks that lie no farther apart are one span: a request costs more than these bytes."""


class PartMap(RegionMap):
    """A region map of regions of ``region_bytes``. ``blocks`` tells, by region, which of its blocks are lacked, as the
    bits of a number, the first block the lowest; of a region that is not in it all are.
    """

    __slots__ = ("_all", "block_bytes", "blocks")

    def __init__(self, size: int, page_bits: int, region_bytes: int, *, full: bool = False) -> None:
        super().__init__(size, page_bits, full=full)
        self.block_bytes = max(BLOCK_BYTES, region_bytes // BLOCKS)
        self._all = (1 << max(1, region_bytes // self.block_bytes)) - 1
        self.blocks: dict[int, int] = {}

    def mark_bytes(self, region: int, start: int, stop: int) -> None:
        """Bytes of this region, counted from its first, are lacked from now on. What else of it is, stays so."""
        first, last = start // self.block_bytes, (stop - 1) // self.block_bytes
        more = (2 << last) - (1 << first)
        before = self.blocks.get(region)
        if before is None:
            if region in self:
                return
            super().mark(range(region, region + 1))
            if len(self.blocks) >= KNOWN:
                return
            before = 0
        more |= before
        if more != self._all:
            self.blocks[region] = more
        elif before:
            del self.blocks[region]

    def spans(self, region: int) -> Iterator[tuple[int, int]]:
        """Yield what is lacked of a region that is in the map, as [start, stop) in bytes from its first, in order; what
        lies in small gaps is taken along. The last one may end behind a region that is short.
        """
        size, bits = self.block_bytes, self.blocks.get(region, self._all)
        at = 0
        while bits >> at:
            first = stop = at + _zeros_below(bits >> at)
            while True:
                stop += _zeros_below(~(bits >> stop))
                skipped = _zeros_below(bits >> stop)
                if not 0 < skipped * size <= GAP_BYTES:
                    break
                stop += skipped
            yield first * size, stop * size
            at = stop

    def forget_blocks(self, regions: range | None = None) -> None:
        """What is in the map is lacked whole: of these regions, or wherever."""
        if regions is None or len(regions) > len(self.blocks):
            self.blocks.clear()
        elif self.blocks:
            for region in regions:
                self.blocks.pop(region, None)

    def mark(self, regions: range) -> None:
        if self.blocks:
            self.forget_blocks(regions)
        super().mark(regions)

    def clear(self, regions: range) -> None:
        if self.blocks:
            self.forget_blocks(regions)
        super().clear(regions)

    def mark_these(self, start: int, bits: bitarray) -> None:
        self.blocks.clear()
        super().mark_these(start, bits)

    def clear_these(self, start: int, bits: bitarray) -> None:
        self.blocks.clear()
        super().clear_these(start, bits)

    def union(self, other: RegionMap | bitarray) -> None:
        self.blocks.clear()
        super().union(other)

    def grow(self, size: int, *, full: bool) -> None:
        self.blocks.clear()
        super().grow(size, full=full)


def _zeros_below(bits: int) -> int:
    """Return how many zeros lie below the lowest one; none where there is none."""
    return max(0, (bits & -bits).bit_length() - 1)
