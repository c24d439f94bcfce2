"""Positions and their ancestors; the family that makes the records."""

from dataclasses import replace

import pytest

from fmrd.core.record import HISTORY_LIMIT, MOST_PAGES, trimmed
from fmrd.core.records.parts import Column, Link, Position
from fmrd.core.states import PlexState
from fmrd.core.volume.family import Family
from fmrd.errors import Failed
from tests.core.making import UUID, Rig, bits, family_record, plex_record, volume_record

HERE = family_record(sequence=10, lineage="now", history=(Position("first", 4), Position("second", 7)))


@pytest.mark.parametrize(
    ("position", "known"),
    [
        (Position("now", 10), True),
        (Position("now", 1), True),
        (Position("now", 11), False),
        (Position("second", 7), True),
        (Position("second", 8), False),
        (Position("first", 4), True),
        (Position("first", 5), False),
        (Position("other", 1), False),
        (None, False),
    ],
)
def test_an_ancestor_is_earlier_in_this_lineage_or_in_one_before(position: Position | None, known: bool) -> None:
    assert HERE.knows(position) is known


def test_the_history_keeps_the_newest_lineages_and_those_that_a_plex_stands_at() -> None:
    history = tuple(Position(f"l{n}", n) for n in range(HISTORY_LIMIT + 5))
    assert trimmed(history[:10], set()) == history[:10]
    assert trimmed(history, {"l1", "l600", "none"}) == (history[1], *history[5:])


def test_an_opening_begins_a_lineage_and_remembers_where_the_last_one_ended() -> None:
    family = Rig().family
    ended = Position(family.lineage, family.sequence)
    before = family.record(family.sequence)
    family.begin_lineage("next")
    after = family.record(family.sequence + 1)
    assert after.history[-1] == ended
    assert after.knows(before.position) and not before.knows(after.position)


def test_a_family_is_what_its_record_says_with_what_it_does_not_understand() -> None:
    record = family_record(plex_record(1), history=(Position("first", 4),), settled=True, extra={"later": 1})
    rig = Rig(PlexState.ACTIVE, settled=True)
    rig.plexes[0].map.empty()
    family = Family.of(record, [rig.volume])
    assert family.record(record.sequence) == record


def test_a_new_column_is_free_and_its_epoch_was_never_used() -> None:
    family = Rig(PlexState.ACTIVE, PlexState.ACTIVE).family
    assert family.new_column(family.volume) == Column(3, 50)
    assert family.new_column(family.volume) == Column(3, 51)
    family.rows.columns = 4
    assert family.new_column(family.volume) == Column(3, 52), "the last one"
    family.rows.columns = 3
    with pytest.raises(Failed) as failed:
        family.new_column(family.volume)
    assert failed.value.code == "plex_too_many"


def test_a_family_has_no_more_pages_than_a_record_of_it_may_have() -> None:
    """A record with one page more could be written, and never read again."""
    family = Rig(PlexState.ACTIVE).family
    used = 2 * family.volume.geometry.pages
    family.must_bear(MOST_PAGES - used)
    with pytest.raises(Failed, match="dco_full"):
        family.must_bear(MOST_PAGES - used + 1)


def test_a_plex_of_a_snapshot_is_named_after_the_original_and_never_as_another_was() -> None:
    rig = Rig(PlexState.ACTIVE, PlexState.ACTIVE)
    other = Rig(PlexState.ACTIVE, name="SNAP-v", uuid=UUID.format(91), snapshot_of="v").volume
    rig.family.volumes.append(other)
    names = [rig.family.new_plex_name(volume) for volume in (other, rig.volume, other)]
    assert names == ["v-01", "v-02", "v-03"]


def test_who_left_the_family_meanwhile_is_missing() -> None:
    family = Rig(PlexState.ACTIVE).family
    assert family.by_uuid(family.volume.settings.uuid) is family.volume
    with pytest.raises(Failed, match="volume_missing"):
        family.by_uuid(UUID.format(91))


def test_the_columns_of_a_volume_are_also_what_it_tracks_for_its_snapshots() -> None:
    """Whatever is left out here is neither read at a start nor kept from being used twice."""
    links = [Link(Column(10, 1), Column(11, 1)), Link(Column(12, 1), Column(13, 1), Column(14, 1))]
    snapshots = [
        volume_record(
            (), name=f"SNAP{n}-v", uuid=UUID.format(91 + n), snapshot_of="v", link=link, drl=Column(20 + n, 1)
        )
        for n, link in enumerate(links)
    ]
    record = family_record(plex_record(1))
    record = replace(record, volumes=(record.volume, *snapshots))
    assert record.snapshots_of(record.volume) == tuple(snapshots)
    assert [c.index for c in record.columns_of(record.volume)] == [0, 1, 10, 12, 14]
    assert [[c.index for c in record.columns_of(snapshot)] for snapshot in snapshots] == [[20, 11], [21, 13]]


def test_each_column_in_use_has_its_epoch() -> None:
    family = Rig(PlexState.ACTIVE, PlexState.ACTIVE).family
    assert [family.epoch(column) for column in range(4)] == [0, 1, 2, None]


def test_a_commit_that_leaves_a_plex_closed_makes_none_of_its_pages_due() -> None:
    rig = Rig(PlexState.ACTIVE, PlexState.STALE)
    rig.plexes[1].map.empty()
    rig.commit()
    assert rig.plexes[1].on_home.all() and rig.volume.touched_pages() == []


# What the home copy surely says, while a record is under way


@pytest.mark.parametrize(
    ("before", "after", "meanwhile", "landed"),
    [
        (PlexState.ACTIVE, PlexState.ACTIVE, True, True),
        (PlexState.ACTIVE, PlexState.STALE, False, False),
        (PlexState.STALE, PlexState.TEMP, False, True),
        (PlexState.STALE, PlexState.STALE, False, False),
    ],
)
def test_a_plex_is_open_on_the_home_copy_only_if_the_old_and_the_new_record_say_so(
    before: PlexState, after: PlexState, meanwhile: bool, landed: bool
) -> None:
    rig = Rig(PlexState.ACTIVE, before)
    plex = rig.plexes[1]
    plex.state = after
    record = rig.family.record(12)
    rig.family.begin_commit(record)
    assert plex.home_open is meanwhile
    rig.family.end_commit(record)
    assert plex.home_open is landed


def test_a_gate_that_closes_while_a_record_lands_that_has_it_open() -> None:
    rig = Rig(PlexState.ACTIVE, PlexState.ACTIVE)
    record = rig.family.record(12)
    rig.family.begin_commit(record)
    rig.volume.close_gate(rig.plexes[1], PlexState.STALE)
    rig.family.end_commit(record)
    assert rig.plexes[1].home_open and not rig.plexes[1].is_durable(0)
    rig.commit()
    assert not rig.plexes[1].home_open


def test_when_a_record_opens_a_plex_its_held_back_pages_are_due() -> None:
    rig = Rig(PlexState.ACTIVE, PlexState.STALE)
    plex = rig.plexes[1]
    rig.volume.open_gate(plex)
    rig.volume.copied(plex, range(8), plex.dropped)
    rig.sync()
    rig.pages()
    assert plex.on_home.all(), "the home copy had it closed"
    rig.commit()
    assert set(rig.volume.touched_pages()) == {(2, 0), (2, 1)}
    rig.pages()
    assert plex.on_home == bits(()) and rig.volume.promote(plex)


def test_a_plex_that_no_record_names_is_not_open_there() -> None:
    rig = Rig(PlexState.ACTIVE, PlexState.ACTIVE)
    record = rig.family.record(12)
    rig.volume.plexes.append(Rig(PlexState.ACTIVE).plexes[0])
    rig.volume.plexes[-1].uuid = "unheard of"
    rig.family.end_commit(record)
    assert [plex.home_open for plex in rig.volume.plexes] == [True, True, False]
