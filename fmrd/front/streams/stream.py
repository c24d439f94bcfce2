"""The bytes of a stream are laid out here (docs/STREAM.md): a header, records one after the other, an end.

What is read was sent by others, over a line or from a file: nothing of it is used before its digest was verified, and
no memory is taken for it beyond what a record may have. Each digest covers all that came before it, so that records
cannot be cut out, put in, or told in another order.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from fmrd.errors import Failed
from fmrd.front.streams import packing
from fmrd.front.streams.ahead import ahead
from fmrd.front.streams.header import DIGEST_BYTES, Header, damaged, decode_header, encode_header

MAGIC = b"FMRDstrm"
VERSION = 1
CHUNK_BYTES = 1 << 20
"""Data that one record has at most, unpacked."""
HEADER_LIMIT_BYTES = 64 << 10
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
        body = encode_header(header)
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
        if is_zero(data):
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
        for head, payload, digest in ahead(self._fetched()):
            kind, encoding, _, _, offset, length = _RECORD.unpack(head)
            chain = _linked(self.position.chain, head, payload)
            if chain != digest:
                raise damaged(f"the digest of record {self.position.chunks} is another")
            if kind == END:
                self._end(offset, length)
                continue  # with the end of the source
            data = _unpacked(kind, encoding, payload, length)
            self._must_follow(offset, length)
            self.position = Position(self.position.chunks + 1, offset + length, chain)
            self._covered += length
            yield Record(offset, length, data)
        self.ended = True

    def _fetched(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Yield the head, the payload and the digest of each, as they come."""
        number, kind = self.position.chunks, DATA
        while kind != END:
            head = self._exactly(_RECORD.size)
            kind, _, reserved, packed_length, _, _ = _RECORD.unpack(head)
            bound = CHUNK_BYTES if kind == DATA else 0
            if kind not in (DATA, ZERO, END) or reserved or packed_length > bound:
                raise damaged(f"record {number} has no head")
            yield head, self._exactly(packed_length), self._exactly(DIGEST_BYTES)
            number += 1
        if self._source.read(1):
            raise damaged("something follows its end")

    def _must_follow(self, offset: int, length: int) -> None:
        last = self.position.offset
        if offset < last or length <= 0 or offset + length > self.header.length_bytes:
            raise damaged(f"record {self.position.chunks} is of bytes that cannot be")
        if offset > last and not self.header.increment:
            raise damaged(f"it tells nothing of the bytes from {last} to {offset}")

    def _end(self, chunks: int, covered: int) -> None:
        if (chunks, covered) != (self.position.chunks, self._covered):
            raise damaged("its end tells of other records")
        if not self.header.increment and self.position.offset != self.header.length_bytes:
            raise damaged(f"it tells nothing of the bytes from {self.position.offset} on")

    def _read_header(self) -> tuple[Header, bytes]:
        prefix = self._exactly(_PREFIX.size)
        magic, version, length = _PREFIX.unpack(prefix)
        if magic != MAGIC:
            raise damaged("it does not begin like one")
        if version != VERSION:
            raise Failed("stream_damaged", f"the stream is of version {version}, this fmrctl knows {VERSION}")
        if length > HEADER_LIMIT_BYTES:
            raise damaged("its header is too long")
        body = self._exactly(length)
        digest = hashlib.sha256(prefix + body).digest()
        if digest != self._exactly(DIGEST_BYTES):
            raise damaged("the digest of its header is another")
        return decode_header(body), digest

    def _exactly(self, size: int) -> bytes:
        parts, missing = [], size
        while missing:
            part = self._source.read(missing)
            if not part:
                raise Failed("stream_cut", "the stream ends in the middle", "fmrctl receive VOL --token")
            parts.append(part)
            missing -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def is_zero(data: bytes) -> bool:
    """Tell whether data is nothing but zeros, mostly by its first byte."""
    return not data[0] and data.count(0) == len(data)


def _unpacked(kind: int, encoding: int, payload: bytes, length: int) -> bytes | None:
    if kind == ZERO:
        return None
    if length > CHUNK_BYTES:
        raise damaged("a record is too long")
    if encoding not in (packing.PLAIN, packing.ZSTD):
        raise damaged("a record is packed in a way that nobody knows")
    data = payload if encoding == packing.PLAIN else packing.unpack(payload, length)
    if len(data) != length:
        raise damaged("a record has another length than it says")
    return data


def _linked(chain: bytes, head: bytes, payload: bytes) -> bytes:
    digest = hashlib.sha256(chain)
    digest.update(head)
    digest.update(payload)
    return digest.digest()
