"""PROTOCOLS, "What an error does": demote, make holes, or tell the caller, by what others hold of each region."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmrd.core.geometry import Geometry
from fmrd.core.maps.regionmap import RegionMap
from fmrd.core.states import PlexState
from fmrd.core.volume import faults
from fmrd.core.volume.plex import Plex
from tests.core.making import REGION, REGIONS, Rig, bits, held

ACTIVE, TEMP, STALE = PlexState.ACTIVE, PlexState.TEMP, PlexState.STALE


@dataclass(frozen=True)
class Case:
    """Plexes are numbered from 0. ``missing``: what is in each one's map, on the home copy too."""

    what: str
    missing: list[set[int]]
    failing: set[int]
    write: tuple[int, int] = (2, 2)
    """First region, and how many."""
    whole: bool = True
    """Or only a sector of the first region, which heals nothing."""
    states: list[PlexState] = field(default_factory=list)
    unsynced: list[set[int]] = field(default_factory=list)
    """Copied there, and not yet fdatasync'ed."""
    suspect: list[set[int]] = field(default_factory=list)
    demoted: set[int] = field(default_factory=set)
    holes: dict[int, set[int]] = field(default_factory=dict)
    """What is new in whose map, of those that stay."""
    error: bool = False


CASES = [
    Case("one of two fails", [set(), set()], {0}, demoted={0}),
    Case("the other of two fails", [set(), set()], {1}, demoted={1}),
    Case("two of three fail", [set(), set(), set()], {0, 2}, demoted={0, 2}),
    Case("both fail: the first is let go in no region, one keeps them all", [set(), set()], {0, 1},
         holes={1: {2, 3}}, error=True),
    Case("all three fail", [set(), set(), set()], {0, 1, 2}, holes={1: {2, 3}, 2: {2, 3}}, error=True),
    Case("the only one fails", [set()], {0}, error=True),
    Case("the last complete one fails where another is current", [set(), {6, 7}], {0}, holes={0: {2, 3}}),
    Case("the last complete one fails where it alone is current", [set(), {2, 6}], {0}, whole=False, error=True),
    Case("it fails in a sector that the other holds", [set(), {6, 7}], {0}, whole=False, holes={0: {2}}),
    Case("it fails, and the write heals what the other lacked", [set(), {3}], {0}, demoted={0}),
    Case("the half copied one fails", [set(), {6, 7}], {1}, demoted={1}),
    Case("the half copied one and the complete one fail", [set(), {6, 7}], {0, 1}, holes={1: {2, 3}}, error=True),
    Case("two with different holes, one fails", [{0}, {6}], {0}, holes={0: {2, 3}}),
    Case("two with different holes, both fail", [{0}, {6}], {0, 1}, holes={1: {2, 3}}, error=True),
    Case("a third covers what the second lacks", [set(), {6}, {1}], {0}, demoted={0}),
    Case("a third fails too, where the second holds all that was written", [set(), {6}, {1}], {0, 2}, demoted={0},
         holes={2: {2, 3}}),
    Case("the other holds the region only since its last copy", [set(), set()], {0}, unsynced=[set(), {2}],
         demoted={0}),
    Case("the other lost its last fdatasync there", [set(), set()], {0}, suspect=[set(), {2}], whole=False,
         holes={1: {2}}, error=True),
    Case("both lost their last fdatasync there", [set(), set()], {0}, suspect=[{2}, {2}], whole=False, holes={1: {2}},
         error=True),
    Case("both did, and both fail", [set(), set()], {0, 1}, suspect=[{2}, {2}], whole=False, holes={1: {2}},
         error=True),
    Case("the other lost it there, and is written whole now", [set(), set()], {0}, suspect=[set(), {2}], demoted={0}),
    Case("the other's gate is closed", [set(), set()], {0}, states=[ACTIVE, STALE], error=True),
    Case("the other is still attaching, and has everything", [set(), set()], {0}, states=[ACTIVE, TEMP], demoted={0}),
    Case("a write into a hole fails there, whole regions", [set(), {2, 3}, {6}], {1}, demoted={1}),
    Case("a write into a hole fails there, on the last holder of another region", [{5}, {2, 3}], {1}),
]  # fmt: skip


def rig_of(case: Case) -> Rig:
    states = case.states or [ACTIVE] * len(case.missing)
    rig = Rig(*states)
    for number, plex in enumerate(rig.plexes):
        plex.map.empty()
        plex.map.union(bits(case.missing[number]))
        plex.on_home = bits(case.missing[number])
        if case.unsynced and case.unsynced[number]:
            plex.young.union(bits(case.unsynced[number]))
        if case.suspect and case.suspect[number]:
            plex.suspect = RegionMap(REGIONS, plex.map.page_bits)
            plex.suspect.union(bits(case.suspect[number]))
    return rig


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what.replace(" ", "_"))
def test_a_write_that_failed(case: Case) -> None:
    rig = rig_of(case)
    before = [held(plex.map.bits) for plex in rig.plexes]
    opened = [plex.is_open for plex in rig.plexes]
    verdict = rig.write(*case.write, whole=case.whole, failing=[rig.plexes[number] for number in case.failing])
    demoted = {n for n, plex in enumerate(rig.plexes) if opened[n] and not plex.is_open}
    new = {n: held(p.map.bits) - before[n] for n, p in enumerate(rig.plexes) if p.is_open and n not in demoted}
    assert (demoted, {n: regions for n, regions in new.items() if regions}) == (case.demoted, case.holes)
    assert (verdict.error is not None) is case.error
    assert verdict.error is None or verdict.error.code == "io_error"
    for number in case.demoted:
        assert rig.plexes[number].state is PlexState.IOFAIL
        assert {2, 3} <= held(rig.plexes[number].map.bits), "what it missed is in its map"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what.replace(" ", "_"))
def test_no_region_loses_its_last_durable_copy_by_a_write_that_failed(case: Case) -> None:
    rig = rig_of(case)
    had = {r for r in range(REGIONS) if any(p.is_durable(r) for p in rig.plexes)}
    rig.write(*case.write, whole=case.whole, failing=[rig.plexes[number] for number in case.failing])
    assert {r for r in had if not any(p.is_durable(r) for p in rig.plexes)} == set()


def test_the_first_verdict_asks_to_settle_where_a_success_may_still_become_durable() -> None:
    rig = rig_of(Case("", [set(), set()], {0}, unsynced=[set(), {2}]))
    plan = rig.begin(2, 2)
    verdict = rig.volume.end_write(plan, {rig.plexes[0].uuid: OSError(5, "no")})
    assert verdict.settle and verdict.error is None
    assert all(plex.is_open and not plex.map.any() for plex in rig.plexes), "nothing was decided yet"


def test_where_nothing_can_become_durable_any_more_the_verdict_is_given_at_once() -> None:
    rig = rig_of(Case("", [set()], {0}))
    verdict = rig.volume.end_write(rig.begin(2, 2), {rig.plexes[0].uuid: OSError(5, "no")})
    assert not verdict.settle and verdict.error is not None


def test_a_region_that_was_missing_before_is_no_new_hole() -> None:
    rig = rig_of(Case("", [{5}, {2, 3}], {1}))
    assert rig.write(2, 2, failing=[rig.plexes[1]]).events == ()


def lost(rig: Rig, *failing: int) -> list[set[int]]:
    """A sector of region 2 is written and fails; what the maps say of that region then."""
    verdict = rig.write(2, whole=False, failing=[rig.plexes[number] for number in failing])
    assert verdict.error is not None
    return [held(plex.map.bits) & {2} for plex in rig.plexes]


def test_a_region_that_failed_everywhere_is_kept_by_no_plex_that_has_just_left() -> None:
    """The home copy still names it open."""
    rig = rig_of(Case("", [set(), set()], set(), suspect=[set(), {2}]))
    rig.plexes[0].close_gate(STALE)
    assert rig.plexes[0].home_open
    assert lost(rig, 1) == [{2}, set()]


def test_nor_by_one_that_a_start_would_not_take_for_open() -> None:
    rig = rig_of(Case("", [set(), set()], set(), suspect=[set(), {2}]))
    rig.plexes[0].home_open = False
    assert lost(rig, 0, 1) == [{2}, set()]


def test_nor_by_one_of_which_the_home_copy_says_that_it_misses_it() -> None:
    rig = rig_of(Case("", [set(), set()], set(), suspect=[set(), {2}]))
    rig.plexes[0].on_home = bits({2})
    assert lost(rig, 0, 1) == [{2}, set()]


def test_where_a_start_would_take_nobody_for_current_the_only_one_keeps_it() -> None:
    rig = rig_of(Case("", [set()], set()))
    rig.plexes[0].home_open = False
    assert lost(rig, 0) == [set()]


def test_the_only_open_plex_is_the_last_though_it_holds_nothing() -> None:
    """One that is closed covers nothing, and nobody would be left."""
    rig = Rig(PlexState.TEMP, PlexState.STALE)
    assert rig.plexes[0].map.bits.all()
    assert faults.count_uncovered(rig.plexes[0], rig.plexes) == REGIONS
    assert not faults.may_close(rig.plexes[0], rig.plexes)


def test_uncovered_names_the_regions_that_only_this_plex_holds() -> None:
    rig = rig_of(Case("", [{0}, {0, 1, 2}, {2, 3}], set(), unsynced=[set(), {4}, set()]))
    first, second, third = rig.plexes
    assert held(faults.uncovered(first, rig.plexes)) == {2}
    assert held(faults.uncovered(second, rig.plexes)) == set()
    assert held(faults.uncovered(third, rig.plexes)) == {0}
    assert held(faults.uncovered(first, rig.plexes, [third], range(4, 6))) == {2, 4}
    assert faults.may_close(second, rig.plexes) and not faults.may_close(first, rig.plexes)


MANY = 150
"""Regions: they are looked at in three parts."""
SOME = st.frozensets(st.integers(0, MANY - 1), max_size=5)


@given(st.lists(st.tuples(SOME, SOME, st.sampled_from([ACTIVE, ACTIVE, TEMP, STALE])), min_size=1, max_size=4),
       st.sets(st.integers(0, 3)), st.integers(0, MANY), st.integers(0, 90))  # fmt: skip
def test_uncovered_asks_for_each_region_whether_another_plex_holds_it_durably(
    plexes: list[tuple[frozenset[int], frozenset[int], PlexState]], numbers: set[int], first: int, count: int
) -> None:
    rig = Rig(*[state for *_, state in plexes], geometry=Geometry(MANY * REGION))
    for plex, (missing, unsynced, _) in zip(rig.plexes, plexes, strict=True):
        for found, regions in ((plex.map, missing), (plex.young, unsynced)):
            found.empty()
            for region in regions:
                found.mark(range(region, region + 1))
    rig.pages()
    own, failing = rig.plexes[0], [plex for number, plex in enumerate(rig.plexes) if number in numbers]
    write = range(first, min(first + count, MANY))

    def lacks(plex: Plex, region: int) -> bool:
        return not plex.is_durable(region) or (plex in failing and region in write)

    others = [plex for plex in rig.plexes[1:] if plex.is_open]
    held_here = [r for r in range(MANY) if r not in own.map or not others]
    expected = {r for r in held_here if all(lacks(plex, r) for plex in others)}
    assert held(faults.uncovered(own, rig.plexes, failing, write)) == expected
    assert faults.may_close(own, rig.plexes, failing, write) is (not expected)
    if not write or not failing:
        assert faults.count_uncovered(own, rig.plexes) == len(expected)
    for plex in rig.plexes:
        doubts = {r for r in range(MANY) if not plex.is_durable(r)}
        assert held(plex.in_doubt(range(3, 90))) == {r - 3 for r in doubts if 3 <= r < 90}
        whole = bits([], MANY)
        plex.add_doubt_to(whole)
        assert held(whole) == doubts
        assert faults.doubts_any(plex, but_missing=False) is bool(doubts)
        assert faults.doubts_any(plex, but_missing=True) is bool({r for r in doubts if r not in plex.map})
