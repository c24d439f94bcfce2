"""Open files and their data are here: which volume a request is for, and what it asks of that."""

import errno
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from fmrd.engine.served import Served
from fmrd.front.doors.channel import protocol, replies
from fmrd.front.doors.channel.answers import Answer, Pack, nothing
from fmrd.front.doors.channel.handles import Handles
from fmrd.front.doors.channel.protocol import Op
from fmrd.front.doors.tree import Tree


@dataclass(frozen=True)
class Begun:
    """A request that ends by a callback has begun: this says how it begins, and how its answer is packed."""

    begin: Callable[[Answer], object]
    pack: Pack = nothing


class Files:
    """These are the volumes behind the handles of the mount. Each of ``answers`` takes (unique, inode, body), and gives
    the body of the answer or what is to be begun; they, ``read`` and ``write`` raise OSError or FmrdError for a
    refusal.
    """

    def __init__(self, tree: Tree, handles: Handles) -> None:
        self._tree = tree
        self._handles = handles
        self._served: dict[int, Served] = {}
        self._buffer = memoryview(mmap.mmap(-1, protocol.MAX_WRITE_BYTES))
        """What is read at once lies here, from the beginning of a page on."""
        self.answers: dict[int, Callable[[int, int, bytes], bytes | Begun]] = {
            Op.OPEN: self._open,
            Op.RELEASE: self._release,
            Op.FSYNC: self._fsync,
            Op.FALLOCATE: self._fallocate,
            Op.LSEEK: self._lseek,
        }

    def appeared(self, served: Served) -> None:
        """A volume appeared whose files may be open since before: its opens are counted again."""
        for handle, inode in self._handles:
            if inode == served.number and self._served.get(handle) is not served:
                self._served[handle] = served
                served.opened()

    def _open(self, unique: int, inode: int, body: bytes) -> bytes:
        """O_TRUNC changes nothing; the kernel asks for the length again before it believes otherwise."""
        served = self._tree.served(inode)
        handle = self._handles.take(inode, unique)
        if not handle:
            raise OSError(errno.ENFILE, "too many open files")
        if handle not in self._served:
            try:
                served.opened()
            except Exception:
                self._handles.give_back(handle)
                raise
            self._served[handle] = served
        return replies.pack_open(handle)

    def _release(self, unique: int, inode: int, body: bytes) -> bytes:
        handle = protocol.fixed_of(Op.RELEASE, body)[0]
        self._handles.give_back(handle)
        served = self._served.pop(handle, None)
        if served is not None:
            served.released()
        return b""

    def _of(self, handle: int) -> Served:
        served = self._served.get(handle)
        if served is None:
            inode = self._handles.inode(handle)
            if inode is not None:
                self._tree.served(inode)  # NotYet, if so
            raise OSError(errno.EIO, "the volume of this file is not served")
        return served

    def _fsync(self, unique: int, inode: int, body: bytes) -> Begun:
        return Begun(self._of(protocol.fixed_of(Op.FSYNC, body)[0]).flush_now)

    def _fallocate(self, unique: int, inode: int, body: bytes) -> Begun:
        """Discard and zeroes. Anything else that fallocate can do makes no sense for a device."""
        handle, offset, length, mode, _ = protocol.fixed_of(Op.FALLOCATE, body)
        served = self._of(handle)
        punch = mode == protocol.PUNCH_HOLE | protocol.KEEP_SIZE
        if not punch and mode & ~protocol.KEEP_SIZE != protocol.ZERO_RANGE:
            raise OSError(errno.EOPNOTSUPP, f"fallocate mode {mode:#x}")
        room = max(0, served.length_bytes - offset)
        if length > room and not mode & protocol.KEEP_SIZE:
            raise OSError(errno.ENOSPC, "beyond the end of the volume")
        return Begun(partial(served.make_zero_now, offset, min(length, room), punch=punch))

    def _lseek(self, unique: int, inode: int, body: bytes) -> Begun:
        handle, offset, whence, _ = protocol.fixed_of(Op.LSEEK, body)
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(errno.EINVAL, f"lseek by {whence}")
        seek = partial(self._of(handle).seek_now, offset, data=whence == os.SEEK_DATA)
        return Begun(seek, replies.pack_offset)

    def read(self, handle: int, offset: int, size: int, answer: Answer) -> None:
        """Read, and have ``answer`` called with the bytes."""
        served = self._served.get(handle) or self._of(handle)
        served.read_now(offset, self._buffer[:size], answer)

    def write(self, handle: int, offset: int, data: memoryview | bytes, answer: Answer) -> bool:
        """Write, and have ``answer`` called with how many bytes. True: ``data`` is kept."""
        served = self._served.get(handle) or self._of(handle)
        return served.write_now(offset, data, answer)
