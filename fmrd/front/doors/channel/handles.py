"""Open files of the mount are in memory that outlives the daemon.

The kernel tells of an open and of its release once. So who takes over the mount of a daemon that died must find what
was open: one slot a handle in a memfd, which is kept beside the descriptor of the mount, behind a slot with what INIT
negotiated. A slot is written in one store of 16 bytes' worth, its *unique* last, before the open is answered: an open
that is sent again, since its answer never went out, finds its own slot by that number and counts once.
"""

import mmap
import os
import struct
from collections.abc import Iterator

from fmrd.front.doors.channel.protocol import UNIQUE_RESEND, Session

SLOTS = 1 << 16
"""So many files may be open at most, over all volumes."""
_SLOT = struct.Struct("=QQ")  # inode, unique of the open; 0 is free
_SESSION = struct.Struct("=8sIIQI")  # magic, minor, max_write, flags, page bytes
_MOUNT = struct.Struct("=Q")
_MAGIC = b"fmrd-ch2"
_SESSION_BYTES, _MOUNT_AT = 4096, 64


class Handles:
    """These are the handles of one mount: ``take`` one for an open, ``give_back`` at its release. ``descriptor`` is
    that of the memory. ValueError where what was kept has another size.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        size = _SESSION_BYTES + SLOTS * _SLOT.size
        if descriptor is None:
            descriptor = os.memfd_create("fmrd-handles", os.MFD_CLOEXEC)
            os.ftruncate(descriptor, size)
        elif os.fstat(descriptor).st_size != size:
            raise ValueError("it has another size than this version's")
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, size)
        self._inodes = {
            handle: inode for handle in range(1, SLOTS) if (inode := self._slot(handle)[0]) and self._slot(handle)[1]
        }
        self._uniques = {self._slot(handle)[1]: handle for handle in self._inodes}
        self._free = [handle for handle in range(SLOTS - 1, 0, -1) if handle not in self._inodes]

    def _slot(self, handle: int) -> tuple[int, int]:
        inode, unique = _SLOT.unpack_from(self._memory, _SESSION_BYTES + handle * _SLOT.size)
        return inode, unique

    def _put(self, handle: int, inode: int, unique: int) -> None:
        _SLOT.pack_into(self._memory, _SESSION_BYTES + handle * _SLOT.size, inode, unique)

    @property
    def session(self) -> Session | None:
        """Return what INIT negotiated, None before it did."""
        magic, minor, max_write, flags, _ = _SESSION.unpack_from(self._memory)
        return Session(minor, flags, max_write) if magic == _MAGIC else None

    @session.setter
    def session(self, session: Session) -> None:
        _SESSION.pack_into(self._memory, 0, _MAGIC, session.minor, session.max_write, session.flags, mmap.PAGESIZE)

    @property
    def mounted_on(self) -> int:
        """Return the device number of the mount."""
        return int(_MOUNT.unpack_from(self._memory, _MOUNT_AT)[0])

    @mounted_on.setter
    def mounted_on(self, number: int) -> None:
        _MOUNT.pack_into(self._memory, _MOUNT_AT, number)

    def take(self, inode: int, unique: int) -> int:
        """Return a handle for an open: the same one where that open was counted already, 0 where all are in use."""
        known = self._uniques.get(unique & ~UNIQUE_RESEND)
        if known is not None:
            return known
        if not self._free:
            return 0
        handle = self._free.pop()
        self._put(handle, inode, unique & ~UNIQUE_RESEND)
        self._inodes[handle] = inode
        self._uniques[unique & ~UNIQUE_RESEND] = handle
        return handle

    def give_back(self, handle: int) -> int | None:
        """At a release, return the inode that it stood for; None where that was known already."""
        inode = self._inodes.pop(handle, None)
        if inode is not None:
            del self._uniques[self._slot(handle)[1]]
            self._put(handle, 0, 0)
            self._free.append(handle)
        return inode

    def inode(self, handle: int) -> int | None:
        return self._inodes.get(handle)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield (handle, inode) of each that is open."""
        return iter(list(self._inodes.items()))

    def __len__(self) -> int:
        return len(self._inodes)

    def close(self) -> None:
        self._memory.close()
        os.close(self.descriptor)
