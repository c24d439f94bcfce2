"""The bytes of a stream are laid out here (docs/STREAM.md): a header, records one after the other, an end.

What is read was sent by others, over a line or from a file: nothing of it is used before its digest was verified, and
no memory is taken for it beyond what a record may have. Each digest covers all that came before it, so that records
cannot be cut out, put in, or told in another order.
"""

import hashlib
import json
import struct
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Protocol

from fmrd.core.geometry import MAX_LENGTH_BYTES, SECTOR_BYTES
from fmrd.core.json_object import Json
from fmrd.core.marks import MOST_COVERED
from fmrd.core.names import VOLUME_LENGTH, is_name
from fmrd.errors import Failed
from fmrd.front.maps import packing

MAGIC = b"FMRDstrm"
VERSION = 1
CHUNK_BYTES = 1 << 20
"""Data that one record has at most, unpacked."""
HEADER_LIMIT_BYTES = 64 << 10
SOURCE_LENGTH = 1024
DIGEST_BYTES = 32
_PREFIX = struct.Struct("<8sII")
_RECORD = struct.Struct("<BBHIQQ")
DATA, ZERO, END = 1, 2, 3


class Readable(Protocol):
    """What a stream is read from."""

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes, none at the end."""


class Writable(Protocol):
    """What a stream is written to."""

    def write(self, data: bytes, /) -> object:
        """Take all of it."""


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


@dataclass(frozen=True)
class Record:
    """A record tells of a range of bytes; ``data`` is None for zeros."""

    offset: int
    length: int
    data: bytes | None


@dataclass(frozen=True)
class Position:
    """A position in a stream: so many records, up to this offset, with this digest."""

    chunks: int
    offset: int
    chain: bytes


class StreamWriter:
    """A stream, written. ``packed`` names how data is packed ('zstd'), or is empty."""

    def __init__(self, out: Writable, header: Header, packed: str = "") -> None:
        self._out = out
        self._pack = packing.packer(packed) if packed else None
        body = json.dumps(asdict(header), separators=(",", ":")).encode()
        start = _PREFIX.pack(MAGIC, VERSION, len(body)) + body
        digest = hashlib.sha256(start).digest()
        self.chain = bytes.fromhex(header.chain) if header.chain else digest
        self.chunks = header.chunks
        self.covered = 0
        """Bytes told of by this one."""
        self.written = len(start) + DIGEST_BYTES
        out.write(start + digest)

    def data(self, offset: int, data: bytes) -> None:
        """Write at most CHUNK_BYTES; zeros are told without their bytes."""
        if data.count(0) == len(data):
            self.zero(offset, len(data))
            return
        packed = self._pack(data) if self._pack is not None else data
        encoding = packing.ZSTD if len(packed) < len(data) else packing.PLAIN
        self._record(DATA, encoding, offset, len(data), packed if encoding else data)

    def zero(self, offset: int, length: int) -> None:
        """Write that these bytes are zeros."""
        self._record(ZERO, packing.PLAIN, offset, length, b"")

    def end(self) -> None:
        """Write the end; without it nothing counts."""
        self._record(END, packing.PLAIN, self.chunks, self.covered, b"")

    def _record(self, kind: int, encoding: int, offset: int, length: int, payload: bytes) -> None:
        head = _RECORD.pack(kind, encoding, 0, len(payload), offset, length)
        self.chain = _linked(self.chain, head, payload)
        self._out.write(head)
        self._out.write(payload)
        self._out.write(self.chain)
        self.written += len(head) + len(payload) + DIGEST_BYTES
        if kind != END:
            self.chunks += 1
            self.covered += length


class StreamReader:
    """A stream, read and verified. Failed('stream_cut') where it ends too early, ('stream_damaged') where it is not
    what was written.
    """

    def __init__(self, source: Readable) -> None:
        self._source = source
        self.header, digest = self._read_header()
        chain = bytes.fromhex(self.header.chain) if self.header.chain else digest
        self.position = Position(self.header.chunks, self.header.offset_bytes, chain)
        self.ended = False
        self._covered = 0

    def records(self) -> Iterator[Record]:
        """Yield the records, each verified; ``position`` is then behind it. It returns behind a verified end, and the
        end of the source.
        """
        while True:
            head = self._exactly(_RECORD.size)
            kind, encoding, reserved, packed_length, offset, length = _RECORD.unpack(head)
            bound = CHUNK_BYTES if kind == DATA else 0
            if kind not in (DATA, ZERO, END) or reserved or packed_length > bound:
                raise _damaged(f"record {self.position.chunks} has no head")
            payload = self._exactly(packed_length)
            chain = _linked(self.position.chain, head, payload)
            if chain != self._exactly(DIGEST_BYTES):
                raise _damaged(f"the digest of record {self.position.chunks} is another")
            if kind == END:
                self._end(offset, length)
                return
            data = _unpacked(kind, encoding, payload, length)
            self._must_follow(offset, length)
            self.position = Position(self.position.chunks + 1, offset + length, chain)
            self._covered += length
            yield Record(offset, length, data)

    def _must_follow(self, offset: int, length: int) -> None:
        last = self.position.offset
        if offset < last or length <= 0 or offset + length > self.header.length_bytes:
            raise _damaged(f"record {self.position.chunks} is of bytes that cannot be")
        if offset > last and not self.header.increment:
            raise _damaged(f"it tells nothing of the bytes from {last} to {offset}")

    def _end(self, chunks: int, covered: int) -> None:
        if (chunks, covered) != (self.position.chunks, self._covered):
            raise _damaged("its end tells of other records")
        if not self.header.increment and self.position.offset != self.header.length_bytes:
            raise _damaged(f"it tells nothing of the bytes from {self.position.offset} on")
        if self._source.read(1):
            raise _damaged("something follows its end")
        self.ended = True

    def _read_header(self) -> tuple[Header, bytes]:
        prefix = self._exactly(_PREFIX.size)
        magic, version, length = _PREFIX.unpack(prefix)
        if magic != MAGIC:
            raise _damaged("it does not begin like one")
        if version != VERSION:
            raise Failed("stream_damaged", f"the stream is of version {version}, this fmrctl knows {VERSION}")
        if length > HEADER_LIMIT_BYTES:
            raise _damaged("its header is too long")
        body = self._exactly(length)
        digest = hashlib.sha256(prefix + body).digest()
        if digest != self._exactly(DIGEST_BYTES):
            raise _damaged("the digest of its header is another")
        return decode_header(body), digest

    def _exactly(self, size: int) -> bytes:
        data = self._source.read(size)
        while len(data) < size:
            more = self._source.read(size - len(data))
            if not more:
                raise Failed("stream_cut", "the stream ends in the middle", "fmrctl receive VOL --token")
            data += more
        return data


def decode_header(body: bytes) -> Header:
    """Return the header, each field checked; Failed('stream_damaged') for what cannot be one."""
    try:
        told: Json = json.loads(body)
        header = Header(**{f.name: told[f.name] for f in fields(Header) if f.name != "bases"},
                        bases=tuple(told["bases"]))  # fmt: skip
        _check(header)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(f"its header is none ({error!r:.100})") from error
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
    if not isinstance(header.created, int | float) or len(header.bases) > MOST_COVERED:
        raise ValueError("created")
    if not isinstance(header.source, str) or len(header.source) > SOURCE_LENGTH or not header.source.isprintable():
        raise ValueError("source")
    if (header.chain and len(bytes.fromhex(header.chain)) != DIGEST_BYTES) or bool(header.chain) != bool(header.chunks):
        raise ValueError("chain")
    if header.offset_bytes > header.length_bytes or header.increment != bool(header.bases):
        raise ValueError("offset")


def _unpacked(kind: int, encoding: int, payload: bytes, length: int) -> bytes | None:
    if kind == ZERO:
        return None
    if length > CHUNK_BYTES:
        raise _damaged("a record is too long")
    if encoding not in (packing.PLAIN, packing.ZSTD):
        raise _damaged("a record is packed in a way that nobody knows")
    data = payload if encoding == packing.PLAIN else packing.unpack(payload, length)
    if len(data) != length:
        raise _damaged("a record has another length than it says")
    return data


def _linked(chain: bytes, head: bytes, payload: bytes) -> bytes:
    digest = hashlib.sha256(chain)
    digest.update(head)
    digest.update(payload)
    return digest.digest()


def _damaged(why: str) -> Failed:
    return Failed("stream_damaged", f"the stream is damaged, or is no stream of fmrd: {why}")
