"""Rule 7: after a crash one copy is right in each region that was being written, and the others are copied to."""

import pytest

from fmrd.core.decisions.recovery import seed
from fmrd.core.reasons import Reason
from fmrd.core.states import PlexState
from fmrd.core.volume.volume import Volume
from tests.core.making import held
from tests.core.test_recovery import Opened, maps

ACTIVE, TEMP = PlexState.ACTIVE, PlexState.TEMP


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
