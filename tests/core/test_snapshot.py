"""Snapshots as decisions over a family: what each verb does to maps, epochs and gates, and what it refuses."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmrd.core.decisions import instant, snapback, snapshot
from fmrd.core.reasons import Reason
from fmrd.core.record import PlexRecord
from fmrd.core.records.parts import Column
from fmrd.core.states import PlexState
from fmrd.core.volume.family import Family
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.errors import FmrdError, Refused
from tests.core.making import REGION, REGIONS, UUID, Rig, held

ACTIVE, STALE, SNAPATT, SNAPDONE = PlexState.ACTIVE, PlexState.STALE, PlexState.SNAPATT, PlexState.SNAPDONE
SNAP = UUID.format(80)
OTHER = UUID.format(81)


def commit(family: Family) -> None:
    """Every page that is due, then the record, on the home copy."""
    family.sequence += 1
    record = family.record(family.sequence)
    family.begin_commit(record)
    for volume in family.volumes:
        pages = [(c.index, p) for c in volume.columns() for p in range(volume.geometry.pages)]
        for column, page in pages:
            volume.page_written(column, page, volume.page(column, page))
    family.end_commit(record)


def fresh(*states: PlexState, **fields: object) -> Rig:
    """ACTIVE, ACTIVE, SNAPDONE, all of them complete and settled."""
    rig = Rig(*(states or (ACTIVE, ACTIVE, SNAPDONE)), **fields)
    for plex in rig.plexes:
        if plex.is_open:
            plex.map.empty()
        plex.snap = plex.state is SNAPDONE
    commit(rig.family)
    rig.settle()
    rig.plexes = list(rig.plexes)  # those of the volume come and go
    return rig


def broken_off(rig: Rig, number: int = 2, name: str = "SNAP-v", uuid: str = SNAP) -> Volume:
    snap = snapshot.break_off(rig.family, rig.volume, [rig.plexes[number]], name, uuid)
    commit(rig.family)
    return snap


def write(volume: Volume, *regions: int) -> None:
    """To one volume, as its mirror does it."""
    for region in regions:
        offset, length = volume.geometry.bytes_of(range(region, region + 1))
        extents = volume.geometry.extents_of(offset, length)
        volume.drl.enter(extents)
        for page in range(volume.drl.marked.pages):
            volume.page_written(volume.settings.drl.index, page, volume.page(volume.settings.drl.index, page))
        assert volume.end_write(volume.choose_targets(offset, length), {}).error is None
        volume.drl.leave(extents)
    volume.drl.end_clean(volume.drl.begin_clean())


def test_the_plex_leaves_and_both_maps_are_empty() -> None:
    rig = fresh()
    demotions = rig.volume.demotions
    snap = broken_off(rig)
    [plex] = snap.plexes
    assert (plex, plex.state, plex.map.count()) == (rig.plexes[2], ACTIVE, 0)
    assert plex not in rig.volume.plexes and rig.family.snapshots_of(rig.volume) == [snap]
    assert snapback.difference(rig.volume, snap).count() == 0
    assert rig.volume.demotions == demotions + 1, "verdicts of the original wait for the record"
    assert (snap.settings.snapshot_of, snap.settings.stopped, snap.settings.rdpol) == ("v", False, "select")
    record = rig.family.record(1)
    used = [c.index for v in record.volumes for c in record.columns_of(v)]
    assert len(used) == len(set(used))


def test_what_is_not_ready_does_not_leave() -> None:
    rig = fresh()
    rig.plexes[2].map.mark(range(1))
    with pytest.raises(Refused, match="snap_missing"):
        snapshot.break_off(rig.family, rig.volume, [rig.plexes[2]], "SNAP-v", SNAP)
    with pytest.raises(Refused, match="snap_missing"):
        snapshot.break_off(rig.family, rig.volume, [rig.plexes[0]], "SNAP-v", SNAP)
    assert snapshot.ready(rig.volume) == [] and rig.family.volumes == [rig.volume]


def test_the_last_current_copy_of_a_region_does_not_leave() -> None:
    rig = fresh(ACTIVE, SNAPDONE)
    rig.plexes[0].map.mark(range(3, 4))
    with pytest.raises(Refused, match="last current copy of 1 region"):
        snapshot.break_off(rig.family, rig.volume, [rig.plexes[1]], "SNAP-v", SNAP)


def test_without_fast_resync_both_maps_are_full() -> None:
    rig = fresh(fmr=False)
    snap = broken_off(rig)
    assert snapback.difference(rig.volume, snap).count() == REGIONS
    [back] = snapback.go_back(rig.family, rig.volume, snap, list(snap.plexes))
    assert (back.reason, back.map.count()) == ("full_fmr_off", REGIONS)


@pytest.mark.parametrize("side", ["the original", "the snapshot"])
def test_without_fast_resync_on_either_side_what_goes_back_is_copied_in_full_and_told_so(side: str) -> None:
    rig = fresh()
    snap = broken_off(rig)
    (rig.volume if side == "the original" else snap).set_fmr(False)
    [back] = snapback.go_back(rig.family, rig.volume, snap, list(snap.plexes))
    assert (back.reason, back.map.count()) == ("full_fmr_off", REGIONS)


@given(st.sets(st.integers(0, REGIONS - 1)), st.sets(st.integers(0, REGIONS - 1)))
def test_what_goes_back_misses_just_what_either_side_wrote(ours: set[int], theirs: set[int]) -> None:
    rig = fresh()
    snap = broken_off(rig)
    write(rig.volume, *ours)
    write(snap, *theirs)
    before = rig.plexes[2].column
    [back] = snapback.go_back(rig.family, rig.volume, snap, list(snap.plexes))
    assert held(back.map.bits) == ours | theirs
    assert (back.state, back.snap, back.uuid) == (STALE, True, rig.plexes[2].uuid)
    assert back.column.index == before.index and back.column.epoch > before.epoch
    assert rig.family.volumes == [rig.volume] and not rig.volume.tracks


@given(st.sets(st.integers(0, REGIONS - 1)), st.sets(st.integers(0, REGIONS - 1)))
def test_a_restore_seeds_the_union_into_everything_else(ours: set[int], theirs: set[int]) -> None:
    rig = fresh(ACTIVE, ACTIVE, SNAPDONE, STALE, SNAPDONE)
    rig.plexes[3].map.empty()
    snap, other = broken_off(rig), broken_off(rig, 4, "SNAP1-v", OTHER)
    epochs = [p.column.epoch for p in rig.plexes[:4]]
    write(rig.volume, *ours)
    write(snap, *theirs)
    changed = snapback.from_replica(rig.family, rig.volume, snap, list(snap.plexes))
    union = ours | theirs
    assert held(changed) == union
    assert [held(p.map.bits) for p in rig.plexes[:4]] == [union, union, set(), union]
    assert held(snapback.difference(rig.volume, other)) == union
    assert snapback.how_much_differs(rig.volume, other) == (len(union), REGIONS - 1 in union)
    renewed = [p.column.epoch != e for p, e in zip(rig.plexes[:4], epochs, strict=True)]
    assert renewed == [True, True, True, False], "maps of open gates count with the record only"
    assert rig.plexes[2] in rig.volume.plexes and rig.plexes[2].state is ACTIVE
    assert rig.family.volumes == [rig.volume, other]


@pytest.mark.parametrize(("written", "reason"), [((), ""), ((1,), "restore")])
def test_a_restore_of_what_is_the_same_leaves_no_reason_to_copy(written: tuple[int, ...], reason: str) -> None:
    rig = fresh()
    snap = broken_off(rig)
    write(snap, *written)
    snapback.from_replica(rig.family, rig.volume, snap, list(snap.plexes))
    assert [plex.reason for plex in rig.plexes[:2]] == [reason, reason]


def test_the_source_of_a_restore_is_snapdone_again_when_the_others_hold_everything() -> None:
    rig = fresh()
    snap = broken_off(rig)
    write(rig.volume, 1)
    snapback.from_replica(rig.family, rig.volume, snap, list(snap.plexes))
    commit(rig.family)
    assert snapshot.returned(rig.volume) == []
    for plex in rig.plexes[:2]:
        rig.volume.copied(plex, range(1, 2), plex.dropped)
    rig.sync()
    commit(rig.family)
    rig.plexes[2].map.mark(range(3, 4))
    assert snapshot.returned(rig.volume) == [], "what misses something is no snapshot that could be taken"
    rig.plexes[2].map.empty()
    commit(rig.family)
    assert snapshot.returned(rig.volume) == [rig.plexes[2]] and rig.plexes[2].state is SNAPDONE
    assert snapshot.returned(rig.volume) == [], "it has become that, and no commit is needed again"


def test_two_sources_of_a_restore_do_not_answer_for_each_other() -> None:
    """The volume would be left without a regular plex that is complete."""
    rig = fresh(ACTIVE, SNAPDONE, SNAPDONE)
    snap = snapshot.break_off(rig.family, rig.volume, rig.plexes[1:], "SNAP-v", SNAP)
    commit(rig.family)
    write(snap, 1)
    snapback.from_replica(rig.family, rig.volume, snap, list(snap.plexes))
    commit(rig.family)
    assert snapshot.returned(rig.volume) == []
    assert [plex.state for plex in rig.plexes] == [ACTIVE] * 3


def test_a_restore_leaves_a_plex_that_is_being_attached_its_own_reason() -> None:
    rig = fresh()
    attaching = rig.plexes[1]
    rig.volume.close_gate(attaching, STALE)
    attaching.map.fill()
    attaching.reason = Reason.FULL_NEW_PLEX
    snap = broken_off(rig)
    rig.volume.open_gate(attaching)
    write(snap, 1)
    snapback.from_replica(rig.family, rig.volume, snap, list(snap.plexes))
    assert [plex.reason for plex in rig.plexes[:2]] == ["restore", "full_new_plex"]


def test_a_plex_that_still_attaches_does_not_make_the_source_of_a_restore_snapdone() -> None:
    """It may hold what the others lack: of the regular ones none could go on alone yet."""
    rig = fresh()
    snap = broken_off(rig)
    attaching = rig.plexes[1]
    rig.volume.close_gate(attaching, STALE)
    write(rig.volume, 1)
    snapback.from_replica(rig.family, rig.volume, snap, list(snap.plexes))
    commit(rig.family)
    rig.volume.open_gate(attaching)
    commit(rig.family)
    rig.volume.copied(attaching, range(1, 2), attaching.dropped)
    rig.sync()
    commit(rig.family)
    assert (attaching.state, attaching.settled) == (PlexState.TEMP, True)
    assert snapshot.returned(rig.volume) == []
    assert rig.volume.promote(attaching) and snapshot.returned(rig.volume) == [rig.plexes[2]]


def test_a_plex_in_doubt_is_no_source_of_a_restore() -> None:
    rig = fresh()
    snap = broken_off(rig)
    rig.plexes[2].young.mark(range(2, 3))
    with pytest.raises(Refused, match="for certain"):
        snapback.from_replica(rig.family, rig.volume, snap, list(snap.plexes))
    assert all(not p.map.any() for p in rig.volume.plexes) and snap in rig.family.volumes


LONGER: list[tuple[str, bool, bool, Callable[..., object]]] = [
    ("the original has grown: too short to go back", True, False, snapback.go_back),
    ("the original has grown: too short to restore", True, False, snapback.from_replica),
    ("the snapshot has grown: too long to restore", False, True, snapback.from_replica),
]


@pytest.mark.parametrize(("original", "snap", "verb"), [case[1:] for case in LONGER], ids=[case[0] for case in LONGER])
def test_a_plex_of_another_length_is_refused(original: bool, snap: bool, verb: Callable[..., object]) -> None:
    rig = fresh()
    taken = broken_off(rig)
    if original:
        rig.volume.grow(2 * REGIONS * REGION)
    if snap:
        taken.grow(2 * REGIONS * REGION)
    with pytest.raises(Refused, match="refused_incomplete"):
        verb(rig.family, rig.volume, taken, list(taken.plexes))
    assert taken in rig.family.volumes


def test_a_snapshot_that_has_grown_goes_back_to_its_original_s_length() -> None:
    rig = fresh()
    snap = broken_off(rig)
    snap.grow((REGIONS + 3) * REGION)
    [back] = snapback.go_back(rig.family, rig.volume, snap, list(snap.plexes))
    assert len(back.map) == REGIONS and not back.map.any()


def test_growth_of_the_original_is_dirty() -> None:
    rig = fresh()
    snap = broken_off(rig)
    rig.volume.grow((REGIONS + 2) * REGION)
    assert held(snapback.difference(rig.volume, snap)) == {REGIONS, REGIONS + 1}
    assert snapback.how_much_differs(rig.volume, snap) == (2, True)


def test_one_plex_of_two_goes_back_and_the_snapshot_stays() -> None:
    rig = fresh(ACTIVE, SNAPDONE, SNAPDONE)
    snap = snapshot.break_off(rig.family, rig.volume, rig.plexes[1:], "SNAP-v", SNAP)
    commit(rig.family)
    write(snap, 5)
    [back] = snapback.go_back(rig.family, rig.volume, snap, [rig.plexes[1]])
    assert held(back.map.bits) == {5} and snap.plexes == [rig.plexes[2]] and SNAP in rig.volume.tracks
    rig.plexes[2].map.mark(range(1))
    snap.plexes.insert(0, rig.plexes[1])
    rig.plexes[1].state = ACTIVE
    with pytest.raises(Refused, match="last_plex"):
        snapback.go_back(rig.family, rig.volume, snap, [rig.plexes[1]])


def test_each_plex_that_goes_back_lacks_what_it_lacked_itself_and_not_what_the_others_did() -> None:
    rig = fresh(ACTIVE, SNAPDONE, SNAPDONE)
    snap = snapshot.break_off(rig.family, rig.volume, rig.plexes[1:], "SNAP-v", SNAP)
    commit(rig.family)
    write(snap, 5)
    rig.plexes[1].map.mark(range(2, 3))
    rig.plexes[2].map.mark(range(3, 4))
    targets = snapback.back_targets(rig.volume, snap, rig.plexes[1:])
    told = [(each.regions, each.last) for each in targets]
    back = snapback.go_back(rig.family, rig.volume, snap, rig.plexes[1:])
    assert [held(plex.map.bits) for plex in back] == [{2, 5}, {3, 5}]
    assert told == [(2, False), (2, False)]
    assert targets[0].why == (
        "returns, and copies 2 of 8 regions: 1 changed on either side, the others it does not hold itself"
    )


@pytest.mark.parametrize(("written", "lacking"), [(REGIONS - 1, 2), (2, REGIONS - 1)], ids=["written", "lacking"])
def test_the_last_region_which_may_be_short_is_told_of_wherever_it_comes_from(written: int, lacking: int) -> None:
    rig = fresh()
    snap = broken_off(rig)
    write(snap, written)
    snap.plexes[0].map.mark(range(lacking, lacking + 1))
    [target] = snapback.back_targets(rig.volume, snap, snap.plexes)
    assert (target.regions, target.last) == (2, True)


def test_of_a_plex_that_holds_all_itself_no_others_are_told() -> None:
    rig = fresh()
    snap = broken_off(rig)
    write(snap, REGIONS - 1)
    [target] = snapback.back_targets(rig.volume, snap, snap.plexes)
    assert (target.why, target.last) == ("returns, and copies 1 of 8 regions", True)


def test_strangers_know_nothing_of_each_other() -> None:
    rig = fresh()
    snap = broken_off(rig)
    snapback.clear(rig.family, rig.volume, snap)
    assert not rig.volume.tracks and not snap.tracks and rig.family.original_of(snap) is None
    assert (snap.settings.snapshot_of, snap.settings.link, snap.plexes[0].snap) == (None, None, False)
    write(rig.volume, 1)
    write(snap, 2)


def test_a_regular_plex_becomes_snapdone_unless_it_is_the_last_one() -> None:
    rig = fresh(ACTIVE, ACTIVE, SNAPDONE)
    snapshot.convert(rig.volume, rig.plexes[1])
    assert (rig.plexes[1].state, rig.plexes[1].snap) == (SNAPDONE, True)
    with pytest.raises(Refused, match="last regular plex"):
        snapshot.convert(rig.volume, rig.plexes[0])
    with pytest.raises(FmrdError, match="plex_state"):
        snapshot.convert(rig.volume, rig.plexes[2])


def test_a_plex_that_misses_something_does_not_become_snapdone() -> None:
    rig = fresh(ACTIVE, ACTIVE)
    rig.plexes[1].map.mark(range(2, 3))
    with pytest.raises(FmrdError, match="plex_state"):
        snapshot.convert(rig.volume, rig.plexes[1])
    assert (rig.plexes[1].state, rig.plexes[1].snap) == (ACTIVE, False)


def test_a_snapshot_plex_that_left_comes_back_by_way_of_snapatt() -> None:
    rig = fresh()
    rig.volume.close_gate(rig.plexes[2], STALE)
    rig.volume.open_gate(rig.plexes[2])
    assert rig.plexes[2].state is SNAPATT


# Instant snapshots


def at_once(rig: Rig) -> Volume:
    record = PlexRecord("", UUID.format(70), "/i", None, ACTIVE, Column(0, 0))
    snap = snapshot.taken_at_once(rig.family, rig.volume, record, "SNAP-v", SNAP)
    commit(rig.family)
    return snap


def keep(family: Family, plex: Plex, *regions: int) -> None:
    """Copied, fdatasync'ed, and known to the home copy."""
    for region in regions:
        plex.drained(range(region, region + 1))
    plex.end_sync(plex.begin_sync(), succeeded=True)
    commit(family)


def test_of_an_instant_snapshot_everything_is_owed_until_it_is_kept_for_certain() -> None:
    rig = fresh()
    snap = at_once(rig)
    [plex] = snap.plexes
    assert plex.name == "v-01" or plex.name not in {p.name for p in rig.plexes}
    assert instant.owed(rig.volume, snap, range(2, 4)) == [2, 3]
    plex.drained(range(2, 3))
    assert instant.owed(rig.volume, snap, range(2, 4)) == [2, 3], "copied, not fdatasync'ed"
    plex.end_sync(plex.begin_sync(), succeeded=True)
    assert instant.owed(rig.volume, snap, range(2, 4)) == [2, 3], "the home copy does not know"
    commit(rig.family)
    assert instant.owed(rig.volume, snap, range(2, 4)) == [3]
    instant.lose(rig.volume, snap, [3])
    assert instant.owed(rig.volume, snap, range(2, 4)) == []


def test_a_failed_fdatasync_gives_back_what_was_copied_and_the_plex_stays() -> None:
    rig = fresh()
    snap = at_once(rig)
    [plex] = snap.plexes
    keep(rig.family, plex, 1)
    plex.drained(range(2, 3))
    plan = snap.begin_sync()
    snap.end_sync(plan, {plex.uuid: OSError(5, "no")})
    assert plex.is_open and held(plex.map.bits) == set(range(REGIONS)) - {1}
    assert snap.suspicion() is None, "what went back is its original's, and no doubt is left"
    assert instant.owed(rig.volume, snap, range(1, 3)) == [2]


def test_an_instant_snapshot_restores_what_it_holds_and_copies_the_rest_itself() -> None:
    rig = fresh()
    snap = at_once(rig)
    [plex] = snap.plexes
    keep(rig.family, plex, 2)
    write(rig.volume, 2)
    rig.volume.drl.enter(range(REGIONS // 2))  # coarse marks that name what nobody wrote
    rig.volume.drl.leave(range(REGIONS // 2))
    changed = snapback.from_replica(rig.family, rig.volume, snap, [plex])
    assert held(changed) == {2}
    assert [held(p.map.bits) for p in rig.plexes[:2]] == [{2}, {2}]
    assert held(plex.map.bits) == set(range(REGIONS)) - {2} and plex.state is SNAPATT


def test_what_was_lost_can_be_restored_by_nobody() -> None:
    rig = fresh()
    snap = at_once(rig)
    instant.lose(rig.volume, snap, [4])
    with pytest.raises(Refused, match="snap_invalid"):
        snapback.from_replica(rig.family, rig.volume, snap, list(snap.plexes))
    with pytest.raises(Refused, match="snap_instant"):
        snapback.clear(rig.family, rig.volume, snap)


def test_a_full_one_is_like_the_others() -> None:
    rig = fresh()
    snap = at_once(rig)
    assert not instant.complete(rig.volume, snap)
    keep(rig.family, snap.plexes[0], *range(REGIONS))
    assert instant.complete(rig.volume, snap) and not rig.volume.unkept and not snap.settings.is_instant
    assert not instant.complete(rig.volume, snap), "it is one already: nothing is left to be recorded"
    assert instant.owed(rig.volume, snap, range(REGIONS)) == []
    snapback.clear(rig.family, rig.volume, snap)
    assert not instant.complete(rig.volume, snap)


def test_one_that_has_lost_something_is_never_like_the_others_though_all_was_written_since() -> None:
    rig = fresh()
    snap = at_once(rig)
    instant.lose(rig.volume, snap, [4])
    keep(rig.family, snap.plexes[0], *range(REGIONS))
    assert snap.plexes[0].settled and not instant.complete(rig.volume, snap) and snap.settings.is_instant
    with pytest.raises(Refused, match="snap_invalid"):
        snapback.from_replica(rig.family, rig.volume, snap, list(snap.plexes))


def test_the_only_plex_of_an_instant_snapshot_never_goes_though_it_holds_nothing() -> None:
    rig = fresh()
    snap = at_once(rig)
    assert "stays" in str(snap.fail_plex(snap.plexes[0], "an error"))
    assert snap.plexes[0].is_open


def test_a_removed_snapshot_is_tracked_no_more() -> None:
    rig = fresh()
    snap = at_once(rig)
    snapback.forget(rig.family, snap)
    assert not rig.volume.tracks and not rig.volume.unkept and rig.family.volumes == [rig.volume]
    assert rig.volume.held_until == rig.volume.demotions, "a start would still serve it, and nobody keeps its data now"


def test_nothing_is_held_for_a_snapshot_that_holds_everything_itself() -> None:
    rig = fresh()
    snapback.forget(rig.family, broken_off(rig))
    assert rig.volume.held_until == 0 < rig.volume.demotions
