"""The last whole block of a block device says where its DCO lies (FORMAT, "The tail of a block device")."""

import os
import struct
import zlib
from collections.abc import Callable

from fmrd.backing.protocol import DCO_BLOCK_BYTES, LOCATOR_BYTES

_LOCATOR = struct.Struct("<8sIIQQI")
"""magic, version, 0, offset and length of the area in bytes, CRC-32 of what stands before it"""
_LOCATOR_MAGIC = b"FMRDtail"


def locate(path: str, known: int | None = None) -> tuple[int, int, int] | None:
    """Return offset and length of the DCO area of a device, and where its locator lies; None where neither the last
    block nor the one at ``known`` holds a valid one. The last block was there before the device became longer.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        return find(lambda at, length: os.pread(descriptor, length, at), size, known)
    finally:
        os.close(descriptor)


def find(read: Callable[[int, int], bytes], size: int, known: int | None = None) -> tuple[int, int, int] | None:
    """The same of whatever has ``size`` bytes and is read by ``read`` (offset, length)."""
    end = place(size)
    for at in (end, known):
        if at is not None and 0 <= at <= end:
            found = _locator_in(read(at, _LOCATOR.size), at)
            if found is not None:
                return *found, at
    return None


def _locator_in(data: bytes, at: int) -> tuple[int, int] | None:
    if len(data) != _LOCATOR.size:
        return None
    magic, version, _, base, length, crc = _LOCATOR.unpack(data)
    sound = magic == _LOCATOR_MAGIC and version == 1 and zlib.crc32(data[:-4]) == crc
    return (base, length) if sound and base >= 0 and base + length <= at and length > 0 else None


def pack(base: int, length: int) -> bytes:
    head = _LOCATOR.pack(_LOCATOR_MAGIC, 1, 0, base, length, 0)[:-4]
    return head + zlib.crc32(head).to_bytes(4, "little")


def place(size: int) -> int:
    return size // DCO_BLOCK_BYTES * DCO_BLOCK_BYTES - LOCATOR_BYTES


def device_bytes(path: str) -> int:
    """Return the size of a block device."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)
