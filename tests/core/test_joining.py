"""Attach is decided by what home says of the plex, what the plex's own copy says, and how its file looks."""

from dataclasses import dataclass, field, replace

import pytest
from bitarray import frozenbitarray

from fmrd.core.decisions.joining import Decision, decide, inherit
from fmrd.core.decisions.telling import Telling, Told, telling_of
from fmrd.core.images import CopyImage, PageSlot
from fmrd.core.reasons import Reason
from fmrd.core.record import Record
from fmrd.core.records.parts import Column, Link, Position
from fmrd.core.stamps import Stamp
from fmrd.core.states import PlexState
from fmrd.errors import EXPLANATIONS, Refused
from tests.core.making import REGION, REGIONS, UUID, Rig, bits, family_record, held, plex_record

STAMP, CHANGED = Stamp(1, 2, 3), Stamp(1, 2, 4)
HISTORY = (Position("before", 5),)
HAS, AWAY = Position("now", 6), Position("now", 7)
"""Where home last knew the plex's copy to be; home itself is at 10 of lineage 'now'."""


@dataclass(frozen=True)
class Theirs:
    """The plex's own copy of the DCO."""

    position: Position = HAS
    family: str | None = None
    owner: int = 2
    dirty: frozenset[int] = frozenset()
    """Extents in its DRL."""
    history: tuple[Position, ...] = HISTORY
    away: frozenset[int] | None = None
    """What v-01, away there, misses by this copy. None: it is open in it."""
    away_has: Position = AWAY
    away_state: PlexState = PlexState.STALE
    own: frozenset[int] = frozenset()
    """What the plex itself misses by its copy."""
    left: Stamp | None = None
    """How its file was left there."""
    state: PlexState = PlexState.ACTIVE
    volume: dict[str, object] = field(default_factory=dict)
    damaged: bool = False
    """Neither record can be read; a header still names family and owner."""


@dataclass(frozen=True)
class Case:
    what: str
    code: str
    regions: int = 0
    full: bool = False
    """Whether all of it becomes dirty by this decision."""
    theirs: Theirs | None = field(default_factory=Theirs)
    has: Position | None = HAS
    missing: frozenset[int] = frozenset()
    reason: str = ""
    left: Stamp | None = STAMP
    """How fmrd left the file, by the record; ``stamp`` is how it looks now."""
    stamp: Stamp | None = STAMP
    is_block: bool = False
    asked: dict[str, bool] = field(default_factory=dict)


ALL = frozenset(range(REGIONS))
ELSEWHERE = Theirs(
    Position("elsewhere", 9), history=(*HISTORY, Position("now", 7)), away=frozenset({3, 4}), left=CHANGED,
    volume={"settled": True},
)  # fmt: skip
"""The plex was imported on another host, without v-01, and written there until the volume was stopped."""


def elsewhere(**fields: object) -> Theirs:
    fields["volume"] = {"settled": True} | fields.get("volume", {})  # type: ignore[operator]  # always a dict
    return replace(ELSEWHERE, **fields)  # type: ignore[arg-type]  # checked by the dataclass


CASES = [
    Case("it missed nothing", "nothing_missed"),
    Case("it missed two regions", "fast", 2, missing=frozenset({1, 7})),
    Case("its own DRL adds what a crash left", "fast", 3, missing=frozenset({1}), theirs=Theirs(dirty=frozenset({2}))),
    Case("its DRL says what its map said", "fast", 2, missing=frozenset({4, 5}), theirs=Theirs(dirty=frozenset({2}))),
    Case("its copy is a few commits behind ours", "fast", 1, missing=frozenset({1}),
         theirs=Theirs(Position("now", 8))),
    Case("its copy is of an opening before, where we left it", "fast", 1, missing=frozenset({1}),
         has=Position("before", 5), theirs=Theirs(Position("before", 5), history=())),
    Case("where we left it, though nobody remembers that lineage", "fast", 1, missing=frozenset({1}),
         has=Position("long ago", 3), theirs=Theirs(Position("long ago", 3), history=())),
    Case("it is new", "full_new_plex", REGIONS, has=None, missing=ALL, reason="full_new_plex"),
    Case("it is new, and its copy is damaged", "full_new_plex", REGIONS, True, theirs=Theirs(damaged=True), has=None,
         missing=ALL, reason="full_new_plex"),
    Case("it is new, and nothing there names it", "refused_unknown_plex", theirs=None, has=None, missing=ALL,
         reason="full_new_plex"),
    Case("its copy of the DCO is damaged, and names it", "full_map_lost", REGIONS, True, theirs=Theirs(damaged=True)),
    Case("its copy of the DCO is gone: another disk may lie there", "refused_unknown_plex", theirs=None),
    Case("no DCO, and that side is given up", "refused_unknown_plex", theirs=None, asked={"discard": True}),
    Case("no DCO, and a full copy is asked for", "full_forced", REGIONS, True, theirs=None, asked={"full": True}),
    Case("a damaged DCO names another plex", "refused_unknown_plex", theirs=Theirs(damaged=True, owner=1)),
    Case("a damaged DCO names a plex of another family", "refused_unknown_plex",
         theirs=Theirs(damaged=True, family=UUID.format(98))),
    Case("FastResync was off", "full_fmr_off", REGIONS, missing=ALL, reason="full_fmr_off"),
    Case("its map was lost", "full_map_lost", REGIONS, missing=ALL, reason="full_map_lost"),
    Case("a full copy was cut off half way", "fast", 3, missing=frozenset({5, 6, 7}), reason="full_new_plex"),
    Case("every region was written meanwhile", "fast", REGIONS, missing=ALL),
    Case("its file was changed", "full_backing_changed", REGIONS, True, stamp=CHANGED),
    Case("nobody noted how its file was left", "full_backing_changed", REGIONS, True, left=None),
    Case("killed while it joined", "nothing_missed", left=Stamp(STAMP.inode, STAMP.size, 0), stamp=CHANGED),
    Case("another file since", "full_backing_changed", REGIONS, True, left=Stamp(STAMP.inode + 1, STAMP.size, 0)),
    Case("a device has no stamp", "nothing_missed", left=None, stamp=None, is_block=True),
    Case("an old image of it was restored", "full_backing_changed", REGIONS, True,
         theirs=Theirs(Position("now", 5))),
    Case("an image of an opening before was restored", "full_backing_changed", REGIONS, True,
         theirs=Theirs(Position("before", 5), history=())),
    Case("a full copy is asked for", "full_forced", REGIONS, True, asked={"full": True}),
    Case("asked for, whatever it carries", "full_forced", REGIONS, True, asked={"full": True},
         theirs=Theirs(family=UUID.format(98))),
    Case("both sides went on", "refused_split_brain", theirs=Theirs(Position("now", 11))),
    Case("it was opened elsewhere", "refused_split_brain",
         theirs=Theirs(Position("elsewhere", 9), history=(*HISTORY, Position("now", 7)))),
    Case("imported elsewhere, written there, brought home", "refused_split_brain", theirs=ELSEWHERE, stamp=CHANGED),
    Case("and that side is given up", "fast", 4, missing=frozenset({1, 3}), theirs=elsewhere(dirty=frozenset({0})),
         stamp=CHANGED, asked={"discard": True}),
    Case("given up, and it missed something there itself", "fast", 4, missing=frozenset({1}),
         theirs=elsewhere(own=frozenset({7})), stamp=CHANGED, asked={"discard": True}),
    Case("given up, and its file was changed since it left there", "full_backing_changed", REGIONS, True,
         theirs=ELSEWHERE, asked={"discard": True}),
    Case("given up, on a device", "fast", 2, theirs=elsewhere(left=None), stamp=None, is_block=True,
         asked={"discard": True}),
    Case("given up, but its last host was killed", "full_forced", REGIONS, True, asked={"discard": True},
         theirs=elsewhere(volume={"settled": False}), stamp=CHANGED),
    Case("given up, and it was detached there before its host was killed", "fast", 2, asked={"discard": True},
         theirs=elsewhere(volume={"settled": False}, state=PlexState.STALE), stamp=CHANGED),
    Case("given up, but both were written there", "full_forced", REGIONS, True, asked={"discard": True},
         theirs=elsewhere(away=None), stamp=CHANGED),
    Case("given up, but both were written there, and the copy of ours failed there before", "full_forced", REGIONS,
         True, asked={"discard": True}, theirs=elsewhere(away_state=PlexState.ACTIVE), stamp=CHANGED),
    Case("given up, but ours left there later than we know", "full_forced", REGIONS, True, asked={"discard": True},
         theirs=elsewhere(away_has=Position("elsewhere", 8)), stamp=CHANGED),
    Case("given up, but FastResync was off there", "full_forced", REGIONS, True, asked={"discard": True},
         theirs=elsewhere(volume={"fmr": False}), stamp=CHANGED),
    Case("given up, but the volume grew there", "full_forced", REGIONS, True, asked={"discard": True},
         theirs=elsewhere(volume={"length_bytes": 2 * REGIONS * REGION}), stamp=CHANGED),
    Case("given up, but it is a snapshot's plex there", "full_forced", REGIONS, True, asked={"discard": True},
         theirs=elsewhere(volume={"uuid": UUID.format(91)}), stamp=CHANGED),
    Case("given up, but FastResync was off here", "full_fmr_off", REGIONS, asked={"discard": True}, missing=ALL,
         reason="full_fmr_off", theirs=ELSEWHERE, stamp=CHANGED),
    Case("given up, but it is not the one that left", "full_backing_changed", REGIONS, True, asked={"discard": True},
         theirs=elsewhere(history=HISTORY), stamp=CHANGED),
    Case("the same uuid twice: the copy of it that went on", "refused_split_brain",
         theirs=Theirs(Position("now", 11)), left=Stamp(9, 9, 9)),
    Case("the same uuid twice: the one that stayed where it was", "full_backing_changed", REGIONS, True,
         left=Stamp(STAMP.inode + 1, STAMP.size, STAMP.mtime_ns)),
    Case("plexes swapped between their names", "refused_unknown_plex", theirs=Theirs(owner=1), stamp=CHANGED),
    Case("the DCO of another family", "refused_unknown_plex", theirs=Theirs(family=UUID.format(98))),
    Case("the DCO of another plex", "refused_unknown_plex", theirs=Theirs(owner=1)),
    Case("another family is not to be discarded", "refused_unknown_plex", theirs=Theirs(family=UUID.format(98)),
         asked={"discard": True}),
    Case("a past that nobody remembers", "refused_unknown_plex", has=None,
         theirs=Theirs(Position("long ago", 3), history=())),
]  # fmt: skip


def image_of(theirs: Theirs, ours: Record) -> CopyImage:
    if theirs.damaged:
        return CopyImage((None, None), claims=frozenset({(theirs.family or ours.family, UUID.format(theirs.owner))}))
    first, own = ours.volume.plexes
    if theirs.away is not None:
        first = replace(first, state=theirs.away_state, has=theirs.away_has)
        own = replace(own, state=theirs.state, stamp=theirs.left)
    volume = replace(ours.volume, plexes=(first, own), **theirs.volume)  # type: ignore[arg-type]  # as above
    record = replace(
        ours,
        family=theirs.family or ours.family,
        lineage=theirs.position.lineage,
        sequence=theirs.position.sequence,
        history=theirs.history,
        volumes=(volume,),
    )
    pages = {}
    for page in (0, 1):
        drl = PageSlot(0, 5, frozenbitarray(bits(theirs.dirty, 4)[page * 2 : page * 2 + 2]))
        pages[0, page] = (drl, drl)
        for number, missing in ((1, theirs.away or frozenset()), (2, theirs.own)):
            map_ = PageSlot(number, 5, frozenbitarray(bits(missing)[page * 4 : page * 4 + 4]))
            pages[number, page] = (map_, map_)
    return CopyImage((record, record), pages, owner=UUID.format(theirs.owner))


def rig_of(case: Case) -> tuple[Rig, Record, CopyImage | None]:
    rig = Rig(PlexState.ACTIVE, PlexState.STALE)
    plex = rig.plexes[1]
    plex.map.empty()
    plex.map.union(bits(case.missing))
    plex.has, plex.reason, plex.stamp = case.has, Reason(case.reason), case.left
    record = family_record(plex_record(1), plex_record(2, PlexState.STALE), sequence=10, history=HISTORY)
    return rig, record, None if case.theirs is None else image_of(case.theirs, record)


def answer(case: Case) -> tuple[Rig, CopyImage | None, Decision]:
    rig, record, image = rig_of(case)
    return rig, image, decide(
        rig.volume, record, rig.plexes[1], image, case.stamp, is_block=case.is_block, **case.asked
    )  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what.replace(" ", "_"))
def test_what_an_attach_would_copy_and_why(case: Case) -> None:
    if case.code.startswith("refused_"):
        with pytest.raises(Refused) as refused:
            answer(case)
        assert refused.value.code == case.code and "v-02" in refused.value.message and refused.value.hint
        return
    _, _, decision = answer(case)
    assert (decision.code, decision.regions, decision.full) == (case.code, case.regions, case.full)
    assert decision.bytes == case.regions * REGION
    assert decision.code in EXPLANATIONS and "v-02" in decision.message


@pytest.mark.parametrize(
    "case", [c for c in CASES if not c.code.startswith("refused_")], ids=lambda case: case.what.replace(" ", "_")
)
def test_the_map_then_holds_just_what_was_decided(case: Case) -> None:
    rig, _, decision = answer(case)
    inherit(rig.plexes[1], decision)
    missing = held(rig.plexes[1].map.bits)
    assert len(missing) == case.regions and missing >= case.missing
    assert rig.plexes[1].reason == (case.code if case.code.startswith("full_") else "")


def test_deciding_changes_nothing() -> None:
    case = Case("", "fast", theirs=Theirs(dirty=frozenset({2})), missing=frozenset({1}), reason="full_new_plex")
    rig, _, _ = answer(case)
    assert held(rig.plexes[1].map.bits) == {1} and rig.plexes[1].reason == "full_new_plex"


@pytest.mark.parametrize("extents", [frozenset(), frozenset({3})], ids=["in its map", "in its own DRL"])
def test_a_short_last_region_is_counted_at_its_length(extents: frozenset[int]) -> None:
    rig = Rig(PlexState.ACTIVE, PlexState.STALE, length_bytes=REGIONS * REGION - 1024)
    plex = rig.plexes[1]
    plex.map.empty()
    plex.map.mark(range(6, 8) if not extents else range(6, 7))
    plex.has, plex.stamp = HAS, STAMP
    record = family_record(plex_record(1), plex_record(2, PlexState.STALE), sequence=10)
    found = decide(rig.volume, record, plex, image_of(Theirs(dirty=extents), record), STAMP, is_block=False)
    assert (found.regions, found.bytes) == (2, 2 * REGION - 1024)


def test_of_a_copy_without_a_record_nothing_is_told() -> None:
    rig, record, image = rig_of(Case("", "full_map_lost", theirs=Theirs(damaged=True)))
    assert image is not None
    assert telling_of(rig.volume, record, image).told() == Told(bits(()), None)


def test_what_an_instant_snapshot_wrote_is_not_told_by_its_copy() -> None:
    """That is not kept up to date, so it would tell what was; one like the others tells it."""
    rig, record, image = rig_of(Case("", "fast"))
    assert image is not None and image.record is not None
    known = image.record.volume
    ones = PageSlot(8, 5, frozenbitarray("1111"))
    pages = {(8, page): (ones, ones) for page in (0, 1)}
    for unkept, dirt in ((Column(9, 9), set()), (None, set(range(REGIONS)))):
        link = Link(Column(7, 7), Column(8, 8), unkept)
        volume = replace(known, name="SNAP-v", uuid=UUID.format(91), snapshot_of="v", link=link, drl=Column(6, 6),
                         plexes=known.plexes[1:])  # fmt: skip
        theirs = replace(image.record, volumes=(replace(known, plexes=known.plexes[:1]), volume))
        told = telling_of(rig.volume, record, CopyImage((theirs, theirs), pages, owner=image.owner)).told()
        assert held(told.dirt) == dirt


def test_where_its_position_is_of_our_past_only_its_log_is_read() -> None:
    """Maps of a large volume are megabytes, and an attach waits for them."""
    rig, record, image = rig_of(Case("", "fast", theirs=replace(ELSEWHERE, position=HAS)))
    assert image is not None
    assert telling_of(rig.volume, record, image) == Telling(rig.volume.geometry, image)
    rig, record, image = rig_of(Case("", "fast", theirs=ELSEWHERE))
    assert image is not None
    assert [uuid for uuid, _ in telling_of(rig.volume, record, image).away] == [UUID.format(1)]


@pytest.mark.parametrize("gone", [0, 1], ids=["ours", "the one that comes"])
def test_where_a_plex_was_removed_from_the_record_there_nobody_can_tell_what_was_written(gone: int) -> None:
    rig, record, image = rig_of(Case("", "full_forced", theirs=ELSEWHERE))
    assert image is not None and image.record is not None
    known = image.record.volume
    left = tuple(plex for number, plex in enumerate(known.plexes) if number != gone)
    theirs = replace(image.record, volumes=(replace(known, plexes=left),))
    decision = decide(
        rig.volume, record, rig.plexes[1], replace(image, records=(theirs, theirs)), CHANGED, is_block=False,
        discard=True,
    )  # fmt: skip
    assert (decision.code, decision.regions) == ("full_forced", REGIONS)


def test_a_damaged_page_of_its_drl_counts_as_all_dirty() -> None:
    case = Case("", "fast")
    rig, record, image = rig_of(case)
    assert image is not None
    broken = replace(image, pages={key: slots for key, slots in image.pages.items() if key != (0, 1)},
                     damaged=frozenset({(0, 1)}))  # fmt: skip
    decision = decide(rig.volume, record, rig.plexes[1], broken, STAMP, is_block=False)
    inherit(rig.plexes[1], decision)
    assert decision.code == "fast" and held(rig.plexes[1].map.bits) == {4, 5, 6, 7}
