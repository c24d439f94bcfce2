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


@pytest.mark.parametrize("policy", ["select", "round", "prefer:v-09"])
def test_a_far_plex_is_read_where_no_near_one_may_serve(rig: Rig, policy: str) -> None:
    rig.plexes[0].session = True
    chooser = ReadPolicy(policy)
    assert set(names(chooser, rig, [0, 7 * FAR, 2 * FAR, 9 * FAR, 0])) == {"v-02", "v-03"}
    rig.plexes[1].session = rig.plexes[2].session = True
    assert len(set(names(chooser, rig, [0, 7 * FAR, 2 * FAR]))) >= 1


def test_prefer_may_name_a_far_one(rig: Rig) -> None:
    rig.plexes[1].session = True
    assert names(ReadPolicy("prefer:v-02"), rig, [0, 5 * FAR, FAR]) == ["v-02"] * 3


def test_a_read_that_goes_from_plex_to_plex_is_far_no_longer_than_it_must(rig: Rig) -> None:
    """v-01 is far and holds everything but the last region; v-02 lacks one in the middle."""
    far, near = rig.plexes[:2]
    far.session = True
    far.map.mark(range(4, 5))
    near.map.mark(range(1, 2))
    parts = rig.volume.plan_read(0, 5 * 4096, without=(rig.plexes[2],))
    assert [(part.plex.name, part.offset // 4096, part.length // 4096) for part in parts] == [
        ("v-02", 0, 1), ("v-01", 1, 1), ("v-02", 2, 3),
    ]  # fmt: skip


def test_a_write_begins_with_the_far_plexes(rig: Rig) -> None:
    rig.plexes[2].session = True
    rig.volume.drl.durable.setall(1)
    plan = rig.volume.choose_targets(0, 4096)
    assert [target.plex.name for target in plan.targets] == ["v-03", "v-01", "v-02"]
