"""Maps of regions that are lacked in part, against a set of blocks."""

import pytest
from bitarray import bitarray
from bitarray.util import zeros
from hypothesis import given
from hypothesis import strategies as st

from fmrd.core.maps import partly
from fmrd.core.maps.partly import PartMap

BLOCK = 4096
BLOCKS = 16
REGION = BLOCKS * BLOCK
REGIONS = 6


def lacked(found: PartMap, region: int) -> set[int]:
    """Which blocks of a region, by what is to be sent."""
    return {block for start, stop in found.spans(region) for block in range(start // BLOCK, stop // BLOCK)}


STEPS = st.one_of(
    st.tuples(st.just("bytes"), st.integers(0, REGIONS - 1), st.integers(0, REGION - 1), st.integers(1, REGION)),
    st.tuples(st.sampled_from(["mark", "clear", "forget"]), st.integers(0, REGIONS - 1), st.just(0), st.integers(1, 3)),
    st.tuples(st.sampled_from(["union", "these", "clear these"]), st.integers(0, REGIONS - 2), st.just(0), st.just(2)),
)


@given(st.lists(STEPS, max_size=30))
def test_whoever_asks_hears_of_all_that_is_lacked(steps: list[tuple[str, int, int, int]]) -> None:
    """And of the regions that only bytes were marked of, of no more than these and what lies in gaps."""
    found = PartMap(REGIONS, REGIONS, REGION)
    model: dict[int, set[int]] = {}
    everything = set(range(BLOCKS))
    for what, region, start, length in steps:
        run = range(region, min(REGIONS, region + length)) if what != "bytes" else range(region, region + 1)
        bits: bitarray = zeros(REGIONS)
        bits[run.start : run.stop] = 1
        if what == "bytes":
            stop = min(REGION, start + length)
            found.mark_bytes(region, start, stop)
            model[region] = model.get(region, set()) | set(range(start // BLOCK, (stop - 1) // BLOCK + 1))
        elif what in ("mark", "union", "these"):
            if what == "mark":
                found.mark(run)
            elif what == "union":
                found.union(bits)
            else:
                found.mark_these(run.start, bits[run.start : run.stop])
            model |= dict.fromkeys(run, everything)
        elif what == "forget":
            found.forget_blocks(run)
            model |= {each: everything for each in run if each in model}
        else:
            if what == "clear":
                found.clear(run)
            else:
                found.clear_these(run.start, bits[run.start : run.stop])
            model = {each: blocks for each, blocks in model.items() if each not in run}
        assert {each for each in range(REGIONS) if each in found} == set(model)
        assert set(found.blocks) <= set(model)
        for each, blocks in model.items():
            assert blocks <= lacked(found, each)
            if each in found.blocks:
                first = (found.blocks[each] & -found.blocks[each]).bit_length() - 1
                assert min(lacked(found, each)) == first == min(blocks)


def test_what_lies_in_small_gaps_is_taken_along() -> None:
    found = PartMap(REGIONS, REGIONS, REGION)
    for block in (1, 5, 10, 15):
        found.mark_bytes(2, block * BLOCK, block * BLOCK + 1)
    assert list(found.spans(2)) == [(1 * BLOCK, 6 * BLOCK), (10 * BLOCK, 11 * BLOCK), (15 * BLOCK, 16 * BLOCK)]


def test_it_knows_of_so_many_regions_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partly, "KNOWN", 2)
    found = PartMap(REGIONS, REGIONS, REGION)
    for region in range(4):
        found.mark_bytes(region, 0, 1)
    assert set(found.blocks) == {0, 1}
    found.mark_bytes(3, BLOCK, BLOCK + 1)
    assert set(found.blocks) == {0, 1}, "what is lacked whole stays so"
    assert list(found.spans(3)) == [(0, REGION)]


def test_large_regions_have_large_blocks_and_small_ones_are_one() -> None:
    assert PartMap(1, 1, 64 << 20).block_bytes == 1 << 20
    one = PartMap(1, 1, 4096)
    one.mark_bytes(0, 10, 20)
    assert 0 in one and not one.blocks


def test_a_map_that_grows_forgets() -> None:
    """Its last region may become longer, by bytes that nobody wrote."""
    found = PartMap(REGIONS, REGIONS, REGION)
    found.mark_bytes(REGIONS - 1, 0, 1)
    found.grow(2 * REGIONS, full=False)
    assert REGIONS - 1 in found and not found.blocks
