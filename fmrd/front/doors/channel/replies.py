"""The bytes of answers and notifications are packed here (linux/fuse.h). This is pure; requests are protocol.py's."""

import struct
from dataclasses import dataclass

from fmrd.front.doors.channel.protocol import OUT_HEADER, Notify

_ATTR = struct.Struct("=QQQQQQIIIIIIIIII")


_TIMEOUTS = struct.Struct("=QII")


_ENTRY = struct.Struct("=QQQQII")


_STATFS = struct.Struct("=QQQQQIIII24x")


_DIRENT = struct.Struct("=QQII")


_OPEN_OUT = struct.Struct("=QIi")


@dataclass(frozen=True)
class Attributes:
    """These are of a file or directory. ``seconds`` is how long the kernel may trust them."""

    inode: int
    mode: int
    size: int
    links: int
    uid: int
    gid: int
    when_ns: int
    block_bytes: int
    seconds: int

    def pack(self) -> bytes:
        seconds, nanoseconds = divmod(self.when_ns, 10**9)
        # One less than all of a file: cp asks where the holes are only if a file looks as if it had some.
        blocks = max(0, self.size // 512 - 1)
        return _ATTR.pack(
            self.inode, self.size, blocks, seconds, seconds, seconds, nanoseconds, nanoseconds, nanoseconds,
            self.mode, self.links, self.uid, self.gid, 0, self.block_bytes, 0,
        )  # fmt: skip


def pack_attr(found: Attributes) -> bytes:
    """Return fuse_attr_out."""
    return _TIMEOUTS.pack(found.seconds, 0, 0) + found.pack()


def pack_entry(found: Attributes) -> bytes:
    """Return fuse_entry_out. Inode numbers are never used again, so every generation is 0."""
    return _ENTRY.pack(found.inode, 0, found.seconds, found.seconds, 0, 0) + found.pack()


def pack_open(handle: int, flags: int = 0) -> bytes:
    """Return fuse_open_out; ``flags`` are FOPEN_*."""
    return _OPEN_OUT.pack(handle, flags, 0)


def pack_statfs(blocks: int, free: int, files: int, block_bytes: int, name_bytes: int) -> bytes:
    """Return fuse_statfs_out; ``free`` is in blocks."""
    return _STATFS.pack(blocks, free, free, files, 0, block_bytes, name_bytes, block_bytes, 0)


def pack_dirent(inode: int, offset: int, kind: int, name: bytes) -> bytes:
    """Return one entry of a listing. ``offset`` is where the next one is to be asked for, ``kind`` the type bits of a
    mode, shifted as d_type is.
    """
    record = _DIRENT.pack(inode, offset, len(name), kind) + name
    return record.ljust(-(-len(record) // 8) * 8, b"\0")


def pack_written(count: int) -> bytes:
    return struct.pack("=II", count, 0)


def pack_offset(offset: int) -> bytes:
    """Return fuse_lseek_out."""
    return struct.pack("=Q", offset)


def reply(unique: int, body: bytes = b"") -> bytes:
    return OUT_HEADER.pack(OUT_HEADER.size + len(body), 0, unique) + body


def refusal(unique: int, code: int) -> bytes:
    """Return the answer to a request that failed with that errno."""
    return OUT_HEADER.pack(OUT_HEADER.size, -code, unique)


def notification(code: Notify, body: bytes = b"") -> bytes:
    """Return a notification with that code."""
    return OUT_HEADER.pack(OUT_HEADER.size + len(body), code, 0) + body


def forget_pages(inode: int) -> bytes:
    """Return the notification that attributes and every cached page of a file are old."""
    return notification(Notify.INVAL_INODE, struct.pack("=Qqq", inode, 0, 0))


def forget_name(parent: int, name: bytes) -> bytes:
    """Return the notification that a name is there no more."""
    return notification(Notify.INVAL_ENTRY, struct.pack("=QII", parent, len(name), 0) + name + b"\0")
