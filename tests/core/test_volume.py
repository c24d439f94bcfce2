"""The truth of one volume, rule by rule (INVARIANTS). What a rule needs of the order of awaits is the simulation's."""

import pytest

from fmrd.core.reasons import Reason
from fmrd.core.states import OPEN_GATE, PlexState, VolumeState
from fmrd.errors import Failed, FmrdError, Refused
from tests.core.making import EIO, REGION, REGIONS, Rig, bits, hole, missing

ACTIVE, TEMP, STALE, IOFAIL = PlexState.ACTIVE, PlexState.TEMP, PlexState.STALE, PlexState.IOFAIL


# Rule 1


def test_a_write_is_not_planned_before_its_marks_are_durable() -> None:
    rig = Rig()
    rig.volume.drl.end_clean(rig.volume.drl.begin_clean())
    rig.volume.drl.enter(range(1))
    with pytest.raises(AssertionError, match="rule 1"):
        rig.volume.choose_targets(0, REGION)


# Rule 3


@pytest.mark.parametrize("state", sorted(set(PlexState) - set(OPEN_GATE)))
def test_a_closed_gate_remembers_a_write_in_the_step_that_plans_it(state: PlexState) -> None:
    rig = Rig(ACTIVE, state)
    rig.plexes[1].map.empty()
    plan = rig.begin(2, 2, whole=False)
    assert [target.plex.name for target in plan.targets] == ["v-01"]
    assert missing(rig, 1) == {2}


def test_a_plex_that_closes_while_a_write_is_under_way_misses_it() -> None:
    """Whatever the outcome was: nobody asks the plex any more."""
    rig = Rig(ACTIVE, ACTIVE)
    plan = rig.begin(3)
    rig.volume.close_gate(rig.plexes[1], STALE)
    assert rig.end(plan).error is None
    assert 3 in missing(rig, 1)


def test_a_plex_that_left_and_came_back_meanwhile_is_not_healed_by_the_old_write() -> None:
    rig = Rig(ACTIVE, ACTIVE)
    hole(rig, 1, 3)
    plan = rig.begin(3)
    rig.volume.close_gate(rig.plexes[1], STALE)
    rig.volume.open_gate(rig.plexes[1])
    assert rig.end(plan).error is None
    assert 3 in missing(rig, 1)


# Rule 4


def test_a_plex_that_leaves_inherits_the_drl_and_what_is_unsynced() -> None:
    rig = Rig(ACTIVE, ACTIVE)
    rig.settle()
    rig.write(4, whole=False)
    rig.plexes[1].young.mark(range(1))
    rig.volume.close_gate(rig.plexes[1], STALE)
    assert missing(rig, 1) == {0, 4, 5}, "the extent of region 4 holds region 5 too"


def test_of_a_settled_volume_a_plex_leaves_with_nothing_missing() -> None:
    rig = Rig(ACTIVE, ACTIVE)
    rig.write(4)
    rig.settle()
    rig.volume.close_gate(rig.plexes[1], STALE)
    assert missing(rig, 1) == set()


def test_without_fast_resync_a_plex_that_leaves_misses_everything_and_says_why() -> None:
    rig = Rig(ACTIVE, ACTIVE, fmr=False)
    rig.settle()
    rig.volume.close_gate(rig.plexes[1], STALE)
    assert missing(rig, 1) == set(range(REGIONS)) and rig.plexes[1].reason == "full_fmr_off"


def test_switching_fast_resync_off_frees_the_maps_of_closed_gates_for_good() -> None:
    rig = Rig(ACTIVE, ACTIVE, STALE)
    rig.plexes[2].map.empty()
    hole(rig, 1, 3)
    rig.volume.set_fmr(False)
    rig.volume.set_fmr(True)
    assert missing(rig, 2) == set(range(REGIONS)) and rig.plexes[2].reason == "full_fmr_off"
    assert missing(rig, 1) == {3}, "the map of an open plex stays"


@pytest.mark.parametrize(("reason", "kept"), [("recovery", ""), ("restore", ""), ("full_new_plex", "full_new_plex")])
def test_a_plex_that_leaves_is_copied_in_full_still_and_not_for_a_crash_any_more(reason: str, kept: str) -> None:
    rig = Rig(ACTIVE, ACTIVE)
    rig.settle()
    rig.plexes[1].reason = Reason(reason)
    rig.volume.close_gate(rig.plexes[1], STALE)
    assert rig.plexes[1].reason == kept


def test_a_failure_of_a_plex_that_is_out_or_another_volumes_by_now_is_none_of_its_business() -> None:
    rig = Rig(ACTIVE, ACTIVE, ACTIVE)
    rig.volume.close_gate(rig.plexes[1], STALE)
    gone = rig.volume.plexes.pop()
    demotions = rig.volume.demotions
    assert rig.volume.fail_plex(rig.plexes[1], EIO) is None and rig.volume.fail_plex(gone, EIO) is None
    assert (rig.plexes[1].state, gone.state, rig.volume.demotions) == (STALE, ACTIVE, demotions)
    assert rig.plexes[1].errors == gone.errors == 0


def test_whoever_watches_is_told_of_each_gate_that_closes() -> None:
    rig = Rig(ACTIVE, ACTIVE, ACTIVE)
    told = []
    rig.volume.gate_closed = lambda plex: told.append((plex.name, plex.state))
    rig.volume.close_gate(rig.plexes[2], STALE)
    rig.write(1, failing=[rig.plexes[1]])
    assert told == [("v-03", STALE), ("v-02", IOFAIL)]


# Rule 5


def test_whatever_demotes_asks_for_a_record() -> None:
    rig = Rig(ACTIVE, ACTIVE, ACTIVE, ACTIVE)
    counts = [rig.volume.demotions]
    rig.write(1, failing=[rig.plexes[3]])
    counts.append(rig.volume.demotions)
    rig.sync(failing=[rig.plexes[2]])
    counts.append(rig.volume.demotions)
    rig.volume.fail_plex(rig.plexes[1], EIO)
    counts.append(rig.volume.demotions)
    rig.write(1, failing=[rig.plexes[0]])
    counts.append(rig.volume.demotions)
    assert counts == sorted(set(counts))
    assert [p.state for p in rig.plexes] == [ACTIVE, IOFAIL, IOFAIL, IOFAIL]


def test_a_page_under_way_when_a_commit_begins_belongs_to_that_commit() -> None:
    """The write may fail yet, and then nobody else would write it before the verdict."""
    rig = Rig(ACTIVE, ACTIVE)
    rig.settle()
    assert rig.volume.make_holes(rig.plexes[0], range(2, 3))
    content = rig.volume.page(1, 0)
    assert rig.volume.touched_pages() == [(1, 0)]
    rig.volume.page_written(1, 0, content)
    assert rig.volume.touched_pages() == []


def test_a_page_that_failed_is_due_again() -> None:
    rig = Rig(ACTIVE, ACTIVE)
    rig.settle()
    rig.volume.make_holes(rig.plexes[0], range(2, 3))
    rig.volume.page(1, 0)
    rig.volume.page_failed(1, 0)
    assert rig.volume.touched_pages() == [(1, 0)]
    rig.volume.page(0, 1)
    rig.volume.page_failed(0, 1)
    assert rig.volume.drl.marked.touched == {1}, "one of the log, too"


def test_what_becomes_of_a_page_whose_column_went_out_of_use_meanwhile_is_nobody_s_business() -> None:
    rig = Rig(ACTIVE, ACTIVE)
    rig.settle()
    content = rig.volume.page(2, 0)
    rig.volume.close_gate(rig.plexes[1], STALE)
    rig.volume.remove_plex(rig.plexes[1])
    rig.volume.page_failed(2, 0)
    rig.volume.page_written(2, 0, content)
    assert rig.volume.touched_pages() == []


# Rule 6


def test_a_plex_is_promoted_when_nothing_is_missing_unsynced_or_unknown_to_the_home_copy() -> None:
    rig = Rig(ACTIVE, TEMP)
    plex = rig.plexes[1]
    assert not rig.volume.promote(plex)
    rig.volume.copied(plex, range(REGIONS), plex.dropped)
    assert not plex.map.any() and not rig.volume.promote(plex), "nothing was fdatasync'ed"
    rig.sync()
    assert not rig.volume.promote(plex), "the home copy still has its old map"
    rig.pages()
    assert rig.volume.promote(plex) and plex.state is ACTIVE
    assert not rig.volume.promote(plex), "it is in sync already"


def test_a_snapshot_plex_is_promoted_to_snapdone() -> None:
    rig = Rig(ACTIVE, PlexState.SNAPATT)
    rig.volume.copied(rig.plexes[1], range(REGIONS), 0)
    rig.settle()
    assert rig.volume.promote(rig.plexes[1]) and rig.plexes[1].state is PlexState.SNAPDONE


def test_a_copy_that_was_under_way_when_an_fdatasync_failed_counts_for_nothing() -> None:
    """The kernel may have dropped what it wrote."""
    rig = Rig(TEMP, ACTIVE)
    rig.plexes[0].map.empty()
    hole(rig, 1, 0)
    hole(rig, 0, 3)
    before = rig.plexes[0].dropped
    rig.sync(failing=[rig.plexes[0]])
    assert rig.plexes[0].is_open, "region 0 is nowhere else"
    assert not rig.volume.copied(rig.plexes[0], range(3, 4), before)
    assert 3 in missing(rig, 0)
    assert rig.volume.copied(rig.plexes[0], range(3, 4), rig.plexes[0].dropped)


# Rule 9


def test_the_last_plex_is_not_detached() -> None:
    rig = Rig(ACTIVE, STALE)
    with pytest.raises(Refused) as refused:
        rig.volume.close_gate(rig.plexes[0], STALE)
    assert refused.value.code == "last_plex" and "8 region(s)" in refused.value.message
    assert rig.plexes[0].state is ACTIVE


def test_two_plexes_with_different_holes_need_each_other() -> None:
    rig = Rig(ACTIVE, ACTIVE)
    hole(rig, 0, 1)
    hole(rig, 1, 6)
    for plex, region in zip(rig.plexes, (6, 1), strict=True):
        with pytest.raises(Refused, match=r"1 region\(s\)"):
            rig.volume.close_gate(plex, STALE)
        assert rig.volume.fail_plex(plex, EIO) is not None and plex.is_open
        assert missing(rig, rig.plexes.index(plex)) == {7 - region}


def test_a_region_filled_in_since_does_not_count_before_it_is_durable() -> None:
    rig = Rig(ACTIVE, ACTIVE)
    hole(rig, 1, 6)
    rig.settle()
    rig.volume.copied(rig.plexes[1], range(6, 7), rig.plexes[1].dropped)
    for step in (lambda: None, rig.sync):
        step()
        with pytest.raises(Refused):
            rig.volume.close_gate(rig.plexes[0], STALE)
    rig.commit()
    rig.volume.close_gate(rig.plexes[0], STALE)


def test_a_plex_whose_opening_is_not_recorded_does_not_count() -> None:
    rig = Rig(ACTIVE, STALE)
    rig.plexes[1].map.empty()
    rig.plexes[1].on_home = bits(())
    rig.volume.open_gate(rig.plexes[1])
    with pytest.raises(Refused):
        rig.volume.close_gate(rig.plexes[0], STALE)
    rig.commit()
    rig.volume.close_gate(rig.plexes[0], STALE)


def test_a_plex_that_leaves_relies_on_no_other_that_is_leaving() -> None:
    rig = Rig(ACTIVE, ACTIVE)
    rig.volume.close_gate(rig.plexes[0], STALE)
    with pytest.raises(Refused):
        rig.volume.close_gate(rig.plexes[1], STALE)


@pytest.mark.parametrize("failing", [(0,), (1,), (0, 1)])
def test_after_a_failed_fdatasync_each_region_keeps_a_plex(failing: tuple[int, ...]) -> None:
    rig = Rig(ACTIVE, ACTIVE)
    rig.sync(failing=[rig.plexes[number] for number in failing])
    opened = [plex for plex in rig.plexes if plex.is_open]
    assert opened
    for region in range(REGIONS):
        assert any(region not in plex.map for plex in opened)


# Reads


def test_a_read_comes_from_plexes_that_are_current_there() -> None:
    rig = Rig(ACTIVE, ACTIVE, STALE)
    hole(rig, 0, 1, 2)
    hole(rig, 1, 5)
    parts = rig.volume.plan_read(512, REGIONS * REGION - 1024)
    assert sum(part.length for part in parts) == REGIONS * REGION - 1024
    at = 512
    for part in parts:
        assert part.offset == at
        at += part.length
        regions = rig.volume.geometry.regions_of(part.offset, part.length)
        assert part.plex.is_open and not part.plex.map.touches(regions)
    assert len(parts) == 3, "one plex serves as far as it can"


def test_holders_are_open_and_miss_none_of_it() -> None:
    rig = Rig(ACTIVE, ACTIVE, STALE)
    rig.plexes[2].map.empty()
    hole(rig, 0, 2)
    assert rig.volume.holders(0, 2 * REGION) == rig.plexes[:2], "a hole elsewhere is no matter"
    assert rig.volume.holders(REGION, 2 * REGION) == [rig.plexes[1]]


def test_a_read_in_one_piece_where_one_plex_has_it_all() -> None:
    rig = Rig(ACTIVE, ACTIVE)
    hole(rig, 0, 2)
    [part] = rig.volume.plan_read(0, REGIONS * REGION)
    assert part.plex is rig.plexes[1]


def test_a_read_that_nobody_can_serve_is_an_error() -> None:
    rig = Rig(ACTIVE, ACTIVE)
    hole(rig, 0, 2)
    with pytest.raises(Failed) as failed:
        rig.volume.plan_read(0, 4 * REGION, without=(rig.plexes[1],))
    assert failed.value.code == "io_error" and str(2 * REGION) in failed.value.message


# Holes


def test_a_write_into_a_hole_goes_only_where_the_plex_is_current() -> None:
    rig = Rig(ACTIVE, ACTIVE)
    hole(rig, 1, 3)
    plan = rig.volume.choose_targets(2 * REGION + 512, 2 * REGION)
    assert plan.targets[0].parts == ((2 * REGION + 512, 2 * REGION),)
    assert plan.targets[1].parts == ((2 * REGION + 512, 2 * REGION),), "region 3 is covered whole and healed"
    plan = rig.volume.choose_targets(2 * REGION + 512, 2 * REGION - 1024)
    assert plan.targets[1].parts == ((2 * REGION + 512, REGION - 512),)
    plan = rig.volume.choose_targets(3 * REGION + 512, 512)
    assert [target.plex for target in plan.targets] == [rig.plexes[0]]


@pytest.mark.parametrize(
    ("holes", "offset", "length", "taken"),
    [
        ((6,), 0, 2 * REGION, [0, 1]),
        ((1,), 512, 2 * REGION, None),
        ((1,), REGION + 512, 1024, [0]),
        ((1,), REGION, REGION, None),
        ((1, 2), REGION + 512, REGION, [0]),
    ],
    ids=["a hole elsewhere", "a hole in a part", "in the hole", "all of the hole", "in two holes"],
)
def test_a_write_in_one_step_goes_to_those_that_take_all_of_it_or_is_looked_at_closer(
    holes: tuple[int, ...], offset: int, length: int, taken: list[int] | None
) -> None:
    rig = Rig(ACTIVE, ACTIVE)
    hole(rig, 1, *holes)
    found = rig.volume.plain_targets(offset, length)
    assert found == (None if taken is None else [rig.plexes[number] for number in taken])


def test_a_write_in_one_step_is_remembered_in_all_of_its_regions() -> None:
    rig = Rig(ACTIVE, STALE)
    rig.plexes[1].map.empty()
    rig.plexes[1].map.mark(range(1, 2))
    assert rig.volume.plain_targets(REGION, 2 * REGION) == [rig.plexes[0]]
    assert missing(rig, 1) == {1, 2}


def test_a_write_in_one_step_that_nobody_takes_is_looked_at_closer() -> None:
    rig = Rig(ACTIVE)
    hole(rig, 0, 1)
    assert rig.volume.plain_targets(REGION + 512, 512) is None


def test_a_write_of_whole_regions_heals_them_and_they_count_once_they_are_durable() -> None:
    rig = Rig(ACTIVE, ACTIVE)
    hole(rig, 1, 3, 4, 5)
    assert rig.write(3, 2).error is None
    assert missing(rig, 1) == {5}
    assert not rig.plexes[1].is_durable(3)
    assert rig.plexes[1].page(0)[3], "the home copy must not forget it yet (rule 2b)"
    rig.settle()
    assert rig.plexes[1].is_durable(3) and not rig.plexes[1].is_durable(5)


def test_a_short_last_region_is_healed_by_a_write_to_the_volumes_end() -> None:
    rig = Rig(ACTIVE, ACTIVE, length_bytes=REGIONS * REGION - 512 * 3)
    hole(rig, 1, 7)
    rig.write(7)
    assert missing(rig, 1) == set()


def test_a_write_that_failed_on_a_plex_heals_nothing_there() -> None:
    rig = Rig(ACTIVE, ACTIVE)
    hole(rig, 0, 6)
    hole(rig, 1, 3)
    verdict = rig.write(3, failing=[rig.plexes[1]])
    assert verdict.error is None and missing(rig, 1) == {3}


def test_a_write_that_was_under_way_when_an_fdatasync_failed_heals_nothing() -> None:
    rig = Rig(ACTIVE, ACTIVE)
    hole(rig, 0, 6)
    hole(rig, 1, 3)
    plan = rig.begin(3)
    rig.sync(failing=[rig.plexes[1]])
    assert rig.end(plan).error is None
    assert 3 in missing(rig, 1)


def test_a_repair_needs_another_plex_that_holds_the_region_durably() -> None:
    rig = Rig(ACTIVE, ACTIVE)
    hole(rig, 1, 3)
    assert not rig.volume.may_repair(rig.plexes[0], range(3, 4))
    assert not rig.volume.may_repair(rig.plexes[1], range(3, 4)), "a hole is not repaired, it is copied"
    assert rig.volume.may_repair(rig.plexes[0], range(2, 3))
    rig.volume.repaired(rig.plexes[0], range(2, 3))
    assert not rig.plexes[0].is_durable(2)
    assert not rig.volume.may_repair(rig.plexes[1], range(2, 3))


def test_a_plex_that_is_another_volumes_by_now_is_not_repaired_by_this_one() -> None:
    rig = Rig(ACTIVE, ACTIVE)
    rig.settle()
    assert rig.volume.may_repair(rig.plexes[1], range(2, 3))
    gone = rig.volume.plexes.pop()
    assert gone.is_open and not rig.volume.may_repair(gone, range(2, 3))


def test_a_hole_that_is_one_already_is_not_made_again() -> None:
    rig = Rig(ACTIVE, ACTIVE)
    rig.settle()
    assert rig.volume.make_holes(rig.plexes[0], range(2, 3))
    demotions = rig.volume.demotions
    assert not rig.volume.make_holes(rig.plexes[0], range(2, 3))
    assert rig.volume.demotions == demotions, "no verdict waits for a record of what is known"


def test_holes_are_made_only_where_others_hold_the_region_durably() -> None:
    rig = Rig(ACTIVE, ACTIVE)
    hole(rig, 1, 3)
    assert rig.volume.make_holes(rig.plexes[0], range(2, 4))
    assert missing(rig, 0) == {2}
    assert rig.volume.demotions_recorded < rig.volume.demotions, "verdicts wait for the record"
    assert not rig.volume.make_holes(rig.plexes[0], range(3, 4))


# Growing, settings, names


def test_growing_gives_closed_gates_more_to_copy_and_asks_for_a_record() -> None:
    rig = Rig(ACTIVE, STALE, length_bytes=REGIONS * REGION - 1024)
    rig.plexes[1].map.empty()
    demotions = rig.volume.demotions
    rig.volume.grow(10 * REGION)
    assert missing(rig, 0) == set()
    assert missing(rig, 1) == {7, 8, 9}, "the short last region holds new bytes too"
    assert rig.volume.geometry.regions == 10 and rig.volume.record().length_bytes == 10 * REGION
    assert rig.volume.demotions > demotions, "no write may count on the new length before it is recorded"
    assert (2, 2) in rig.volume.touched_pages()


def test_a_page_that_the_home_copy_never_got_reads_as_all_ones_there() -> None:
    rig = Rig(ACTIVE)
    rig.volume.grow(10 * REGION)
    assert rig.volume.page_on_home(0, 2).all()


def test_the_volume_is_in_sync_state_while_it_recovers() -> None:
    rig = Rig(ACTIVE, ACTIVE)
    assert rig.volume.state is VolumeState.ACTIVE
    rig.plexes[1].reason = Reason.RECOVERY
    assert rig.volume.state is VolumeState.ACTIVE
    rig.plexes[1].map.mark(range(1))
    assert rig.volume.state.value == VolumeState.SYNC
    rig.plexes[1].reason = Reason.NONE
    assert rig.volume.state is VolumeState.ACTIVE, "a hole is no crash"


def test_a_plex_that_was_not_in_sync_before_a_crash_leaves_the_volume_active() -> None:
    rig = Rig(ACTIVE, TEMP)
    rig.plexes[1].reason = Reason.RECOVERY
    assert rig.plexes[1].map.any() and rig.volume.state is VolumeState.ACTIVE


@pytest.mark.parametrize("name", ["v-02", "/p2", "00000000-0000-4000-8000-000000000002"])
def test_a_plex_is_found_by_name_path_or_uuid(name: str) -> None:
    rig = Rig(ACTIVE, ACTIVE)
    assert rig.volume.plex(name) is rig.plexes[1]


def test_a_plex_that_is_not_there_is_unknown() -> None:
    with pytest.raises(FmrdError) as unknown:
        Rig().volume.plex("v-09")
    assert unknown.value.code == "plex_unknown"


def test_a_write_that_no_plex_has_any_more_when_it_ends_has_failed() -> None:
    """All left that it went to, or its region became a hole of the last one, though it met no error itself."""
    rig = Rig()
    plan = rig.begin(1)
    for plex in rig.plexes:
        rig.volume._close(plex, IOFAIL)
    error = rig.volume.end_write(plan, {}).error
    assert error is not None and error.code == "io_error"

    alone = Rig(ACTIVE)
    plan = alone.begin(1, whole=False)
    hole(alone, 0, 1)
    error = alone.volume.end_write(plan, {}).error
    assert error is not None and error.code == "io_error"
