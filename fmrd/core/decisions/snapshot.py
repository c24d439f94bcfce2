"""Snapshots begin here, as decisions over a family (PROTOCOLS, "Snapshots: each verb is one commit").

Every function is one synchronous step, taken under the commit lock and the page locks of both volumes
(``ledger.change``), with their writes held and their plexes fdatasync'ed; the record that follows is the commit point.
What the data needs before and after is the engine's business.
"""

from collections.abc import Sequence
from dataclasses import replace

from fmrd.core.maps.bitmap import Bitmap
from fmrd.core.marks import covering
from fmrd.core.record import PlexRecord
from fmrd.core.records.parts import Column, Link
from fmrd.core.states import PlexState
from fmrd.core.volume import faults
from fmrd.core.volume.family import Family
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.errors import Failed, Refused

BROKEN_OFF_BITMAPS = 3
"""A DRL, and a map on either side; its plexes bring their own."""
CLONE_BITMAPS = 4
INSTANT_BITMAPS = 5
"""And one of what it could not keep."""


def ready(volume: Volume) -> list[Plex]:
    """Return the SNAPDONE plexes that hold everything durably, the one that was added last first."""
    return [p for p in reversed(volume.plexes) if p.state is PlexState.SNAPDONE and p.settled]


def check_break_off(family: Family, origin: Volume, plexes: Sequence[Plex]) -> None:
    """Raise Refused('snap_missing') or ('last_plex') where these plexes cannot leave, Failed('plex_too_many') where the
    DCO has no column left. Of several volumes all are asked before the first is changed.
    """
    family.free_columns(BROKEN_OFF_BITMAPS, origin)
    check_leaving(origin, plexes)


def check_leaving(origin: Volume, plexes: Sequence[Plex]) -> None:
    """The same, whatever room the DCO has."""
    for plex in plexes:
        if plex.state is not PlexState.SNAPDONE or not plex.settled:
            raise Refused("snap_missing", f"plex {plex.name} of volume {origin.name} is not SNAPDONE any more")
    _must_be_covered(plexes, origin, "attach another plex and let it finish")


def break_off(family: Family, origin: Volume, plexes: Sequence[Plex], name: str, uuid: str) -> Volume:
    """Take the step at the instant: SNAPDONE plexes leave and become a volume of their own, with empty maps on both
    sides. Return that volume. Refused as by ``check_break_off``, before anything was changed.
    """
    check_break_off(family, origin, plexes)
    drl, own, theirs = family.new_columns(BROKEN_OFF_BITMAPS, origin)  # while the plexes' own are in use
    for plex in plexes:
        origin.plexes.remove(plex)
        plex.column = family.renewed(plex.column)
        plex.state = PlexState.ACTIVE
        plex.generation += 1
    return tie(family, origin, list(plexes), name, uuid, drl, Link(theirs, own))


def kept(family: Family, origin: Volume, plex: PlexRecord, name: str, uuid: str) -> Volume:
    """Return a new snapshot on a plex that holds all of the original already, as a clone of one of its plexes does.
    ``plex`` still lacks a name and a column.
    """
    drl, own, theirs, map_ = family.new_columns(CLONE_BITMAPS, origin)
    held = Plex(replace(plex, name=family.new_plex_name(origin), map=map_), origin.geometry, full=False)
    return tie(family, origin, [held], name, uuid, drl, Link(theirs, own))


def taken_at_once(family: Family, origin: Volume, plex: PlexRecord, name: str, uuid: str) -> Volume:
    """Return a new instant snapshot: its plex holds nothing yet, and what it has not copied it reads from the original.
    ``plex`` still lacks a name and a column.
    """
    drl, own, theirs, unkept, map_ = family.new_columns(INSTANT_BITMAPS, origin)
    held = Plex(replace(plex, name=family.new_plex_name(origin), map=map_), origin.geometry, full=True)
    return tie(family, origin, [held], name, uuid, drl, Link(theirs, own, unkept))


def tie(family: Family, origin: Volume, plexes: list[Plex], name: str, uuid: str, drl: Column, link: Link) -> Volume:
    """Return a new snapshot volume on these plexes, with an empty map on each side (all ones without FastResync).
    Verdicts of the original wait for the record that knows it.
    """
    settings = replace(
        origin.settings, name=name, uuid=uuid, drl=drl, plexes=(), rdpol="select", stopped=False, settled=False,
        next_plex=1, snapshot_of=origin.name, link=link, comment="", taken=None, marks=(), receiving=None,
        carriers=(),
    )  # fmt: skip
    full = not origin.settings.fmr
    snapshot = Volume(settings, plexes, {uuid: Bitmap(link.own, origin.geometry, full=full)})
    origin.tracks[uuid] = Bitmap(link.origin, origin.geometry, full=full)
    if link.unkept is not None:
        origin.unkept[uuid] = Bitmap(link.unkept, origin.geometry, full=False)
    covered = tuple(covering(mark, uuid) for mark in origin.settings.marks)
    origin.settings = replace(origin.settings, marks=covered)
    origin.demotions += 1
    family.volumes.append(snapshot)
    return snapshot


def convert(volume: Volume, plex: Plex) -> None:
    """Make a regular plex SNAPDONE. Failed('plex_state') where it is not ACTIVE and complete, Refused('last_plex')
    where it is the last one that is regular and complete.
    """
    if plex.state is not PlexState.ACTIVE or not plex.settled:
        raise Failed(
            "plex_state", f"plex {plex.name} is {plex.state}", "only an ACTIVE plex that misses nothing is converted"
        )
    if plex.behind:
        raise Failed("plex_state", f"plex {plex.name} may lag (write_behind)", "set write_behind=off first")
    others = [p for p in volume.plexes if p is not plex and p.state is PlexState.ACTIVE]
    if not faults.may_close(plex, others):
        raise Refused(
            "last_plex", f"plex {plex.name} is the last regular plex of volume {volume.name}", "add another one first"
        )
    plex.snap = True
    plex.state = PlexState.SNAPDONE


def returned(volume: Volume) -> list[Plex]:
    """Make snapshot plexes that served as the source of a restore SNAPDONE again, once the regular plexes hold
    everything durably themselves. Return those that became it now; the caller commits.
    """
    found = []
    for plex in volume.plexes:
        regular = [p for p in volume.plexes if p.state is PlexState.ACTIVE and not p.snap]
        if plex.snap and plex.state is PlexState.ACTIVE and plex.settled and faults.may_close(plex, regular):
            plex.state = PlexState.SNAPDONE
            found.append(plex)
    return found


def _must_be_covered(plexes: Sequence[Plex], volume: Volume, hint: str) -> None:
    """By those of the volume that stay when these go."""
    staying = [p for p in volume.plexes if p not in plexes]
    for plex in plexes:
        missing = faults.count_uncovered(plex, staying)
        if missing:
            raise Refused(
                "last_plex",
                f"plex {plex.name} is the last current copy of {missing} region(s) of volume {volume.name}",
                hint,
            )
