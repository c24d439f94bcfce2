"""A record's JSON body is written and read here. What comes from disk is untrusted: anything odd is ValueError.

A sidecar is a file that anybody may have written who can write beside the plex, and an import takes names and paths
from it: a name must not lead out of a directory, a number must be one that the rest of the program can bear.
"""

import json
import math
from dataclasses import replace

from fmrd.core.far.uris import canonical, is_uri
from fmrd.core.json_object import Json
from fmrd.core.names import PLEX_LENGTH, VOLUME_LENGTH
from fmrd.core.reasons import reason_of
from fmrd.core.record import PlexRecord, Record, VolumeRecord, geometry_of
from fmrd.core.records.parts import Link, Position
from fmrd.core.records.rows import Rows
from fmrd.core.states import PlexState
from fmrd.core.volume.readpolicy import check_policy
from fmrd.dco.marks import mark_fields, read_carriers, read_marks, read_receiving
from fmrd.dco.rows.reading import read_rows, row_fields
from fmrd.dco.values import column as _column
from fmrd.dco.values import count as _count
from fmrd.dco.values import failure_fields, read_comment, read_failure, read_stamp, read_taken, stamp_fields
from fmrd.dco.values import flag as _flag
from fmrd.dco.values import items as _list
from fmrd.dco.values import name as _name
from fmrd.dco.values import text as _text
from fmrd.dco.values import uuid as _uuid
from fmrd.errors import BadRequest, FmrdError

MAX_PATH = 4096
_KNOWN = {"lineage", "history", "columns", "next_epoch", "rows", "volumes"}


def encode_body(record: Record, *, content: bool = True) -> bytes:
    """Return what is not in a record's header (family, sequence and settled are). ValueError is raised for a record
    that could not be read again: better no commit than a volume that does not open any more. ``content``: also what is
    nice to have, and large: the checksums of stamps, and why a plex is out.
    """
    body: Json = {
        **record.extra,
        "lineage": record.lineage,
        "history": [[p.lineage, p.sequence] for p in record.history],
        "next_epoch": record.next_epoch,
        **row_fields(record),
        "volumes": [_volume(v, content=content) for v in record.volumes],
    }
    encoded = json.dumps(body, separators=(",", ":")).encode()
    decode_body(encoded, family=record.family, sequence=record.sequence, settled=record.settled, columns=record.columns)
    return encoded


def decode_body(body: bytes, *, family: str, sequence: int, settled: bool, columns: int) -> Record:
    """Return the record, or raise ValueError for whatever cannot be one; nothing else is raised."""
    try:
        data = json.loads(body)
        runs = read_rows(data.get("rows"), columns)
        total = Rows(columns, runs).total
        volumes = tuple(_read_volume(v, total) for v in _list(data["volumes"]))
        record = Record(
            family=family,
            lineage=_text(data["lineage"]),
            sequence=sequence,
            volumes=volumes,
            history=tuple(_position(p) for p in _list(data["history"])),
            columns=columns,
            next_epoch=_count(data["next_epoch"]),
            extra={k: v for k, v in data.items() if k not in _KNOWN},
            runs=runs,
        )
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError, FmrdError) as error:
        raise ValueError(f"not a record: {error!r}") from error
    record.check_size()
    used = [c.index for v in volumes for c in record.columns_of(v)]
    if len(set(used)) != len(used):
        raise ValueError("not a record: a column is used twice")
    names = {v.name for v in volumes}
    plexes = [p for v in volumes for p in v.plexes]
    for what in (plexes, volumes):
        if len({p.uuid for p in what}) != len(what) or len({p.name for p in what}) != len(what):
            raise ValueError("not a record: a plex or a volume is named twice")
    if any((v.link is None) != (v.snapshot_of is None) or v.snapshot_of not in (None, *names) for v in volumes):
        raise ValueError("not a record: a snapshot without its original")
    if not settled and record.settled:
        # Whoever cleared the flag in the header did something that this body does not know of.
        return replace(record, volumes=tuple(replace(v, settled=False) for v in volumes))
    return record


def _volume(v: VolumeRecord, *, content: bool) -> Json:
    return {
        "name": v.name,
        "uuid": v.uuid,
        "length": v.length_bytes,
        "region": v.region_bytes,
        "extent": v.extent_bytes,
        "page_regions": v.page_regions,
        "drl": [v.drl.index, v.drl.epoch],
        "plexes": [_plex(p, content=content) for p in v.plexes],
        "fmr": v.fmr,
        "rdpol": v.rdpol,
        "io_timeout": v.io_timeout_seconds,
        "rate": v.rate,
        "auto_attach": v.auto_attach,
        "hot_extents": v.hot_extents,
        "stopped": v.stopped,
        "next_plex": v.next_plex,
        "settled": v.settled,
        "snapshot_of": v.snapshot_of,
        "link": None if v.link is None else _columns(v.link),
        **({"comment": v.comment} if v.comment else {}),
        **({} if v.taken is None else {"taken": [v.taken.at, v.taken.kind]}),
        **mark_fields(v),
    }


def _columns(link: Link) -> list[list[int]]:
    return [[c.index, c.epoch] for c in (link.origin, link.own, link.unkept) if c is not None]


def _plex(p: PlexRecord, *, content: bool) -> Json:
    return {
        "name": p.name,
        "uuid": p.uuid,
        "path": p.path,
        "dco": p.dco_path,
        "state": p.state.value,
        "map": [p.map.index, p.map.epoch],
        "has": None if p.has is None else [p.has.lineage, p.has.sequence],
        "reason": p.reason,
        "suspect": p.suspect,
        "excluded": p.excluded,
        "snap": p.snap,
        **stamp_fields(p.stamp, content=content),
        **failure_fields(p.failure, content=content),
        **({} if p.tail is None else {"tail": p.tail}),
        **({"session": True} if p.session else {}),
        **({"behind": p.behind} if p.behind else {}),
    }


def _read_volume(data: Json, columns: int) -> VolumeRecord:
    volume = VolumeRecord(
        name=_name(data["name"], VOLUME_LENGTH),
        uuid=_uuid(data["uuid"]),
        length_bytes=_count(data["length"]),
        region_bytes=_count(data["region"]),
        extent_bytes=_count(data["extent"]),
        page_regions=_count(data["page_regions"]),
        drl=_column(data["drl"], columns),
        plexes=tuple(_read_plex(p, columns) for p in _list(data["plexes"])),
        fmr=_flag(data["fmr"]),
        rdpol=check_policy(_text(data["rdpol"])),
        io_timeout_seconds=_seconds(data["io_timeout"]),
        rate=_count(data["rate"]),
        auto_attach=_flag(data["auto_attach"]),
        hot_extents=_some(data["hot_extents"]),
        comment=read_comment(data),
        taken=read_taken(data),
        stopped=_flag(data["stopped"]),
        next_plex=_count(data["next_plex"]),
        settled=_flag(data["settled"]),
        snapshot_of=None if data["snapshot_of"] is None else _name(data["snapshot_of"], VOLUME_LENGTH),
        link=None if data["link"] is None else _link(data["link"], columns),
        marks=read_marks(data.get("marks"), columns),
        receiving=read_receiving(data.get("receiving")),
        carriers=read_carriers(data.get("carriers")),
    )
    geometry_of(volume).check()
    return volume


def _read_plex(data: Json, columns: int) -> PlexRecord:
    tail = data.get("tail")
    return PlexRecord(
        name=_name(data["name"], PLEX_LENGTH),
        uuid=_uuid(data["uuid"]),
        path=_path(data["path"]),
        dco_path=None if data["dco"] is None else _path(data["dco"]),
        state=PlexState(data["state"]),
        map=_column(data["map"], columns),
        has=None if data["has"] is None else _position(data["has"]),
        stamp=read_stamp(data),
        reason=reason_of(_text(data["reason"])),
        suspect=_flag(data["suspect"]),
        excluded=_flag(data["excluded"]),
        snap=_flag(data["snap"]),
        failure=read_failure(data),
        tail=None if tail is None else _count(tail),
        session=_flag(data.get("session", False)),
        behind=_count(data.get("behind", 0)),
    )


def _path(value: object) -> str:
    path = _text(value)
    if "\0" in path or len(path) > MAX_PATH or not (path.startswith("/") or _is_canonical(path)):
        raise TypeError(f"{value!r} is neither an absolute path nor a URI")
    return path


def _is_canonical(text: str) -> bool:
    try:
        return is_uri(text) and canonical(text) == text
    except BadRequest:
        return False


def _some(value: object) -> int:
    if _count(value) < 1:
        raise TypeError("not even one")
    return _count(value)


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (value > 0 and math.isfinite(value)):
        raise TypeError("not a time in seconds")
    return float(value)


def _position(value: object) -> Position:
    lineage, sequence = _list(value)
    return Position(_text(lineage), _count(sequence))


def _link(value: object, columns: int) -> Link:
    origin, own, *unkept = (_column(column, columns) for column in _list(value))
    if len(unkept) > 1:
        raise TypeError("a link has two or three columns")
    return Link(origin, own, *unkept)
