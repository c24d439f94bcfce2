"""The JSON body of a record: Record <-> bytes. What comes from disk is untrusted: anything odd is ValueError."""

import json
from typing import Any

from fmrd.core.record import Column, PlexRecord, Position, Record, Stamp, VolumeRecord, geometry_of
from fmrd.core.states import PlexState
from fmrd.errors import FmrdError

_KNOWN = {"lineage", "history", "columns", "next_epoch", "volumes"}


def encode_body(record: Record) -> bytes:
    """The part of a record that is not in its header (family, sequence and settled are)."""
    body: dict[str, Any] = {
        **record.extra,
        "lineage": record.lineage,
        "history": [[p.lineage, p.sequence] for p in record.history],
        "next_epoch": record.next_epoch,
        "volumes": [_volume(v) for v in record.volumes],
    }
    return json.dumps(body, separators=(",", ":")).encode()


def decode_body(body: bytes, *, family: str, sequence: int, settled: bool, columns: int) -> Record:
    """ValueError for whatever cannot be a record."""
    try:
        data = json.loads(body)
        volumes = tuple(_read_volume(v, columns) for v in data["volumes"])
        record = Record(
            family=family,
            lineage=_text(data["lineage"]),
            sequence=sequence,
            volumes=volumes,
            history=tuple(_position(p) for p in data["history"]),
            settled=settled,
            columns=columns,
            next_epoch=_count(data["next_epoch"]),
            extra={k: v for k, v in data.items() if k not in _KNOWN},
        )
    except (KeyError, TypeError, AttributeError, RecursionError, FmrdError) as error:
        raise ValueError(f"not a record: {error!r}") from error
    if not volumes:
        raise ValueError("not a record: no volume")
    used = [c.index for v in volumes for c in (v.drl, *(p.map for p in v.plexes))]
    if len(set(used)) != len(used):
        raise ValueError("not a record: a column is used twice")
    return record


def _volume(v: VolumeRecord) -> dict[str, Any]:
    return {
        "name": v.name,
        "uuid": v.uuid,
        "length": v.length_bytes,
        "region": v.region_bytes,
        "extent": v.extent_bytes,
        "page_regions": v.page_regions,
        "drl": [v.drl.index, v.drl.epoch],
        "plexes": [_plex(p) for p in v.plexes],
        "fmr": v.fmr,
        "rdpol": v.rdpol,
        "io_timeout": v.io_timeout_seconds,
        "rate": v.rate,
        "auto_attach": v.auto_attach,
        "hot_extents": v.hot_extents,
        "stopped": v.stopped,
        "next_plex": v.next_plex,
        "snapshot_of": v.snapshot_of,
    }


def _plex(p: PlexRecord) -> dict[str, Any]:
    return {
        "name": p.name,
        "uuid": p.uuid,
        "path": p.path,
        "dco": p.dco_path,
        "state": p.state.value,
        "map": [p.map.index, p.map.epoch],
        "has": None if p.has is None else [p.has.lineage, p.has.sequence],
        "stamp": None if p.stamp is None else [p.stamp.inode, p.stamp.size, p.stamp.mtime_ns],
        "reason": p.reason,
        "suspect": p.suspect,
        "excluded": p.excluded,
    }


def _read_volume(data: dict[str, Any], columns: int) -> VolumeRecord:
    volume = VolumeRecord(
        name=_text(data["name"]),
        uuid=_text(data["uuid"]),
        length_bytes=_count(data["length"]),
        region_bytes=_count(data["region"]),
        extent_bytes=_count(data["extent"]),
        page_regions=_count(data["page_regions"]),
        drl=_column(data["drl"], columns),
        plexes=tuple(_read_plex(p, columns) for p in data["plexes"]),
        fmr=_flag(data["fmr"]),
        rdpol=_text(data["rdpol"]),
        io_timeout_seconds=float(data["io_timeout"]),
        rate=_count(data["rate"]),
        auto_attach=_flag(data["auto_attach"]),
        hot_extents=_count(data["hot_extents"]),
        stopped=_flag(data["stopped"]),
        next_plex=_count(data["next_plex"]),
        snapshot_of=None if data["snapshot_of"] is None else _text(data["snapshot_of"]),
    )
    geometry_of(volume).check()
    return volume


def _read_plex(data: dict[str, Any], columns: int) -> PlexRecord:
    stamp = data["stamp"]
    return PlexRecord(
        name=_text(data["name"]),
        uuid=_text(data["uuid"]),
        path=_text(data["path"]),
        dco_path=None if data["dco"] is None else _text(data["dco"]),
        state=PlexState(data["state"]),
        map=_column(data["map"], columns),
        has=None if data["has"] is None else _position(data["has"]),
        stamp=None if stamp is None else Stamp(*(int(part) for part in stamp)),
        reason=_text(data["reason"]),
        suspect=_flag(data["suspect"]),
        excluded=_flag(data["excluded"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"{value!r} is not a count")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is not a flag")
    return value


def _position(value: list[Any]) -> Position:
    lineage, sequence = value
    return Position(_text(lineage), _count(sequence))


def _column(value: list[Any], columns: int) -> Column:
    index, epoch = value
    if _count(index) >= columns:
        raise TypeError(f"column {index} of {columns}")
    return Column(index, _count(epoch))
