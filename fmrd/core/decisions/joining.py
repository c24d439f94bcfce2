"""An attach is decided by lineage and position (PROTOCOLS, "Join"): nothing missed, fast, full or refused, and why."""

from dataclasses import dataclass, field

from bitarray import bitarray
from bitarray.util import count_or

from fmrd.core.decisions.telling import Told, telling_of
from fmrd.core.images import CopyImage
from fmrd.core.reasons import Reason
from fmrd.core.record import Record
from fmrd.core.stamps import Stamp, changed
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.errors import Refused


@dataclass(frozen=True)
class Decision:
    """A decision says why what is copied: reason code, sentence, whether all of the map becomes dirty, and how much."""

    code: Reason
    message: str
    full: bool
    regions: int
    bytes: int
    gained: bitarray = field(default_factory=bitarray)
    """The regions that the map gains by this join, as bits; empty: none."""


def decide(
    volume: Volume,
    record: Record,
    plex: Plex,
    image: CopyImage | None,
    stamp: Stamp | None,
    *,
    is_block: bool,
    full: bool = False,
    discard: bool = False,
    told: Told | None = None,
) -> Decision:
    """Decide how a plex whose gate is closed joins; nothing changes. ``record`` is the family as it stands, ``image``
    the plex's own copy (None: there is none), ``stamp`` how it looks now, ``told`` what that copy tells, where it was
    read already; it is used up. Refused('refused_split_brain') or ('refused_unknown_plex') is raised where only the
    administrator can decide.
    """
    if full:
        return _full(volume, Reason.FULL_FORCED, f"plex {plex.name} is copied in full, as asked for")
    _must_be_named(record, plex, image)
    theirs = image.record if image is not None else None
    if theirs is None or image is None:
        code = plex.reason if plex.reason.is_full else Reason.FULL_MAP_LOST
        return _full(volume, code, f"plex {plex.name} has no readable record in its copy of the DCO: {_why(code)}")
    if not theirs.knows(plex.has) and plex.has is not None:
        return _full(volume, Reason.FULL_BACKING_CHANGED, f"an old image of plex {plex.name} was restored")
    told = told if told is not None else telling_of(volume, record, image).told()
    left, gained, parted = plex.stamp, told.dirt, ""
    if theirs.position != plex.has and not record.knows(theirs.position):
        written = _written_elsewhere(volume, told) if theirs.knows(plex.has) else None
        parted = _sides(volume, record, plex, theirs, written)
        if not discard:
            raise _diverged(plex, theirs, parted)
        if written is None:
            return _full(
                volume, Reason.FULL_FORCED, f"{parted}; all of it is copied, and what was written there is given up"
            )
        mine = theirs.volume.plex(plex.uuid)
        left, gained = mine.stamp if mine is not None else None, written
    if plex.reason.is_full and plex.map.count() == len(plex.map):
        why = f"plex {plex.name} is copied in full: {_why(plex.reason)}"
        return Decision(plex.reason, why, False, len(plex.map), volume.geometry.length_bytes)
    if how := changed(left, stamp, is_block=is_block):
        return _full(volume, Reason.FULL_BACKING_CHANGED, f"plex {plex.name} {how}")
    regions, of = gained.count() if plex.map.blank else count_or(plex.map.bits, gained), len(gained)
    size = volume.geometry.bytes_in(regions, bool(gained[-1]) or plex.map.has_last)
    if not regions:
        return Decision(Reason.NOTHING_MISSED, f"plex {plex.name} missed nothing", False, 0, 0)
    message = f"plex {plex.name} missed writes to {regions} of {of} regions; only those are copied"
    if parted:
        message = f"{parted}; only {regions} of {of} are copied, and what was written there is given up"
    return Decision(Reason.FAST, message, False, regions, size, gained)


def _must_be_named(record: Record, plex: Plex, image: CopyImage | None) -> None:
    """No DCO is not a damaged DCO: a path names nobody, and what a copy of it names is that plex however damaged."""
    if image is not None and image.names(record.family, plex.uuid):
        return
    theirs = image.record if image is not None else None
    lies = "no DCO that names it"
    if theirs is not None:
        lies = f"the DCO of another plex (volume {theirs.volume.name}, family {theirs.family[:8]})"
    raise Refused(
        Reason.REFUSED_UNKNOWN_PLEX,
        f"plex {plex.name}: at {plex.path} lies {lies}, so it may be another disk or file",
        "if it is meant to be that plex, plex att --full overwrites it",
    )


def inherit(plex: Plex, decision: Decision) -> None:
    """Take step 1 of a join: the map gains the DRL in the plex's own copy; after a split, what that copy tells of the
    other side; or everything.
    """
    if decision.full:
        plex.map.fill()
    elif decision.gained:
        plex.map.union(decision.gained)
    plex.reason = decision.code if decision.code.is_full else Reason.NONE


def _written_elsewhere(volume: Volume, told: Told) -> bitarray | None:
    """After a split, by the plex's own copy: where it may differ from what this side held when they parted. None where
    the copy cannot tell (``telling_of``). Of several plexes here the one by which the fewest are left.
    """
    if told.elsewhere is None:
        return None
    found = []
    for ours in volume.open_plexes():
        away = told.elsewhere.away.get(ours.uuid)
        if away is not None:
            ours.add_doubt_to(away)
            away |= told.elsewhere.by
            found.append(away)
    return min(found, key=bitarray.count, default=None)


def _sides(volume: Volume, record: Record, plex: Plex, theirs: Record, written: bitarray | None) -> str:
    there = "nobody can tell how many" if written is None else str(written.count())
    return (
        f"plex {plex.name} was written elsewhere since it left: {plex.map.count()} region(s) may differ by what was "
        f"written here (volume {volume.name}, {record.sequence} of lineage {record.lineage[:8]}), {there} by what was "
        f"written there ({theirs.sequence} of {theirs.lineage[:8]})"
    )


def _diverged(plex: Plex, theirs: Record, sides: str) -> Refused:
    if theirs.knows(plex.has):
        return Refused(Reason.REFUSED_SPLIT_BRAIN, sides, "att --discard gives up what was written there")
    return Refused(Reason.REFUSED_UNKNOWN_PLEX, f"nobody remembers that past: {sides}", "att --full overwrites it")


def _full(volume: Volume, code: Reason, message: str) -> Decision:
    geometry = volume.geometry
    return Decision(code, message, True, geometry.regions, geometry.length_bytes)


def _why(code: Reason) -> str:
    return {
        Reason.FULL_NEW_PLEX: "it is new",
        Reason.FULL_FMR_OFF: "FastResync was off while it was away",
        Reason.FULL_BACKING_CHANGED: "its file was changed",
        Reason.FULL_FORCED: "that was asked for",
    }.get(code, "its map is lost")
