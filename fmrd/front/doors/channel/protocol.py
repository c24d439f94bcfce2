"""The FUSE kernel protocol is read and packed here: the numbers and layouts of ``linux/fuse.h`` (7.31 to 7.45).

This is pure: bytes in, values out. Every layout is in the machine's byte order, as the kernel's structs are; a request
is a header of 40 bytes, a fixed part that its opcode tells, and what follows. What a fixed part is too short for raises
Malformed.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

MAJOR = 7
OLDEST_MINOR = 31
NEWEST_MINOR = 45

IN_HEADER = struct.Struct("=IIQQIIIHH")
"""length, opcode, unique, nodeid, uid, gid, pid, words of extensions, padding."""
OUT_HEADER = struct.Struct("=IiQ")
"""length, -errno, unique. A notification: unique 0, and its code where the error is."""
WRITE_FIXED_BYTES = IN_HEADER.size + 40
"""Before the data of a write."""
READ_OR_WRITE = struct.Struct("=IIQQ16xQQI")
"""The beginning of most requests, in one go: length, opcode, unique, nodeid; handle, offset, size."""
WRITTEN = struct.Struct("=IiQII")
"""The whole answer to a write: length, 0, unique; count, -."""

UNIQUE_RESEND = 1 << 63
"""In ``unique``: sent again, since the one who had read it died."""


class Op(IntEnum):
    """These opcodes are answered; everything else is ENOSYS."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    FALLOCATE = 43
    RENAME2 = 45
    LSEEK = 46


class Notify(IntEnum):
    """These are the codes of notifications that are sent."""

    INVAL_INODE = 2
    INVAL_ENTRY = 3
    RESEND = 7


class Init(IntFlag):
    """INIT negotiates these flags, as far as it matters here: the kernel offers, we take what we want of that."""

    ASYNC_READ = 1 << 0
    ATOMIC_O_TRUNC = 1 << 3
    BIG_WRITES = 1 << 5
    ASYNC_DIO = 1 << 15
    PARALLEL_DIROPS = 1 << 18
    MAX_PAGES = 1 << 22
    INIT_EXT = 1 << 30
    HAS_RESEND = 1 << 39


WANTED = (
    Init.ASYNC_READ  # read-ahead need not come in order
    | Init.ATOMIC_O_TRUNC  # O_TRUNC comes with the open, where it is ignored, and not as a truncation, which is refused
    | Init.BIG_WRITES  # more than a page at once; kernels after 4.20 do so anyway
    | Init.ASYNC_DIO  # direct I/O of one program in parallel: what a loop device and fio do
    | Init.PARALLEL_DIROPS  # nothing here changes a directory
    | Init.MAX_PAGES  # requests of 1 MiB rather than 128 KiB
    | Init.INIT_EXT  # flags beyond the 32nd
    | Init.HAS_RESEND  # requests of a daemon that died come again
)
"""Not wanted: WRITEBACK_CACHE (the kernel would answer a write before any plex has it), DO_READDIRPLUS (a directory of
a few names), SPLICE_* (only libfuse looks at them), EXPORT_SUPPORT, POSIX_LOCKS and FLOCK_LOCKS (local ones do),
NO_OPEN_SUPPORT (a volume knows that it is open), PASSTHROUGH (past the mirror), DIRECT_IO_ALLOW_MMAP (nothing is opened
with FOPEN_DIRECT_IO, so mappings work as they are).
"""

MAX_WRITE_BYTES = 1 << 20
MAX_BACKGROUND = 1024
"""Requests that need no waiting caller (direct I/O, read-ahead) in flight at most, over all volumes: one whose disk
hangs must not use up what the others need.
"""

FSYNC_DATA = 1
SET_MODE, SET_UID, SET_GID, SET_SIZE = 1 << 0, 1 << 1, 1 << 2, 1 << 3
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 0x01, 0x02, 0x10

_INIT_IN = struct.Struct("=IIIII")  # major, minor, max_readahead, flags, flags2
_INIT_OUT = struct.Struct("=IIIIHHIIHHII")  # ..., max_write, time_gran, max_pages, map_alignment, flags2, stack depth
_INIT_OUT_BYTES = 64

FIXED = {
    Op.GETATTR: struct.Struct("=IIQ"),  # flags, -, fh
    Op.SETATTR: struct.Struct("=IIQQ"),  # valid, -, fh, size; the rest is refused unseen
    Op.OPEN: struct.Struct("=II"),  # flags, open_flags
    Op.READ: struct.Struct("=QQIIQII"),  # fh, offset, size, ...
    Op.WRITE: struct.Struct("=QQIIQII"),  # fh, offset, size, ...
    Op.RELEASE: struct.Struct("=QIIQ"),  # fh, flags, release_flags, lock_owner
    Op.FSYNC: struct.Struct("=QII"),  # fh, fsync_flags, -
    Op.READDIR: struct.Struct("=QQIIQII"),  # fh, offset, size, ...
    Op.INTERRUPT: struct.Struct("=Q"),  # the other's unique
    Op.FALLOCATE: struct.Struct("=QQQII"),  # fh, offset, length, mode, -
    Op.LSEEK: struct.Struct("=QQII"),  # fh, offset, whence, -
}
"""The fixed part behind the header."""


class Malformed(Exception):
    """A request is shorter than its kind, or its lengths contradict each other."""


def fixed_of(opcode: Op, body: bytes | memoryview) -> tuple[int, ...]:
    """Return the numbers of the fixed part at the beginning of ``body`` (which begins behind the header)."""
    layout = FIXED[opcode]
    if len(body) < layout.size:
        raise Malformed(f"{opcode.name} with {len(body)} bytes of {layout.size}")
    return layout.unpack_from(body)


def name_of(body: bytes | memoryview) -> bytes:
    """Return the name that ``body`` begins with, up to its zero byte."""
    name, zero, _ = bytes(body).partition(b"\0")
    if not zero or not name:
        raise Malformed("a name without an end")
    return name


@dataclass(frozen=True)
class Session:
    """A session is what was negotiated; the kernel tells it once in the life of a mount."""

    minor: int
    flags: int
    max_write: int = MAX_WRITE_BYTES

    @property
    def resends(self) -> bool:
        """Tell whether requests of a daemon that died can be had again."""
        return bool(self.flags & Init.HAS_RESEND)


@dataclass(frozen=True)
class Offer:
    """An offer is what the kernel said in INIT."""

    major: int
    minor: int
    max_readahead: int
    flags: int


def offer_of(body: bytes | memoryview) -> Offer:
    """Return the offer that the body of INIT holds."""
    if len(body) < 16:
        raise Malformed(f"INIT with {len(body)} bytes")
    major, minor, readahead, low, high = _INIT_IN.unpack_from(bytes(body[: _INIT_IN.size]).ljust(_INIT_IN.size, b"\0"))
    if not low & Init.INIT_EXT:
        high = 0
    return Offer(major, minor, readahead, low | high << 32)


def negotiate(offer: Offer) -> Session | None:
    """Return the session, None where the kernel is too old. One of a newer major version asks again, with ours."""
    if offer.major < MAJOR or (offer.major == MAJOR and offer.minor < OLDEST_MINOR):
        return None
    return Session(min(offer.minor, NEWEST_MINOR), offer.flags & WANTED)


def pack_init(session: Session, offer: Offer, page_bytes: int) -> bytes:
    """Return fuse_init_out. ``max_write`` above 32 pages takes MAX_PAGES, which every kernel from 4.20 has."""
    return _INIT_OUT.pack(
        MAJOR, session.minor, offer.max_readahead, session.flags & 0xFFFFFFFF, MAX_BACKGROUND, MAX_BACKGROUND * 3 // 4,
        session.max_write, 1, session.max_write // page_bytes, 0, session.flags >> 32, 0,
    ).ljust(_INIT_OUT_BYTES, b"\0")  # fmt: skip
