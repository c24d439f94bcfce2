"""Byte ranges exclude each other where they overlap, in the order they were asked for, and are never lost."""

from collections.abc import Callable

import pytest
import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fmrd.engine.serving.ranges import Ranges, Span, overlap


class Holder:
    """A task that holds a range until it is told to leave."""

    def __init__(self, ranges: Ranges, *spans: Span) -> None:
        self.spans = spans
        self.has = False
        self.scope = trio.CancelScope()
        self._ranges = ranges
        self._leave = trio.Event()

    async def run(self) -> None:
        with self.scope:
            async with self._ranges.hold(*self.spans):
                self.has = True
                await self._leave.wait()
        self.has = False

    def leave(self) -> None:
        self._leave.set()


Enter = Callable[..., Holder]


@pytest.fixture
def ranges() -> Ranges:
    return Ranges()


@pytest.fixture
async def enter(ranges: Ranges, nursery: trio.Nursery) -> Enter:
    def go(*spans: Span) -> Holder:
        holder = Holder(ranges, *spans)
        nursery.start_soon(holder.run)
        return holder

    return go


settled = trio.testing.wait_all_tasks_blocked


async def test_overlapping_ranges_exclude_each_other_and_disjoint_ones_do_not(enter: Enter) -> None:
    first, beside = enter((0, 10)), enter((10, 20))
    await settled()
    over = enter((9, 11))
    await settled()
    assert (first.has, beside.has, over.has) == (True, True, False)
    first.leave()
    await settled()
    assert not over.has, "the other one still holds byte 10"
    beside.leave()
    await settled()
    assert over.has


async def test_first_come_first_served_and_nobody_overtakes(enter: Enter) -> None:
    first = enter((0, 10))
    await settled()
    whole = enter((0, 100))
    await settled()
    behind = enter((50, 60))
    await settled()
    assert not whole.has and not behind.has, "one that overlaps a waiter waits behind it"
    first.leave()
    await settled()
    assert whole.has and not behind.has
    whole.leave()
    await settled()
    assert behind.has


async def test_a_waiter_holds_up_only_those_it_overlaps(enter: Enter) -> None:
    first = enter((0, 10))
    await settled()
    waiting = enter((5, 20))
    await settled()
    apart = enter((20, 30))
    await settled()
    assert first.has and not waiting.has and apart.has


async def test_a_waiter_that_goes_away_leaves_nothing_behind(enter: Enter, ranges: Ranges) -> None:
    first = enter((0, 10))
    await settled()
    waiting = enter((0, 100))
    await settled()
    behind = enter((50, 60))
    await settled()
    waiting.scope.cancel()
    await settled()
    assert behind.has, "it waited only for the one that went away"
    first.leave()
    behind.leave()
    await settled()
    assert ranges.holders == 0


async def test_cancelled_in_the_moment_it_is_served_it_does_not_keep_the_range(enter: Enter, ranges: Ranges) -> None:
    first = enter((0, 10))
    await settled()
    second = enter((0, 10))
    await settled()
    first.leave()
    second.scope.cancel()
    await settled()
    third = enter((0, 10))
    await settled()
    assert third.has
    third.leave()
    await settled()
    assert ranges.holders == 0


async def test_an_error_inside_gives_the_range_back(ranges: Ranges) -> None:
    with pytest.raises(KeyError):
        async with ranges.hold((0, 10)):
            raise KeyError
    assert ranges.holders == 0


async def test_several_ranges_are_had_at_once_or_not_at_all(enter: Enter) -> None:
    first = enter((10, 20))
    await settled()
    several = enter((0, 5), (12, 13), (30, 40))
    await settled()
    between, over = enter((5, 10), (20, 30)), enter((39, 50))
    await settled()
    assert not several.has and between.has, "the gaps are free"
    assert not over.has, "it waits behind the one that waits"
    first.leave()
    await settled()
    assert several.has and not over.has
    several.leave()
    await settled()
    assert over.has


def spans_of(numbers: list[int]) -> tuple[Span, ...]:
    """Spans in order and apart from each other, of any sorted distinct numbers."""
    return tuple(zip(numbers[::2], numbers[1::2], strict=False))


claims = st.lists(st.integers(0, 20), min_size=2, max_size=8, unique=True).map(sorted).map(spans_of)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.just(0), claims),
        st.tuples(st.sampled_from(["leave", "cancel", "leave and cancel"]), st.integers(0, 30), st.just(())),
    ),
    max_size=40,
)


@settings(max_examples=100, deadline=None)
@given(steps=steps)
async def test_against_a_model(steps: list[tuple[str, int, tuple[Span, ...]]]) -> None:
    """The model: in order of arrival, each has its range unless one before it overlaps and is still there."""
    ranges = Ranges()
    present: list[Holder] = []
    async with trio.open_nursery() as nursery:
        for what, number, spans in steps:
            if what == "enter":
                present.append(Holder(ranges, *spans))
                nursery.start_soon(present[-1].run)
            elif present:
                holder = present[number % len(present)]
                if what != "cancel" and holder.has:
                    holder.leave()
                    present.remove(holder)
                    if what == "leave and cancel" and present:
                        gone = present[number % len(present)]
                        gone.scope.cancel()
                        present.remove(gone)
                elif what == "cancel":
                    holder.scope.cancel()
                    present.remove(holder)
            await settled()
            expected = [not any(_overlap(h, earlier) for earlier in present[:i]) for i, h in enumerate(present)]
            assert [h.has for h in present] == expected
            assert ranges.holders == sum(expected)
        nursery.cancel_scope.cancel()
    assert ranges.holders == 0


def _overlap(a: Holder, b: Holder) -> bool:
    return any(x[0] < y[1] and y[0] < x[1] for x in a.spans for y in b.spans)


@example(a=((0, 5), (40, 50)), b=((10, 20), (60, 70)))
@given(a=claims, b=claims)
def test_claims_overlap_where_they_share_a_byte(a: tuple[Span, ...], b: tuple[Span, ...]) -> None:
    bytes_of = [{byte for start, stop in claim for byte in range(start, stop)} for claim in (a, b)]
    assert overlap(a, b) is overlap(b, a) is not bytes_of[0].isdisjoint(bytes_of[1])


@given(held=st.lists(claims, max_size=3), waiting=claims, span=st.tuples(st.integers(0, 20), st.integers(1, 5)))
async def test_bytes_are_free_where_nobody_holds_or_waits_for_them(
    held: list[tuple[Span, ...]], waiting: tuple[Span, ...], span: tuple[int, int]
) -> None:
    """Whoever begins in a step asks, and then takes them; what only lies between, or beside, is nobody's."""
    ranges, start, stop = Ranges(), span[0], sum(span)
    for claim in held:
        ranges.take(claim)
    taken = {byte for claim in held for first, last in claim for byte in range(first, last)}
    assert ranges.is_free(start, stop) is taken.isdisjoint(range(start, stop))
    async with trio.open_nursery() as nursery:
        waiter = Holder(ranges, *waiting)
        nursery.start_soon(waiter.run)
        await settled()
        taken |= {byte for first, last in waiting for byte in range(first, last)}
        assert ranges.is_free(start, stop) is taken.isdisjoint(range(start, stop))
        nursery.cancel_scope.cancel()


async def test_a_holder_is_told_when_somebody_waits_for_its_bytes(ranges: Ranges, enter: Enter) -> None:
    told: list[str] = []
    async with ranges.hold((0, 10), (20, 30), wanted=lambda: told.append("told")):
        other = enter((10, 20))
        await trio.testing.wait_all_tasks_blocked()
        assert other.has and told == [], "nobody wants what it holds"
        enter((25, 40)).leave()
        await trio.testing.wait_all_tasks_blocked()
        assert told == ["told"]
    enter((0, 10)).leave()
    await trio.testing.wait_all_tasks_blocked()
    assert told == ["told"], "it holds nothing any more"


async def test_a_holder_is_not_told_of_those_who_wait_for_others(ranges: Ranges, enter: Enter) -> None:
    """It would end early, for nobody."""
    told: list[str] = []
    enter((20, 30))
    await settled()
    async with ranges.hold((0, 10), wanted=lambda: told.append("told")):
        waiting = enter((20, 30))
        await settled()
        assert not waiting.has and told == []


async def test_who_still_waits_is_told_of_those_behind_it(ranges: Ranges, enter: Enter, nursery: trio.Nursery) -> None:
    told: list[str] = []

    async def hold() -> None:
        async with ranges.hold((0, 30), wanted=lambda: told.append("told")):
            pass

    ahead = enter((0, 10))
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(hold)
    await trio.testing.wait_all_tasks_blocked()
    assert told == []
    behind = enter((20, 30))
    await trio.testing.wait_all_tasks_blocked()
    assert told == ["told"] and not behind.has
    ahead.leave()
    await trio.testing.wait_all_tasks_blocked()
    assert behind.has
    behind.leave()
