"""Where the pages of many columns lie: each has a row of its own, and none ever moves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmrd.core import record as records
from fmrd.core.records.parts import Column
from fmrd.core.records.rows import MOST_BANKS, Rows
from fmrd.core.states import PlexState
from fmrd.core.volume import family as families
from fmrd.core.volume.plex import Plex
from fmrd.errors import Failed
from tests.core.making import Rig, plex_record

steps = st.lists(st.tuples(st.sampled_from(["widen", "grow"]), st.integers(1, 3)), max_size=6)


def lived(columns: int, pages: int, life: list[tuple[str, int]]) -> list[tuple[Rows, int]]:
    """The rows after each step, and how many pages the volume has then."""
    found = [(Rows(columns), pages)]
    for what, many in life:
        rows, pages = found[-1]
        if what == "grow":
            pages += many
            found.append((Rows(columns, rows.grown(pages)), pages))
        elif rows.banks + many <= MOST_BANKS:
            found.append((Rows(columns, rows.widened(many, pages)), pages))
    return found


@given(st.integers(2, 5), st.integers(1, 4), steps)
def test_each_page_of_each_bank_has_a_row_of_its_own_and_none_is_left_over(
    columns: int, pages: int, life: list[tuple[str, int]]
) -> None:
    rows, pages = lived(columns, pages, life)[-1]
    places = [(rows.row(bank * columns, page), bank) for bank in range(rows.banks) for page in range(pages)]
    assert sorted(row for row, _ in places) == list(range(rows.count(pages)))
    assert all(rows.row(bank * columns, 0) == rows.row((bank + 1) * columns - 1, 0) for bank in range(rows.banks))
    listed = [(bank, page) for bank, numbers in rows.in_order(pages) for page in numbers]
    assert [(bank, page) for bank, page in listed] == [
        (bank, page) for _, bank, page in sorted((rows.row(b * columns, p), b, p) for b, p in listed)
    ]
    assert rows.total == columns * rows.banks


@given(st.integers(2, 5), st.integers(1, 4), steps)
def test_what_was_written_never_moves(columns: int, pages: int, life: list[tuple[str, int]]) -> None:
    history = lived(columns, pages, life)
    last, most = history[-1]
    for rows, had in history:
        for bank in range(rows.banks):
            for page in range(had):
                assert rows.row(bank * columns, page) == last.row(bank * columns, page)
        assert rows.agrees(had, last, most) and last.agrees(most, rows, had)


@given(st.integers(2, 5), st.integers(1, 4), steps, st.integers(0, 60))
def test_banks_that_nobody_uses_are_not_told_of_and_what_is_left_stays_where_it_is(
    columns: int, pages: int, life: list[tuple[str, int]], used: int
) -> None:
    rows, pages = lived(columns, pages, life)[-1]
    used = min(used, rows.total - 1)
    left = Rows(columns, rows.trimmed(used))
    assert left.total > used and left.banks <= rows.banks
    assert left.agrees(pages, rows, pages)
    for column in range(used + 1):
        for page in range(pages):
            assert left.row(column, page) == rows.row(column, page)
    if left.runs:
        assert left.shortest() >= pages


def test_rows_that_hold_something_else_do_not_agree() -> None:
    narrow, wide = Rows(4), Rows(4, ((0, 2), (1, 2)))
    assert wide.agrees(2, narrow, 2)
    assert not wide.agrees(2, narrow, 3), "row 2 is the second bank's here, and the first one's there"
    assert not Rows(4).agrees(2, Rows(5), 2)


def test_a_family_gets_as_many_banks_as_it_needs_and_no_more_than_there_may_be() -> None:
    family = Rig(PlexState.ACTIVE, PlexState.ACTIVE).family
    family.rows.columns = 4
    assert family.runs_for(1, family.volume) is None
    pages = family.pages
    assert family.runs_for(2, family.volume) == ((0, pages), (1, pages))
    assert family.runs_for(6, family.volume) == ((0, pages), (1, pages), (2, pages))
    with pytest.raises(Failed, match="of the 4 that its DCO has room for 1 are free"):
        family.runs_for(4 * MOST_BANKS, family.volume)
    family.rows.runs = family.rows.widened(1, pages)
    assert family.free_columns(3, family.volume) == [3, 4, 5]


@pytest.mark.parametrize("fixed", [{"tail": 1 << 20}, {"dco_path": "nbd://host/dco"}])
def test_a_copy_that_cannot_grow_has_no_more_than_it_has(fixed: dict[str, object]) -> None:
    """Until it is on a plex no more, whatever others need."""
    rig = Rig(PlexState.ACTIVE, PlexState.ACTIVE)
    family, [plex, _] = rig.family, rig.plexes
    family.rows.columns = 4
    family.rows.runs = family.rows.widened(1, family.pages)
    for name, value in fixed.items():
        setattr(plex, name, value)
    assert family.free_columns(1, rig.volume) == [3]
    for ask in (family.free_columns, family.runs_for):
        with pytest.raises(Failed, match="plex_too_many") as failed:
            ask(2, rig.volume)
        assert "cannot grow" in failed.value.message and "dco=FILE" in failed.value.hint
    rig.plexes[1].column = Column(7, 1)
    assert family.free_columns(4, rig.volume) == [2, 3, 4, 5], "made when there were two banks, it has room for both"


def test_banks_that_hold_nothing_are_told_of_where_one_alone_may_not_hold_so_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or the record could not be read again, and no commit would land any more."""
    rig = Rig(PlexState.ACTIVE, PlexState.ACTIVE)
    family, pages = rig.family, rig.family.pages
    for module in (records, families):
        monkeypatch.setattr(module, "MOST_PAGES", 3 * pages)
        monkeypatch.setattr(module, "MOST_WIDE_PAGES", 6 * pages)
    family.rows.columns = 4
    family.rows.runs = family.rows.widened(1, pages)
    assert family.record(11).runs == (), "what is in use fits into one"
    rig.plexes[1].column = family.new_column(rig.volume)
    assert rig.plexes[1].column.index == 3
    family.record(11).check_size()
    rig.volume.add_plex(Plex(plex_record(3, map=family.new_column(rig.volume)), rig.volume.geometry))
    record = family.record(12)
    record.check_size()
    assert record.runs == family.rows.runs


def test_rows_never_become_more_runs_than_a_record_may_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    family = Rig(PlexState.ACTIVE, PlexState.ACTIVE).family
    family.rows.columns = 4
    pages = family.pages
    monkeypatch.setattr(families, "MOST_RUNS", 4)
    family.rows.runs = family.rows.widened(1, pages)
    family.rows.runs = family.runs_of_length(pages + 1)
    assert len(family.rows.runs) == 4 and family.runs_of_length(pages + 1) == family.rows.runs
    with pytest.raises(Failed, match=r"dco_full.*in more pieces than 4"):
        family.runs_of_length(pages + 2)
    with pytest.raises(Failed, match=r"dco_full.*in more pieces than 4"):
        family.runs_for(6, family.volume)
