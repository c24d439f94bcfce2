"""The file of a volume as one of fmrd's own clients reads and writes it: large pieces, in order, and none of it kept.

What is read once fills memory that others had a use for: so the page cache gives up what was read, behind the reader.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TypeVar

from fmrd.backing import libc

DROP_BYTES = 8 << 20
"""The cache gives up so much at a time."""
ZERO_BYTES = 16 << 20
"""Zeros are made so much at a time, so that others have their turn."""
_CANNOT = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_ZEROS = bytes(1 << 20)
T = TypeVar("T")
R = TypeVar("R")


class VolumeFile:
    """A volume's file, open: for reading, or with ``writes`` for both. Offsets and lengths are bytes. OSError.
    ``behind``: paths of what the daemon reads for it, and for nobody else, whose pages go, too, as far as they are
    files or devices here. ``direct``: past the page cache, where that can be, in requests as large as they are asked
    for: who does several at a time needs nothing to be read ahead, and spares each byte a copy.
    """

    def __init__(self, path: str, *, writes: bool = False, behind: Sequence[str] = (), direct: bool = False) -> None:
        self.path = path
        self._behind: list[int] = []
        self._fd = _opened(path, (os.O_RDWR if writes else os.O_RDONLY) | os.O_CLOEXEC, direct=direct)
        self._direct = direct
        self._memory = _Memory()
        self._dropped = 0
        self._read = False
        with contextlib.suppress(OSError):
            advice = os.POSIX_FADV_RANDOM if direct else os.POSIX_FADV_SEQUENTIAL
            os.posix_fadvise(self._fd, 0, 0, advice)
        for each in behind:
            with contextlib.suppress(OSError):
                self._behind.append(os.open(each, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))

    def __enter__(self) -> "VolumeFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self.close()

    @property
    def length_bytes(self) -> int:
        return os.fstat(self._fd).st_size

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly so many bytes; OSError(EIO) where the volume ends before."""
        view = self._memory.of(length)
        got = 0
        while got < length:
            more = self._at_hand(os.preadv, [view[got:]], offset + got)
            if not more:
                raise OSError(errno.EIO, f"{self.path} ends at {offset + got}")
            got += more
        data = bytes(view)
        self._read = True
        end = offset + length
        if not self._dropped <= end < self._dropped + DROP_BYTES:
            self.drop(min(self._dropped, offset), end)
            self._dropped = end
        return data

    def write(self, offset: int, data: bytes) -> None:
        """Write all of it."""
        view = memoryview(data)
        if self._direct:
            view = self._memory.of(len(data))
            view[:] = data
        while view:
            written = self._at_hand(os.pwrite, view, offset)
            view, offset = view[written:], offset + written

    def _at_hand(self, call: Callable[[int, T, int], R], what: T, offset: int) -> R:
        """Do it; by the page cache where the file takes nothing directly that is not aligned. Volumes of fmrd's do."""
        try:
            return call(self._fd, what, offset)
        except OSError as error:
            if error.errno != errno.EINVAL or not self._direct:
                raise
            flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
            fcntl.fcntl(self._fd, fcntl.F_SETFL, flags & ~os.O_DIRECT)  # another thread perhaps did so already
            return call(self._fd, what, offset)

    def make_zero(self, offset: int, length: int) -> None:
        """Make zeros, without blocks where that can be."""
        stop = offset + length
        while offset < stop:
            size = min(ZERO_BYTES, stop - offset)
            try:
                libc.fallocate(self._fd, libc.PUNCH_HOLE | libc.KEEP_SIZE, offset, size)
            except OSError as error:
                if error.errno not in _CANNOT:
                    raise
                for at in range(offset, offset + size, len(_ZEROS)):
                    self.write(at, _ZEROS[: min(len(_ZEROS), offset + size - at)])
            offset += size

    def sync(self) -> None:
        """Return when all that was written is durable on every plex."""
        os.fsync(self._fd)

    def drop(self, offset: int, stop: int) -> None:
        """Let the page cache give up what it holds of these bytes."""
        for descriptor in (self._fd, *self._behind):
            with contextlib.suppress(OSError):
                os.posix_fadvise(descriptor, offset, stop - offset, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        if self._fd >= 0:
            if self._read:
                self.drop(0, self.length_bytes)
            for descriptor in (self._fd, *self._behind):
                os.close(descriptor)
            self._fd, self._behind = -1, []


class _Memory(threading.local):
    """Memory of each thread's own that begins with a page: a direct request from elsewhere touches a page more than it
    is long, and what is more than one request may have becomes two, of which the second is a few bytes.
    """

    def __init__(self) -> None:
        self._there = mmap.mmap(-1, mmap.PAGESIZE)

    def of(self, length: int) -> memoryview:
        """Return so many bytes of it; they are the same the next time."""
        if len(self._there) < length:
            self._there = mmap.mmap(-1, length)
        return memoryview(self._there)[:length]


def _opened(path: str, flags: int, *, direct: bool) -> int:
    """Some file systems have no direct access, and say so at once."""
    if direct:
        try:
            return os.open(path, flags | os.O_DIRECT)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
    return os.open(path, flags)


def sync(descriptor: int) -> None:
    """Return when what was written to a file is on its disk."""
    os.fsync(descriptor)
