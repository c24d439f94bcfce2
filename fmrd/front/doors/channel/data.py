"""Open files and their data: answered at once where nothing has to be waited for, by a task where something has."""

import errno
import mmap
import os
from collections.abc import Awaitable, Callable
from functools import partial

from fmrd.engine.served import Served
from fmrd.engine.serving.quick import Half
from fmrd.front.doors.channel import protocol
from fmrd.front.doors.channel.answers import Work
from fmrd.front.doors.channel.handles import Handles
from fmrd.front.doors.channel.protocol import Op
from fmrd.front.doors.tree import Tree

Answer = bytes | memoryview | Work


class Files:
    """The volumes behind the handles of the mount. Each of ``answers`` takes (unique, inode, body); they, ``read`` and
    ``write`` raise OSError or FmrdError for a refusal.
    """

    def __init__(self, tree: Tree, handles: Handles) -> None:
        self._tree = tree
        self._handles = handles
        self._served: dict[int, Served] = {}
        self._buffer = memoryview(mmap.mmap(-1, protocol.MAX_WRITE_BYTES))
        """What is read at once, from the beginning of a page."""
        self.answers: dict[int, Callable[[int, int, bytes], Answer]] = {
            Op.OPEN: self._open,
            Op.RELEASE: self._release,
            Op.FSYNC: self._fsync,
            Op.FALLOCATE: self._fallocate,
            Op.LSEEK: self._lseek,
        }

    def appeared(self, served: Served) -> None:
        """A volume whose files are open since before: its opens are counted again."""
        for handle, inode in self._handles:
            if inode == served.number and self._served.get(handle) is not served:
                self._served[handle] = served
                served.opened()

    def _open(self, unique: int, inode: int, body: bytes) -> Answer:
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
        return protocol.pack_open(handle)

    def _release(self, unique: int, inode: int, body: bytes) -> Answer:
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

    def _fsync(self, unique: int, inode: int, body: bytes) -> Answer:
        return partial(_flushed, self._of(protocol.fixed_of(Op.FSYNC, body)[0]))

    def _fallocate(self, unique: int, inode: int, body: bytes) -> Answer:
        """Discard and zeroes. Anything else that fallocate can do makes no sense for a device."""
        handle, offset, length, mode, _ = protocol.fixed_of(Op.FALLOCATE, body)
        served = self._of(handle)
        punch = mode == protocol.PUNCH_HOLE | protocol.KEEP_SIZE
        if not punch and mode & ~protocol.KEEP_SIZE != protocol.ZERO_RANGE:
            raise OSError(errno.EOPNOTSUPP, f"fallocate mode {mode:#x}")
        room = max(0, served.length_bytes - offset)
        if length > room and not mode & protocol.KEEP_SIZE:
            raise OSError(errno.ENOSPC, "beyond the end of the volume")
        return partial(_made_zero, served, offset, min(length, room), punch)

    def _lseek(self, unique: int, inode: int, body: bytes) -> Answer:
        handle, offset, whence, _ = protocol.fixed_of(Op.LSEEK, body)
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(errno.EINVAL, f"lseek by {whence}")
        return partial(_sought, self._of(handle), offset, whence == os.SEEK_DATA)

    def read(self, handle: int, offset: int, size: int) -> Answer:
        served = self._of(handle)
        count = served.read_now(offset, self._buffer[:size])
        return partial(served.read, offset, size) if count is None else self._buffer[:count]

    def write(self, handle: int, offset: int, data: memoryview) -> Answer | Half | None:
        """None: all of it is written. Up to the end of the volume, as on a device; ENOSPC when nothing fits. A Half is
        to be ``finished`` before the next checkpoint.
        """
        served = self._of(handle)
        done = served.write_now(offset, data, by_halves=True)
        if done is True:
            return None
        if isinstance(done, Half):
            return done
        if done is not False:
            return partial(_written, done, len(data))
        room = max(0, served.length_bytes - offset)
        data = data[:room] if room else data
        return partial(_written, partial(served.write, offset, bytes(data)), len(data))


def finished(half: Half, count: int) -> Work | None:
    """None: it is written."""
    done = half.finish()
    return partial(_written, done, count) if callable(done) else None


async def _written(work: Callable[[], Awaitable[None]], count: int) -> bytes:
    await work()
    return protocol.pack_written(count)


async def _made_zero(served: Served, offset: int, length: int, punch: bool) -> bytes:
    await served.make_zero(offset, length, punch=punch)
    return b""


async def _sought(served: Served, offset: int, data: bool) -> bytes:
    return protocol.pack_offset(await served.seek(offset, data=data))


async def _flushed(served: Served) -> bytes:
    await served.flush()
    return b""
