"""A plex that may lag: what it is left behind in, and what counts of what arrives."""

import pytest

from fmrd.core.states import PlexState
from fmrd.core.volume import lagging
from fmrd.errors import Refused
from tests.core.making import REGION, REGIONS, Rig, hole, missing


@pytest.fixture
def rig() -> Rig:
    """The first of three may lag, by three regions."""
    made = Rig(*[PlexState.ACTIVE] * 3)
    made.settle()
    made.mark_all()
    first = made.plexes[0]
    first.behind, first.trails = 3 * REGION, True
    lagging.give_room(first)
    return made


def test_a_write_leaves_it_behind_and_goes_to_the_others(rig: Rig) -> None:
    plan = rig.begin(2)
    assert [target.plex.name for target in plan.targets] == ["v-02", "v-03"]
    assert missing(rig, 0) == {2}
    rig.end(plan)
    rig.write(2)
    assert rig.plexes[0].room == 2, "it lacks that already"


def test_beyond_its_bound_it_takes_the_write(rig: Rig) -> None:
    rig.write(0, 3)
    plan = rig.begin(5)
    assert [target.plex.name for target in plan.targets] == ["v-01", "v-02", "v-03"]
    assert missing(rig, 0) == {0, 1, 2}


def test_it_is_left_behind_only_where_another_one_holds_it_durably(rig: Rig) -> None:
    hole(rig, 1, 4)
    rig.plexes[2].young.mark(range(4, 5))
    plan = rig.begin(4)
    assert "v-01" in [target.plex.name for target in plan.targets] and missing(rig, 0) == set()


def test_another_one_that_may_lag_does_not_count(rig: Rig) -> None:
    for plex in rig.plexes[1:]:
        plex.behind = REGION
    rig.write(4)
    assert missing(rig, 0) == set()


def test_no_write_heals_it(rig: Rig) -> None:
    rig.write(2)
    rig.write(2, whole=True)
    assert missing(rig, 0) == {2}


def test_it_is_never_the_other_copy(rig: Rig) -> None:
    rig.volume.close_gate(rig.plexes[1], PlexState.STALE)
    with pytest.raises(Refused, match="last_plex"):
        rig.volume.close_gate(rig.plexes[2], PlexState.STALE)


def test_what_was_written_since_it_was_read_does_not_count_when_it_arrives(rig: Rig) -> None:
    first = rig.plexes[0]
    rig.write(1, 3)
    lagging.send(first, range(1, 4))
    rig.write(2)
    assert lagging.arrived(first, range(1, 4)).tolist() == [1, 0, 1]
    assert not first.sent.any()


def test_a_gate_that_closes_forgets_what_was_on_its_way(rig: Rig) -> None:
    first = rig.plexes[0]
    rig.write(1)
    lagging.send(first, range(1, 2))
    rig.volume.close_gate(first, PlexState.STALE)
    assert not lagging.arrived(first, range(REGIONS)).any()
    assert not first.lags
