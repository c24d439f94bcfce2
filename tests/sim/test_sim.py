"""The simulation: thousands of schedules of the real code find nothing, and with any one rule taken out they do."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest

from fmrd.dco import copy, store
from fmrd.engine.opening import files
from fmrd.errors import FmrdError
from tests.sim import (
    directed,
    drl_switches,
    far_directed,
    far_switches,
    map_switches,
    quick_directed,
    snap_directed,
    snap_switches,
    store_directed,
    store_switches,
    switches,
    wide_switches,
)
from tests.sim.directed import run as run_directed
from tests.sim.oracle import Broken
from tests.sim.profiles import ALL, KINDS, PROFILES, SNAPS, TARGETS, Profile
from tests.sim.schedule import Schedule

DIRECTED = directed.DIRECTED | far_directed.DIRECTED | quick_directed.DIRECTED | snap_directed.DIRECTED
DIRECTED |= store_directed.DIRECTED
SWITCHES = (
    switches.SWITCHES
    | drl_switches.SWITCHES
    | far_switches.SWITCHES
    | map_switches.SWITCHES
    | snap_switches.SWITCHES
    | store_switches.SWITCHES
    | wide_switches.SWITCHES
)
SCHEDULES = 5000
OTHERS = 500
CHUNK = 100
FOUND = [
    ("plain", 21), ("all", 100945), ("all", 102527), ("sync errors", 100947), ("sync errors", 62), ("late", 105291),
    ("hangs", 102467), ("resync", 254), ("plain", 39), ("homes", 64), ("homes", 2034711), ("marks", 2051783),
    ("two copies", 2095912), ("snaps", 2362),
    ("all", 2161707), ("eager", 2177745), ("instants, faults", 157), ("instants, faults", 207),
    ("instants, faults", 229), ("instants, faults", 263), ("instants, faults", 759), ("instants, faults", 20206),
    ("instants, faults", 20278), ("snaps, away", 20308), ("snaps", 321),
    ("snaps, grow", 87), ("snaps, grow", 119), ("snaps, grow", 172),
    ("snaps, away", 3004), ("snaps, mirrors, faults", 706), ("snaps, mirrors", 220),
    ("snaps, homes", 8009234), ("snaps, mirrors, faults", 11026828), ("snaps, homes", 12026910),
    ("snaps, grow", 20007901), ("snaps, faults", 20036986), ("snaps, grow", 20053213), ("snaps, grow", 20054365),
    ("snaps, grow", 20058961), ("snaps, homes", 20015990), ("snaps, homes", 20021690), ("resync", 2139520),
    ("snaps, mirrors, faults", 40014230), ("snaps, grow", 40069243), ("snaps, mirrors, faults", 40101980),
    ("instants, faults", 40176615), ("resync", 4178), ("all", 60002778),
    ("snaps, faults", 61000296),
    ("quick", 930026912), ("quick", 6001396), ("quick", 6003254), ("quick", 6003946), ("quick", 7003719),
    ("quick, power", 91000489), ("marks", 91004726),
    ("all", 660066), ("two copies", 2084558), ("eager", 2100269), ("parted, faults", 1286), ("parted, faults", 2412),
    ("parted, faults", 407), ("verify, snaps", 1028), ("behind, begun", 466),
    ("sessions, snaps", 9103002), ("behind, power", 182000025),
]  # fmt: skip
"""Each of these once found a bug."""

CAUGHT_BY = {
    "1 mark before write": ("plain", 0),
    "2a fdatasync before clear": ("faults", 0),
    "2a maps before clear": ("eager", 0),
    "2a fdatasync before clear, ahead of need too": ("crowded, power", 0),
    "2a who was written since a cleaning began stays": ("crowded", 0),
    "2a what is being written stays": ("crowded", 0),
    "1 what is marked ahead is not yet durable": "killed before what is marked ahead is durable",
    "2b unsynced stays in the map": "power fails before the copy is synced",
    "3 a closed gate remembers": ("plain", 0),
    "4 detach inherits the DRL": ("sync errors", 638),
    "5 a verdict waits for the record": "killed before a demotion is recorded",
    "6 sync before promote": "the source leaves after a resync",
    "7 after a crash one copy is right": ("faults", 0),
    "8 doubt is dirt": ("rot", 0),
    "8 two slots": ("sync errors", 0),
    "9 the last one stays": ("all", 0),
    "10 ranges exclude": ("plain", 0),
    "10 page writes are serial": "killed while marks overtake each other",
    "10 commits are serial": ("plain", 203),
    "quick: whoever holds the bytes is waited for": "quick: written at once beside a repair",
    "quick: a closed gate remembers": ("quick", 0),
    "quick: a cleaning sees it": "quick: written at once while the log is cleaned",
    "what may still land is not read": "quick: read while a write that was given up may land",
    "quick: a cleaning ends the tick": "quick: written at once while the log is cleaned",
    "quick: an unrecorded demotion is waited for": "quick: written at once before a demotion is recorded",
    "now: what one does not take is asked of all again": ("now", 0),
    "begun: its bytes are held until it ends": ("begun", 0),
    "begun: its extents are pending until it ends": "begun: under way while the log is cleaned",
    "2a a demotion during a cleaning ends it": "a suspect plex leaves while the log is cleaned",
    "a flush joins no round under way": "power fails after a flush that came during another",
    "one round of fdatasyncs at a time": "power fails after a flush beside a failed one",
    "a repair reads anew, with the bytes held": "written between a read error and its repair",
    "home first": ("plain", 0),
    "an error does not end a far write": ("sessions, open", 103),
    "a fence proves that a session is over": ("sessions, fenced", 147),
    "what a dead daemon had under way is asked for": ("sessions, open", 0),
    "... of a closed plex, too": "far: killed while a plex that failed hangs",
    "... of a last copy that gets a new one, too": "far: a last copy gets a new session",
    "behind: after a crash it may lack what the log tells": "behind: killed while a plex lags",
    "behind: what is written meanwhile is sent again": "behind: written while it is on its way",
    "behind: only what another one holds durably": ("behind, power", 0),
    "behind: what it took is durable before the log forgets": "behind: power fails after it took a write directly",
    "behind: a flush reaches what nobody else has": "behind: power fails after a flush of the only one",
    "behind: no rest while something is on its way": "behind: stopped while something is on its way",
    "behind: what lags no more is durable before the record says so": "behind: power fails when it lags no more",
    "behind: what is written to a region that it lacks is lacked, too": ("behind, power", 1),
    "behind: what is written to just now is not read": ("behind, three", 2),
    "what others changed is not believed": ("cut", 0),
    "no DCO is no damaged DCO": ("strangers", 0),
    "a pause of the daemon is no disk's fault": ("pauses", 0),
    "nothing hangs at a join": "a hung write lands after a join",
    "pages count for the position": "the home copy is put back under the same record",
    "a foreign plex is refused": ("homes", 0),
    "what was written elsewhere is seen": ("elsewhere", 0),
    "checksums: wiped before the DRL forgets": ("verify", 0),
    "checksums: what is marked has none": ("verify", 0),
    "split brain: by the map there too": ("parted", 0),
    "split brain: by the map here too": ("parted", 0),
    "snapshot: the original's writes are tracked": ("snaps, eager", 0),
    "snapshot: its own writes are tracked": ("snaps, eager", 0),
    "snapshot: both maps before the DRL clears": "snapshot: killed after the log was cleaned",
    "snapshot: both maps inherit the DRL": "snapshot: killed while both sides are written",
    "snapshot: fdatasync before the break-off": "snapshot: written before the break-off",
    "snapback: by the snapshot's own map too": ("snaps, hangs", 0),
    "snapback: by the original's map too": ("snaps, hangs", 0),
    "replica: by the snapshot's own map too": ("snaps, eager", 0),
    "replica: by the original's map too": ("snaps, eager", 0),
    "replica: other snapshots gain the union": "snapshot: another snapshot sees a restore",
    "replica: detached plexes gain the union": "snapshot: a detached plex misses a restore",
    "replica: reads wait for the record": "snapshot: read before a restore is recorded",
    "instant: old data before the original's": ("instants", 0),
    "instant: a part of a region after the rest": ("instants", 0),
    "instant: its map tells of what it was given before it holds that": (
        "instant: killed when it holds what it was given"
    ),
    "instant: kept is durably kept": "instant: killed before a kept region is known",
    "instant: fdatasync before it is kept": "instant: power fails after a region was written over",
    "instant: fdatasync before the page": "instant: power fails while a round becomes durable",
    "instant: an fdatasync covers what was copied before it": "instant: power fails after a region that came late",
    "instant: written at once only what is kept": "quick, instant: written beside a region that is kept",
    "instant: lost is durably lost": "instant: killed after a region was lost",
    "instant: a read holds the original's bytes": "instant: written while the snapshot reads",
    "instant: one that went is not written over before the record": "instant: killed before it goes back",
    "mark: what is written is in it": ("maps", 0),
    "mark: its map before the DRL clears": ("maps", 0),
    "mark: its map inherits the DRL": ("maps", 0),
    "mark: a restore is in it": ("maps, snaps", 0),
    "receive: what is held is recorded with the data": ("receive", 0),
    "receive: of the turn in which it was written": ("receive", 0),
    "changed: by the maps of both snapshots": ("maps, snaps", 0),
    "store: an original never fails for want of room": ("stores", 0),
    "store: the oldest is given up": ("stores", 0),
    "store: lost before its room is given back": "store: killed when its room was given back",
    "store: lost counts once the home copy knows": "store: killed before what is lost is known",
    "store: a read asks again what it has read": "store: read while it is given up",
    "store: what is granted counts": ("stores", 0),
    "rows: nothing that was written moves": ("wide", 5),
    "rows: each column has pages of its own": ("wide", 3),
    "rows: copies are longer before a record needs it": ("wide", 0),
    "epochs: a record and its maps are one": "snapshot: killed before the record of a restore",
}
"""Rule -> the profile that catches it and the first seed to try, or the directed schedule."""
MOST_SEEDS = 800


def play(profile: str, seed: int) -> None:
    schedule = Schedule(seed, ALL[profile])
    try:
        schedule.run()
    except BaseException as error:
        error.add_note(f"again: python -m tests.sim --profile '{profile}' --seed {seed}")
        raise


@pytest.mark.parametrize("first", range(0, SCHEDULES, CHUNK))
def test_schedules_find_nothing(first: int) -> None:
    names = list(PROFILES | TARGETS)
    for seed in range(first, first + CHUNK):
        play(names[seed % len(names)], seed)


@pytest.mark.parametrize("first", range(0, SCHEDULES, CHUNK))
def test_schedules_with_snapshots_find_nothing(first: int) -> None:
    names = list(SNAPS)
    for seed in range(first, first + CHUNK):
        play(names[seed % len(names)], seed)


@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("first", range(0, OTHERS, CHUNK))
def test_others_find_nothing(first: int, kinds: dict[str, Profile]) -> None:
    names = list(kinds)
    for seed in range(first, first + CHUNK):
        play(names[seed % len(names)], seed)


@pytest.mark.parametrize(("profile", "seed"), FOUND)
def test_a_seed_that_found_a_bug_finds_none(profile: str, seed: int) -> None:
    play(profile, seed)


@pytest.mark.parametrize("profile", ["instants", "snaps, hangs", "snaps, away"])
def test_a_seed_is_the_same_schedule_each_time(profile: str) -> None:
    for seed in range(5_000_000, 5_000_010):
        schedules = [Schedule(seed, ALL[profile]) for _ in range(3)]
        for schedule in schedules:
            schedule.run()
        assert len({(schedule.machine.ticks, *schedule.trace) for schedule in schedules}) == 1


@pytest.mark.parametrize("name", DIRECTED)
def test_a_directed_schedule_finds_nothing(name: str) -> None:
    run_directed(*DIRECTED[name])


def test_every_switch_has_something_that_catches_it() -> None:
    assert CAUGHT_BY.keys() == SWITCHES.keys()


@pytest.mark.parametrize("rule", CAUGHT_BY)
def test_a_rule_switched_off_is_caught(rule: str) -> None:
    by = CAUGHT_BY[rule]
    if isinstance(by, str):
        assert was_broken(SWITCHES[rule](), lambda: run_directed(*DIRECTED[by])), f"nothing noticed: no {rule}"
        return
    profile, first = by
    for seed in range(first, first + MOST_SEEDS):
        if was_broken(SWITCHES[rule](), lambda seed=seed: play(profile, seed)):
            assert not was_broken(nullcontext(), lambda seed=seed: play(profile, seed))
            return
    pytest.fail(f"{MOST_SEEDS} schedules of '{profile}' noticed nothing: no {rule}")


def was_broken(switch: AbstractContextManager[None], work: Callable[[], None]) -> bool:
    """Did a promise break, to the application, or one that the code makes to itself? A bug of the switch flies on."""
    try:
        with switch:
            work()
    except BaseException as error:
        if not _tells(error):
            raise
        return True
    return False


def _tells(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_tells(e) for e in error.exceptions)
    return isinstance(error, Broken | AssertionError | FmrdError)


@pytest.mark.parametrize("profile", ["all", "snaps", "instants, faults", "homes", "verify, snaps"])
def test_what_is_done_in_pieces_on_large_volumes_finds_nothing(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are written two at a time, copies of the DCO read by three calls a hop, maps decided on by a thread."""
    for module in (store, copy, files):
        monkeypatch.setattr(module, "PAGES", 2 if module is not files else 0)
    monkeypatch.setattr(files, "CALLS", 3)
    for seed in range(270, 290):
        play(profile, seed)
