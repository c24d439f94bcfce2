"""First blocks of things whose tools are not everywhere, by hand: as much of them as makes them recognised."""

import struct
import zlib

UUID = bytes(range(16))
UUID_TEXT = "00010203-0405-0607-0809-0a0b0c0d0e0f"
MD_MAGIC = 0xA92B4EFC
KIB = 1024

Pieces = dict[int, bytes]
"""Offset -> what is written there."""


def luks(version: int) -> Pieces:
    header = bytearray(592)
    header[:8] = b"LUKS\xba\xbe" + struct.pack(">H", version)
    header[168 : 168 + 36] = UUID_TEXT.encode()
    if version == 2:
        header[8:24] = struct.pack(">QQ", 16384, 1)
        header[24:30] = b"secret"
    return {0: bytes(header)}


def lvm() -> Pieces:
    body = struct.pack("<I", 32) + b"LVM2 001" + b"abcdefghijklmnopqrstuvwxyz012345" + bytes(512 - 20 - 4 - 8 - 32)
    crc = zlib.crc32(body, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    return {512: b"LABELONE" + struct.pack("<QI", 1, crc) + body}


def md_old(size: int) -> Pieces:
    """Metadata 0.90: at the end."""
    at = (size & ~(64 * KIB - 1)) - 64 * KIB
    first, *rest = struct.unpack(">4I", UUID)
    head = struct.pack("<14I", MD_MAGIC, 0, 90, 0, 0, first, 0, 1, at // KIB, 2, 2, 0, 0, rest[0])
    return {at: head + struct.pack("<2I", *rest[1:]) + bytes(4096 - 64)}


def md(size: int, minor: int) -> Pieces:
    """Metadata 1.0 (at the end), 1.1 (at the beginning), 1.2 (4 KiB behind it)."""
    sector = {0: (size // 512 - 16) & ~7, 1: 0, 2: 8}[minor]
    block = bytearray(256)
    block[:16] = struct.pack("<4I", MD_MAGIC, 1, 0, 0)
    block[16:32] = UUID
    block[32:40] = b"host:raid"[:8]
    struct.pack_into("<Q", block, 144, sector)
    total = sum(struct.unpack("<64I", block))
    struct.pack_into("<I", block, 216, (total & 0xFFFFFFFF) + (total >> 32) & 0xFFFFFFFF)
    return {sector * 512: bytes(block)}


def zfs(size: int) -> Pieces:
    """The ring of uberblocks of each of the four labels; the pool's name is not in it."""
    label = 256 * KIB
    end = size // label * label
    uberblock = struct.pack("<5Q", 0x00BAB10C, 5000, 7, 8, 9) + bytes(KIB - 40)
    return {at + 128 * KIB: uberblock * 8 for at in (0, label, end - 2 * label, end - label)}


def ext2_over_swap() -> Pieces:
    """The magic of both, and neither has what tells that it is the younger one."""
    swap = bytearray(4096)
    swap[1024:1036] = struct.pack("<3I", 1, 4000, 0)
    swap[1080:1082] = b"\x53\xef"
    swap[4086:] = b"SWAPSPACE2"
    return {0: bytes(swap)}
