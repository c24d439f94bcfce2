"""The dirty region log knows which extents were written since all plexes were last known to agree there.

Rules 1 and 2 live here. An extent is *marked* in memory when a write asks for it, *durable* when a page write that held
the bit has ended on the home copy and every open travelling copy, *pending* while writes on it are under way. It leaves
only through begin_clean/end_clean, around the fdatasync and map writes of rule 2. The log is bounded: the least
recently used idle extents leave first, before the log is full where it cannot hold the whole volume (``is_filling``).

A scattered load brings in many extents in a short time, and pays a page write for each. So it finds its neighbours
marked, too (``enter``), as many as the load is heavy; and where what left is soon back, extents may be idle for longer
(``end_period``). More marks than were needed are always safe: they cost something at a crash, and nothing else.

Time is counted in *ticks*, which are as long as nobody asks: begin_clean ends one, so that a write since then tells by
its tick. A steady load pays for an extent once a tick, and then only looks whether it is *hot*.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from bitarray import bitarray, frozenbitarray
from bitarray.util import zeros

from fmrd.core.geometry import Geometry
from fmrd.core.maps.regionmap import RegionMap

HOT_EXTENTS = 16384
"""How many extents may be dirty at once: what a crash costs at most is this many times the extent size."""
LEAST_EXTENTS, MOST_EXTENTS = 16, 65536
"""What an administrator may make of that: fewer than writes are under way would wait for each other, and more would
hold up the loop while the log is looked through."""
MOST_AHEAD = 16
"""So many extents at most are marked for one that is written: 64 MiB where an extent is 4."""
LONGEST_PERIODS = 6
"""After so many periods at the latest an idle extent leaves."""


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
        self._periods: deque[int] = deque(maxlen=LONGEST_PERIODS + 1)
        """The ticks with which the last periods ended."""
        self._patience = 1
        """For how many periods an extent must be idle before it leaves by its age."""
        self._put_off = 0
        """How often in a row a cleaning by age was."""
        self._fresh = 0
        """How many extents writes brought in in this period."""
        self._returned = 0
        """How many of those had left in it, or in the one before."""
        self._left: bitarray = zeros(geometry.extents)
        self._left_before: bitarray = zeros(geometry.extents)
        self.hot: set[int] = set()
        """Durable extents that were written in this tick: another write there changes nothing here."""

    def is_durable(self, extents: range) -> bool:
        """Tell by rule 1 whether a write on these extents may be issued now."""
        return self.durable.find(0, extents.start, extents.stop) == -1

    def enter(self, extents: range) -> None:
        """A write begins: mark its extents, count it as pending, and make them the most recently used. Under a
        scattered load mark some of their neighbours, which the same page write makes durable.
        """
        for extent in extents:
            self._pending[extent] = self._pending.get(extent, 0) + 1
            if self._recent.pop(extent, None) is None:
                self._fresh += 1
                self._returned += self._left[extent] or self._left_before[extent]
            self._recent[extent] = self._tick
        if not self.is_durable(extents):
            self.marked.mark(extents)
            self._mark_ahead(extents)

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

    def _mark_ahead(self, extents: range) -> None:
        """As many as the load is heavy, in the page of the first; never what something else would have to leave for."""
        many = min(MOST_AHEAD, self._fresh // max(1, self.hot_extents // 256))
        if many < 2:
            return
        many = 1 << (many.bit_length() - 1)
        width = self.geometry.page_extents
        page = extents.start // width * width
        start = max(page, extents.start // many * many)
        ahead = range(start, min(start + many, page + width, self.geometry.extents))
        limit = self.hot_extents // 2 if self._may_fill else self.hot_extents
        if len(self._recent) + len(ahead) <= limit:
            for extent in ahead:
                self._recent.setdefault(extent, self._tick)
            self.marked.mark(ahead)

    @property
    def _few(self) -> int:
        """Return how many extents may be soon back in a period before they were let go of too early."""
        return max(1, self.hot_extents // 64)

    @property
    def _may_fill(self) -> bool:
        return self.hot_extents < self.geometry.extents

    @property
    def is_filling(self) -> bool:
        """Tell whether it is time to let extents leave, before a write has to wait for it."""
        return self._may_fill and 4 * len(self._recent) > 3 * self.hot_extents

    @property
    def surplus(self) -> int:
        """Return how many extents leave then, or when the log is full: until half of it is free."""
        return max(1, len(self._recent) - self.hot_extents // 2)

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

    def end_period(self) -> int:
        """One of the periods in which the log is cleaned has ended: return the tick in which an extent must have been
        written last to leave now. Where many are soon back, that is longer ago; and where few would leave of a log that
        is busy, that is put off for a while: it costs an fdatasync of all plexes, and a crash would cost hardly less.
        """
        self._patience = LONGEST_PERIODS if self._returned > self._few else max(1, self._patience - 1)
        self._fresh = self._returned = 0
        self._left, self._left_before = zeros(self.geometry.extents), self._left
        self._periods.append(self.end_tick())
        before = self._periods[-1 - self._patience] if len(self._periods) > self._patience else -1
        old = sum(tick <= before for tick in self._recent.values())
        if 0 < old < len(self._recent) // 16 and self._put_off < LONGEST_PERIODS:
            self._put_off += 1
            return -1
        self._put_off = 0
        return before

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
            self._left[extent] = 1
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
        for bits in (self.durable, self._left, self._left_before):
            bits.extend(zeros(geometry.extents - len(bits)))

    @property
    def count(self) -> int:
        """Return how many extents are marked now."""
        return len(self._recent)

    @property
    def pending(self) -> int:
        """Return how many extents have a write under way."""
        return len(self._pending)
