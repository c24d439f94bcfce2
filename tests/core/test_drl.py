"""The dirty region log: bounded, least recently used leaves first, and nothing leaves while it may still be needed."""

import pytest
from bitarray import bitarray, frozenbitarray
from bitarray.util import zeros
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fmrd.core.geometry import Geometry
from fmrd.core.maps.drl import CleanToken, DirtyRegionLog

REGION = 4096
EXTENTS = 12
GEOMETRY = Geometry(EXTENTS * 2 * REGION - REGION, REGION, 2 * REGION, 8)
"""Extents of two regions, the last one short; pages of four extents."""


def log(hot_extents: int = 1 << 14) -> DirtyRegionLog:
    return DirtyRegionLog(GEOMETRY, hot_extents)


def write(drl: DirtyRegionLog, extent: int) -> None:
    drl.enter(range(extent, extent + 1))
    drl.leave(range(extent, extent + 1))


def pages_written(drl: DirtyRegionLog) -> None:
    for page in range(drl.marked.pages):
        drl.page_written(page, drl.marked.page(page))


def marked(drl: DirtyRegionLog) -> list[int]:
    return list(drl.marked.bits.search(1))


class TheLogAgainstAModel(RuleBasedStateMachine):
    """``disk``: what the pages say that were written last. A write may be issued only when its extents are on disk, and
    they stay on disk until a clean that began after the write had ended.
    """

    @initialize(hot=st.integers(1, EXTENTS))
    def begin(self, hot: int) -> None:
        self.drl = log(hot)
        self.disk: bitarray = zeros(EXTENTS)
        self.waiting: list[range] = []
        """Entered, and not yet issued."""
        self.issued: list[range] = []
        self.needed: set[int] = set()
        """Extents written since the last clean that covered them began."""
        self.clean: tuple[CleanToken, set[int]] | None = None
        self.flying: tuple[int, frozenbitarray] | None = None

    @rule(first=st.integers(0, EXTENTS - 1), count=st.integers(1, 3))
    def enter(self, first: int, count: int) -> None:
        extents = range(first, min(first + count, EXTENTS))
        self.drl.enter(extents)
        self.waiting.append(extents)

    @precondition(lambda self: self.waiting)
    @rule()
    def issue(self) -> None:
        if self.drl.is_durable(self.waiting[0]):
            assert all(self.disk[extent] for extent in self.waiting[0]), "rule 1: mark before write"
            self.issued.append(self.waiting.pop(0))

    @precondition(lambda self: self.issued)
    @rule()
    def leave(self) -> None:
        extents = self.issued.pop(0)
        self.drl.leave(extents)
        self.needed |= set(extents)

    @precondition(lambda self: self.flying is None)
    @rule(page=st.integers(0, 2))
    def page_begins(self, page: int) -> None:
        self.flying = page, self.drl.marked.page(page)

    @precondition(lambda self: self.flying is not None)
    @rule(ends_well=st.booleans())
    def page_ends(self, ends_well: bool) -> None:
        assert self.flying is not None
        page, content = self.flying
        self.flying = None
        if ends_well:
            self.disk[page * 4 : page * 4 + len(content)] = content
            self.drl.page_written(page, content)

    @rule()
    def end_period(self) -> None:
        """A cleaning may still be under way: ticks end whenever somebody asks."""
        assert self.drl.end_period() < self.drl.end_tick()

    @precondition(lambda self: self.clean is None)
    @rule(most=st.none() | st.integers(1, 4))
    def begin_clean(self, most: int | None) -> None:
        token = self.drl.begin_clean(most)
        assert most is None or len(token.extents) <= most
        self.clean = token, set(token.extents)
        self.needed -= set(token.extents)

    @precondition(lambda self: self.clean is not None)
    @rule(kept=st.sets(st.integers(0, EXTENTS - 1)))
    def end_clean(self, kept: set[int]) -> None:
        assert self.clean is not None
        token, extents = self.clean
        self.clean = None
        keep = zeros(EXTENTS)
        keep[list(kept)] = 1
        before = self.drl.count
        assert self.drl.end_clean(token, keep) == before - self.drl.count
        assert set(marked(self.drl)) >= kept & extents
        self.needed |= kept & extents

    @invariant()
    def what_is_needed_stays(self) -> None:
        under_way = {extent for extents in (*self.waiting, *self.issued) for extent in extents}
        assert self.drl.pending == len(under_way)
        assert set(marked(self.drl)) >= self.needed | under_way
        assert self.drl.count == len(marked(self.drl))
        assert all(self.disk[extent] for extents in self.issued for extent in extents), "a pending write lost its mark"
        assert not (self.drl.durable & ~self.drl.marked.bits).any()

    @invariant()
    def regions_are_those_of_the_extents(self) -> None:
        expected = {region for extent in marked(self.drl) for region in GEOMETRY.regions_of_extent(extent)}
        assert set(self.drl.regions().search(1)) == expected


TestTheLogAgainstAModel = TheLogAgainstAModel.TestCase


def test_a_mark_is_durable_only_when_a_page_that_held_it_was_written() -> None:
    drl = log()
    early = drl.marked.page(0)
    drl.enter(range(1, 2))
    drl.page_written(0, early)
    assert not drl.is_durable(range(1, 2)), "that page was taken before the mark"
    drl.page_written(0, drl.marked.page(0))
    assert drl.is_durable(range(1, 2))
    assert not drl.is_durable(range(1, 3))


def test_an_extent_cleaned_and_marked_again_is_not_durable_by_its_old_page() -> None:
    drl = log()
    write(drl, 1)
    pages_written(drl)
    drl.end_clean(drl.begin_clean())
    cleared = drl.marked.page(0)
    drl.enter(range(1, 2))
    drl.page_written(0, cleared)
    assert not drl.is_durable(range(1, 2))


def test_a_write_between_begin_and_end_of_a_clean_keeps_its_extent() -> None:
    drl = log()
    write(drl, 1)
    write(drl, 5)
    token = drl.begin_clean()
    write(drl, 5)
    assert drl.end_clean(token) == 1
    assert marked(drl) == [5]


def test_a_write_under_way_when_a_clean_begins_is_none_of_its_business() -> None:
    drl = log()
    drl.enter(range(1, 2))
    token = drl.begin_clean()
    drl.leave(range(1, 2))
    assert drl.end_clean(token) == 0
    assert marked(drl) == [1]


def test_a_write_under_way_all_through_a_clean_keeps_its_extent() -> None:
    drl = log()
    drl.enter(range(1, 2))
    assert drl.end_clean(drl.begin_clean()) == 0
    assert marked(drl) == [1]


def test_the_least_recently_used_leave_first() -> None:
    drl = log()
    for extent in (3, 7, 1, 3):
        write(drl, extent)
    drl.end_clean(drl.begin_clean(most=2))
    assert marked(drl) == [3]


def test_only_extents_idle_for_long_leave_by_age() -> None:
    drl = log()
    write(drl, 1)
    then = drl.end_tick()
    write(drl, 2)
    assert list(drl.begin_clean(before_tick=then).extents) == [1]


def durable(*extents: int) -> DirtyRegionLog:
    drl = log()
    for extent in extents:
        write(drl, extent)
    pages_written(drl)
    return drl


def touch(drl: DirtyRegionLog, first: int, last: int | None = None) -> bool:
    """A quick write in these extents."""
    size = GEOMETRY.extent_bytes
    stop = size * (first if last is None else last) + 10
    return drl.touch(size * first + 5, stop - (size * first + 5))


def test_a_quick_write_waits_for_its_mark_as_any_other() -> None:
    drl = durable(1, 2)
    assert touch(drl, 1) and touch(drl, 1, 2)
    assert not touch(drl, 3) and not touch(drl, 2, 3)
    assert marked(drl) == [1, 2] and drl.hot == {1, 2}


def test_what_a_quick_write_touched_while_a_clean_was_under_way_stays() -> None:
    """Also where it was hot before: a clean begins a new tick."""
    drl = durable(1, 2, 3)
    assert touch(drl, 1) and touch(drl, 2)
    token = drl.begin_clean()
    assert touch(drl, 2)
    assert drl.end_clean(token) == 2
    assert marked(drl) == [2] and drl.is_durable(range(2, 3))
    assert not touch(drl, 1) and not touch(drl, 3)


def test_quick_writes_count_for_who_leaves_first() -> None:
    drl = durable(1, 2, 3)
    drl.end_tick()
    touch(drl, 1)
    assert list(drl.begin_clean(most=2).extents) == [2, 3]


@pytest.mark.parametrize(
    ("hot", "idle", "pending", "wanted", "crowded"),
    [
        (3, [], [], range(0, 3), False),
        (3, [0, 1], [], range(2, 3), False),
        (3, [0, 1, 2], [], range(3, 4), True),
        (3, [0, 1, 2], [], range(2, 3), False),
        (3, [0, 1, 2], [], range(2, 4), True),
        (3, [], [0, 1, 2], range(3, 4), False),
        (3, [0], [1, 2], range(3, 4), True),
    ],
    ids=[
        "room for all",
        "one more",
        "one too many",
        "held already",
        "half held",
        "none could leave",
        "one could leave",
    ],
)
def test_crowded(hot: int, idle: list[int], pending: list[int], wanted: range, crowded: bool) -> None:
    drl = log(hot)
    for extent in idle:
        write(drl, extent)
    for extent in pending:
        drl.enter(range(extent, extent + 1))
    assert drl.crowded_by(wanted) is crowded


def load(drl: DirtyRegionLog, extents: range) -> None:
    for extent in extents:
        write(drl, extent)


SPREAD = Geometry(256 * 4096 * REGION, REGION, 2 * REGION, 64)
"""Many extents, 32 to a page."""


def test_a_scattered_load_finds_its_neighbours_marked_by_the_same_page() -> None:
    drl = DirtyRegionLog(SPREAD, 1024)
    load(drl, range(0, 320, 32))
    write(drl, 1000)
    assert marked(drl)[-2:] == [1000, 1001], "as many as the load is heavy"
    for page in range(drl.marked.pages):
        drl.marked.page(page)
    load(drl, range(3200, 3200 + 54 * 32, 32))
    drl.enter(range(10_042, 10_043))
    assert [extent for extent in marked(drl) if extent >= 10_000] == list(range(10_032, 10_048))
    assert not drl.is_durable(range(10_033, 10_034)), "rule 1 holds for them as well"
    drl.page_written(10_042 // 32, drl.marked.page(10_042 // 32))
    assert drl.is_durable(range(10_032, 10_048))


def test_neighbours_are_of_the_same_page_only() -> None:
    drl = DirtyRegionLog(Geometry(SPREAD.length_bytes, REGION, 2 * REGION, 24), 1024)
    load(drl, range(0, 64 * 32, 32))
    write(drl, 10_005)
    page = range(10_005 // 12 * 12, 10_005 // 12 * 12 + 12)
    assert {extent // 12 for extent in marked(drl) if extent >= 10_000} == {10_005 // 12}
    assert set(marked(drl)) & set(page) > {10_005}


def test_a_few_writes_mark_nothing_but_their_own_extents() -> None:
    drl = DirtyRegionLog(SPREAD, 1 << 14)
    load(drl, range(0, 100 * 32, 32))
    assert marked(drl) == list(range(0, 100 * 32, 32))


def test_nothing_is_marked_ahead_in_a_log_that_is_half_full() -> None:
    drl = DirtyRegionLog(SPREAD, 64)
    load(drl, range(0, 60 * 32, 32))
    ahead = drl.count
    assert ahead > 60
    write(drl, 5000)
    assert drl.count == ahead + 1


def test_a_log_that_holds_the_whole_volume_never_fills() -> None:
    drl = log(EXTENTS)
    load(drl, range(EXTENTS))
    assert drl.count == EXTENTS and not drl.is_filling and not drl.crowded_by(range(EXTENTS))


def test_a_log_fills_before_it_is_full_and_half_of_it_leaves() -> None:
    drl = log(8)
    load(drl, range(6))
    assert not drl.is_filling
    write(drl, 6)
    assert drl.is_filling and not drl.crowded_by(range(7, 8))
    drl.end_clean(drl.begin_clean(drl.surplus))
    assert marked(drl) == [3, 4, 5, 6] and not drl.is_filling


def test_a_log_that_was_made_smaller_lets_go_of_what_is_too_much() -> None:
    drl = DirtyRegionLog(SPREAD, 1 << 14)
    load(drl, range(0, 90 * 32, 32))
    drl.hot_extents = 16
    assert drl.is_filling
    assert drl.crowded_by(range(1, 2)) and not drl.crowded_by(range(0, 1)), "what is in it needs no room"
    drl.end_clean(drl.begin_clean(drl.surplus))
    assert drl.count == 8


def leave_by_age(drl: DirtyRegionLog) -> int:
    return drl.end_clean(drl.begin_clean(before_tick=drl.end_period()))


def test_what_is_idle_for_a_period_leaves() -> None:
    drl = log()
    drl.end_period()
    write(drl, 1)
    assert leave_by_age(drl) == 0
    write(drl, 2)
    assert leave_by_age(drl) == 1 and marked(drl) == [2]


def test_what_is_soon_back_may_be_idle_for_longer() -> None:
    drl = DirtyRegionLog(GEOMETRY, 128)
    drl.end_period()
    load(drl, range(4))
    leave_by_age(drl)
    assert leave_by_age(drl) == 4
    load(drl, range(4))
    assert [leave_by_age(drl) for _ in range(4)] == [0, 0, 0, 4], "6 periods at first, and one less with each calm one"


def test_two_that_are_soon_back_of_a_small_log_are_no_reason_for_patience() -> None:
    drl = DirtyRegionLog(GEOMETRY, 128)
    drl.end_period()
    load(drl, range(2))
    leave_by_age(drl)
    assert leave_by_age(drl) == 2
    load(drl, range(2))
    assert [leave_by_age(drl) for _ in range(2)] == [0, 2]


def test_what_is_back_a_period_later_counts_as_soon() -> None:
    drl = DirtyRegionLog(GEOMETRY, 128)
    drl.end_period()
    load(drl, range(4))
    leave_by_age(drl)
    assert leave_by_age(drl) == 4
    drl.end_period()
    load(drl, range(4))
    assert [leave_by_age(drl) for _ in range(4)] == [0, 0, 0, 4]


def test_few_are_not_let_go_of_while_many_are_busy() -> None:
    """An fdatasync of all plexes for one extent of many would cost more than it saves; but not for ever."""
    drl = DirtyRegionLog(SPREAD, 1 << 14)
    drl.end_period()
    write(drl, 10_000)
    gone = []
    for _ in range(9):
        load(drl, range(0, 40 * 32, 32))
        gone.append(leave_by_age(drl))
    assert gone.index(1) == 7 and sum(gone) == 1


def test_what_is_restored_is_marked_and_not_durable_before_it_was_rewritten() -> None:
    drl = log()
    bits = zeros(EXTENTS)
    bits[6] = 1
    drl.restore(bits)
    assert marked(drl) == [6] and drl.count == 1
    assert not drl.is_durable(range(6, 7))
    pages_written(drl)
    assert drl.is_durable(range(6, 7))
    assert drl.end_clean(drl.begin_clean()) == 1


def test_growing_keeps_what_is_marked() -> None:
    drl = log()
    write(drl, EXTENTS - 1)
    pages_written(drl)
    longer = Geometry(GEOMETRY.length_bytes + 3 * REGION, REGION, 2 * REGION, 8)
    drl.grow(longer)
    assert drl.is_durable(range(EXTENTS - 1, EXTENTS))
    drl.enter(range(longer.extents - 1, longer.extents))
    assert marked(drl) == [EXTENTS - 1, longer.extents - 1]
    assert set(drl.regions().search(1)) == {22, 23, 24, 25}, "the short last extent is whole now"
    assert 3 in drl.marked.touched, "the mark is on a page of its own, which is due"
