"""Maps as rows of cells: nothing is lost from sight, however small, and no cell is told as more than it has."""

import itertools
import tracemalloc

import pytest
from bitarray import bitarray
from bitarray.util import zeros
from hypothesis import given
from hypothesis import strategies as st

from fmrd.core.geometry import Geometry
from fmrd.core.maps.regionmap import RegionMap
from fmrd.core.measures.picture import WHOLE, edges, of_extents, of_few, of_map

BITS = st.lists(st.booleans(), min_size=1, max_size=200)


def map_of(bits: list[bool]) -> RegionMap:
    found = RegionMap(len(bits), 8)
    found.union(bitarray(bits))
    return found


def part(bits: list[bool]) -> int:
    return max(1, WHOLE * sum(bits) // len(bits)) if any(bits) else 0


@given(BITS, st.data())
def test_each_cell_has_its_part(bits: list[bool], data: st.DataObject) -> None:
    cells = data.draw(st.integers(min_value=1, max_value=len(bits)))
    limits = edges(len(bits), cells)
    assert (limits[0], limits[-1]) == (0, len(bits))
    sizes = {stop - start for start, stop in itertools.pairwise(limits)}
    assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1, "as even as can be"
    wanted = [part(bits[start:stop]) for start, stop in itertools.pairwise(limits)]
    assert of_map(map_of(bits), None, cells) == wanted


@given(BITS, BITS, st.data())
def test_of_two_maps_it_is_what_either_has(bits: list[bool], other: list[bool], data: st.DataObject) -> None:
    """The other may belong to a volume that is shorter, or longer."""
    cells = data.draw(st.integers(min_value=1, max_value=len(bits)))
    padded = (other + [False] * len(bits))[: len(bits)]
    both = [one or two for one, two in zip(bits, padded, strict=True)]
    assert of_map(map_of(bits), map_of(other), cells) == of_map(map_of(both), None, cells)


def test_one_region_of_very_many_is_seen() -> None:
    assert of_map(map_of([False] * 9999 + [True]), None, 2) == [0, 1]


def test_what_is_blank_is_nothing() -> None:
    blank, some = RegionMap(64, 8), map_of([True] * 64)
    assert of_map(blank, None, 4) == of_map(blank, blank, 4) == [0] * 4
    assert of_map(blank, some, 4) == of_map(some, blank, 4) == [WHOLE] * 4


@given(st.sets(st.integers(min_value=0, max_value=24), max_size=25), st.integers(min_value=1, max_value=100))
def test_extents_lie_on_the_cells_of_the_regions(extents: set[int], cells: int) -> None:
    geometry = Geometry(97 * 65536, 65536, 4 * 65536, 31744)
    assert geometry.extents == 25
    bits = zeros(25)
    for extent in extents:
        bits[extent] = 1
    cells = min(cells, geometry.regions)
    row = of_extents(bits, geometry, cells)
    assert of_few(extents, geometry, cells) == row
    limits = edges(geometry.regions, cells)
    for at, (start, stop) in enumerate(itertools.pairwise(limits)):
        touched = any(region // 4 in extents for region in range(start, stop))
        assert (row[at] > 0) == touched
        if all(region // 4 in extents for region in range(start, stop)):
            assert row[at] == WHOLE


@pytest.mark.parametrize("both", [False, True])
def test_a_look_at_the_largest_map_takes_next_to_no_memory(both: bool) -> None:
    """Which is what the length of such a step goes by (test_large_maps.py)."""
    full, other = RegionMap(1 << 28, 31744, full=True), RegionMap(1 << 28, 31744, full=True)
    tracemalloc.start()
    try:
        assert of_map(full, other if both else None, 4096) == [WHOLE] * 4096
        assert tracemalloc.get_traced_memory()[1] < (1 << 28) // 8 // 64
    finally:
        tracemalloc.stop()
