"""One plex: what it promises, from weak to strong, and what the DCO is told of its map."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmrd.core.geometry import Geometry
from fmrd.core.maps.regionmap import RegionMap
from fmrd.core.states import OPEN_GATE, PlexState
from fmrd.core.volume.plex import Plex
from tests.core.making import PAGE_REGIONS, REGION, REGIONS, bits, held, plex_record

GEOMETRY = Geometry(REGIONS * REGION, REGION, 2 * REGION, PAGE_REGIONS)


def make(state: PlexState = PlexState.ACTIVE, missing: set[int] = frozenset(), *, home_open: bool = True) -> Plex:  # type: ignore[assignment]  # a frozen set is a set to read
    """The home copy holds what the plex's map holds."""
    plex = Plex(plex_record(1, state), GEOMETRY, full=False)
    plex.map.union(bits(missing))
    plex.on_home = bits(missing)
    plex.home_open = home_open
    plex.map.touched.clear()
    return plex


def blank() -> Plex:
    """The home copy surely holds nothing of it, so there is no memory for that."""
    plex = Plex(plex_record(1), GEOMETRY, full=False)
    plex.home_open = True
    assert plex.home_blank
    return plex


def write_page(plex: Plex, page: int = 0) -> set[int]:
    """Onto the home copy; returns the regions that it says are missing."""
    content = plex.page(page)
    plex.page_begins(page, content)
    plex.page_written(page, content)
    return {page * PAGE_REGIONS + region for region in content.search(1)}


def durable(plex: Plex) -> set[int]:
    return {region for region in range(REGIONS) if plex.is_durable(region)}


# From weak to strong


def test_a_copied_region_is_current_at_once_and_durable_only_after_fdatasync_and_page() -> None:
    plex = make(PlexState.TEMP, {1, 2})
    plex.drained(range(1, 2))
    assert plex.is_current(range(1, 2)) and not plex.is_durable(1)
    batch = plex.begin_sync()
    assert not plex.is_durable(1), "under way is not done"
    assert write_page(plex) == {1, 2}
    plex.end_sync(batch, succeeded=True)
    assert not plex.is_durable(1), "the home copy still says that it is missing"
    assert write_page(plex) == {2}
    assert plex.is_durable(1) and not plex.is_durable(2)


def test_what_was_copied_after_an_fdatasync_began_waits_for_the_next() -> None:
    plex = make(PlexState.TEMP, {1, 2})
    plex.drained(range(1, 2))
    batch = plex.begin_sync()
    plex.drained(range(2, 3))
    plex.end_sync(batch, succeeded=True)
    assert write_page(plex) == {2}
    assert 1 in durable(plex) and 2 not in durable(plex)


def test_a_failed_fdatasync_leaves_its_regions_unsynced() -> None:
    plex = make(PlexState.TEMP, {1})
    plex.drained(range(1, 2))
    plex.end_sync(plex.begin_sync(), succeeded=False)
    assert write_page(plex) == {1} and not plex.is_durable(1)


def test_there_is_nothing_to_remember_of_an_fdatasync_without_copies() -> None:
    plex = make()
    assert plex.begin_sync() is None
    plex.end_sync(None, succeeded=False)
    assert durable(plex) == set(range(REGIONS))


def test_the_outcome_of_an_fdatasync_from_before_the_gate_closed_counts_for_nothing() -> None:
    plex = make(PlexState.TEMP, {1})
    plex.drained(range(1, 2))
    batch = plex.begin_sync()
    plex.close_gate(PlexState.STALE)
    plex.end_sync(batch, succeeded=True)
    assert held(plex.map.bits) == {1}


@pytest.mark.parametrize("home_open", [True, False])
@pytest.mark.parametrize("state", PlexState)
def test_only_a_plex_that_is_open_also_by_the_home_copy_is_durable_anywhere(state: PlexState, home_open: bool) -> None:
    plex = make(state, {0}, home_open=home_open)
    expected = set(range(1, REGIONS)) if state in OPEN_GATE and home_open else set()
    assert durable(plex) == expected
    doubt = bits(())
    plex.add_doubt_to(doubt)
    assert held(plex.in_doubt(range(REGIONS))) == held(doubt) == set(range(REGIONS)) - expected
    assert plex.doubts(range(1, REGIONS)) is not bool(expected)
    assert plex.is_current(range(1, REGIONS)) is (state in OPEN_GATE)


def test_a_region_is_durable_neither_while_it_is_missed_nor_while_its_fdatasync_is_under_way() -> None:
    """The home copy says nothing of it yet in either case."""
    plex = blank()
    plex.map.mark(range(2, 3))
    assert not plex.is_durable(2) and plex.is_durable(3)
    plex.drained(range(2, 3))
    batch = plex.begin_sync()
    assert not plex.is_durable(2) and plex.is_durable(3)
    plex.end_sync(batch, succeeded=True)
    assert plex.is_durable(2)


# What the home copy may say meanwhile


def test_a_page_under_way_counts_as_old_or_new_whichever_is_worse() -> None:
    plex = make(missing={1})
    plex.map.mark(range(2, 3))
    plex.map.clear(range(1, 2))
    plex.page_begins(0, plex.page(0))
    assert held(plex.on_home) == {1, 2}
    plex.map.clear(range(2, 3))
    assert not plex.is_durable(1) and not plex.is_durable(2)


def test_the_first_page_that_says_anything_counts_from_when_its_write_begins() -> None:
    plex = blank()
    plex.map.mark(range(2, 3))
    plex.page_begins(0, plex.page(0))
    plex.drained(range(2, 3))
    plex.end_sync(plex.begin_sync(), succeeded=True)
    assert not plex.is_durable(2) and plex.is_durable(1), "the page may have reached the disk"
    plex.page_written(0, plex.page(0))
    assert plex.is_durable(2)


@given(
    missing=st.sets(st.integers(0, 7)), home=st.sets(st.integers(0, 7)), home_open=st.booleans(), page=st.integers(0, 1)
)
def test_while_the_home_copy_has_it_closed_its_page_there_loses_no_bit(
    missing: set[int], home: set[int], home_open: bool, page: int
) -> None:
    plex = make(PlexState.TEMP, missing, home_open=home_open)
    plex.on_home = bits(home)
    here = set(range(page * PAGE_REGIONS, (page + 1) * PAGE_REGIONS))
    assert write_page(plex, page) == (missing if home_open else missing | home) & here


def test_what_a_closed_record_held_back_is_due_once_it_names_the_plex_open() -> None:
    plex = make(PlexState.TEMP, {1, 6}, home_open=False)
    plex.drained(range(1, 2))
    plex.end_sync(plex.begin_sync(), succeeded=True)
    assert write_page(plex) == {1}
    plex.home_open = True
    plex.home_opened()
    assert plex.map.touched == {0}
    assert write_page(plex) == set()


# The gate


def test_a_plex_that_leaves_takes_along_whatever_is_not_surely_on_it() -> None:
    plex = make(PlexState.TEMP, {0, 1, 2})
    plex.drained(range(1, 2))
    plex.begin_sync()
    plex.drained(range(2, 3))
    generation = plex.generation
    plex.close_gate(PlexState.IOFAIL, bits({5}), bits({6, 7}))
    assert held(plex.map.bits) == {0, 1, 2, 5, 6, 7}
    assert not plex.young.any() and not plex.syncing
    assert plex.generation > generation


def test_what_is_suspect_goes_into_the_map_of_a_plex_that_leaves() -> None:
    plex = make()
    plex.suspect = RegionMap(REGIONS, PAGE_REGIONS)
    plex.suspect.mark(range(3, 4))
    plex.close_gate(PlexState.IOFAIL)
    assert held(plex.map.bits) == {3} and plex.suspect is None


def test_a_suspect_region_is_not_durable_and_copying_it_anew_ends_the_suspicion() -> None:
    plex = make(missing={3})
    plex.suspect = RegionMap(REGIONS, PAGE_REGIONS)
    plex.suspect.mark(range(3, 5))
    plex.drained(range(3, 4))
    assert held(plex.suspect.bits) == {4}
    assert not plex.is_durable(3) and not plex.is_durable(4) and plex.is_durable(5)


@pytest.mark.parametrize("doubt", ["missing", "unsynced", "syncing", "on home", "suspect", "closed on home", "none"])
def test_a_plex_is_settled_only_without_any_doubt(doubt: str) -> None:
    plex = make(PlexState.TEMP)
    if doubt == "missing":
        plex.map.mark(range(1))
    elif doubt == "unsynced":
        plex.young.mark(range(1))
    elif doubt == "syncing":
        plex.young.mark(range(1))
        plex.begin_sync()
    elif doubt == "on home":
        plex.on_home[0] = 1
    elif doubt == "suspect":
        plex.suspect = RegionMap(REGIONS, PAGE_REGIONS, full=True)
    elif doubt == "closed on home":
        plex.home_open = False
    assert plex.settled is (doubt == "none")


@pytest.mark.parametrize("missed", [True, False])
def test_a_plex_that_missed_nothing_holds_what_it_grew_by_only_where_that_is_the_same(missed: bool) -> None:
    """The page is not yet written: the home copy has none for the new regions."""
    plex = blank()
    plex.grow(Geometry(11 * REGION, REGION, 2 * REGION, PAGE_REGIONS), missed=missed)
    plex.drained(range(8, 11))
    plex.end_sync(plex.begin_sync(), succeeded=True)
    assert held(plex.in_doubt(range(plex.geometry.regions))) == (set(range(8, 11)) if missed else set())


@pytest.mark.parametrize("missed", [True, False])
def test_growing_adds_regions_that_were_missed_or_not(missed: bool) -> None:
    plex = make(missing={1})
    plex.young.mark(range(2, 3))
    batch = plex.begin_sync()
    plex.grow(Geometry(11 * REGION, REGION, 2 * REGION, PAGE_REGIONS), missed=missed)
    assert held(plex.map.bits) == {1} | (set(range(8, 11)) if missed else set())
    assert plex.map.touched >= {2}
    plex.end_sync(batch, succeeded=True)
    assert held(plex.in_doubt(range(plex.geometry.regions))) == held(plex.map.bits)


def test_the_record_says_that_something_is_suspect_and_no_longer_when_nothing_is() -> None:
    plex = make()
    plex.suspect = RegionMap(REGIONS, PAGE_REGIONS)
    plex.suspect.mark(range(2))
    assert plex.record().suspect
    plex.suspect.empty()
    assert not plex.record().suspect
