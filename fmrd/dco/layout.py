"""The bytes of a DCO copy are laid out here. Pure: encode and decode, nothing else. All integers are little endian.

A copy is two record slots, then pages::

    0                       record slot 0          RECORD_SLOT_BYTES
    RECORD_SLOT_BYTES       record slot 1          RECORD_SLOT_BYTES
    2 * RECORD_SLOT_BYTES   page slots             4096 bytes each

Page P of column C has two slots at ``page_offset(C, P, slot)``; pages of one number lie together, so that a volume
grows by adding pages at the end. A record slot is a header of 128 bytes, the JSON body behind it, zeros up to the next
4096; a page slot is a header of 128 bytes and 3968 bytes of bits (bit N of a page is bit N % 8 of byte N // 8).
FORMAT.md beside this file draws both.
"""

import struct
import zlib
from dataclasses import dataclass, replace
from functools import lru_cache
from uuid import UUID

from bitarray import bitarray, frozenbitarray, get_default_endian

from fmrd.backing.protocol import DCO_BLOCK_BYTES
from fmrd.core.far.uris import is_uri
from fmrd.core.geometry import PAGE_REGIONS
from fmrd.core.images import PageSlot
from fmrd.core.maps.regionmap import no_bits
from fmrd.core.record import Record
from fmrd.dco.body import decode_body, encode_body
from fmrd.dco.values import MOST
from fmrd.errors import Failed, Refused

VERSION = 1
RECORD_MAGIC = b"FMRD-DCO"
PAGE_MAGIC = b"FMRDpage"
RECORD_SLOT_BYTES = 128 << 10
COLUMNS = 40
"""Bitmaps of a row: a DRL, a map for each of 8 plexes, three for each of 8 snapshots, and some. More take more rows."""

RESERVED_BYTES = 52 << 10
"""Of a record slot, for what comes by itself: 512 lineages of history, positions and stamps, and snapshots. A plex that
is new leaves it free, so that whatever is done to a volume later finds room.
"""

LAGS, SESSIONS, FAR, WIDE = 1, 2, 4, 8
"""Incompatible: some plex may lack what the DRL names; or have something under way of a daemon that died; or is named
by a URI, or its copy of the DCO is; or the columns fill more than one bank of rows.
"""
INCOMPATIBLE_KNOWN = LAGS | SESSIONS | FAR | WIDE
COMPATIBLE_KNOWN = 0
AUTOCLEAR_SETTLED = 1

_RECORD = struct.Struct("<8sIIQQQQ16sIIII16s28xI")
"""magic, version, columns, incompatible, compatible, autoclear, sequence, family, body length, body CRC, slot, 0,
owner (uuid of the plex beside which the copy lies; zeros for the home copy), reserved, header CRC"""
_PAGE = struct.Struct("<8sIIIIQQ16sI64xI")
"""magic, slot, column, page, bits, epoch, sequence, family, version, reserved, CRC of header (up to here) and bits"""
HEADER_BYTES = 128
_NO_BITS = bytes(DCO_BLOCK_BYTES - HEADER_BYTES)
HOME = str(UUID(int=0))
"""The owner of the home copy."""
assert _RECORD.size == _PAGE.size == HEADER_BYTES
assert (DCO_BLOCK_BYTES - HEADER_BYTES) * 8 == PAGE_REGIONS


class Damaged(ValueError):
    """This slot cannot be trusted; the message says why."""


class Blank(Damaged):
    """This slot was never written."""


@dataclass(frozen=True)
class RecordSlot:
    """This is a valid record slot, with the feature words as they stand on disk."""

    record: Record
    incompatible: int
    compatible: int
    autoclear: int
    owner: str


def record_offset(slot: int) -> int:
    """Return where a record slot lies in a copy, in bytes."""
    return slot * RECORD_SLOT_BYTES


_BLANK = bytes(DCO_BLOCK_BYTES)


def page_offset(column: int, page: int, slot: int, columns: int = COLUMNS) -> int:
    """Return where a page slot lies in a copy, in bytes."""
    return 2 * RECORD_SLOT_BYTES + ((page * columns + column) * 2 + slot) * DCO_BLOCK_BYTES


def copy_bytes(pages: int, columns: int = COLUMNS) -> int:
    """Return the size in bytes of a copy whose bitmaps have that many pages."""
    return page_offset(0, pages, 0, columns)


def encode_record(record: Record, slot: int, owner: str = HOME) -> bytes:
    """Return whole blocks, ready to be written to ``record_offset(slot)``; ``owner`` is the uuid of the plex that this
    copy travels with, or HOME. ValueError is raised where the body outgrew the slot, or could not be read again.
    """
    body = _body(record)
    if len(body) > RECORD_SLOT_BYTES - HEADER_BYTES:
        raise ValueError(f"a record of {len(body)} bytes does not fit its slot")
    fields = (
        RECORD_MAGIC, VERSION, record.columns, _incompatible(record), COMPATIBLE_KNOWN,
        AUTOCLEAR_SETTLED if record.settled else 0, record.sequence, _uuid(record.family),
        len(body), zlib.crc32(body), slot, 0, _uuid(owner),
    )  # fmt: skip
    header = _RECORD.pack(*fields, 0)
    header = _RECORD.pack(*fields, zlib.crc32(header[:-4]))
    return _padded(header + body)


def _incompatible(record: Record) -> int:
    """What an older fmrd would get wrong, or take for a damaged record, and must leave alone."""
    plexes = [plex for volume in record.volumes for plex in volume.plexes]
    lags, sessions = any(plex.behind for plex in plexes), any(plex.session for plex in plexes)
    far = any(is_uri(path) for plex in plexes for path in (plex.path, plex.dco_path or ""))
    return LAGS * lags | SESSIONS * sessions | FAR * far | WIDE * bool(record.runs)


def must_have_room(record: Record) -> None:
    """Failed('dco_full') where plexes with such paths leave too little room for what comes to a record later."""
    room = RECORD_SLOT_BYTES - HEADER_BYTES - RESERVED_BYTES
    size = len(encode_body(replace(record, history=())))
    if size > room:
        raise Failed(
            "dco_full",
            f"volume {record.volume.name}: the paths of its plexes are too long together (a record of {size} bytes, "
            f"{room} are the most)",
            "shorter paths, or fewer plexes",
        )


_latest: list[tuple[Record, bytes]] = []


def _body(record: Record) -> bytes:
    """A commit writes one record to every copy: its body is made once. One look, since a thread may put in another."""
    known = _latest[0] if _latest else None
    if known is None or known[0] is not record:
        body = encode_body(record)
        if len(body) > RECORD_SLOT_BYTES - HEADER_BYTES:
            body = encode_body(record, content=False)
        known = record, body
        _latest[:] = [known]
    return known[1]


def claimed(data: bytes) -> tuple[str, str] | None:
    """(family, owner) as the header of a record slot has them, whatever else of it is damaged; None where those bytes
    say nothing.
    """
    if len(data) < HEADER_BYTES:
        return None
    values = _RECORD.unpack(data[:HEADER_BYTES])
    family, owner = values[7], values[12]
    return (str(UUID(bytes=family)), str(UUID(bytes=owner))) if any(family) and any(owner) else None


def decode_record(data: bytes, slot: int) -> RecordSlot:
    """Return the record of a whole slot, or raise Blank or Damaged; Refused('dco_feature') is raised for a feature that
    must be understood and is not.
    """
    if data == bytes(len(data)):
        raise Blank("never written")
    if len(data) < HEADER_BYTES:
        raise Damaged("shorter than a header")
    (magic, version, columns, incompatible, compatible, autoclear, sequence, family, length, body_crc, own_slot, _,
     owner, crc) = _RECORD.unpack_from(data)  # fmt: skip
    if magic != RECORD_MAGIC:
        raise Damaged("no record's magic")
    if zlib.crc32(data[: HEADER_BYTES - 4]) != crc:
        raise Damaged("the header's checksum is wrong")
    if version != VERSION or incompatible & ~INCOMPATIBLE_KNOWN:
        raise Refused(
            "dco_feature", f"the DCO has version {version} and incompatible features {incompatible:#x}, not known here"
        )
    body = data[HEADER_BYTES : HEADER_BYTES + length]
    if len(body) != length or zlib.crc32(body) != body_crc:
        raise Damaged("the body's checksum is wrong")
    if own_slot != slot:
        raise Damaged(f"slot {own_slot} lies at the place of slot {slot}")
    if not 2 <= columns <= 4096 or sequence > MOST:
        raise Damaged(f"{columns} columns, or a sequence of {sequence}")
    try:
        record = decode_body(
            body,
            family=str(UUID(bytes=family)),
            sequence=sequence,
            settled=bool(autoclear & AUTOCLEAR_SETTLED),
            columns=columns,
        )
    except ValueError as error:
        raise Damaged(str(error)) from error
    if bool(record.runs) != bool(incompatible & WIDE):
        raise Damaged("the header and the body disagree on the rows")
    return RecordSlot(record, incompatible, compatible, autoclear, str(UUID(bytes=owner)))


def encode_page(family: str, column: int, page: int, slot: int, epoch: int, sequence: int, bits: bitarray) -> bytes:
    """Return one block for ``page_offset(column, page, slot)``."""
    fields = (PAGE_MAGIC, slot, column, page, len(bits), epoch, sequence, _uuid(family), VERSION)
    header = _PAGE.pack(*fields, 0)[:-4]
    payload = _padded(bitarray(bits, endian="little").tobytes(), DCO_BLOCK_BYTES - HEADER_BYTES)
    return header + zlib.crc32(payload, zlib.crc32(header)).to_bytes(4, "little") + payload


def decode_page(data: bytes, family: str, column: int, page: int, slot: int) -> PageSlot:
    """Return the slot, or raise Blank or Damaged for whatever is not surely this slot of this page of this family."""
    if len(data) != DCO_BLOCK_BYTES:
        raise Damaged("not a block")
    if data == _BLANK:
        raise Blank("never written")
    magic, own_slot, own_column, own_page, length, epoch, sequence, owner, version, crc = _PAGE.unpack_from(data)
    if magic != PAGE_MAGIC or version != VERSION:
        raise Damaged("no page's magic")
    if zlib.crc32(data[HEADER_BYTES:], zlib.crc32(data[: HEADER_BYTES - 4])) != crc:
        raise Damaged("the checksum is wrong")
    if (own_slot, own_column, own_page, owner) != (slot, column, page, _uuid(family)):
        raise Damaged("it belongs to another place or family")
    if length > PAGE_REGIONS or max(epoch, sequence) > MOST:
        raise Damaged(f"{length} bits do not fit a page, or sequence {sequence} or epoch {epoch} no copy")
    if data.endswith(_NO_BITS):
        return _blank_slot(epoch, sequence, length)
    bits = bitarray(endian="little")
    bits.frombytes(data[HEADER_BYTES : HEADER_BYTES + -(-length // 8)])
    return PageSlot(epoch, sequence, frozenbitarray(bits[:length], endian=get_default_endian()))


@lru_cache(maxsize=64)
def _blank_slot(epoch: int, sequence: int, length: int) -> PageSlot:
    """Of a large volume most are, and so have no memory of their own, nor anything for the collector to visit."""
    return PageSlot(epoch, sequence, no_bits(length))


@lru_cache(maxsize=64)
def _uuid(text: str) -> bytes:
    """A start reads thousands of pages of one family."""
    return UUID(text).bytes


def _padded(data: bytes, unit: int = DCO_BLOCK_BYTES) -> bytes:
    return data + bytes(-len(data) % unit)
