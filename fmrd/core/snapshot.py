"""Snapshots as decisions over a volume and its snapshots (RULES, "Snapshots: each verb is one commit").

Every function here is one synchronous step over a family, taken under the commit lock and the page locks of both
volumes, with their writes held and their plexes fdatasync'ed; the record that follows is the commit point. What the
data needs before and after is the engine's business.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bitarray import bitarray
from bitarray.util import zeros

from fmrd.core import faults
from fmrd.core.bitmap import Bitmap
from fmrd.core.family import Family
from fmrd.core.plex import Plex
from fmrd.core.record import Link, PlexRecord
from fmrd.core.states import PlexState
from fmrd.core.volume import Volume
from fmrd.errors import Failed, Refused


def ready(volume: Volume) -> list[Plex]:
    """SNAPDONE plexes that hold everything, the one that was added last first."""
    return [p for p in reversed(volume.plexes) if p.state is PlexState.SNAPDONE and p.settled]


def check_break_off(family: Family, origin: Volume, plexes: Sequence[Plex]) -> None:
    """Refused where they cannot leave; several volumes are asked before the first is changed."""
    family.new_columns(3)
    for plex in plexes:
        if plex.state is not PlexState.SNAPDONE or not plex.settled:
            raise Refused("snap_missing", f"plex {plex.name} of volume {origin.name} is not SNAPDONE any more")
    staying = [p for p in origin.plexes if p not in plexes]
    for plex in plexes:
        missing = faults.uncovered(plex, staying)
        if missing.any():
            raise Refused(
                "last_plex",
                f"plex {plex.name} is the last current copy of {missing.count()} region(s) of volume {origin.name}",
                "attach another plex and let it finish",
            )


def break_off(family: Family, origin: Volume, plexes: Sequence[Plex], name: str, uuid: str) -> Volume:
    """The instant: SNAPDONE plexes leave and become a volume of their own, with empty maps on both sides."""
    check_break_off(family, origin, plexes)
    drl, own, theirs = family.new_columns(3)
    settings = replace(
        origin.settings, name=name, uuid=uuid, drl=drl, plexes=(), rdpol="select", stopped=False, settled=False,
        next_plex=1, snapshot_of=origin.name, link=Link(theirs, own),
    )  # fmt: skip
    full = not origin.settings.fmr
    for plex in plexes:
        origin.plexes.remove(plex)
        plex.column = family.renewed(plex.column)
        plex.state = PlexState.ACTIVE
        plex.generation += 1
    snapshot = Volume(settings, list(plexes), {uuid: Bitmap(own, origin.geometry, full=full)})
    origin.tracks[uuid] = Bitmap(theirs, origin.geometry, full=full)
    origin.demotions += 1
    family.volumes.append(snapshot)
    return snapshot


def instant(family: Family, origin: Volume, plex: PlexRecord, name: str, uuid: str) -> Volume:
    """A snapshot whose plex holds nothing yet: what it has not copied it reads from the original, which copies a region
    to it before it first writes there. ``plex``: still without a name and a column.
    """
    drl, own, theirs, lost, map_ = family.new_columns(5)
    geometry = origin.geometry
    settings = replace(
        origin.settings, name=name, uuid=uuid, drl=drl, plexes=(), rdpol="select", stopped=False, settled=False,
        next_plex=1, snapshot_of=origin.name, link=Link(theirs, own, lost),
    )  # fmt: skip
    full = not origin.settings.fmr
    held = Plex(replace(plex, name=family.new_plex_name(origin), map=map_), geometry, full=True)
    snapshot = Volume(settings, [held], {uuid: Bitmap(own, geometry, full=full)})
    origin.tracks[uuid] = Bitmap(theirs, geometry, full=full)
    origin.lost[uuid] = Bitmap(lost, geometry, full=False)
    origin.demotions += 1
    family.volumes.append(snapshot)
    return snapshot


def kept(family: Family, origin: Volume, plex: PlexRecord, name: str, uuid: str) -> Volume:
    """A snapshot on a plex that holds all of the original already, as a clone of one of its plexes does. ``plex``:
    still without a name and a column.
    """
    drl, own, theirs, map_ = family.new_columns(4)
    settings = replace(
        origin.settings, name=name, uuid=uuid, drl=drl, plexes=(), rdpol="select", stopped=False, settled=False,
        next_plex=1, snapshot_of=origin.name, link=Link(theirs, own),
    )  # fmt: skip
    full = not origin.settings.fmr
    held = Plex(replace(plex, name=family.new_plex_name(origin), map=map_), origin.geometry, full=False)
    snapshot = Volume(settings, [held], {uuid: Bitmap(own, origin.geometry, full=full)})
    origin.tracks[uuid] = Bitmap(theirs, origin.geometry, full=full)
    family.volumes.append(snapshot)
    return snapshot


def owed(origin: Volume, snapshot: Volume, regions: range) -> list[int]:
    """Regions that the original must not write before their old data is on the snapshot's plex and known to be."""
    if snapshot.settings.uuid not in origin.lost:
        return []  # it went back, or holds everything by now
    plex = snapshot.plexes[0]
    lost = origin.lost[snapshot.settings.uuid].map
    within = range(regions.start, min(regions.stop, snapshot.geometry.regions))
    return [region for region in within if region not in lost and not plex.is_kept(region)]


def lose(origin: Volume, snapshot: Volume, regions: Iterable[int]) -> None:
    """Their old data will be gone: to be durable before the original writes there."""
    for region in regions:
        origin.lost[snapshot.settings.uuid].map.mark(range(region, region + 1))


def lose_the_rest(origin: Volume, snapshot: Volume) -> None:
    """All that is not kept for certain: its plex does not answer, and nobody shall wait for it again."""
    lost = origin.lost[snapshot.settings.uuid].map
    lost.union(_fitted(snapshot.plexes[0].in_doubt(), len(lost)))


def complete(origin: Volume, snapshot: Volume) -> bool:
    """An instant snapshot that holds everything is one like the others. True if it is now."""
    link, lost = snapshot.settings.link, origin.lost.get(snapshot.settings.uuid)
    if link is None or lost is None or lost.map.any() or not snapshot.plexes[0].settled:
        return False
    snapshot.settings = replace(snapshot.settings, link=replace(link, lost=None))
    del origin.lost[snapshot.settings.uuid]
    return True


def difference(origin: Volume, snapshot: Volume) -> bitarray:
    """The union of both sides' maps, bits by region of the original: what may differ between the two."""
    found = bitarray(origin.tracks[snapshot.settings.uuid].map.bits)
    found |= _fitted(snapshot.tracks[snapshot.settings.uuid].map.bits, len(found))
    return found


def check_length(origin: Volume, snapshot: Volume, *, replica: bool) -> None:
    """Refused('refused_incomplete') where a plex would be left that is too short for its volume."""
    ours, theirs = origin.geometry.length_bytes, snapshot.geometry.length_bytes
    if theirs < ours:
        raise Refused(
            "refused_incomplete",
            f"volume {origin.name} has {ours} bytes, its snapshot {snapshot.name} only {theirs}",
            f"fmrctl grow {snapshot.name} {ours}",
        )
    if replica and theirs > ours:
        raise Refused(
            "refused_incomplete",
            f"snapshot {snapshot.name} has {theirs} bytes, volume {origin.name} only {ours}",
            f"fmrctl grow {origin.name} {theirs}",
        )


def go_back(family: Family, origin: Volume, snapshot: Volume, plexes: Sequence[Plex]) -> list[Plex]:
    """Snapback: these plexes return to the original, detached, with the union of both maps to be copied to them. The
    snapshot goes with its last plex. Returns them as plexes of the original.
    """
    check_length(origin, snapshot, replica=False)
    _may_leave(snapshot, plexes)
    missed = difference(origin, snapshot)
    missed |= _fitted(snapshot.drl.regions(), len(missed))
    tracked = origin.settings.fmr and snapshot.settings.fmr
    back = []
    for plex in plexes:
        snapshot.plexes.remove(plex)
        plex.close_gate(PlexState.STALE)
        plex.reason = "" if tracked else "full_fmr_off"
        settings = replace(plex.record(), map=family.renewed(plex.column), suspect=False, snap=True)
        moved = Plex(settings, origin.geometry, full=False)
        moved.map.union(missed | _fitted(plex.map.bits, len(missed)))
        origin.plexes.append(moved)
        back.append(moved)
    origin.demotions += 1
    _let_go(family, origin, snapshot)
    return back


def check_restore(origin: Volume, snapshot: Volume, plexes: Sequence[Plex]) -> None:
    """Refused where the data of these plexes cannot become the original's."""
    check_length(origin, snapshot, replica=True)
    _may_leave(snapshot, plexes)
    if is_instant(snapshot):
        _check_lost(origin, snapshot)
    for plex in plexes:
        doubt = plex.in_doubt()
        if is_instant(snapshot):
            doubt &= ~plex.map.bits
        if doubt.any():
            raise Refused(
                "snap_missing", f"plex {plex.name} of snapshot {snapshot.name} does not hold all of it for certain"
            )


def from_replica(family: Family, origin: Volume, snapshot: Volume, plexes: Sequence[Plex]) -> bitarray:
    """The snapshot's data becomes the original's: its plexes are current at once, all others copy the union from them,
    and whoever else is compared with the original gains it. Returns the union.
    """
    check_restore(origin, snapshot, plexes)
    changed = difference(origin, snapshot) | origin.drl.regions() | snapshot.drl.regions()
    if is_instant(snapshot):
        # What it has not copied nobody wrote since, whatever the coarse marks say: it is the original's still.
        changed &= ~plexes[0].map.bits
    for bitmap in (*origin.plexes, *origin.tracks.values()):
        _gain(bitmap, changed)
    for other in origin.open_plexes():
        if other.state is PlexState.ACTIVE and changed.any():
            other.reason = "restore"
        other.column = family.renewed(other.column)
        other.generation += 1
    for plex in plexes:
        snapshot.plexes.remove(plex)
        plex.column = family.renewed(plex.column)
        plex.generation += 1
        plex.snap = True
        plex.state = PlexState.SNAPATT if plex.map.any() else PlexState.ACTIVE
        origin.plexes.append(plex)
    origin.demotions += 1
    _let_go(family, origin, snapshot)
    return changed


def clear(family: Family, origin: Volume, snapshot: Volume) -> None:
    """The association is forgotten: two volumes that know nothing of each other."""
    if is_instant(snapshot):
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
    """A volume is removed: from its family, and from what its original tracks."""
    origin = family.original_of(volume)
    if origin is not None:
        origin.demotions += 1
        _untie(origin, volume)
    family.volumes.remove(volume)


def convert(volume: Volume, plex: Plex) -> None:
    """A regular plex becomes SNAPDONE; never the last one that is regular and complete."""
    if plex.state is not PlexState.ACTIVE or not plex.settled:
        raise Failed(
            "plex_state", f"plex {plex.name} is {plex.state}", "only an ACTIVE plex that misses nothing is converted"
        )
    others = [p for p in volume.plexes if p is not plex and p.state is PlexState.ACTIVE]
    if faults.uncovered(plex, others).any():
        raise Refused(
            "last_plex", f"plex {plex.name} is the last regular plex of volume {volume.name}", "add another one first"
        )
    plex.snap = True
    plex.state = PlexState.SNAPDONE


def returned(volume: Volume) -> list[Plex]:
    """Snapshot plexes that served as the source of a snapback from the replica are SNAPDONE again once the regular
    plexes hold everything themselves. Returns those that are now.
    """
    found = []
    for plex in volume.plexes:
        regular = [p for p in volume.plexes if p.state is PlexState.ACTIVE and not p.snap]
        if plex.snap and plex.state is PlexState.ACTIVE and plex.settled and not faults.uncovered(plex, regular).any():
            plex.state = PlexState.SNAPDONE
            found.append(plex)
    return found


def _may_leave(snapshot: Volume, plexes: Sequence[Plex]) -> None:
    """Rule 9 for what stays behind; a snapshot that goes as a whole leaves nobody."""
    staying = [p for p in snapshot.plexes if p not in plexes]
    if not staying:
        return
    for plex in plexes:
        missing = faults.uncovered(plex, staying)
        if missing.any():
            raise Refused(
                "last_plex",
                f"plex {plex.name} is the last current copy of {missing.count()} region(s) of {snapshot.name}",
                "take all of its plexes back (--all-plexes)",
            )


def is_instant(snapshot: Volume) -> bool:
    """Does it read from its original what it has not copied?"""
    return snapshot.settings.link is not None and snapshot.settings.link.lost is not None


def _check_lost(origin: Volume, snapshot: Volume) -> None:
    count = origin.lost[snapshot.settings.uuid].map.count()
    if count:
        raise Refused("snap_invalid", f"snapshot {snapshot.name} has lost {count} region(s)")


def _gain(bitmap: Bitmap, changed: bitarray) -> None:
    """A plex, attached or not, and another snapshot are compared with data that is no more."""
    bitmap.map.union(changed)


def _let_go(family: Family, origin: Volume, snapshot: Volume) -> None:
    if not snapshot.plexes:
        family.volumes.remove(snapshot)
        _untie(origin, snapshot)


def _untie(origin: Volume, snapshot: Volume) -> None:
    """The step counted a demotion already."""
    del origin.tracks[snapshot.settings.uuid]
    if origin.lost.pop(snapshot.settings.uuid, None) is not None:
        origin.held_until = origin.demotions


def _fitted(bits: bitarray, size: int) -> bitarray:
    """Of a volume that has another length: what is beyond its end is not in its map."""
    return bits[:size] + zeros(max(0, size - len(bits)))
