"""VOLUME.sums has a header of JSON, then 8 bytes a region: its CRC-32, and the complement of that.

What cannot be verified is none: zeros are no checksum, and a header that is not whole no header. What is said here of a
file is called on a worker thread; OSError as the file says.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Sequence

from fmrd.backing.protocol import Notes
from fmrd.core.json_object import Json

HEADER_BYTES = 4 << 20
"""Room for as many ranges as a verify may find."""
_HEADER = struct.Struct("<8sIIQ")
"""magic, CRC-32 of the JSON behind it, version, its length"""
_MAGIC, _VERSION = b"FMRDsums", 1
_SUM = struct.Struct("<II")


def read_header(file: Notes) -> Json:
    """Return what the header says; nothing where it is not whole."""
    return decoded(file.read(0, HEADER_BYTES))


def write_header(file: Notes, header: Json) -> None:
    """Write the header, durably; OSError also where a report has no room."""
    data = encoded(header)
    if len(data) > HEADER_BYTES:
        raise OSError(f"a report of {len(data)} bytes has no room")
    file.write(0, data)
    file.sync()


def write_sums(file: Notes, first: int, content: bytes, size: int) -> None:
    """Write those of the regions from ``first`` on, of ``size`` bytes but for the last perhaps; not durable yet."""
    sums = [zlib.crc32(memoryview(content)[at : at + size]) for at in range(0, len(content), size)]
    file.write(_offset(first), b"".join(_SUM.pack(crc, crc ^ 0xFFFFFFFF) for crc in sums))


def read_sums(file: Notes, regions: range) -> Iterator[int | None]:
    """Yield the checksum of each region, None where it has none."""
    for crc, check in _SUM.iter_unpack(file.read(_offset(regions.start), len(regions) * _SUM.size)):
        yield crc if crc ^ 0xFFFFFFFF == check else None


def wipe(file: Notes, spans: Sequence[range]) -> None:
    """Wipe those of these regions, durably."""
    for span in spans:
        file.write(_offset(span.start), bytes(len(span) * _SUM.size))
    file.sync()


def _offset(region: int) -> int:
    return HEADER_BYTES + region * _SUM.size


def encoded(header: Json) -> bytes:
    body = json.dumps(header, separators=(",", ":")).encode()
    return _HEADER.pack(_MAGIC, zlib.crc32(body), _VERSION, len(body)) + body


def decoded(data: bytes) -> Json:
    """Return what a header says; nothing where it is not whole."""
    magic, crc, version, length = _HEADER.unpack_from(data)
    body = data[_HEADER.size : _HEADER.size + length]
    if (magic, version) != (_MAGIC, _VERSION) or len(body) != length or zlib.crc32(body) != crc:
        return {}
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
