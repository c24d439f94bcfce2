"""Every door shows this: one directory of volumes that behave like block devices.

They have fixed lengths, no truncation but to the length they have, no other mode or owner than their own. Refusals are
OSError with the errno that a program is to see.
"""

import errno
import logging
import os
import stat
import time
from dataclasses import dataclass

from fmrd.core.names import VOLUME_LENGTH
from fmrd.engine.registry import Registry
from fmrd.engine.served import Served
from fmrd.errors import FmrdError
from fmrd.front.doors.early_requests import NotYet

log = logging.getLogger(__name__)

ROOT = 1
"""The directory's inode; those of volumes are their own, for ever."""
CACHE_SECONDS = 86400
"""How long the kernel may trust names and attributes: until it is told, in practice. For times of change it asks anew
after each write, all of which pass through it.
"""
BLOCK_BYTES = 4096
NAME_BYTES = VOLUME_LENGTH


def errno_of(error: Exception, what: str) -> int:
    """Return an errno for whatever went wrong: no failure of one request may end the mount for all."""
    if isinstance(error, FmrdError | OSError):
        return error.errno or errno.EIO
    log.error("%s failed in a way that nobody foresaw", what, exc_info=error)
    return errno.EIO


@dataclass(frozen=True)
class Entry:
    """An entry is a file or the directory; ``size`` in bytes, ``changed_ns``: since 1970."""

    inode: int
    mode: int
    size: int
    changed_ns: int


class Tree:
    """A tree has names and attributes of what the registry serves now. It is asked on trio's thread; it never waits."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._born_ns = time.time_ns()
        self.owner = os.geteuid(), os.getegid()

    def find(self, inode: int) -> Served | None:
        """Return the volume of an inode, if it is served."""
        return self._registry.numbered(inode)

    def served(self, inode: int) -> Served:
        """Return the volume of an inode. OSError(ESTALE) where it is not served; NotYet where it soon may be."""
        found = self.find(inode)
        if found is None:
            if self._registry.arriving.may_come(number=inode):
                raise NotYet(errno.ESTALE, "this volume is not open yet")
            raise OSError(errno.ESTALE, "no such volume")
        return found

    def entry(self, inode: int) -> Entry:
        """Return the attributes of an inode; it raises as ``served``."""
        if inode == ROOT:
            return Entry(ROOT, stat.S_IFDIR | 0o700, 0, self._born_ns)
        return self._file(self.served(inode))

    def lookup(self, parent: int, name: bytes) -> Entry:
        """Return the attributes of a name. OSError(ENOENT); NotYet where it soon may be there."""
        if name in (b".", b".."):
            return self.entry(ROOT)
        served = self._registry.find(os.fsdecode(name)) if parent == ROOT else None
        if served is None:
            if self._registry.arriving.may_come(name=os.fsdecode(name)):
                raise NotYet(errno.ENOENT, "this volume is not open yet")
            raise OSError(errno.ENOENT, "no such volume")
        return self._file(served)

    def change(self, inode: int, *, owner_or_mode: bool, size: int | None) -> Entry:
        """Return the attributes: times are those of writes, anything else stays as it is. OSError(EPERM) where
        something else was asked.
        """
        if inode == ROOT or owner_or_mode:
            raise OSError(errno.EPERM, "a volume has no other mode or owner than its own")
        entry = self.entry(inode)
        if size is not None and size != entry.size:
            raise OSError(errno.EPERM, "a volume has no other length than its own")
        return entry

    def must_be_root(self, inode: int) -> None:
        """Raise OSError(ENOTDIR) for a volume."""
        if inode != ROOT:
            raise OSError(errno.ENOTDIR, "a volume is no directory")

    def files(self) -> list[tuple[bytes, Entry]]:
        """Return (name, attributes) of each volume, by inode, so that a listing can go on where it was."""
        found = sorted(self._registry.served(), key=lambda served: served.number)
        return [(os.fsencode(served.name), self._file(served)) for served in found]

    def space(self) -> tuple[int, int]:
        """Return (blocks, files) of a file system that is exactly full of its volumes."""
        found = self._registry.served()
        return sum(served.length_bytes for served in found) // BLOCK_BYTES, len(found)

    def _file(self, served: Served) -> Entry:
        return Entry(served.number, stat.S_IFREG | 0o600, served.length_bytes, served.changed_ns)
