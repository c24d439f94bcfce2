"""Sets of pages behave as sets of tuples do, and give their keys out in the order in which these lie on the disk."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from fmrd.core.geometry import MAX_PAGES
from fmrd.dco.page_set import Key, PageSet

KEYS = st.frozensets(st.tuples(st.integers(0, 4), st.integers(0, 40)))


@given(KEYS, KEYS)
def test_it_is_a_set(ours: frozenset[Key], theirs: frozenset[Key]) -> None:
    mine, other = PageSet(ours), PageSet(theirs)
    assert list(mine) == sorted(ours) and len(mine) == len(ours) and bool(mine) == bool(ours)
    assert {key for key in ours | theirs if key in mine} == ours
    assert set(mine | other) == ours | theirs
    both = mine.copy()
    both ^= other
    assert set(both) == ours ^ theirs
    both |= mine
    assert set(both) == ours | theirs
    assert set(mine) == ours and set(other) == theirs, "neither changed"


@given(KEYS, st.integers(1, 200))
def test_its_keys_are_taken_by_page_number(keys: frozenset[Key], most: int) -> None:
    left, taken = PageSet(keys), []
    while part := left.take(most):
        assert len(part) <= most
        taken += part
        assert set(left) == keys - set(taken)
    assert taken == sorted(keys, key=lambda key: key[::-1])


def test_all_pages_of_some_columns() -> None:
    assert set(PageSet.of_columns([1, 3], 2)) == {(1, 0), (1, 1), (3, 0), (3, 1)}
    assert not PageSet.of_columns([], 5)
    assert (1, 2) not in PageSet.of_columns([1], 2) and (2, 0) not in PageSet.of_columns([1], 2)


def test_all_pages_of_the_largest_maps_take_a_bit_each() -> None:
    """A step that makes, joins and copies them makes no object for each: 15 maps of 2^28 regions have 127 000 pages."""
    tracemalloc.start()
    try:
        whole = PageSet.of_columns(range(15), MAX_PAGES)
        both = whole | PageSet.of_columns(range(7), MAX_PAGES)
        both ^= whole
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not both and len(whole) == 15 * MAX_PAGES
    assert peak < 4 * 15 * MAX_PAGES / 8
