"""A bitmap is a map with a column of its own in the DCO: what a plex missed, or what a volume tracks for another."""

from bitarray import bitarray, frozenbitarray
from bitarray.util import ones, zeros

from fmrd.core.geometry import Geometry
from fmrd.core.maps.regionmap import RegionMap
from fmrd.core.records.parts import Column


class Bitmap:
    """A bitmap knows what it holds now, and what the home copy may still hold of it (``on_home``). It is changed in
    synchronous steps only: by its volume's methods, and by the decisions over a family.
    """

    def __init__(self, column: Column, geometry: Geometry, *, full: bool) -> None:
        self.column = column
        self.geometry = geometry
        self.map = RegionMap(geometry.regions, geometry.page_regions, full=full)
        self._on_home: bitarray | None = None
        self.writing: set[int] = set()
        """Pages on their way to the DCO."""

    @property
    def on_home(self) -> bitarray:
        """What the home copy may still hold, all of it."""
        if self._on_home is None:
            self._on_home = zeros(self.geometry.regions)
        return self._on_home

    @on_home.setter
    def on_home(self, bits: bitarray) -> None:
        self._on_home = bits

    @property
    def home_blank(self) -> bool:
        """Tell whether that is surely nothing, as of most maps, which then have no memory for it."""
        return self._on_home is None

    def page(self, page: int) -> frozenbitarray:
        """Return the content of a page as the DCO must hold it; it no longer counts as touched."""
        return self.map.page(page)

    def page_begins(self, page: int, content: frozenbitarray) -> None:
        """A write of the page is under way: until it has ended, the home copy may hold the old or the new content."""
        start = page * self.geometry.page_regions
        if not self.home_blank or content.any():
            self.on_home[start : start + len(content)] |= content
        self.writing.add(page)

    def page_written(self, page: int, content: frozenbitarray) -> None:
        """The home copy holds this content now, and every open travelling copy does."""
        start = page * self.geometry.page_regions
        if not self.home_blank or content.any():
            self.on_home[start : start + len(content)] = content
        self.writing.discard(page)

    def page_failed(self, page: int) -> None:
        """The home copy may hold the old content or the new one from now on; the page is due again."""
        self.map.touched.add(page)
        self.writing.discard(page)

    @property
    def due_pages(self) -> set[int]:
        """Return the pages touched since they were last taken, or not written yet: that write may still fail."""
        return self.map.touched | self.writing

    def restore(self, bits: bitarray) -> None:
        """Take over what the home copy holds, at an opening."""
        self.map.union(bits)
        self._on_home = bitarray(bits) if bits.any() else None

    def grow(self, geometry: Geometry, *, missed: bool) -> None:
        """Follow a volume that became longer; with ``missed`` the new regions are in the map."""
        fresh = geometry.regions - self.geometry.regions
        self.geometry = geometry
        self.map.grow(geometry.regions, full=missed)
        if missed or not self.home_blank:
            known = self._on_home if self._on_home is not None else zeros(geometry.regions - fresh)
            known.extend(ones(fresh) if missed else zeros(fresh))
            self._on_home = known
