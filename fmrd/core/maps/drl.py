"""The dirty region log knows which extents were written since all plexes were last known to agree there.

Rules 1 and 2 live here. An extent is *marked* in memory when a write asks for it, *durable* when a page write that held
the bit has ended on the home copy and every open travelling copy, *pending* while writes on it are under way. It leaves
only through begin_clean/end_clean, around the fdatasync and map writes of rule 2. The log is bounded: the least
recently used idle extents leave first.

Time is counted in *ticks*, which are as long as nobody asks: begin_clean ends one, so that a write since then tells by
its tick. A steady load pays for an extent once a tick, and then only looks whether it is *hot*.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from bitarray import bitarray, frozenbitarray
from bitarray.util import zeros

from fmrd.core.geometry import Geometry
from fmrd.core.maps.regionmap import RegionMap

HOT_EXTENTS = 1024
"""How many extents may be dirty at once: what a crash costs at most is this many times the extent size."""


@dataclass(frozen=True)
class CleanToken:
    """A token holds the extents that were idle when a clean began, with the tick in which each was last written."""

    extents: dict[int, int]


class DirtyRegionLog:
    """This is one volume's DRL. All ranges are of extents, and every method is a synchronous step."""

    def __init__(self, geometry: Geometry, hot_extents: int = HOT_EXTENTS) -> None:
        self.geometry = geometry
        self.hot_extents = hot_extents
        self.marked = RegionMap(geometry.extents, geometry.page_extents)
        self.durable: bitarray = zeros(geometry.extents)
        self._pending: dict[int, int] = {}
        self._recent: dict[int, int] = {}
        self._tick = 0
        self.hot: set[int] = set()
        """Durable extents that were written in this tick: another write there changes nothing here."""

    def is_durable(self, extents: range) -> bool:
        """Tell by rule 1 whether a write on these extents may be issued now."""
        return self.durable.find(0, extents.start, extents.stop) == -1

    def enter(self, extents: range) -> None:
        """A write begins: mark its extents, count it as pending, and make them the most recently used."""
        for extent in extents:
            self._pending[extent] = self._pending.get(extent, 0) + 1
            self._recent.pop(extent, None)
            self._recent[extent] = self._tick
        self.marked.mark(extents)

    def leave(self, extents: range) -> None:
        """A write has ended, whatever came of it. (One that was given up ends when it has landed: rule 2a.)"""
        for extent in extents:
            left = self._pending[extent] - 1
            if left:
                self._pending[extent] = left
            else:
                del self._pending[extent]
            self._recent[extent] = self._tick

    def touch(self, offset_bytes: int, length_bytes: int) -> bool:
        """Note a write that begins and ends in this very step, so that nobody sees it pending. Return False, and change
        nothing, where rule 1 does not allow it yet.
        """
        size = self.geometry.extent_bytes
        extents = range(offset_bytes // size, (offset_bytes + length_bytes - 1) // size + 1)
        if not self.is_durable(extents):
            return False
        for extent in extents:
            if extent not in self.hot:
                self._recent.pop(extent, None)
                self._recent[extent] = self._tick
                self.hot.add(extent)
        return True

    def crowded_by(self, extents: range) -> bool:
        """Tell whether these extents would push the log over its bound while something idle in it could leave."""
        fresh = sum(1 for extent in extents if extent not in self._recent)
        over = len(self._recent) + fresh > self.hot_extents
        return fresh > 0 and over and len(self._pending) < len(self._recent)

    def end_tick(self) -> int:
        """Return the tick that ends now: what is written from here on belongs to the next."""
        self._tick += 1
        self.hot.clear()
        return self._tick - 1

    def begin_clean(self, most: int | None = None, before_tick: int | None = None) -> CleanToken:
        """Return the idle extents, least recently used first: at most ``most``, last written in ``before_tick`` or
        earlier. Only those that are still idle at ``end_clean`` will leave.
        """
        idle: dict[int, int] = {}
        for extent, tick in self._recent.items():
            if most is not None and len(idle) >= most:
                break
            if extent not in self._pending and (before_tick is None or tick <= before_tick):
                idle[extent] = tick
        self.end_tick()
        return CleanToken(idle)

    def end_clean(self, token: CleanToken, keep: bitarray | None = None) -> int:
        """Forget those that no write has touched since, less ``keep`` (bits by extent); return how many left it."""
        left = 0
        for extent, tick in token.extents.items():
            if self._recent.get(extent) != tick or (keep is not None and keep[extent]):
                continue
            del self._recent[extent]
            self.durable[extent] = 0
            assert extent not in self.hot, "who is hot was written since"
            self.marked.clear(range(extent, extent + 1))
            left += 1
        return left

    def restore(self, bits: bitarray) -> None:
        """Take over what the DCO held at a start; it counts as durable only once it was rewritten everywhere."""
        self.marked.union(bits)
        for extent in bits.search(1):
            self._recent.setdefault(extent, self._tick)

    def page_written(self, page: int, content: frozenbitarray) -> None:
        """A page write with this content has ended on every copy: what is still marked is durable now."""
        start = page * self.marked.page_bits
        stop = start + len(content)
        self.durable[start:stop] |= content & self.marked.bits[start:stop]

    def regions(self) -> bitarray:
        """Return every region of a marked extent, bits by region."""
        found = zeros(self.geometry.regions)
        self.add_to(found)
        return found

    def add_to(self, bits: bitarray) -> None:
        """Set in ``bits`` every region of a marked extent, as far as they reach."""
        for run in self.runs():
            bits[run.start : run.stop] = 1

    def runs(self) -> Iterator[range]:
        """Yield the runs of regions of marked extents, in order."""
        regions_of = self.geometry.regions_of_extent
        return (range(regions_of(run[0]).start, regions_of(run[-1]).stop) for run in self.marked.runs())

    def grow(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.marked.grow(geometry.extents, full=False)
        self.durable.extend(zeros(geometry.extents - len(self.durable)))

    @property
    def count(self) -> int:
        """Return how many extents are marked now."""
        return len(self._recent)

    @property
    def pending(self) -> int:
        """Return how many extents have a write under way."""
        return len(self._pending)
