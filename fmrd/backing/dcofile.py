"""A copy of the DCO on disk is open by O_DIRECT | O_DSYNC: so a mark is one aligned write, and drags nothing along."""

import errno
import mmap
import os
import stat
import threading
from collections.abc import Sequence

from fmrd.backing import libc, locator
from fmrd.backing.holes import is_hole
from fmrd.backing.looking import far
from fmrd.backing.owning.under_way import Writing, identity
from fmrd.backing.plexfile import own, sync_directory
from fmrd.backing.protocol import DCO_BLOCK_BYTES, LOCATOR_BYTES
from fmrd.errors import Failed, Refused

ZEROED_BYTES = 32 << 20
"""Up to this size new space is written with zeros, so that later writes are plain overwrites; beyond, preallocated."""


class DcoFile:
    """This is protocol.DcoFile for real. ``base`` is where the copy begins in the file: 0, or the start of the area at
    a device's tail, whose ``length`` is fixed. One lock makes its reads and writes serial, from whatever thread.
    """

    def __init__(self, path: str, base: int = 0, length: int | None = None, tail: int | None = None) -> None:
        self.path = path
        self.tail = tail
        self.direct = True
        self._fixed = length is not None
        # A device may well be named by a link; a sidecar that is one was put there by somebody else.
        self._flags = os.O_RDWR | os.O_CLOEXEC | os.O_DSYNC | (0 if self._fixed else os.O_NOFOLLOW)
        try:
            self._fd = os.open(path, self._flags | os.O_DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._use_page_cache()
        self._base = base
        self.file = identity(status := os.fstat(self._fd))
        self.far = far.way_to(status)
        self.fence = ""
        self.length = length if length is not None else status.st_size
        self._lock = threading.Lock()
        self._buffer = mmap.mmap(-1, 1 << 20)

    def _use_page_cache(self) -> None:
        """Where O_DIRECT is refused (some FUSE and network file systems): slower, and as durable."""
        self.direct = False
        self._fd = os.open(self.path, self._flags)

    def read(self, offset: int, length: int) -> bytes:
        first = offset // DCO_BLOCK_BYTES * DCO_BLOCK_BYTES
        stop = -(-(offset + length) // DCO_BLOCK_BYTES) * DCO_BLOCK_BYTES
        found = bytearray()
        with self._lock:
            while first + len(found) < min(stop, self.length):
                at = first + len(found)
                want = min(len(self._buffer), min(stop, self.length) - at)
                want = -(-want // DCO_BLOCK_BYTES) * DCO_BLOCK_BYTES
                count = self._pread(memoryview(self._buffer)[:want], self._base + at)
                if count == 0:
                    break
                found += self._buffer[:count]
        found += bytes(max(0, stop - first - len(found)))
        return bytes(found[offset - first : offset - first + length])

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        assert offset % DCO_BLOCK_BYTES == 0 and len(data) % DCO_BLOCK_BYTES == 0, "whole blocks"
        if offset + len(data) > self.length:
            raise OSError(errno.ENOSPC, f"{self.path} has no room at byte {offset} of its DCO")
        with self._lock, Writing(self.file):
            view = memoryview(data)
            for at in range(0, len(view), len(self._buffer)):
                piece = view[at : at + len(self._buffer)]
                self._buffer[: len(piece)] = bytes(piece)
                self._write_all(memoryview(self._buffer)[: len(piece)], self._base + offset + at)

    def _pread(self, piece: memoryview, offset: int) -> int:
        try:
            return os.preadv(self._fd, [piece], offset)
        except OSError as error:
            self._not_direct(error)
            return os.preadv(self._fd, [piece], offset)

    def _not_direct(self, error: OSError) -> None:
        """Some file systems take O_DIRECT when a file is opened and refuse it at the first read or write."""
        if error.errno != errno.EINVAL or not self.direct:
            raise error
        self.close()
        self._use_page_cache()

    def _write_all(self, piece: memoryview, offset: int) -> None:
        try:
            written = os.pwrite(self._fd, piece, offset)
        except OSError as error:
            self._not_direct(error)
            written = os.pwrite(self._fd, piece, offset)
        if written != len(piece):
            raise OSError(errno.EIO, f"{self.path} took {written} of {len(piece)} bytes")

    def extend(self, length: int) -> None:
        if self.tail is not None:
            self._follow()
        if length <= self.length:
            return
        if self._fixed:
            raise OSError(errno.ENOSPC, f"the DCO area at the tail of {self.path} cannot grow")
        old, self.length = self.length, length
        first = old // DCO_BLOCK_BYTES * DCO_BLOCK_BYTES  # a file cut within a block: what is left of it is lost anyway
        try:
            if length - first <= ZEROED_BYTES or not self._preallocate(first, length):
                for at in range(first, length, 1 << 20):
                    self.write(at, bytes(min(1 << 20, length - at)))
            os.fsync(self._fd)
        except BaseException:
            self.length = old
            raise

    def reserve(self, length: int, spans: Sequence[tuple[int, int]]) -> None:
        if length > self.length:
            if self._fixed:
                raise OSError(errno.ENOSPC, f"the DCO area at the tail of {self.path} cannot grow")
            with Writing(self.file):
                os.ftruncate(self._fd, length)
            self.length = length
        for offset, size in spans:
            self._preallocate(offset, offset + size)
        os.fsync(self._fd)

    def _follow(self) -> None:
        """The device became longer: its last block says where the area is, as everybody expects."""
        size = locator.device_bytes(self.path)
        if self.tail != locator.place(size):
            _write_locator(self.path, size, locator.pack(self._base, self.length))
            self.tail = locator.place(size)

    def _preallocate(self, start: int, stop: int) -> bool:
        try:
            with Writing(self.file):
                libc.fallocate(self._fd, 0, start, stop - start)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS):
                return False
            raise
        return True

    def hang_up(self) -> None:
        """There is no session."""

    def close(self) -> None:
        descriptor, self._fd = self._fd, -1
        if descriptor >= 0:
            os.close(descriptor)


def create_file(path: str, length: int, *, replace: bool = False) -> DcoFile:
    """A zeroed copy in a new file. One that lies there is used if it is empty, and emptied with ``replace`` alone."""
    made = True
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        made = False
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not made:
            _empty(path, descriptor, replace=replace)
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
    file = DcoFile(path)
    try:
        file.extend(length)
        sync_directory(path)
    except BaseException:
        file.close()
        if made:
            os.unlink(path)
        raise
    return file


def _empty(path: str, descriptor: int, *, replace: bool) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise Failed("dco_missing", f"{path} is not a regular file")
    if not replace and not is_hole(descriptor):
        raise Refused("refused_has_data", f"the copy of the DCO would be {path}, which is a file that is not empty")
    own(path, descriptor, status)
    with Writing(identity(status)):
        os.ftruncate(descriptor, 0)


def open_file(path: str) -> DcoFile | None:
    """Return the copy in a file; None where nothing is, Failed('dco_missing') where it is no regular file."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise Failed("dco_missing", f"{path} is not a regular file")
    except FileNotFoundError:
        return None
    return DcoFile(path)


def create_tail(path: str, length: int) -> DcoFile:
    """Zero the area before a device's last block, and write the locator into that. Failed('plex_too_short')."""
    size = locator.device_bytes(path)
    base = size - LOCATOR_BYTES - length
    if base < 0:
        raise Failed("plex_too_short", f"{path} has {size} bytes, less than a DCO of {length}")
    base -= base % DCO_BLOCK_BYTES
    area = DcoFile(path, base, length, locator.place(size))
    try:
        for at in range(0, length, 1 << 20):
            area.write(at, bytes(min(1 << 20, length - at)))
        _write_locator(path, size, locator.pack(base, length))
    except BaseException:
        area.close()
        raise
    return area


def open_tail(path: str, known: int | None = None) -> DcoFile | None:
    """Return the copy at a device's tail; None where there is no valid locator (``locate``)."""
    found = locator.locate(path, known)
    return None if found is None else DcoFile(path, *found)


def wipe_tail(path: str) -> None:
    """Overwrite the locator of a device, if there is a valid one: its area is no copy any more."""
    if locator.locate(path) is not None:
        _write_locator(path, locator.device_bytes(path), b"")


def _write_locator(path: str, size: int, content: bytes) -> None:
    block = DcoFile(path, locator.place(size), LOCATOR_BYTES)
    try:
        block.write(0, content + bytes(LOCATOR_BYTES - len(content)))
    finally:
        block.close()
