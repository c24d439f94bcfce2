"""PROTOCOLS, "Start at home", steps 4 to 6: how a volume begins, and which plex is right where it was being written."""

from dataclasses import dataclass, field, replace

import pytest
from bitarray import bitarray

from fmrd.core.decisions.recovery import open_volume, seed
from fmrd.core.decisions.standing import Found, Standing, StartOptions, judge_plexes
from fmrd.core.images import CopyImage
from fmrd.core.reasons import Reason
from fmrd.core.record import Column, Link, PlexRecord
from fmrd.core.stamps import Stamp
from fmrd.core.states import PlexState
from fmrd.core.volume.volume import Volume
from fmrd.errors import Refused
from tests.core.at_start import (
    ACTIVE,
    IOFAIL,
    KNOWN,
    OFFLINE,
    STALE,
    STAMP,
    TEMP,
    damaged,
    here,
    home_copy,
    home_record,
    plex,
)
from tests.core.making import REGIONS, UUID, held

# Steps 4 and 5: the volume


@dataclass
class Opened:
    """What a start makes of plexes with these states and maps; ``away``: plexes that are not there."""

    states: list[PlexState]
    maps: dict[int, set[int]] = field(default_factory=dict)
    dirty: set[int] = field(default_factory=set)
    away: set[int] = field(default_factory=set)
    theirs: dict[int, set[int]] = field(default_factory=dict)
    """DRLs of travelling copies that differ."""
    fields: dict[int, dict[str, object]] = field(default_factory=dict)
    """Fields of plex records."""
    options: StartOptions = field(default_factory=StartOptions)
    volume_fields: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def open(self) -> Volume:
        plexes = [plex(n, state, **self.fields.get(n, {})) for n, state in enumerate(self.states, 1)]
        record = home_record(*plexes)
        record = replace(record, volumes=(replace(record.volume, **self.volume_fields),))  # type: ignore[arg-type]  # checked by the dataclass
        found = {
            p.uuid: Found(False) if n in self.away else here(record, n, dirty=self.theirs.get(n, set()))
            for n, p in enumerate(plexes, 1)
        }
        standing: dict[str, Standing] = judge_plexes(record, record.volume, found, self.options)
        volume, self.notes = open_volume(
            record, record.volume, home_copy(record, self.maps, self.dirty), found, standing
        )
        return volume


def maps(volume: Volume) -> list[set[int]]:
    return [held(p.map.bits) for p in volume.plexes]


def test_maps_and_states_are_as_the_home_copy_says() -> None:
    volume = Opened([ACTIVE, TEMP, STALE, OFFLINE], {2: {6, 7}, 3: {1}, 4: {2}}).open()
    assert [p.state for p in volume.plexes] == [ACTIVE, TEMP, STALE, OFFLINE]
    assert maps(volume) == [set(), {6, 7}, {1}, {2}]
    assert [p.reason for p in volume.plexes] == [""] * 4
    assert volume.plexes[1].is_durable(5) and not volume.plexes[1].is_durable(6)
    assert volume.drl.count == 0 and volume.settings.plexes == ()


def test_an_absent_plex_is_detached_with_what_was_being_written() -> None:
    opened = Opened([ACTIVE, ACTIVE, STALE], {3: {1}}, dirty={2}, away={2})
    volume = opened.open()
    assert [p.state for p in volume.plexes] == [ACTIVE, STALE, STALE]
    assert maps(volume) == [set(), {4, 5}, {1, 4, 5}]
    assert any("v-02 cannot be had" in note for note in opened.notes)
    assert volume.plexes[1].stamp == STAMP, "it may come back untouched"


def test_why_a_plex_cannot_be_had_is_part_of_the_refusal() -> None:
    """It may well be there: locked, or the very file of another plex."""
    record = home_record(plex(1, ACTIVE), plex(2, STALE))
    first, second = record.volume.plexes
    found = {first.uuid: Found(False, problem="plex_busy: a and b are one file"), second.uuid: here(record, 2)}
    standing = judge_plexes(record, record.volume, found, StartOptions())
    assert standing[first.uuid].sentence == "plex v-01 cannot be had: plex_busy: a and b are one file"
    with pytest.raises(Refused, match=r"not to be had: v-01 \(plex_busy: a and b are one file\)"):
        open_volume(record, record.volume, home_copy(record, {2: {1}}, set()), found, standing)


def test_without_fast_resync_an_absent_plex_misses_everything() -> None:
    volume = Opened([ACTIVE, ACTIVE], away={2}, volume_fields={"fmr": False}).open()
    assert maps(volume) == [set(), set(range(REGIONS))] and volume.plexes[1].reason == "full_fmr_off"


def test_the_drl_is_what_any_online_copy_has_and_it_is_not_durable_yet() -> None:
    volume = Opened([ACTIVE, ACTIVE, STALE], {}, dirty={0}, theirs={2: {3}, 3: {1}}).open()
    assert held(volume.drl.marked.bits) == {0, 3}, "a closed plex's DRL is taken over when it joins"
    assert not volume.drl.is_durable(range(1))


def test_a_plex_started_without_is_left_out_until_it_is_attached() -> None:
    volume = Opened([ACTIVE, ACTIVE], options=StartOptions(without=frozenset({"v-02"}))).open()
    assert volume.plexes[1].state is STALE and volume.plexes[1].excluded
    assert not volume.plexes[0].excluded


def test_a_plex_that_is_absent_at_an_odd_path_is_not_taken_for_left_out() -> None:
    volume = Opened([ACTIVE, ACTIVE], away={2}, fields={2: {"path": "/disks--without/p2"}}).open()
    assert not volume.plexes[1].excluded


def test_a_map_page_that_is_lost_counts_as_all_dirty_and_is_told() -> None:
    record = home_record(plex(1), plex(2, STALE))
    home = home_copy(record, {})
    broken = replace(home, pages={k: v for k, v in home.pages.items() if k != (2, 1)})
    found = {p.uuid: here(record, n) for n, p in enumerate(record.volume.plexes, 1)}
    standing = judge_plexes(record, record.volume, found, StartOptions())
    volume, notes = open_volume(record, record.volume, broken, found, standing)
    assert maps(volume) == [set(), {4, 5, 6, 7}]
    assert volume.plexes[1].reason == "full_map_lost" and any("v-02" in note for note in notes)


def test_an_instant_snapshot_of_which_a_page_is_lost_does_not_start() -> None:
    """What it reads from its original, and what from its own plex, nobody could tell."""
    link = Link(Column(7, 0), Column(8, 0), Column(9, 0))
    opened = Opened([ACTIVE], {1: {1}}, volume_fields={"name": "SNAP-v", "snapshot_of": "v", "link": link})
    with pytest.raises(Refused, match="snap_invalid: snapshot SNAP-v: which regions it holds") as refused:
        opened.open()
    assert refused.value.hint == "fmrctl remove SNAP-v"


def test_a_lost_page_is_no_reason_where_the_gate_is_open_or_another_is_known() -> None:
    record = home_record(plex(1), plex(2), plex(3, STALE, reason=Reason.FULL_FMR_OFF))
    home = home_copy(record, {})
    broken = replace(home, pages={k: v for k, v in home.pages.items() if k not in ((2, 1), (3, 1))})
    found = {p.uuid: here(record, n) for n, p in enumerate(record.volume.plexes, 1)}
    standing = judge_plexes(record, record.volume, found, StartOptions())
    volume, _ = open_volume(record, record.volume, broken, found, standing)
    assert maps(volume) == [set(), {4, 5, 6, 7}, {4, 5, 6, 7}]
    assert [p.reason for p in volume.plexes] == ["", "", "full_fmr_off"]


@pytest.mark.parametrize(
    ("opened", "code", "names"),
    [
        (Opened([ACTIVE, STALE], away={1}), "no_current_plex", "v-01"),
        (Opened([ACTIVE, TEMP], {2: {6}}, away={1}), "no_current_plex", "v-01"),
        (Opened([ACTIVE, ACTIVE], {1: {1}, 2: {6}}, away={2}), "no_current_plex", "v-02"),
        (Opened([STALE, IOFAIL]), "no_current_plex", "none of those here is complete"),
        (Opened([ACTIVE, TEMP], {2: {6}}, away={1}, options=StartOptions(force=True)), "no_current_plex", "v-01"),
        (Opened([ACTIVE, ACTIVE], options=StartOptions(accept="v-09")), "plexes_changed", "v-01"),
        (Opened([ACTIVE, STALE], options=StartOptions(accept="v-02")), "plexes_changed", "v-01"),
        (Opened([ACTIVE, STALE], {1: {1}}, away={2}), "no_current_plex", "none of those here is complete"),
        (
            Opened([ACTIVE], {1: {1}}, volume_fields={"link": Link(Column(7, 0), Column(8, 0))}),
            "no_current_plex",
            "1 region(s)",
        ),
    ],
    ids=[
        "only the stale",
        "only the half copied",
        "holes need each other",
        "all out",
        "by force",
        "accept nobody",
        "accept one that was closed",
        "the absent one was closed",
        "a snapshot with a hole",
    ],
)
def test_a_region_that_nobody_here_holds_refuses_the_start(opened: Opened, code: str, names: str) -> None:
    with pytest.raises(Refused) as refused:
        opened.open()
    assert refused.value.code == code and names in refused.value.message


@pytest.mark.parametrize(
    ("records", "found", "told", "hint"),
    [
        ((plex(1), plex(2, STALE)), {1: here(replace(KNOWN, family=UUID.format(98)), 1), 2: here(KNOWN, 2)},
         "no_current_plex: .*not to be had: v-01", "bring back v-01"),
        ((plex(1, stamp=Stamp(1, 2, 4)), plex(2)), {1: here(KNOWN, 1), 2: Found(False)},
         "no_current_plex: .*not to be had: v-02", "bring back v-02"),
        ((plex(1, STALE), plex(2)), {1: damaged(1), 2: damaged(2)}, "plexes_changed: .*DCO: v-02, v-01",
         "start --accept v-02 takes"),
        ((plex(1, stamp=Stamp(1, 2, 4)), plex(2, STALE)), {1: here(KNOWN, 1), 2: here(KNOWN, 2)},
         "plexes_changed: .*DCO: v-01", "start --accept v-01 takes"),
        ((plex(1), plex(2)), {1: Found(True, CopyImage((None, None)), STAMP), 2: Found(True, None, STAMP)},
         "plexes_changed: .*DCO: v-01, v-02", "start --accept v-01, if that is surely what lies there, takes"),
    ],
    ids=["another disk is there", "one is changed, one absent", "all damaged", "changed", "unnamed"],
)  # fmt: skip
def test_what_to_do_is_said_by_what_is_there(
    records: tuple[PlexRecord, ...], found: dict[int, Found], told: str, hint: str
) -> None:
    record = home_record(*records, settled=True)
    there = {UUID.format(number): each for number, each in found.items()}
    standing = judge_plexes(record, record.volume, there, StartOptions())
    with pytest.raises(Refused, match=told) as refused:
        open_volume(record, record.volume, home_copy(record, {}), there, standing)
    assert refused.value.hint.startswith(hint)


def test_where_nothing_has_a_dco_the_administrator_says_whether_it_is_the_plex() -> None:
    record = home_record(plex(1), plex(2))
    found = {p.uuid: Found(True, None, STAMP) for p in record.volume.plexes}
    standing = judge_plexes(record, record.volume, found, StartOptions())
    with pytest.raises(Refused, match="without its DCO: v-01, v-02") as refused:
        open_volume(record, record.volume, home_copy(record, {}), found, standing)
    assert refused.value.code == "plexes_changed" and "if that is surely what lies there" in refused.value.hint


@pytest.mark.parametrize(("problem", "told"), [("", "/p1"), ("it is locked", "it is locked")])
def test_who_cannot_be_had_is_told_by_its_path_or_by_what_is_wrong(problem: str, told: str) -> None:
    record = home_record(plex(1, path="/p1"), plex(2))
    found = {UUID.format(1): Found(False, problem=problem), UUID.format(2): here(record, 2)}
    assert judge_plexes(record, record.volume, found, StartOptions())[UUID.format(1)].sentence.endswith(told)


def test_two_plexes_with_different_holes_start_together() -> None:
    assert maps(Opened([ACTIVE, ACTIVE], {1: {1}, 2: {6}}).open()) == [{1}, {6}]


def test_what_was_suspect_is_suspect_still_where_the_drl_says_so() -> None:
    volume = Opened([ACTIVE], dirty={1}, fields={1: {"suspect": True}}).open()
    error = volume.suspicion()
    assert error is not None and error.code == "suspect"
    assert volume.plexes[0].suspect is not None and held(volume.plexes[0].suspect.bits) == {2, 3}
    assert held(volume.suspect_extents() or bitarray()) == {1}


# Rule 7


def sources(volume: Volume) -> list[int]:
    """By dirty region: which plex is right."""
    dirty = held(volume.drl.regions())
    found = []
    for region in sorted(dirty):
        [source] = [n for n, p in enumerate(volume.plexes, 1) if p.is_open and region not in p.map]
        found.append(source)
    return found


@pytest.mark.parametrize(
    ("opened", "right"),
    [
        (Opened([ACTIVE, ACTIVE], dirty={1}), [1, 1]),
        (Opened([TEMP, ACTIVE], dirty={1}), [2, 2]),
        (Opened([ACTIVE, ACTIVE], {1: {2}}, dirty={1}), [2, 1]),
        (Opened([TEMP, TEMP], {1: {2}, 2: {3}}, dirty={1}), [2, 1]),
        (Opened([ACTIVE, ACTIVE], dirty={1}, fields={1: {"suspect": True}}), [2, 2]),
        (Opened([ACTIVE, TEMP], {2: {3}}, dirty={1}, fields={1: {"suspect": True}}), [2, 1]),
        (Opened([ACTIVE], dirty={1}, fields={1: {"suspect": True}}), [1, 1]),
    ],
    ids=["the first", "in sync", "per region", "half copied", "not suspect", "suspect for want of others", "only one"],
)
def test_one_plex_is_right_in_each_region_that_was_being_written(opened: Opened, right: list[int]) -> None:
    volume = opened.open()
    before = maps(volume)
    seeded = seed(volume)
    assert sources(volume) == right
    changed = [n for n, (a, b) in enumerate(zip(before, maps(volume), strict=True)) if a != b]
    for old, new in zip(before, maps(volume), strict=True):
        assert old <= new and new - old <= {2, 3}
    assert seeded >= len(changed)
    assert all(volume.plexes[n].reason == "recovery" for n in changed)


def test_without_a_dirty_extent_nothing_is_seeded() -> None:
    volume = Opened([ACTIVE, TEMP], {2: {1}}).open()
    assert seed(volume) == 0 and maps(volume) == [set(), {1}]


def test_a_second_crash_keeps_the_same_source() -> None:
    """The seeds are on disk by then, so whoever was right is the only one who can be right again."""
    first = Opened([ACTIVE, ACTIVE, ACTIVE], dirty={1, 3}).open()
    seed(first)
    again = Opened([ACTIVE] * 3, dict(enumerate(maps(first), 1)), dirty={1, 3}).open()
    seed(again)
    assert maps(again) == maps(first)


def test_who_is_copied_anyway_keeps_the_reason_for_that() -> None:
    fields = {2: {"reason": Reason.FULL_NEW_PLEX}}
    volume = Opened([ACTIVE, TEMP, ACTIVE], {2: {6}}, dirty={1}, fields=fields).open()
    seed(volume)
    assert [p.reason for p in volume.plexes] == ["", "full_new_plex", "recovery"]
