"""Whether a file could be made, or written, without doing it: nothing is left of the attempt.

A mount may be read-only, a directory may take no files of this user, a file system no file of that length. Whoever asks
beforehand is told the same as who does it.
"""

import errno
import fcntl
import os
import stat
from dataclasses import dataclass

from fmrd.backing.libc import FICLONE

_BLKROGET = 0x125E
_NO_UNNAMED_FILES = {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL, errno.ENOSYS}


@dataclass(frozen=True)
class Room:
    """What its file system still has, and what of it a file takes already."""

    device: int
    """The same of all files on one file system."""
    free_bytes: int
    allocated_bytes: int


def room(path: str) -> Room | None:
    """None of a block device, which has all of it, and where the file system does not tell."""
    status, system = os.stat(path), os.statvfs(path)
    if stat.S_ISBLK(status.st_mode) or not _tells_its_room(system):
        return None
    return Room(status.st_dev, system.f_bavail * system.f_frsize, status.st_blocks * 512)


def try_out(path: str, length: int, *, allocated: bool = False) -> None:
    """OSError where ``path`` could not be made with so many bytes, or could not be written and have them.
    ``allocated``: they are to be had at once, and not as a hole.
    """
    there = os.path.realpath(path)
    try:
        status = os.stat(there)
    except FileNotFoundError:
        _make(path, os.path.dirname(there), length, allocated=allocated)
        return
    if stat.S_ISBLK(status.st_mode):
        _must_be_writable_device(path, there)
        return
    try:
        os.close(os.open(there, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        raise _of(error.errno or errno.EIO, path) from error
    if status.st_size < length:
        _make(path, os.path.dirname(there), length, allocated=allocated)


def try_clone(source: str, target: str) -> None:
    """OSError where ``target`` could not be made to share the blocks of ``source``."""
    if os.path.lexists(target):
        raise _of(errno.EEXIST, target)
    original = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        copy = os.open(os.path.dirname(target), os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.ioctl(copy, FICLONE, original)
        finally:
            os.close(copy)
    finally:
        os.close(original)


def _make(path: str, directory: str, length: int, *, allocated: bool) -> None:
    """An unnamed file is gone when it is closed, and asks the file system all that one with a name would."""
    system = os.statvfs(directory)
    if allocated and _tells_its_room(system) and length > system.f_bavail * system.f_frsize:
        raise _of(errno.ENOSPC, path)
    try:
        descriptor = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _NO_UNNAMED_FILES:
            raise _of(error.errno or errno.EIO, path) from error
        if system.f_flag & os.ST_RDONLY:
            raise _of(errno.EROFS, path) from error
        if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
            raise _of(errno.EACCES, path) from error
        return
    try:
        os.ftruncate(descriptor, length)
    except OSError as error:
        raise _of(error.errno or errno.EIO, path) from error
    finally:
        os.close(descriptor)


def _tells_its_room(system: os.statvfs_result) -> bool:
    """ramfs, tmpfs without a limit, and single files through FUSE (nbdfuse) say nothing of it, in zeros."""
    return system.f_blocks > 0


def _must_be_writable_device(path: str, device: str) -> None:
    """Not opened for writing, which udev would take for a change."""
    descriptor = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if any(fcntl.ioctl(descriptor, _BLKROGET, bytes(4))):
            raise _of(errno.EROFS, path)
    finally:
        os.close(descriptor)


def _of(code: int, path: str) -> OSError:
    return OSError(code, os.strerror(code), path)
