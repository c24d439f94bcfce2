"""After a failed fdatasync what may be lost is a hole or suspect (PROTOCOLS, "What an error does")."""

from fmrd.core.states import PlexState
from tests.core.making import EIO, Rig, held, hole, missing

ACTIVE, TEMP, STALE = PlexState.ACTIVE, PlexState.TEMP, PlexState.STALE


def test_a_failed_fdatasync_on_the_only_plex_stays_an_error_until_all_of_it_is_rewritten() -> None:
    rig = Rig(ACTIVE)
    rig.settle()
    rig.write(2, 2)
    error = rig.sync(failing=rig.plexes).error
    assert error is not None and error.code == "suspect"
    assert rig.plexes[0].is_open
    assert rig.sync().error is not None, "the next fdatasync says nothing about what was dropped"
    rig.write(2)
    assert rig.sync().error is not None
    assert rig.plexes[0].record().suspect
    rig.write(3)
    assert rig.sync().error is None
    assert not rig.plexes[0].record().suspect


def test_a_suspect_region_written_anew_is_not_forgotten_on_the_home_copy_by_its_only_plex() -> None:
    """Unsynced it may be, but a map on disk that says it is missing would leave nobody at a start."""
    rig = Rig(ACTIVE)
    rig.settle()
    rig.write(2)
    rig.sync(failing=rig.plexes)
    rig.write(2, 2)
    rig.plexes[0].map.touched.add(0)
    rig.commit()
    assert held(rig.plexes[0].on_home) == set()
    assert not rig.plexes[0].is_durable(2)


def test_who_holds_something_suspect_is_not_promoted() -> None:
    rig = Rig(TEMP)
    plex = rig.plexes[0]
    rig.write(0, plex.geometry.regions)
    rig.sync(failing=rig.plexes)
    rig.sync()
    rig.commit()
    assert not missing(rig, 0) and not rig.volume.promote(plex)
    rig.write(0, plex.geometry.regions)
    rig.sync()
    rig.commit()
    assert rig.volume.promote(plex)


def test_the_end_of_a_suspicion_is_recorded() -> None:
    rig = Rig(ACTIVE)
    rig.settle()
    rig.write(2)
    rig.sync(failing=rig.plexes)
    rig.commit()
    rig.write(2, 2)
    assert rig.sync().error is None
    assert rig.volume.demotions_recorded < rig.volume.demotions


def test_a_rewrite_that_its_own_fdatasync_dropped_stays_suspect() -> None:
    rig = Rig(ACTIVE)
    rig.settle()
    rig.write(2)
    rig.sync(failing=rig.plexes)
    rig.write(2, 2)
    rig.sync(failing=rig.plexes)
    assert rig.sync().error is not None
    rig.write(2, 2)
    rig.sync(during=lambda: rig.sync(failing=rig.plexes))
    assert rig.sync().error is not None


def test_what_is_suspect_stays_in_the_drl() -> None:
    rig = Rig(ACTIVE)
    rig.settle()
    rig.write(2)
    rig.write(6)
    rig.sync(failing=rig.plexes)
    rig.write(6, 2)
    rig.settle()
    assert held(rig.volume.drl.regions()) == {2, 3}


def test_what_an_fdatasync_dropped_becomes_a_hole_where_others_hold_it() -> None:
    """Suspect is only what nobody else has; the flush succeeds, and what was dropped is copied back."""
    rig = Rig(ACTIVE, ACTIVE)
    hole(rig, 1, 6)
    rig.settle()
    rig.write(2)
    verdict = rig.sync(failing=[rig.plexes[0]])
    assert rig.plexes[0].is_open and missing(rig, 0) == {2, 3}
    assert verdict.error is None
    assert rig.volume.demotions_recorded < rig.volume.demotions, "and it waits for the record"


def test_a_copied_region_whose_fdatasync_failed_is_never_taken_for_durable() -> None:
    """No mark in the DRL covers a copy, so nothing but the map can remember it."""
    rig = Rig(ACTIVE, ACTIVE)
    hole(rig, 0, 6)
    hole(rig, 1, 3)
    rig.settle()
    rig.volume.copied(rig.plexes[0], range(6, 7), rig.plexes[0].dropped)
    rig.sync(failing=[rig.plexes[0]])
    rig.settle()
    assert rig.plexes[0].is_open and missing(rig, 0) == {6}
    assert rig.plexes[0].on_home[6]


def test_a_write_that_was_under_way_when_an_fdatasync_failed_stays_suspect() -> None:
    rig = Rig(ACTIVE)
    rig.settle()
    plan = rig.begin(2, 2)
    rig.sync(failing=rig.plexes)
    rig.end(plan)
    assert rig.sync().error is not None
    rig.write(2, 2)
    assert rig.sync().error is None


def test_an_fdatasync_issued_before_the_gate_closed_says_nothing_of_the_plex_that_came_back() -> None:
    rig = Rig(ACTIVE, ACTIVE)
    plan = rig.volume.begin_sync()
    rig.volume.close_gate(rig.plexes[1], STALE)
    rig.volume.open_gate(rig.plexes[1])
    assert rig.volume.end_sync(plan, {rig.plexes[1].uuid: EIO}).error is None
    assert rig.plexes[1].state is TEMP


def test_an_fdatasync_that_succeeded_beside_one_that_failed_proves_nothing() -> None:
    """The kernel tells of a lost page once a descriptor."""
    rig = Rig(ACTIVE, ACTIVE)
    hole(rig, 0, 6)
    hole(rig, 1, 3)
    rig.settle()
    rig.volume.copied(rig.plexes[0], range(6, 7), rig.plexes[0].dropped)
    rig.sync(during=lambda: rig.sync(failing=[rig.plexes[0]]))
    rig.commit()
    assert not rig.plexes[0].is_durable(6)
