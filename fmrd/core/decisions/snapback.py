"""Snapshots end here, as decisions: they go back, restore their original, or are let go (PROTOCOLS, "Snapback").

Each of them is one synchronous step over the volumes of a family, taken under its commit lock and the page locks of
both volumes (``ledger.change``); the record that follows makes it true.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bitarray import bitarray
from bitarray.util import count_or, zeros

from fmrd.core.decisions import instant
from fmrd.core.decisions.instant import fitted
from fmrd.core.decisions.snapshot import _must_be_covered
from fmrd.core.maps.bitmap import Bitmap
from fmrd.core.maps.regionmap import RegionMap
from fmrd.core.reasons import Reason
from fmrd.core.states import PlexState
from fmrd.core.volume import faults, lagging
from fmrd.core.volume.family import Family
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.errors import Refused


def difference(origin: Volume, snapshot: Volume) -> bitarray:
    """Return the union of both sides' maps, bits by region of the original: what may differ between the two."""
    ours, theirs = origin.tracks[snapshot.settings.uuid].map, snapshot.tracks[snapshot.settings.uuid].map
    found = zeros(origin.geometry.regions) if ours.blank else bitarray(ours.bits)
    if not theirs.blank:
        found |= fitted(theirs.bits, len(found))
    return found


def how_much_differs(origin: Volume, snapshot: Volume) -> tuple[int, bool]:
    """Return (how many regions that is, whether the last one is among them): no map is made for it."""
    ours, theirs = origin.tracks[snapshot.settings.uuid].map, snapshot.tracks[snapshot.settings.uuid].map
    return _together(theirs, len(ours), None if ours.blank else ours.bits)


@dataclass(frozen=True)
class Target:
    """A plex of the original as it is to be, how many regions are copied to it then, whether the last one is among
    them, and a sentence.
    """

    plex: Plex
    regions: int
    last: bool
    why: str


def back_targets(origin: Volume, snapshot: Volume, plexes: Sequence[Plex]) -> list[Target]:
    """Of a snapback: the plexes that return, each with the union and with what it never held itself."""
    changed = difference(origin, snapshot)
    count, size = changed.count(), len(changed)
    found = []
    for plex in plexes:
        regions, last = _together(plex.map, size, changed)
        why = f"returns, and copies {regions} of {size} regions"
        if regions > count:
            why += f": {count} changed on either side, the others it does not hold itself"
        found.append(Target(plex, regions, last, why))
    return found


def restore_targets(origin: Volume, snapshot: Volume, plexes: Sequence[Plex]) -> list[Target]:
    """Of a restore from the replica: each plex of the original, and what the snapshot's own, now one of them, does not
    hold itself.
    """
    changed = difference(origin, snapshot)
    size = len(changed)
    if snapshot.settings.is_instant and not plexes[0].map.blank:
        held = fitted(plexes[0].map.bits, size)
        changed |= held
        changed ^= held
    found = []
    for plex in origin.open_plexes():
        regions, last = _together(plex.map, size, changed)
        why = f"copies {regions} of {size} regions from {snapshot.name}"
        found.append(Target(plex, regions, last, why))
    for plex in plexes:
        regions, last = _together(plex.map, size)
        why = f"becomes a plex of {origin.name}, and copies {regions} region(s) that it does not hold itself"
        found.append(Target(plex, regions, last, why))
    return found


def _together(other: RegionMap, size: int, changed: bitarray | None = None) -> tuple[int, bool]:
    """How many regions are in the map, fitted to so many, or in ``changed``; and whether the last one is."""
    last = changed is not None and bool(changed[-1])
    if other.blank:
        return (changed.count() if changed is not None else 0), last
    bits = fitted(other.bits, size)
    return (count_or(bits, changed) if changed is not None else bits.count()), last or bool(bits[-1])


def check_length(origin: Volume, snapshot: Volume, *, replica: bool) -> None:
    """Raise Refused('refused_incomplete') where a plex would be left that is too short for its volume."""
    ours, theirs = origin.geometry.length_bytes, snapshot.geometry.length_bytes
    if theirs < ours:
        raise Refused(
            Reason.REFUSED_INCOMPLETE,
            f"volume {origin.name} has {ours} bytes, its snapshot {snapshot.name} only {theirs}",
            f"fmrctl grow {snapshot.name} {ours}",
        )
    if replica and theirs > ours:
        raise Refused(
            Reason.REFUSED_INCOMPLETE,
            f"snapshot {snapshot.name} has {theirs} bytes, volume {origin.name} only {ours}",
            f"fmrctl grow {origin.name} {theirs}",
        )


def check_back(origin: Volume, snapshot: Volume, plexes: Sequence[Plex]) -> None:
    """Refused where these plexes cannot return."""
    check_length(origin, snapshot, replica=False)
    _may_leave(snapshot, plexes)


def go_back(family: Family, origin: Volume, snapshot: Volume, plexes: Sequence[Plex]) -> list[Plex]:
    """Take the step of a snapback: these plexes return to the original, detached, with the union of both maps to be
    copied to them; the snapshot goes with its last plex. Return them as plexes of the original. Refused as by
    ``check_length``, or ('last_plex') where those that stay would lack something.
    """
    check_back(origin, snapshot, plexes)
    missed = difference(origin, snapshot)
    snapshot.drl.add_to(missed)
    tracked = origin.settings.fmr and snapshot.settings.fmr
    back = []
    for plex in plexes:
        snapshot.plexes.remove(plex)
        plex.close_gate(PlexState.STALE)
        plex.reason = Reason.NONE if tracked else Reason.FULL_FMR_OFF
        settings = replace(plex.record(), map=family.renewed(plex.column), suspect=False, snap=True, behind=0)
        moved = Plex(settings, origin.geometry, full=False)
        if plex is plexes[-1]:
            moved.map.take_over(missed)  # new memory for it would be most of this step
        else:
            moved.map.union(missed)
        if not plex.map.blank:
            moved.map.union(fitted(plex.map.bits, len(moved.map)))
        origin.plexes.append(moved)
        back.append(moved)
    origin.demotions += 1
    _let_go(family, origin, snapshot)
    return back


def check_restore(origin: Volume, snapshot: Volume, plexes: Sequence[Plex]) -> None:
    """Raise Refused where the data of these plexes cannot become the original's: 'refused_incomplete', 'last_plex',
    'snap_invalid', or 'snap_missing' where they do not hold all of it durably.
    """
    check_length(origin, snapshot, replica=True)
    _may_leave(snapshot, plexes)
    if snapshot.settings.is_instant:
        instant.check_lost(origin, snapshot)
    for plex in plexes:
        if faults.doubts_any(plex, but_missing=snapshot.settings.is_instant):
            raise Refused(
                "snap_missing", f"plex {plex.name} of snapshot {snapshot.name} does not hold all of it for certain"
            )


def from_replica(family: Family, origin: Volume, snapshot: Volume, plexes: Sequence[Plex]) -> bitarray:
    """Take the step of a restore: the snapshot's plexes are current in the original at once, all others copy the union
    from them, and whoever else is compared with the original gains it. Return the union. Refused as by
    ``check_restore``.
    """
    check_restore(origin, snapshot, plexes)
    changed = difference(origin, snapshot)
    origin.drl.add_to(changed)
    snapshot.drl.add_to(changed)
    if snapshot.settings.is_instant:
        # What it has not copied nobody wrote since, whatever the coarse marks say: it is the original's still.
        plexes[0].map.take_from(changed)
    for bitmap in (*origin.plexes, *origin.tracks.values()):
        _gain(bitmap, changed)
    for other in origin.open_plexes():
        if other.state is PlexState.ACTIVE and changed.any():
            other.reason = Reason.RESTORE
        other.column = family.renewed(other.column)
        other.generation += 1
    for plex in plexes:
        snapshot.plexes.remove(plex)
        plex.column = family.renewed(plex.column)
        plex.generation += 1
        plex.snap, plex.behind = True, 0  # that it may lag was the snapshot's setting
        lagging.lags_no_more(plex)
        plex.state = PlexState.SNAPATT if plex.map.any() else PlexState.ACTIVE
        origin.plexes.append(plex)
    origin.demotions += 1
    _let_go(family, origin, snapshot)
    return changed


def clear(family: Family, origin: Volume, snapshot: Volume) -> None:
    """Forget the association: two volumes that know nothing of each other are left. Refused('snap_instant') where the
    snapshot still reads from its original.
    """
    if snapshot.settings.is_instant:
        raise Refused(
            "snap_instant", f"snapshot {snapshot.name} reads from {origin.name} what it has not copied",
            f"fmrctl snapsync {snapshot.name} makes it a full copy first",
        )  # fmt: skip
    del origin.tracks[snapshot.settings.uuid]
    snapshot.tracks.clear()
    snapshot.settings = replace(snapshot.settings, snapshot_of=None, link=None)
    for plex in snapshot.plexes:
        plex.snap = False


def forget(family: Family, volume: Volume) -> None:
    """A volume is removed from its family, and from what its original tracks."""
    origin = family.original_of(volume)
    if origin is not None:
        origin.demotions += 1
        _untie(origin, volume)
    family.volumes.remove(volume)


def _may_leave(snapshot: Volume, plexes: Sequence[Plex]) -> None:
    """Rule 9 for what stays behind; a snapshot that goes as a whole leaves nobody."""
    if any(p not in plexes for p in snapshot.plexes):
        _must_be_covered(plexes, snapshot, "take all of its plexes back (--all-plexes)")


def _gain(bitmap: Bitmap, changed: bitarray) -> None:
    """A plex, attached or not, or another snapshot is compared with data that is no more. It is a function of its own
    so that the simulation can take the rule out.
    """
    bitmap.map.union(changed)


def _let_go(family: Family, origin: Volume, snapshot: Volume) -> None:
    if not snapshot.plexes:
        family.volumes.remove(snapshot)
        _untie(origin, snapshot)


def _untie(origin: Volume, snapshot: Volume) -> None:
    """Neither side tracks the other any more. The step has counted a demotion already; the original waits for it."""
    del origin.tracks[snapshot.settings.uuid]
    if origin.unkept.pop(snapshot.settings.uuid, None) is not None:
        origin.held_until = origin.demotions
