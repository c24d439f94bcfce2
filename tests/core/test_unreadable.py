"""Spans of lost bytes, against a set of bytes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmrd.core.maps.unreadable import MOST_SPANS, Unreadable

spans = st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda t: (t[0], t[0] + t[1]))


@given(steps=st.lists(st.tuples(st.booleans(), spans), max_size=12))
def test_it_is_a_set_of_bytes(steps: list[tuple[bool, tuple[int, int]]]) -> None:
    lost, expected = Unreadable(), set[int]()
    for gains, (start, stop) in steps:
        if gains:
            lost.add(start, stop)
            expected |= set(range(start, stop))
        else:
            lost.remove(start, stop)
            expected -= set(range(start, stop))
    assert {byte for start, stop in lost.spans for byte in range(start, stop)} == expected
    assert all(a[1] < b[0] for a, b in pairwise(lost.spans)), "in order, and apart"


@pytest.mark.parametrize("spans", [[(0, 10), (10, 20)], [(10, 20), (0, 10)]], ids=["behind", "before"])
def test_spans_that_touch_are_one(spans: list[tuple[int, int]]) -> None:
    lost = Unreadable()
    for start, stop in spans:
        lost.add(start, stop)
    assert lost.spans == [(0, 20)]


def test_a_disk_that_fails_everywhere_is_not_listed_for_ever() -> None:
    lost = Unreadable()
    for n in range(MOST_SPANS + 5):
        lost.add(10 * n, 10 * n + 1)
    assert len(lost.spans) == MOST_SPANS
