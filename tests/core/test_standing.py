"""PROTOCOLS, "Start at home", steps 1 to 3: what the copies of the DCO say -> which record, and who is on-line."""

from dataclasses import dataclass, field, replace

import pytest
from bitarray import frozenbitarray

from fmrd.core.decisions.standing import Found, Standing, StartOptions, choose_record, judge_pages, judge_plexes
from fmrd.core.images import CopyImage, PageSlot
from fmrd.core.reasons import Reason
from fmrd.core.record import PlexRecord, Position
from fmrd.core.stamps import Stamp
from fmrd.core.states import PlexState
from fmrd.errors import Refused
from tests.core.at_start import (
    ACTIVE,
    KNOWN,
    STALE,
    STAMP,
    damaged,
    here,
    home_copy,
    home_record,
    plex,
)
from tests.core.making import UUID, volume_record

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
