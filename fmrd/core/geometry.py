"""A geometry turns bytes into regions, extents and pages: it knows about rounding, and about a short last region.

A *region* is the grain of an FMR map (64 KiB by default), an *extent* the grain of the DRL (4 MiB); both are powers of
two. A *page* is what the DCO writes at once: it holds the bits of ``page_regions`` regions of a map, or of the extents
that cover those same regions of a DRL, so that page N of every bitmap is about the same bytes and a volume grows by
adding pages. The hot path divides for itself, since a call would cost it more than the answer.
"""

from dataclasses import dataclass
from functools import cached_property

from fmrd.errors import BadRequest

PAGE_REGIONS = 31_744
"""Bits in a page: 4096 bytes less a 128-byte header. 31 x 1024, so extents of up to 1024 regions divide it evenly."""

SECTOR_BYTES = 4096
EXTENT_BYTES = 4 << 20
"""Where nobody says otherwise; one region where that is more."""
MIN_REGION_BYTES = 4096
MAX_REGION_BYTES = 64 << 20
MAX_LENGTH_BYTES = 1 << 50
MAX_REGIONS = 1 << 28
"""32 MiB for each bitmap in memory, and there are several for each plex."""

MAX_PAGES = -(-MAX_REGIONS // PAGE_REGIONS)
"""Of each bitmap. Pages may hold fewer bits than there is room for, but a record that comes from elsewhere, and wants
one for each of its regions, would be read without an end.
"""


@dataclass(frozen=True)
class Geometry:
    """A geometry holds the measures of one volume, in bytes. Regions and extents are numbered from 0; the last of each
    may be short. It is not checked when it is made: ``check`` does that for measures that come from outside.
    """

    length_bytes: int
    region_bytes: int = 64 << 10
    extent_bytes: int = EXTENT_BYTES
    page_regions: int = PAGE_REGIONS

    def check(self) -> "Geometry":
        """Return the geometry itself, or raise BadRequest('bad_size'), which says which measure cannot be."""
        if self.length_bytes <= 0 or self.length_bytes % SECTOR_BYTES or self.length_bytes > MAX_LENGTH_BYTES:
            raise BadRequest(
                "bad_size",
                f"a volume of {self.length_bytes} bytes cannot be: give a multiple of {SECTOR_BYTES}, at most 1 PiB",
            )
        for what, size in (("region", self.region_bytes), ("DRL extent", self.extent_bytes)):
            if size <= 0 or size & (size - 1):
                raise BadRequest("bad_size", f"a {what} of {size} bytes cannot be: give a power of two")
        if not MIN_REGION_BYTES <= self.region_bytes <= MAX_REGION_BYTES:
            raise BadRequest("bad_size", f"a region of {self.region_bytes} bytes is not between 4K and 64M")
        if self.regions > MAX_REGIONS:
            raise BadRequest(
                "bad_size",
                f"{self.regions} regions of {self.region_bytes} bytes are more than the {MAX_REGIONS} that fmrd keeps "
                "in memory: give larger ones",
            )
        ratio = self.extent_bytes // self.region_bytes
        if ratio < 1 or self.page_regions % ratio:
            raise BadRequest("bad_size", f"a DRL extent is 1 to 1024 regions (of {self.region_bytes} bytes)")
        if not 1 <= self.page_regions <= PAGE_REGIONS:
            raise BadRequest("bad_size", f"a page holds at most {PAGE_REGIONS} regions")
        if self.pages > MAX_PAGES:
            raise BadRequest("bad_size", f"{self.pages} pages are more than the {MAX_PAGES} that a bitmap may have")
        return self

    @cached_property
    def regions(self) -> int:
        return -(-self.length_bytes // self.region_bytes)

    @cached_property
    def extents(self) -> int:
        return -(-self.length_bytes // self.extent_bytes)

    @cached_property
    def pages(self) -> int:
        return -(-self.regions // self.page_regions)

    @cached_property
    def extent_regions(self) -> int:
        """Return how many regions a whole extent has."""
        return self.extent_bytes // self.region_bytes

    @cached_property
    def page_extents(self) -> int:
        """Return how many extents a whole page of the DRL holds."""
        return self.page_regions // self.extent_regions

    def regions_of(self, offset_bytes: int, length_bytes: int) -> range:
        """Return every region that [offset, offset + length) touches."""
        if length_bytes <= 0:
            return range(0)
        return range(offset_bytes // self.region_bytes, (offset_bytes + length_bytes - 1) // self.region_bytes + 1)

    def whole_regions_of(self, offset_bytes: int, length_bytes: int) -> range:
        """Return the regions that [offset, offset + length) covers to their last byte, a short last one included."""
        end = offset_bytes + length_bytes
        first = -(-offset_bytes // self.region_bytes)
        stop = self.regions if end >= self.length_bytes else end // self.region_bytes
        return range(first, max(first, stop))

    def extents_of(self, offset_bytes: int, length_bytes: int) -> range:
        """Return every extent that [offset, offset + length) touches."""
        if length_bytes <= 0:
            return range(0)
        return range(offset_bytes // self.extent_bytes, (offset_bytes + length_bytes - 1) // self.extent_bytes + 1)

    def regions_of_extent(self, extent: int) -> range:
        """Return the regions of one extent, clipped to the volume."""
        first = extent * self.extent_regions
        return range(first, min(first + self.extent_regions, self.regions))

    def bytes_of(self, regions: range) -> tuple[int, int]:
        """Return (offset, length) in bytes of a run of regions, clipped to the volume."""
        offset = regions.start * self.region_bytes
        return offset, max(0, min(regions.stop * self.region_bytes, self.length_bytes) - offset)

    def bytes_in(self, region_count: int, last_included: bool) -> int:
        """Return how many bytes ``region_count`` regions hold; the volume's last region counts at its true length."""
        short = self.regions * self.region_bytes - self.length_bytes if last_included else 0
        return region_count * self.region_bytes - short
