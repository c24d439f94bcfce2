"""The header of a stream says what it brings, and to whom (docs/STREAM.md). It came from elsewhere: anything odd in it
is Failed('stream_damaged').
"""

import json
import math
import uuid
from dataclasses import asdict, dataclass, fields

from fmrd.core.geometry import MAX_LENGTH_BYTES, SECTOR_BYTES
from fmrd.core.json_object import Json
from fmrd.core.names import VOLUME_LENGTH, is_name
from fmrd.errors import Failed

SOURCE_LENGTH = 1024
DIGEST_BYTES = 32
MOST_BASES = 64
"""As many as a mark remembers (core/marks.py), which takes long to import."""


@dataclass(frozen=True)
class Header:
    """A header says what a stream brings, and, of an increment, to whom: a volume that holds one of ``bases``."""

    stream: str
    volume: str
    snapshot: str
    """Its uuid: what the volume holds afterwards."""
    name: str
    pristine: bool
    """Nobody had written to the snapshot since its instant."""
    length_bytes: int
    region_size_bytes: int
    increment: bool
    since: str
    """The name of what it is an increment to; empty for none."""
    bases: tuple[str, ...]
    pristine_only: bool
    """The base must have been pristine."""
    bytes: int
    """How much is told of in all, data and zeros: for progress."""
    created: float
    """Seconds since 1970."""
    source: str
    """The sender's own, given back to it in a token."""
    chunks: int = 0
    """Of a stream that goes on: so many records came before."""
    offset_bytes: int = 0
    chain: str = ""


def encode_header(header: Header) -> bytes:
    """Return its JSON."""
    return json.dumps(asdict(header), separators=(",", ":")).encode()


def decode_header(body: bytes) -> Header:
    """Return the header, each field checked; Failed('stream_damaged') for what cannot be one."""
    try:
        told: Json = json.loads(body)
        header = Header(**{f.name: told[f.name] for f in fields(Header) if f.name != "bases"},
                        bases=tuple(told["bases"]))  # fmt: skip
        _check(header)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise damaged(f"its header is none ({error!r:.100})") from error
    return header


def _check(header: Header) -> None:
    kinds = {"pristine": bool, "increment": bool, "pristine_only": bool, "length_bytes": int, "region_size_bytes": int,
             "bytes": int, "chunks": int, "offset_bytes": int}  # fmt: skip
    for name, kind in kinds.items():
        value: object = getattr(header, name)
        if type(value) is not kind or (isinstance(value, int) and value < 0):
            raise ValueError(name)
    for each in (header.stream, header.snapshot, *header.bases):
        if str(uuid.UUID(each)) != each:
            raise ValueError("a uuid")
    for each in (header.volume, header.name, *([header.since] if header.since else [])):
        if not is_name(each, VOLUME_LENGTH):
            raise ValueError("a name")
    if not 0 < header.length_bytes <= MAX_LENGTH_BYTES or header.length_bytes % SECTOR_BYTES:
        raise ValueError("length")
    if type(header.created) not in (int, float) or not math.isfinite(header.created):
        raise ValueError("created")
    if len(header.bases) > MOST_BASES:
        raise ValueError("bases")
    if not isinstance(header.source, str) or len(header.source) > SOURCE_LENGTH or not header.source.isprintable():
        raise ValueError("source")
    if (header.chain and len(bytes.fromhex(header.chain)) != DIGEST_BYTES) or bool(header.chain) != bool(header.chunks):
        raise ValueError("chain")
    if header.offset_bytes > header.length_bytes or (header.offset_bytes and not header.chunks):
        raise ValueError("offset")
    if header.increment != bool(header.bases):
        raise ValueError("bases")


def damaged(why: str) -> Failed:
    """Return the error."""
    return Failed("stream_damaged", f"the stream is damaged, or is no stream of fmrd: {why}")
