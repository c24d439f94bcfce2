"""A start at home leads from the copies of the DCO to an opening state (PROTOCOLS, "Start at home", steps 4 to 6).

standing.py has chosen the record and judged the plexes before. ``open_volume`` builds the volume from maps and DRL;
``seed`` chooses one right copy a region once the opening is on disk (rule 7; chosen earlier, a second crash would
choose others).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bitarray import bitarray
from bitarray.util import ones, zeros

from fmrd.core.decisions.standing import SETTLE, Found, Standing
from fmrd.core.geometry import Geometry
from fmrd.core.images import CopyImage, drl_union, read_bitmap
from fmrd.core.maps.bitmap import Bitmap
from fmrd.core.maps.regionmap import RegionMap
from fmrd.core.reasons import Reason
from fmrd.core.record import PlexRecord, Record, VolumeRecord, geometry_of
from fmrd.core.records.parts import Column
from fmrd.core.states import IN_SYNC, OPEN_GATE, PlexState
from fmrd.core.volume import lagging
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.errors import Refused


def shelved_volume(record: Record, settings: VolumeRecord, home: CopyImage) -> Volume:
    """Return what stands for a volume that is not started: as the home copy alone tells it, nobody asked or judged."""
    volume, _, _ = _read_volume(record, settings, home, [])
    return volume


def open_volume(
    record: Record, settings: VolumeRecord, home: CopyImage, found: Mapping[str, Found],
    standing: Mapping[str, Standing],
) -> tuple[Volume, list[str]]:  # fmt: skip
    """Take steps 4 and 5: maps from the home copy, the DRL of all copies, absent plexes detached. Return the volume and
    the sentences to log; nothing is on disk yet. Refused('no_current_plex') or ('plexes_changed') where some region has
    nobody, ('snap_invalid') where an instant snapshot's map is in doubt.
    """
    online = [i for p in settings.plexes if standing[p.uuid].online and (i := found[p.uuid].image) is not None]
    instant = settings.is_instant
    if instant:
        online = []  # its copy is not kept up to date: what it says of the map is old
    volume, dirty, doubts = _read_volume(record, settings, home, online)
    if instant:
        _check_instant(settings, volume, doubts)
    notes = [s.sentence for s in standing.values() if s.sentence] + doubts
    behind = [(plex, lagging.may_lack(plex, volume.plexes, dirty)) for plex in volume.plexes if plex.behind]
    for plex, lacking in behind:
        plex.map.union(lacking)
    for plex in volume.plexes:
        verdict = standing[plex.uuid]
        if verdict.online:
            continue
        if plex.state in OPEN_GATE:
            plex.close_gate(PlexState.STALE, dirty)
            if not settings.fmr:
                plex.map.fill()
                plex.reason = Reason.FULL_FMR_OFF
        elif dirty.any():
            plex.map.union(dirty)
        if verdict.full:
            plex.map.fill()
            plex.reason = verdict.reason
        elif verdict.reason is Reason.SESSION_OPEN:
            plex.reason = verdict.reason
            seen = found[plex.uuid].stamp  # it is as believable as those that are on-line after a crash
            plex.stamp = None if seen is None else replace(seen, mtime_ns=0, since_ns=None, ctime_ns=0, content=())
        plex.excluded |= verdict.left_out
    if any(verdict.accepted for verdict in standing.values()):
        for track in volume.tracks.values():  # what others changed is in no map
            track.map.fill()
    _check_regions(volume, settings, standing, found)
    return volume, notes


def _read_volume(
    record: Record, settings: VolumeRecord, home: CopyImage, online: Sequence[CopyImage]
) -> tuple[Volume, bitarray, list[str]]:
    """(the volume as its pages tell it, the regions of its DRL, sentences about pages that could not be verified)."""
    geometry = geometry_of(settings)
    notes: list[str] = []

    def read(column: Column, whose: str) -> tuple[bitarray, int]:
        bits, lost = read_bitmap(
            column, geometry.regions, geometry.page_regions, home, online, settled=settings.settled
        )
        if lost:
            notes.append(f"{lost} map page(s) of {whose} could not be verified and count as all dirty")
        return bits, lost

    plexes = [_restore(old, geometry, *read(old.map, f"plex {old.name}")) for old in settings.plexes]
    tracks: dict[str, Bitmap] = {}
    unkept: dict[str, Bitmap] = {}
    for snapshot in (settings, *record.snapshots_of(settings)):
        link = snapshot.link
        if link is None:
            continue
        column = link.own if snapshot is settings else link.origin
        tracks[snapshot.uuid] = _bitmap(column, geometry, read(column, f"volume {settings.name} ({snapshot.name})")[0])
        if link.unkept is not None and snapshot is not settings:
            bits, _ = read(link.unkept, f"volume {settings.name} ({snapshot.name}, lost)")
            unkept[snapshot.uuid] = _bitmap(link.unkept, geometry, bits)
    for mark in settings.marks:
        whose = f"volume {settings.name} (mark {mark.name})"
        tracks[mark.uuid] = _bitmap(mark.column, geometry, read(mark.column, whose)[0])
    volume = Volume(replace(settings, plexes=()), plexes, tracks)
    volume.unkept = unkept
    drl = drl_union(settings.drl, geometry.extents, geometry.page_extents, home, online, settled=settings.settled)
    volume.drl.restore(drl)
    dirty = volume.drl.regions()
    for track in tracks.values():
        _inherit(track, dirty)
    for plex, old in zip(plexes, settings.plexes, strict=True):
        if old.suspect:
            plex.suspect = RegionMap(geometry.regions, geometry.page_regions)
            plex.suspect.union(dirty)
    return volume, dirty, notes


def _bitmap(column: Column, geometry: Geometry, bits: bitarray) -> Bitmap:
    found = Bitmap(column, geometry, full=False)
    found.restore(bits)
    return found


def _inherit(track: Bitmap, dirty: bitarray) -> None:
    """What was being written when the volume went down may have changed, and the map was not yet written. It is a
    function of its own so that the simulation can take the rule out.
    """
    track.map.union(dirty)


def _restore(record: PlexRecord, geometry: Geometry, bits: bitarray, lost: int) -> Plex:
    plex = Plex(record, geometry, full=False)
    plex.restore(bits)
    plex.home_open = record.is_open
    if lost and not record.is_open:
        plex.reason = plex.reason or Reason.FULL_MAP_LOST
    return plex


def _check_instant(settings: VolumeRecord, volume: Volume, doubts: Sequence[str]) -> None:
    """What an instant snapshot has not copied it reads from its original, where it may be newer by now: so its map must
    be known for certain, and a doubt is no dirt here.
    """
    if doubts:
        raise Refused(
            "snap_invalid",
            f"snapshot {settings.name}: which regions it holds cannot be told any more ({doubts[0]})",
            f"fmrctl remove {settings.name}",
        )


def _check_regions(
    volume: Volume, settings: VolumeRecord, standing: Mapping[str, Standing], found: Mapping[str, Found]
) -> None:
    """Step 5, also under force: a half-copied plex is never a source."""
    lacking = ones(volume.geometry.regions)
    for plex in volume.plexes:
        if plex.is_open and standing[plex.uuid].online:
            lacking &= zeros(len(lacking)) if settings.link is not None and settings.link.unkept else plex.map.bits
    if not lacking.any():
        return
    changed = [p.name for p in volume.plexes if standing[p.uuid].reason is Reason.FULL_BACKING_CHANGED]
    absent = [
        p.name
        for p in settings.plexes
        if p.is_open and (not (here := found.get(p.uuid, Found(False))).present or _is_another(standing[p.uuid], here))
    ]
    unproven = [p.name for p in settings.plexes if p.is_open and standing[p.uuid].reason is Reason.SESSION_OPEN]
    if unproven and not absent:
        raise Refused(
            Reason.SESSION_OPEN,
            f"volume {settings.name}: {lacking.count()} region(s) are current only where the fmrd before may have "
            f"something under way, which nothing there proves to be over ({', '.join(unproven)})",
            f"{SETTLE}, then start --settled {settings.name} (or import --force)",
        )
    lost = [p.name for p in volume.plexes if standing[p.uuid].reason is Reason.FULL_MAP_LOST]
    unnamed = [p.name for p in volume.plexes if _is_unnamed(standing[p.uuid], found.get(p.uuid, Found(False)))]
    if (changed or lost or unnamed) and not absent:
        # The one that was in use when the volume was left: one that is out is older, whatever else is wrong with it.
        out = {plex.name: plex.state is not PlexState.ACTIVE for plex in settings.plexes}
        names = sorted([*changed, *lost] or unnamed, key=lambda name: out[name])
        surely = "" if changed or lost else ", if that is surely what lies there,"
        raise Refused(
            "plexes_changed",
            f"volume {settings.name}: no plex is as fmrd left it (changed or without its DCO: {', '.join(names)})",
            f"start --accept {names[0]}{surely} takes that plex as it is, and copies it to the others; if it is the "
            "state directory that is old, import the plexes in use since",
        )
    why = {p.name: found[p.uuid].problem for p in settings.plexes if p.uuid in found}
    told = ", ".join(f"{name} ({why[name]})" if why.get(name) else name for name in absent)
    missing = f"not to be had: {told}" if absent else "none of those here is complete"
    if unproven:
        missing += f"; on {', '.join(unproven)} something may be under way yet: explain session_open"
    raise Refused(
        "no_current_plex",
        f"volume {settings.name}: {lacking.count()} region(s) are current on no plex that is here ({missing})",
        f"bring back {', '.join(absent)}" if absent else "import, or restore a plex from elsewhere",
    )


def _is_another(standing: Standing, here: Found) -> bool:
    """Another plex lies there."""
    return standing.reason is Reason.REFUSED_UNKNOWN_PLEX and not _is_unnamed(standing, here)


def _is_unnamed(standing: Standing, here: Found) -> bool:
    """Something without any DCO lies there: the plex, if that was lost, or another disk."""
    return standing.reason is Reason.REFUSED_UNKNOWN_PLEX and (here.image is None or here.image.record is None)


def seed(volume: Volume) -> int:
    """Keep rule 7, after the opening commit and before any I/O: where the DRL is set one plex is right, the others copy
    it.

    Return how many plexes were seeded. Sources are chosen region by region: in-sync plexes first, and one whose last
    fdatasync failed there only where nobody else is.
    """
    order: Sequence[Plex] = sorted(volume.open_plexes(), key=lambda p: p.state not in IN_SYNC)
    seeded: set[Plex] = set()
    for dirty in volume.drl.runs():
        for plex, claimed in zip(order, _claims(order, dirty), strict=True):
            if not claimed.all():
                plex.map.mark_these(dirty.start, ~claimed)
                plex.reason = plex.reason or Reason.RECOVERY
                seeded.add(plex)
    return len(seeded)


def _claims(order: Sequence[Plex], dirty: range) -> list[bitarray]:
    """Of which of these regions each plex is the source, as bits counted from the first."""
    unclaimed = ones(len(dirty))
    claims = [zeros(len(dirty)) for _ in order]
    for with_suspects in (False, True):
        for plex, claimed in zip(order, claims, strict=True):
            mine = unclaimed & ~plex.map.these(dirty)
            if plex.suspect is not None and not with_suspects:
                mine &= ~plex.suspect.these(dirty)
            claimed |= mine
            unclaimed &= ~mine
    return claims
