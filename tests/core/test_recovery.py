"""PROTOCOLS, "Start at home": what the copies of the DCO say -> which record, who is on-line, how the volume begins."""

from dataclasses import dataclass, field, replace

import pytest
from bitarray import bitarray, frozenbitarray

from fmrd.core.decisions.recovery import open_volume
from fmrd.core.decisions.standing import Found, Standing, StartOptions, choose_record, judge_pages, judge_plexes
from fmrd.core.images import CopyImage, PageSlot
from fmrd.core.reasons import Reason
from fmrd.core.record import PlexRecord, Record
from fmrd.core.records.parts import Column, Link, Position
from fmrd.core.stamps import Stamp
from fmrd.core.states import PlexState
from fmrd.core.volume.volume import Volume
from fmrd.errors import Refused
from tests.core.making import FAMILY, PAGE_REGIONS, REGIONS, UUID, bits, family_record, held, plex_record, volume_record

ACTIVE, TEMP, STALE, IOFAIL, OFFLINE = (
    PlexState.ACTIVE, PlexState.TEMP, PlexState.STALE, PlexState.IOFAIL, PlexState.OFFLINE
)  # fmt: skip
HAS = Position("now", 9)
STAMP = Stamp(1, 2, 3)
HISTORY = (Position("before", 5),)


def plex(number: int, state: PlexState = ACTIVE, **fields: object) -> PlexRecord:
    return plex_record(number, state, **{"has": HAS, "stamp": STAMP, **fields})


def home_record(*plexes: PlexRecord, **fields: object) -> Record:
    return family_record(*plexes, **{"history": HISTORY, **fields})  # type: ignore[arg-type]  # checked by the dataclass


def travelling(
    record: Record,
    number: int,
    *,
    sequence: int = 10,
    lineage: str = "now",
    dirty: set[int] = frozenset(),  # type: ignore[assignment]  # a frozen set is a set to read
) -> CopyImage:
    """The copy beside plex ``number``, with these extents in its DRL."""
    theirs = replace(record, sequence=sequence, lineage=lineage)
    drl = [PageSlot(0, 5, frozenbitarray(bits(dirty, 4)[at : at + 2])) for at in (0, 2)]
    return CopyImage((theirs, theirs), {(0, p): (drl[p], drl[p]) for p in (0, 1)}, owner=UUID.format(number))


def here(record: Record, number: int, **fields: object) -> Found:
    return Found(True, travelling(record, number, **fields), STAMP)  # type: ignore[arg-type]  # of travelling


def damaged(number: int) -> Found:
    """Neither record can be read; a header names plex ``number``."""
    return Found(True, CopyImage((None, None), claims=frozenset({(FAMILY, UUID.format(number))})), STAMP)


# Step 1: the record


@dataclass(frozen=True)
class Choice:
    """``home``: the sequences in the home copy's two slots. ``found``: by plex, the sequence its copy has, or what is
    there of it; None where it is absent, -1 where something without a DCO lies there.
    """

    what: str
    home: tuple[int | None, int | None]
    found: dict[int, int | Found | None]
    chosen: int | None = None
    refused: str | None = None
    options: StartOptions = field(default_factory=StartOptions)
    lineage: str = "now"


CHOICES = [
    Choice("two good slots: the newer", (9, 10), {1: 10, 2: 10}, chosen=10),
    Choice("in the other order", (10, 9), {1: 10, 2: 10}, chosen=10),
    Choice("two good slots, and nobody is here", (9, 10), {1: None, 2: None}, chosen=10),
    Choice("no good slot", (None, None), {1: 10, 2: 10}, refused="home_damaged"),
    Choice("one bad slot, a copy knows better", (10, None), {1: 11, 2: 10}, chosen=11),
    Choice("one bad slot, no copy knows better", (10, None), {1: 10, 2: 9}, chosen=10),
    Choice("one bad slot, one who might know better is absent", (10, None), {1: 10, 2: None}, refused="home_torn"),
    Choice("one bad slot, and another disk lies where that one lay", (10, None), {1: 10, 2: -1}, refused="home_torn"),
    Choice("the same by force", (10, None), {1: 10, 2: None}, chosen=10, options=StartOptions(force=True)),
    Choice("the same without that plex", (10, None), {1: 10, 2: None}, chosen=10,
           options=StartOptions(without=frozenset({"v-02"}))),
    Choice("a plex that was closed need not be here", (10, None), {1: 10, 2: 10, 3: None}, chosen=10),
    Choice("what a closed plex says does not count", (10, None), {1: 10, 2: 10, 3: 12}, chosen=10),
    Choice("one bad slot, and a copy is damaged", (10, None), {1: 10, 2: damaged(2)}, chosen=10),
    Choice("one bad slot, and one who might know better is too short for the volume", (10, None),
           {1: 10, 2: Found(False, damaged(2).image, problem="it is shorter than the volume")}, refused="home_torn"),
    Choice("one bad slot, and of one nobody looked for anything", (10, None), {1: 10}, refused="home_torn"),
    Choice("what another lineage says does not count", (10, None), {1: 11, 2: 11}, chosen=10, lineage="elsewhere"),
]  # fmt: skip


@pytest.mark.parametrize("case", CHOICES, ids=lambda case: case.what.replace(" ", "_"))
def test_which_record_is_adopted(case: Choice) -> None:
    known = home_record(plex(1), plex(2), plex(3, STALE))
    slots = [None if sequence is None else replace(known, sequence=sequence) for sequence in case.home]
    found = {
        UUID.format(number): Found(False) if sequence is None else sequence if isinstance(sequence, Found)
        else Found(True, None, STAMP) if sequence < 0 else here(known, number, sequence=sequence, lineage=case.lineage)
        for number, sequence in case.found.items()
    }  # fmt: skip
    home = CopyImage((slots[0], slots[1]))
    if case.refused:
        with pytest.raises(Refused) as refused:
            choose_record(home, found, case.options)
        assert refused.value.code == case.refused
    else:
        assert choose_record(home, found, case.options).sequence == case.chosen


def test_an_absent_plex_of_a_snapshot_does_not_keep_its_original_from_starting() -> None:
    known = home_record(plex(1))
    snapshot = volume_record([plex(3)], name="SNAP-v", uuid=UUID.format(91), snapshot_of="v")
    known = replace(known, volumes=(known.volume, snapshot))
    found = {UUID.format(1): here(known, 1, sequence=10), UUID.format(3): Found(False)}
    assert choose_record(CopyImage((known, None)), found, StartOptions()) == known


# Steps 2 and 3: who is on-line


@dataclass(frozen=True)
class Judgement:
    """What the home copy says of plex 1, what is there of it -> on-line, or the reason for which it is out."""

    what: str
    plex: PlexRecord
    found: Found
    online: bool = False
    full: str = ""
    unknown: bool = False
    """Another disk may lie there: the plex counts as absent, and misses no more than that."""
    refused: str = ""
    settled: bool = False
    options: StartOptions = field(default_factory=StartOptions)


KNOWN = home_record(plex(1), plex(2))
JUDGEMENTS = [
    Judgement("as it was left", plex(1), here(KNOWN, 1), online=True),
    Judgement("one commit behind, by a crash", plex(1), here(KNOWN, 1, sequence=9), online=True),
    Judgement("absent", plex(1), Found(False, problem="no such file")),
    Judgement("its DCO has no good record, and names it", plex(1), damaged(1), full="full_map_lost"),
    Judgement("a damaged DCO that names the other plex", plex(1), damaged(2), unknown=True),
    Judgement("a DCO without a good record, that names nobody", plex(1), Found(True, CopyImage((None, None)), STAMP),
              unknown=True),
    Judgement("no DCO at all", plex(1), Found(True, None, STAMP), unknown=True),
    Judgement("the DCO of another family", plex(1), here(replace(KNOWN, family=UUID.format(98)), 1), unknown=True),
    Judgement("the DCO of the other plex", plex(1), here(KNOWN, 2), unknown=True),
    Judgement("no DCO at all, and accepted", plex(1), Found(True, None, STAMP), online=True,
              options=StartOptions(accept="v-01")),
    Judgement("the DCO of the other plex, and accepted", plex(1), here(KNOWN, 2), refused="refused_unknown_plex",
              options=StartOptions(accept="v-01")),
    Judgement("no DCO at all, and another is accepted", plex(1), Found(True, None, STAMP),
              options=StartOptions(accept="v-02")),
    Judgement("ahead of the home copy", plex(1), here(KNOWN, 1, sequence=11), refused="foreign_plex"),
    Judgement("of a lineage nobody knows", plex(1), here(KNOWN, 1, lineage="elsewhere"), refused="foreign_plex"),
    Judgement("ahead within a lineage that is over", plex(1), here(KNOWN, 1, lineage="before", sequence=6),
              refused="foreign_plex"),
    Judgement("foreign, and left out", plex(1), here(KNOWN, 1, sequence=11),
              options=StartOptions(without=frozenset({"v-01"}))),
    Judgement("left out before", plex(1, excluded=True), here(KNOWN, 1, sequence=11)),
    Judgement("an old image of it was restored", plex(1), here(KNOWN, 1, sequence=8), full="full_backing_changed"),
    Judgement("an image of an opening before", plex(1), here(KNOWN, 1, lineage="before", sequence=5),
              full="full_backing_changed"),
    Judgement("never had a record", plex(1, has=None), here(KNOWN, 1, sequence=1), online=True),
    Judgement("it was closed", plex(1, STALE, reason=Reason.FULL_FMR_OFF), here(KNOWN, 1, sequence=7)),
    Judgement("closed, and foreign", plex(1, STALE), here(KNOWN, 1, sequence=11), refused="foreign_plex"),
    Judgement("closed, and where it was left, beyond what the home copy knows", plex(1, STALE,
              has=Position("elsewhere", 40)), here(KNOWN, 1, lineage="elsewhere", sequence=40)),
    Judgement("unchanged since the stop", plex(1), here(KNOWN, 1), settled=True, online=True),
    Judgement("changed since the stop", plex(1, stamp=Stamp(1, 2, 4)), here(KNOWN, 1), settled=True,
              full="full_backing_changed"),
    Judgement("not stamped at the stop", plex(1, stamp=None), here(KNOWN, 1), settled=True,
              full="full_backing_changed"),
    Judgement("a device has no stamp", plex(1, stamp=None), replace(here(KNOWN, 1), stamp=None, is_block=True),
              settled=True, online=True),
    Judgement("after a crash stamps mean nothing", plex(1, stamp=None), here(KNOWN, 1), online=True),
    Judgement("changed, and accepted", plex(1, stamp=None), here(KNOWN, 1), settled=True, online=True,
              options=StartOptions(accept="v-01")),
    Judgement("another is accepted", plex(1), here(KNOWN, 1), full="full_backing_changed",
              options=StartOptions(accept="v-02")),
    Judgement("accepted, and absent", plex(1), Found(False), options=StartOptions(accept="v-01")),
    Judgement("a session was open at the crash", plex(1, session=True), here(KNOWN, 1)),
    Judgement("a session was open, and a fence proves it over", plex(1, session=True),
              replace(here(KNOWN, 1), fenced=True), online=True),
    Judgement("a session was open, and somebody says it is over", plex(1, session=True), here(KNOWN, 1), online=True,
              options=StartOptions(settled=True)),
    Judgement("a session was open, and it is accepted", plex(1, session=True), here(KNOWN, 1), refused="session_open",
              options=StartOptions(accept="v-01")),
]  # fmt: skip


@pytest.mark.parametrize("case", JUDGEMENTS, ids=lambda case: case.what.replace(" ", "_"))
def test_who_is_online(case: Judgement) -> None:
    record = home_record(case.plex, plex(2), settled=case.settled)
    found = {UUID.format(1): case.found, UUID.format(2): here(record, 2)}
    if case.refused:
        with pytest.raises(Refused) as refused:
            judge_plexes(record, record.volume, found, case.options)
        assert refused.value.code == case.refused and "v-01" in refused.value.message
        return
    verdict = judge_plexes(record, record.volume, found, case.options)[UUID.format(1)]
    assert (verdict.online, verdict.full, verdict.reason if verdict.full else "") == (
        case.online, bool(case.full), case.full
    )  # fmt: skip
    assert (verdict.reason is Reason.REFUSED_UNKNOWN_PLEX) is case.unknown
    assert verdict.online or verdict.sentence or not case.plex.is_open, "whoever is out is told why"
    assert verdict.left_out is ("v-01" in case.options.without or case.plex.excluded)


@pytest.mark.parametrize(
    ("what", "state", "online", "sequences", "refused"),
    [
        ("one write ahead, by a crash", ACTIVE, True, (6, 6), False),
        ("ahead by two", ACTIVE, True, (6, 7), True),
        ("ahead by two, and out anyway", ACTIVE, False, (6, 7), False),
        ("ahead by two, and closed", STALE, True, (6, 7), False),
        ("absent", ACTIVE, True, None, False),
    ],
    ids=lambda value: value.replace(" ", "_") if isinstance(value, str) and value.islower() else "",
)
def test_pages_that_only_another_copy_has_tell_of_a_home_copy_that_was_put_back(
    what: str, state: PlexState, online: bool, sequences: tuple[int, int] | None, refused: bool
) -> None:
    record = home_record(plex(1), plex(2, state))
    found = {UUID.format(1): here(record, 1), UUID.format(2): Found(False)}
    if sequences is not None:
        slots = [PageSlot(2, sequence, frozenbitarray("1111")) for sequence in sequences]
        pages = {(2, page): (slot, slot) for page, slot in enumerate(slots)}
        found[UUID.format(2)] = Found(True, CopyImage((record, record), pages, owner=UUID.format(2)))
    standing = {UUID.format(1): Standing(True), UUID.format(2): Standing(online)}
    if refused:
        with pytest.raises(Refused, match=r"foreign_plex.*v-02"):
            judge_pages(record, record.volume, home_copy(record, {}), found, standing)
    else:
        judge_pages(record, record.volume, home_copy(record, {}), found, standing)


# Steps 4 and 5: the volume


def home_copy(record: Record, maps: dict[int, set[int]], dirty: set[int] = frozenset()) -> CopyImage:  # type: ignore[assignment]  # a frozen set is a set to read
    """Maps by plex, in regions; the DRL in extents. Both slots of each page are good."""
    pages = {}
    for p in record.volume.plexes:
        missing = bits(maps.get(int(p.name[-2:]), ()))
        for page in (0, 1):
            part = PageSlot(p.map.epoch, 5, frozenbitarray(missing[page * PAGE_REGIONS : (page + 1) * PAGE_REGIONS]))
            pages[p.map.index, page] = (part, part)
    for page in (0, 1):
        part = PageSlot(0, 5, frozenbitarray(bits(dirty, 4)[page * 2 : page * 2 + 2]))
        pages[0, page] = (part, part)
    return CopyImage((record, record), pages)


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


@pytest.mark.parametrize(("state", "refused"), [(ACTIVE, "session_open"), (STALE, "no_current_plex")])
def test_a_volume_that_is_current_only_where_something_may_land_yet_says_so(state: PlexState, refused: str) -> None:
    """Of a plex that was out before, nobody would be helped by that."""
    record = home_record(plex(1, state, session=True, reason=Reason.SESSION_OPEN if state is STALE else Reason.NONE),
                         plex(2, STALE))  # fmt: skip
    found = {p.uuid: here(record, number) for number, p in enumerate(record.volume.plexes, 1)}
    standing = judge_plexes(record, record.volume, found, StartOptions())
    with pytest.raises(Refused, match=refused) as caught:
        open_volume(record, record.volume, home_copy(record, {1: {1}, 2: {1}}, set()), found, standing)
    assert ("start --settled v" in caught.value.hint) is (state is ACTIVE)


def test_a_plex_that_may_lag_may_lack_what_the_log_names_and_another_one_held() -> None:
    behind: dict[int, dict[str, object]] = {1: {"behind": 1 << 20}}
    volume = Opened([ACTIVE, ACTIVE], {1: {7}, 2: {1}}, dirty={0, 3}, fields=behind).open()
    assert maps(volume) == [{0, 6, 7}, {1}], "what the other one lacked it cannot have been left behind in"
    volume = Opened([ACTIVE, STALE], {2: {2}}, dirty={0}, fields=behind).open()
    assert maps(volume)[0] == set(), "it was alone"


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
