"""The DCO beside a plex is read offline here, without the daemon and without writing."""

import os
import stat
from typing import cast

from fmrd.backing import locator
from fmrd.backing.nbd.exports import Exports
from fmrd.backing.protocol import DcoFile
from fmrd.core.far.uris import is_uri
from fmrd.core.images import CopyImage, own_bitmap
from fmrd.core.json_object import Json
from fmrd.core.record import PlexRecord, Record, VolumeRecord, geometry_of
from fmrd.core.records.parts import Column, Link
from fmrd.core.stamps import Stamp
from fmrd.dco.layout import HOME
from fmrd.dco.loading import Loaded, load
from fmrd.errors import Failed
from fmrd.front.ctl.tables import Out
from fmrd.front.ctl.words import format_size


class _ReadOnly:
    """As much of a DcoFile as ``load`` asks for."""

    def __init__(self, path: str, base: int, length: int) -> None:
        self._path, self._base, self.length = path, base, length

    def read(self, offset: int, length: int) -> bytes:
        with open(self._path, "rb", buffering=0) as file:
            wanted = max(0, min(length, self.length - offset))
            data = os.pread(file.fileno(), wanted, self._base + offset)
        return data + bytes(length - len(data))

    def close(self) -> None:
        """Nothing is open between two reads."""


def read_dco(path: str) -> Json:
    """Return what the DCO at ``path`` says. Failed('dco_missing'), ('dco_damaged') or ('io_error')."""
    try:
        file = _open(path)
        try:
            loaded = load(cast(DcoFile, file))
        finally:
            file.close()
    except OSError as error:
        raise Failed("io_error", f"{path}: {error.strerror or error}") from error
    record = loaded.image.record
    if record is None:
        raise Failed("dco_damaged", f"{path} holds no valid record", "is it a DCO? A plex's is the file PLEX.dco")
    return dco_json(path, loaded, record)


def _open(path: str) -> _ReadOnly | DcoFile:
    if is_uri(path):
        return Exports().find_dco(path)
    status = os.stat(path)
    if stat.S_ISBLK(status.st_mode):
        found = locator.locate(path)
        if found is None:
            raise Failed("dco_missing", f"{path} carries no DCO at its end")
        return _ReadOnly(path, *found[:2])
    if not stat.S_ISREG(status.st_mode):
        raise Failed("dco_missing", f"{path} is neither a file nor a block device")
    return _ReadOnly(path, 0, status.st_size)


def dco_json(path: str, loaded: Loaded, record: Record) -> Json:
    """Return everything the copy says, in the words of ``print --json`` where both speak of the same thing."""
    image = loaded.image
    return {
        "path": path,
        "owner": image.owner,
        "family": record.family,
        "lineage": record.lineage,
        "sequence": record.sequence,
        "settled": record.settled,
        "columns": record.rows.total,
        "columns_used": sum(len(record.columns_of(volume)) for volume in record.volumes),
        "banks": record.rows.banks,
        "slots": [None if r is None else {"lineage": r.lineage, "sequence": r.sequence} for r in image.records],
        "history": [{"lineage": p.lineage, "sequence": p.sequence} for p in record.history],
        "damaged_pages": [{"column": column, "page": page} for column, page in sorted(image.damaged)],
        "volumes": [_volume(volume, record, image) for volume in record.volumes],
    }


def _volume(volume: VolumeRecord, record: Record, image: CopyImage) -> Json:
    """A copy that travels with a plex holds the maps of that plex's volume; of the others of the family it only knows
    the states.
    """
    geometry = geometry_of(volume)
    known = image.owner == HOME or volume.plex(image.owner) is not None

    def count(column: Column, size: int, page_bits: int) -> int | None:
        return own_bitmap(column, size, page_bits, image).count() if known else None

    def differs(link: Link | None, *, own: bool) -> int | None:
        if link is None:
            return None
        return count(link.own if own else link.origin, geometry.regions, geometry.page_regions)

    return {
        "name": volume.name,
        "uuid": volume.uuid,
        "length_bytes": volume.length_bytes,
        "region_size_bytes": volume.region_bytes,
        "fmr": volume.fmr,
        "rdpol": volume.rdpol,
        "stopped": volume.stopped,
        "settled": volume.settled,
        "snapshot_of": volume.snapshot_of,
        "instant": volume.is_instant,
        "dirty_regions": differs(volume.link, own=True),
        "snapshots": [
            {"name": snap.name, "dirty_regions": differs(snap.link, own=False)} for snap in record.snapshots_of(volume)
        ],
        "drl": {
            "extent_bytes": volume.extent_bytes,
            "dirty_extents": count(volume.drl, geometry.extents, geometry.page_extents),
        },
        "plexes": [_plex(plex, volume, image, known=known) for plex in volume.plexes],
    }


def _plex(plex: PlexRecord, volume: VolumeRecord, image: CopyImage, *, known: bool) -> Json:
    geometry = geometry_of(volume)
    bits = own_bitmap(plex.map, geometry.regions, geometry.page_regions, image)
    return {
        "name": plex.name,
        "uuid": plex.uuid,
        "path": plex.path,
        "dco_path": plex.dco_path,
        "state": plex.state.value,
        "reason": plex.reason or None,
        "epoch": plex.map.epoch,
        "dirty_regions": bits.count() if known else None,
        "dirty_bytes": geometry.bytes_in(bits.count(), bool(bits[-1])) if known else None,
        "has": None if plex.has is None else {"lineage": plex.has.lineage, "sequence": plex.has.sequence},
        "stamp": None if plex.stamp is None else _stamp(plex.stamp),
        "suspect": plex.suspect,
        "excluded": plex.excluded,
        "snap": plex.snap,
    }


def _stamp(stamp: Stamp) -> Json:
    return {
        "inode": stamp.inode,
        "size": stamp.size,
        "mtime_ns": stamp.mtime_ns,
        "checked_bytes": sum(each.length for each in stamp.content),
    }


def print_dco(out: Out, dco: Json) -> None:
    """Print that for people."""
    names = {plex["uuid"]: plex["name"] for volume in dco["volumes"] for plex in volume["plexes"]}
    out.print(f"DCO of {names.get(dco['owner'], 'the home copy')}: {dco['path']}")
    out.print(f"family {dco['family']}, {'settled' if dco['settled'] else 'in use, or not stopped in order'}")
    out.print(f"record {dco['sequence']} of lineage {dco['lineage']}, {len(dco['history'])} lineage(s) before it")
    for slot, found in enumerate(dco["slots"]):
        out.print(f"slot {slot}: " + (f"record {found['sequence']}" if found else "not valid"))
    if dco["banks"] > 1:
        out.print(f"{dco['columns_used']} of {dco['columns']} columns in use, in {dco['banks']} banks")
    if dco["damaged_pages"]:
        out.print(f"{len(dco['damaged_pages'])} page(s) are damaged and count as all dirty")
    for volume in dco["volumes"]:
        size, region = format_size(volume["length_bytes"]), format_size(volume["region_size_bytes"])
        fmr = "on" if volume["fmr"] else "off"
        out.print(f"volume {volume['name']}: {size}, regions of {region}, fmr {fmr}, rdpol {volume['rdpol']}")
        if volume["snapshot_of"] is not None:
            kind = "instant snapshot" if volume["instant"] else "snapshot"
            out.print(f"  {kind} of {volume['snapshot_of']}, which wrote {_regions(volume['dirty_regions'])} itself")
        for snap in volume["snapshots"]:
            out.print(f"  {_regions(snap['dirty_regions'])} written since snapshot {snap['name']}")
        extents = volume["drl"]["dirty_extents"]
        if extents is not None:
            out.print(f"  DRL: {extents} extent(s) of {format_size(volume['drl']['extent_bytes'])}")
        for plex in volume["plexes"]:
            why = f" ({plex['reason']})" if plex["reason"] else ""
            dirty = "its map is on other copies"
            if plex["dirty_regions"] is not None:
                dirty = f"{plex['dirty_regions']} dirty region(s), {format_size(plex['dirty_bytes'])}"
            out.print(f"  plex {plex['name']} {plex['state']}{why}: {dirty}, {plex['path']}")


def _regions(count: int | None) -> str:
    return "unknown here how many regions" if count is None else f"{count} region(s)"
