"""Windows: the next runs of a map as spans and bits, what is left of them under their locks, and how long they are."""

from itertools import pairwise

import pytest
from bitarray import bitarray
from hypothesis import given
from hypothesis import strategies as st

from fmrd.core.geometry import Geometry
from fmrd.core.regionmap import RegionMap
from fmrd.engine.windows import LONG_WINDOW_BYTES, WINDOW_BYTES, Pace, still_missing, window_of

REGION = 4096
REGIONS = 50
GEOMETRY = Geometry(REGIONS * REGION - 1024, REGION, REGION)
sets = st.sets(st.integers(0, REGIONS - 1))


def map_of(regions: set[int]) -> RegionMap:
    made = RegionMap(REGIONS, 8)
    for region in regions:
        made.mark(range(region, region + 1))
    made.touched.clear()
    return made


def set_of(bitmap: RegionMap) -> set[int]:
    return set(bitmap.bits.search(bitarray("1")))


@given(regions=sets, start=st.integers(0, REGIONS), most=st.integers(1, REGIONS))
def test_the_next_runs_are_the_first_regions_of_the_map(regions: set[int], start: int, most: int) -> None:
    runs = map_of(regions).next_runs(start, most)
    assert [r for run in runs for r in run] == sorted(r for r in regions if r >= start)[:most]
    assert all(a.stop < b.start for a, b in pairwise(runs)), "adjacent ones are one run"


@given(regions=sets.filter(bool))
def test_a_window_is_the_same_as_runs_as_spans_and_as_bits(regions: set[int]) -> None:
    window = window_of(map_of(regions).next_runs(0, REGIONS), GEOMETRY)
    assert {r for run in window.runs for r in run} == regions
    assert {window.regions.start + i for i in window.bits.search(bitarray("1"))} == regions
    covered = {r for start, stop in window.spans for r in GEOMETRY.regions_of(start, stop - start)}
    assert covered == regions
    assert window.bytes == GEOMETRY.bytes_in(len(regions), REGIONS - 1 in regions)


@given(regions=sets.filter(bool), healed=sets, fresh=sets)
def test_what_was_healed_meanwhile_is_left_out_and_what_is_new_is_not_taken_in(
    regions: set[int], healed: set[int], fresh: set[int]
) -> None:
    missing = map_of(regions)
    window = window_of(missing.next_runs(0, REGIONS), GEOMETRY)
    for region in healed:
        missing.clear(range(region, region + 1))
    for region in fresh - regions:
        missing.mark(range(region, region + 1))
    left = still_missing(window, missing, GEOMETRY)
    found = set() if left is None else {r for run in left.runs for r in run}
    assert found == regions - healed
    assert left is None or left.bits.count() == len(found)


@given(regions=sets, change=sets.filter(bool), clear=st.booleans())
def test_many_regions_at_once_are_marked_and_cleared_like_one_by_one(
    regions: set[int], change: set[int], clear: bool
) -> None:
    bitmap = map_of(regions)
    window = window_of(map_of(change).next_runs(0, REGIONS), GEOMETRY)
    (bitmap.clear_these if clear else bitmap.mark_these)(window.regions.start, window.bits)
    assert set_of(bitmap) == (regions - change if clear else regions | change)
    assert bitmap.touched == {region // 8 for region in change}
    assert bitmap.any() is bool(set_of(bitmap)) and bitmap.count() == len(set_of(bitmap))


@given(steps=st.lists(st.tuples(st.sampled_from(["mark", "clear", "union", "fill", "empty"]), sets), max_size=6))
def test_a_map_always_knows_whether_it_is_empty(steps: list[tuple[str, set[int]]]) -> None:
    bitmap = map_of(set())
    for what, regions in steps:
        if what in ("fill", "empty"):
            getattr(bitmap, what)()
        elif what == "union":
            bitmap.union(map_of(regions))
        else:
            for region in regions:
                getattr(bitmap, what)(range(region, region + 1))
        assert bitmap.any() == bitmap.bits.any() and bitmap.count() == bitmap.bits.count()
    bitmap.grow(REGIONS + 1, full=True)
    assert bitmap.any()


def test_windows_grow_while_nobody_waits_and_shrink_at_once() -> None:
    pace = Pace()
    sizes = []
    for _ in range(5):
        sizes.append(pace.window_bytes(0))
        pace.copied(sizes[-1], 0.001, busy=False)
    assert sizes[0] == WINDOW_BYTES and sizes == sorted(sizes) and sizes[-1] == LONG_WINDOW_BYTES
    pace.copied(sizes[-1], 0.001, busy=True)
    assert pace.window_bytes(0) == WINDOW_BYTES
    pace.copied(WINDOW_BYTES, 0.001, busy=False)
    pace.copied(2 * WINDOW_BYTES, 1.0, busy=False)
    assert pace.window_bytes(0) == WINDOW_BYTES, "a slow disk gets short ones"


def test_a_window_that_was_not_full_says_nothing() -> None:
    pace = Pace()
    pace.copied(REGION, 0.0001, busy=False)
    assert pace.window_bytes(0) == WINDOW_BYTES


@pytest.mark.parametrize(("rate", "expected"), [(1 << 20, 128 << 10), (1 << 30, WINDOW_BYTES), (1, 0)])
def test_a_rate_is_kept_by_small_steps(rate: int, expected: int) -> None:
    assert Pace().window_bytes(rate) == expected
