"""A map of regions behaves as a set of numbers does, and knows which of its pages must be written again."""

from itertools import pairwise

from bitarray import bitarray
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fmrd.core.maps.regionmap import RegionMap, runs_of


def members(bits: bitarray) -> set[int]:
    return set(bits.search(1))


class AMapIsASet(RuleBasedStateMachine):
    @initialize(size=st.integers(1, 60), page_bits=st.sampled_from([1, 7, 8, 16]), full=st.booleans())
    def create(self, size: int, page_bits: int, full: bool) -> None:
        self.map = RegionMap(size, page_bits, full=full)
        self.model = set(range(size)) if full else set()
        self.written = self.pages()

    def pages(self) -> list[bitarray]:
        """What a DCO would hold of it; the pages count as written."""
        return [bitarray(self.map.page(page)) for page in range(self.map.pages)]

    def a_range(self, data: st.DataObject) -> range:
        numbers = st.integers(0, len(self.map))
        start, stop = sorted((data.draw(numbers), data.draw(numbers)))
        return range(start, stop)

    @rule(data=st.data())
    def mark(self, data: st.DataObject) -> None:
        regions = self.a_range(data)
        self.map.mark(regions)
        self.model |= set(regions)

    @rule(data=st.data())
    def clear(self, data: st.DataObject) -> None:
        regions = self.a_range(data)
        self.map.clear(regions)
        self.model -= set(regions)

    @rule(data=st.data(), as_map=st.booleans())
    def union(self, data: st.DataObject, as_map: bool) -> None:
        other = RegionMap(len(self.map), self.map.page_bits)
        for region in data.draw(st.sets(st.integers(0, len(self.map) - 1))):
            other.mark(range(region, region + 1))
        self.map.union(other if as_map else other.bits)
        self.model |= members(other.bits)

    @rule(data=st.data())
    def take_over(self, data: st.DataObject) -> None:
        """Of a map that is blank, with what a union would have had; the memory was there before, or not."""
        fresh = RegionMap(len(self.map), self.map.page_bits)
        if data.draw(st.booleans()):
            fresh.reserve()
        assert fresh.blank and not fresh.any()
        fresh.take_over(bitarray(self.map.bits))
        assert members(fresh.bits) == self.model
        assert fresh.touched == {region // fresh.page_bits for region in self.model}

    @rule(more=st.integers(0, 20), full=st.booleans())
    def grow(self, more: int, full: bool) -> None:
        old = len(self.map)
        self.map.grow(old + more, full=full)
        if full:
            self.model |= set(range(old, old + more))

    @rule(full=st.booleans())
    def fill_or_empty(self, full: bool) -> None:
        if full:
            self.map.fill()
        else:
            self.map.empty()
        self.model = set(range(len(self.map))) if full else set()

    @rule()
    def write_what_was_touched(self) -> None:
        """A page that is not touched holds what was written last."""
        self.written += [bitarray()] * (self.map.pages - len(self.written))
        for page in sorted(self.map.touched):
            self.written[page] = bitarray(self.map.page(page))
        assert not self.map.touched
        assert sum(self.written, bitarray()) == self.map.bits

    @rule(data=st.data(), most=st.integers(1, 70))
    def next_run(self, data: st.DataObject, most: int) -> None:
        start = data.draw(st.integers(0, len(self.map)))
        run = self.map.next_run(start, most)
        ahead = sorted(region for region in self.model if region >= start)
        if not ahead:
            assert run is None
            return
        assert run is not None and run.start == ahead[0] and 1 <= len(run) <= most
        assert set(run) <= self.model
        assert run.stop not in self.model or len(run) == most

    @rule(data=st.data())
    def touches(self, data: st.DataObject) -> None:
        regions = self.a_range(data)
        assert self.map.touches(regions) is bool(self.model & set(regions))

    @invariant()
    def holds_the_same(self) -> None:
        assert members(self.map.bits) == self.model == {r for r in range(len(self.map)) if r in self.map}
        assert self.map.count() == len(self.model) and self.map.any() is bool(self.model)
        assert self.map.percent() == 100.0 * len(self.model) / len(self.map)


TestAMapIsASet = AMapIsASet.TestCase


@given(st.lists(st.booleans(), max_size=80))
def test_runs_are_the_ones_in_order_and_never_adjacent(bits: list[bool]) -> None:
    runs = list(runs_of(bitarray(bits)))
    assert [region for run in runs for region in run] == [i for i, bit in enumerate(bits) if bit]
    assert all(run for run in runs)
    assert all(a.stop < b.start for a, b in pairwise(runs))


def test_what_changes_nothing_touches_nothing() -> None:
    regions = RegionMap(20, 8)
    regions.mark(range(3, 5))
    regions.page(0)
    regions.mark(range(3, 5))
    regions.clear(range(10, 12))
    regions.union(bitarray("00011" + "0" * 15))
    assert regions.touched == set()


def test_a_page_is_a_copy_of_what_was_true_then() -> None:
    regions = RegionMap(20, 8)
    regions.mark(range(8, 10))
    page = regions.page(1)
    regions.clear(range(8, 10))
    assert page == bitarray("11000000")
    assert regions.touched == {1}
