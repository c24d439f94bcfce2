"""Which plex serves a read."""

import pytest

from fmrd.core.states import PlexState
from fmrd.core.volume.readpolicy import ReadPolicy, check_policy
from fmrd.errors import BadRequest
from tests.core.making import Rig

FAR = 1 << 20


def names(policy: ReadPolicy, rig: Rig, offsets: list[int], length: int = 4096) -> list[str]:
    return [policy.choose(rig.plexes, offset, length).name for offset in offsets]


@pytest.fixture
def rig() -> Rig:
    return Rig(PlexState.ACTIVE, PlexState.ACTIVE, PlexState.ACTIVE)


def test_round_takes_turns_with_random_reads(rig: Rig) -> None:
    found = names(ReadPolicy("round"), rig, [5 * FAR, 3 * FAR, 9 * FAR, 1 * FAR, 7 * FAR, 2 * FAR])
    assert sorted(found[:3]) == ["v-01", "v-02", "v-03"]
    assert found[3:] == found[:3]


@pytest.mark.parametrize("policy", ["round", "select", "prefer:v-09"])
def test_sequential_readers_find_a_disk_each_and_stay_there(rig: Rig, policy: str) -> None:
    """Two readers far apart, each in order, their reads interleaved. They may part only at their second read."""
    chooser = ReadPolicy(policy)
    names(chooser, rig, [FAR, 20 * FAR])
    first, second = names(chooser, rig, [FAR + 4096, 20 * FAR + 4096])
    assert first != second
    for step in range(2, 6):
        assert names(chooser, rig, [FAR + step * 4096, 20 * FAR + step * 4096]) == [first, second]


def test_select_takes_the_disk_whose_head_is_nearest(rig: Rig) -> None:
    chooser = ReadPolicy("select")
    chooser.choose([rig.plexes[0]], 10 * FAR, 4096)
    chooser.choose([rig.plexes[1]], 50 * FAR, 4096)
    chooser.choose([rig.plexes[2]], 90 * FAR, 4096)
    assert names(chooser, rig, [52 * FAR, 88 * FAR, 12 * FAR]) == ["v-02", "v-03", "v-01"]


@pytest.mark.parametrize("named", ["v-02", "/p2"])
def test_prefer_takes_the_plex_by_name_or_path(rig: Rig, named: str) -> None:
    assert names(ReadPolicy(f"prefer:{named}"), rig, [0, 5 * FAR, FAR]) == ["v-02"] * 3


def test_prefer_falls_back_to_select_where_its_plex_may_not_serve(rig: Rig) -> None:
    chooser = ReadPolicy("prefer:v-02")
    others = [rig.plexes[0], rig.plexes[2]]
    assert chooser.choose(others, 0, 4096) in others
    assert chooser.choose(others, 4096, 4096) is chooser.choose(others, 8192, 4096)


def test_one_that_is_alone_is_chosen_whatever_the_policy(rig: Rig) -> None:
    for policy in ("select", "round", "prefer:v-01"):
        assert ReadPolicy(policy).choose(rig.plexes[2:], 0, 4096) is rig.plexes[2]


@pytest.mark.parametrize("policy", ["select", "round", "prefer:v-01"])
def test_a_policy_that_is_one(policy: str) -> None:
    assert check_policy(policy) == policy


@pytest.mark.parametrize("policy", ["", "prefer", "prefer:", "SELECT", "round ", "nearest", "nearest:v-01"])
def test_a_policy_that_is_none(policy: str) -> None:
    with pytest.raises(BadRequest, match="rdpol"):
        check_policy(policy)
