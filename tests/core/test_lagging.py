"""A plex that may lag: what it is left behind in, and what counts of what arrives."""

import pytest

from fmrd.core.maps import partly
from fmrd.core.maps.regionmap import RegionMap
from fmrd.core.states import PlexState
from fmrd.core.volume import lagging
from fmrd.errors import Refused
from tests.core.making import EIO, REGION, REGIONS, Rig, hole, missing


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    """The first of three may lag, by three regions, of eight blocks each."""
    monkeypatch.setattr(partly, "BLOCK_BYTES", 512)
    monkeypatch.setattr(partly, "GAP_BYTES", 0)
    made = Rig(*[PlexState.ACTIVE] * 3)
    made.settle()
    made.mark_all()
    first = made.plexes[0]
    first.behind, first.trails = 3 * REGION, True
    lagging.give_room(first)
    return made


def write_bytes(rig: Rig, offset: int, length: int) -> None:
    rig.volume.drl.enter(rig.volume.geometry.extents_of(offset, length))
    rig.mark_pages()
    rig.end(rig.volume.choose_targets(offset, length))


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
    sent = lagging.lacked(first, (1, 3))
    lagging.send(first, sent)
    rig.write(3)
    assert lagging.arrived(first, sent) == [1]
    assert not first.sent


def test_it_lacks_of_a_region_what_was_written_since(rig: Rig) -> None:
    first = rig.plexes[0]
    write_bytes(rig, 2 * REGION + 700, 10)
    assert list(first.map.spans(2)) == [(512, 1024)]
    write_bytes(rig, 2 * REGION + 3 * 512, 512)
    assert set(first.map.blocks) == {2} and first.map.blocks[2] == 0b1010
    rig.write(2, whole=True)
    assert first.map.blocks == {} and list(first.map.spans(2)) == [(0, REGION)]


def test_what_a_long_write_covers_is_lacked_whole_and_is_not_what_was_sent(rig: Rig) -> None:
    first = rig.plexes[0]
    for region in (2, 3, 4):
        write_bytes(rig, region * REGION + 700, 10)
    sent = lagging.lacked(first, (2, 3, 4))
    lagging.send(first, sent)
    write_bytes(rig, 2 * REGION + 1024, 2 * REGION)
    assert first.map.blocks == {2: 0b11111110, 4: 0b11}
    assert lagging.arrived(first, sent) == [] and missing(rig, 0) == {2, 3, 4}


@pytest.mark.parametrize("what", ["a write fails", "a flush fails", "it lags no more", "its gate closes", "made equal"])
def test_in_doubt_it_lacks_whole_regions(rig: Rig, what: str) -> None:
    first, second, _ = rig.plexes
    write_bytes(rig, 2 * REGION + 700, 10)
    sent = lagging.lacked(first, (2,))
    lagging.send(first, sent)
    if what == "a write fails":
        rig.end(rig.begin(5), [second])
    elif what == "a flush fails":
        rig.volume.end_sync(rig.volume.begin_sync([second]), {second.uuid: EIO})
    elif what == "it lags no more":
        lagging.lags_no_more(first)
    elif what == "its gate closes":
        rig.volume.close_gate(first, PlexState.STALE)
    else:
        rig.volume.distrust_others(range(2, 3))
    assert 2 in first.map and first.map.blocks == {}
    assert lagging.arrived(first, sent) == [], "it is not all that is lacked"


def test_what_is_suspect_there_is_lacked_whole(rig: Rig) -> None:
    first = rig.plexes[0]
    first.suspect = RegionMap(REGIONS, first.map.page_bits)
    first.suspect.mark(range(2, 3))
    write_bytes(rig, 2 * REGION, 10)
    assert 2 in first.map and first.map.blocks == {}


def test_where_there_is_no_room_what_it_lacks_already_is_still_noted(rig: Rig) -> None:
    first = rig.plexes[0]
    write_bytes(rig, REGION, 10)
    first.room = 0
    write_bytes(rig, REGION + 1024, 10)
    assert first.map.blocks[1] == 0b101


def test_a_gate_that_closes_forgets_what_was_on_its_way(rig: Rig) -> None:
    first = rig.plexes[0]
    rig.write(1)
    sent = lagging.lacked(first, (1,))
    lagging.send(first, sent)
    rig.volume.close_gate(first, PlexState.STALE)
    assert not lagging.arrived(first, sent)
    assert not first.lags
