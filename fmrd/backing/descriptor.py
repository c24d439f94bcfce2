"""This is the open file of a plex, as copies and holes need it: what it is, reads and writes, spare descriptors."""

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Sequence
from functools import partial

from fmrd.backing import libc
from fmrd.backing.calls.reach import Standing
from fmrd.backing.calls.system_calls import Began
from fmrd.backing.looking import far
from fmrd.backing.owning.disk_below import disk_of, never_waits
from fmrd.backing.owning.under_way import HandedOver, Writing, identity
from fmrd.backing.ring import transfers
from fmrd.backing.ring.abi import NotBegun, error_of
from fmrd.backing.ring.buffers import address_of
from fmrd.backing.ring.ring import Ring
from fmrd.errors import PlexChanged


class Descriptor:
    """A descriptor is of a plex, open and locked. All methods may be called from any thread."""

    def __init__(self, path: str, descriptor: int, tail_bytes: int) -> None:
        self.path = path
        self.fd = descriptor
        status = os.fstat(descriptor)
        self.file = identity(status)
        """Which one it is, and was when it is closed."""
        self.is_block = stat.S_ISBLK(status.st_mode)
        size = os.lseek(descriptor, 0, os.SEEK_END) if self.is_block else status.st_size
        self.length = max(0, size - tail_bytes) if self.is_block else size
        self.file_system = 0 if self.is_block else libc.file_system(descriptor)
        self.inline = self.file_system in (libc.TMPFS, libc.RAMFS)
        self.disk = disk_of(status)
        self.far = far.way_to(status)
        self.fence = ""
        self.standing: Standing | None = None
        self.patience_seconds = float("inf")
        self.handed_over = HandedOver(self.file)
        self.ring: Ring | None = None
        """What writes here may be handed to, by the one thread that has it."""
        self.in_worker = not self.is_block
        """Writes to files that are tried first may queue behind those to another one that hangs (backing/ring)."""
        self._becoming = self.length
        """What ``extend`` is about to make of the length."""
        self.known_data = (0, 0)
        """[start, stop) in bytes of a stretch that is data, not a hole; see holes.segments."""
        self._asks_the_cache = True
        """Until the file system says that it cannot tell whether it would wait (many network ones)."""
        self._takes_now = self.file_system in libc.WRITES_NOW and never_waits(status.st_dev)
        self._spare: list[int] = []
        self._spare_lock = threading.Lock()
        self._closed = False

    def writing(self) -> contextlib.AbstractContextManager[None]:
        """Entered by whoever writes, around the call; what is in memory does not hang."""
        return contextlib.nullcontext() if self.inline else Writing(self.file)

    def must_be_ours(self) -> None:
        """PlexChanged where somebody else changed the file's length, or removed it. Asked at each fdatasync, before a
        write that would bring a file that was cut back to its length, and where it ends too early.
        """
        if self.is_block:
            return
        status = os.fstat(self.fd)
        if not status.st_nlink:
            raise PlexChanged(errno.EIO, f"{self.path} was removed by somebody else")
        if status.st_size not in (self.length, self._becoming):
            sizes = f"{status.st_size} bytes long, and had {self.length}"
            raise PlexChanged(errno.EIO, f"{self.path} was changed by somebody else: it is {sizes}")

    def ends_too_early(self, at: int, missing: int) -> OSError:
        """A read came to the end of the file: PlexChanged if that was moved."""
        self.must_be_ours()
        return OSError(errno.EIO, f"{self.path} ends at byte {at}, {missing} too early")

    def pread(self, offset: int, length: int) -> bytes:
        data = os.pread(self.fd, length, offset)
        if len(data) == length:
            return data
        parts = [data]
        got = len(data)
        while got < length:
            more = os.pread(self.fd, length - got, offset + got)
            if not more:
                raise self.ends_too_early(offset + got, length - got)
            parts.append(more)
            got += len(more)
        return b"".join(parts)

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        got = os.preadv(self.fd, [buffer], offset)
        while got < len(buffer):
            more = os.preadv(self.fd, [buffer[got:]], offset + got)
            if not more:
                raise self.ends_too_early(offset + got, len(buffer) - got)
            got += more

    def pread_now(self, offset: int, buffer: memoryview) -> bool:
        if self._asks_the_cache:
            try:
                return os.preadv(self.fd, [buffer], offset, os.RWF_NOWAIT) == len(buffer)
            except BlockingIOError:
                return False
            except OSError as error:
                self._asks_the_cache = error.errno not in (errno.EOPNOTSUPP, errno.EINVAL)
        return False

    def pwrite_now(self, offset: int, data: bytes | memoryview) -> bool | None:
        """No note is made of it: it never sleeps, so it has ended before its process has. By the thread that has the
        ring. What failed is asked once more by whoever may wait, and judged there.
        """
        ring = self.ring
        if not self._takes_now or ring is None:
            return None
        if offset + len(data) >= self.length:
            try:
                self.must_be_ours()
            except OSError:
                return False
        done = ring.write_now(self.fd, address_of(data), len(data), offset)
        self._takes_now = done not in (-errno.EOPNOTSUPP, -errno.EINVAL)
        return done == len(data)

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        if offset + len(data) >= self.length:
            self.must_be_ours()
        if self.inline:  # the hot path: no note is needed, and none is paid for
            if os.pwrite(self.fd, data, offset) != len(data):
                self._pwrite_all(offset, data)
            return
        with self.writing():
            self._pwrite_all(offset, data)

    def _pwrite_all(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        written = os.pwrite(self.fd, data, offset)
        while written < len(data):
            more = os.pwrite(self.fd, memoryview(data)[written:], offset + written)
            if not more:
                raise OSError(errno.EIO, f"{self.path} took no byte at {offset + written}")
            written += more

    @property
    def begins(self) -> bool:
        return self.ring is not None

    def push_write(
        self, offset: int, address: int, data: bytes | memoryview, told: Callable[[int], None]
    ) -> None:  # fmt: skip
        """Push a write of ``data``, which lies at ``address``, into the ring. ``told`` is what the ring tells: either
        that is all of it, and is counted off in ``handed_over``, or finish_write has the rest. OSError: nothing was
        pushed. What is asked of a local file besides is answered from memory.
        """
        assert self.ring is not None, "nothing begins without one"
        if offset + len(data) >= self.length:
            self.must_be_ours()
        try:
            self.handed_over.enter()
        except OSError as error:
            raise NotBegun(errno.ENOMEM, str(error)) from error
        self.ring.write(self.fd, address, len(data), offset, told, data, self.in_worker)

    def finish_write(self, offset: int, address: int, data: bytes | memoryview, ended: Began, result: int) -> None:
        """The ring told ``result`` of such a write: go on where that is not all of it, until it has ended."""

        def over(error: Exception | None) -> None:
            self.handed_over.leave()
            ended(error)

        transfers.Write(self, offset, address, len(data), data, over).told(result)

    def begin_pwrite(self, offset: int, data: bytes | memoryview, ended: Began) -> None:
        """Write as pwrite does, through the ring."""
        address = address_of(data)
        try:
            self.push_write(offset, address, data, partial(self.finish_write, offset, address, data, ended))
        except OSError as error:
            ended(error)

    def begin_pwrites(self, parts: Sequence[tuple[int, bytes | memoryview]], ended: Began) -> None:
        """The same of several; of those that fail the first to end is told."""
        errors: list[Exception | None] = []

        def one(error: Exception | None) -> None:
            errors.append(error)
            if len(errors) == len(parts):
                ended(next((each for each in errors if each is not None), None))

        for offset, data in parts:
            self.begin_pwrite(offset, data, one)

    def begin_pread_into(self, offset: int, buffer: memoryview, ended: Began) -> None:
        """As pread_into, through the ring."""
        transfers.Read(self, offset, address_of(buffer), len(buffer), buffer, ended).push()

    def begin_fdatasync(self, ended: Began) -> None:
        """As fdatasync, through the ring."""
        assert self.ring is not None, "nothing begins without one"
        try:
            self.must_be_ours()
        except OSError as error:
            ended(error)
            return
        self.ring.fdatasync(self.fd, lambda result: ended(error_of(result) if result < 0 else None))

    def fallocate(self, mode: int, offset: int, length: int) -> None:
        libc.fallocate(self.fd, mode, offset, length)

    def borrow(self) -> int:
        """Return a descriptor with a file position of its own, for sendfile; it is given back by ``give_back``."""
        with self._spare_lock:
            if self._spare:
                return self._spare.pop()
        return os.open(f"/proc/self/fd/{self.fd}", os.O_RDWR | os.O_CLOEXEC)

    def give_back(self, descriptor: int) -> None:
        with self._spare_lock:
            if not self._closed:
                self._spare.append(descriptor)
                return
        os.close(descriptor)

    def hang_up(self) -> None:
        """There is no session."""

    def close(self) -> None:
        """Close it; once is enough, twice does no harm. A call that comes too late fails with EBADF: the number of a
        closed descriptor may belong to another plex by then.
        """
        with self._spare_lock:
            if self._closed:
                return
            self._closed = True
            descriptors, self._spare = [*self._spare, self.fd], []
            self.fd = -1
        for descriptor in descriptors:
            os.close(descriptor)
