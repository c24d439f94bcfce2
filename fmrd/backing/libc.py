"""These are system calls that Python's os module lacks: fallocate with modes, statfs's type of a file system, and a
thread that parts with the descriptors of its process.
"""

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]

_STANDARD = 3
_LAST = 0xFFFFFFFF
_UNSHARE = 2

KEEP_SIZE = 1
PUNCH_HOLE = 2
ZERO_RANGE = 16

FICLONE = 0x40049409

TMPFS = 0x01021994
RAMFS = 0x858458F6
XFS = 0x58465342
BTRFS = 0x9123683E
EXT = 0xEF53
EXFAT = 0x2011BAB0
VFAT = 0x4D44
FUSE = 0x65735546
CIFS, SMB2 = 0xFF534D42, 0xFE534D42
NINE_P = 0x01021997
INVENTED_INODES = frozenset({EXFAT, VFAT, FUSE, CIFS, SMB2, NINE_P})
"""File systems that make up inode numbers at each mount: all, or some of them, of which nobody can tell which."""
WRITES_NOW = frozenset({XFS})
"""File systems that take a write into the page cache, or say at once that it would have to wait (RWF_NOWAIT). btrfs
does so, too, but waits all the same for pages that are on their way to the disk.
"""
SEPARATE_BLOCKS = frozenset({TMPFS, RAMFS, EXT})
"""File systems where copy_file_range always copies. Others may share the blocks, and a mirror must own its own."""


def fallocate(descriptor: int, mode: int, offset: int, length: int) -> None:
    """Call fallocate(2), in bytes; OSError as the kernel says."""
    if _libc.fallocate(descriptor, mode, offset, length) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def file_system(descriptor: int) -> int:
    """Return the magic number of the file system that a descriptor lies on (the first word of struct statfs)."""
    buffer = ctypes.create_string_buffer(256)
    if _libc.fstatfs(descriptor, buffer) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int.from_bytes(buffer.raw[:8], "little")


def part_with_descriptors() -> bool:
    """From now on this thread has a table of descriptors of its own, with standard input, output and error in it. False
    where the kernel (before 5.9) or the C library cannot do that: then all is as it was.
    """
    try:
        close_range = _libc.close_range
    except AttributeError:
        return False
    arguments = (ctypes.c_uint(_STANDARD), ctypes.c_uint(_LAST), ctypes.c_uint(_UNSHARE))
    return bool(close_range(*arguments) == 0)
