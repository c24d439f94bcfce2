"""The data of one plex: a regular file or a block device, buffered, raw from byte 0."""

import contextlib
import errno
import fcntl
import os
import stat
import threading
from collections.abc import Sequence

from fmrd.backing import copying, holes, libc
from fmrd.backing.protocol import Backing
from fmrd.core.record import Stamp
from fmrd.errors import BadRequest, Failed

FICLONE = 0x40049409


class PlexFile:
    """Open and locked. All methods may be called from any thread."""

    def __init__(self, path: str, descriptor: int, tail_bytes: int) -> None:
        self.path = path
        self.fd = descriptor
        status = os.fstat(descriptor)
        self.is_block = stat.S_ISBLK(status.st_mode)
        size = os.lseek(descriptor, 0, os.SEEK_END) if self.is_block else status.st_size
        self.length = max(0, size - tail_bytes) if self.is_block else size
        self.file_system = 0 if self.is_block else libc.file_system(descriptor)
        self.inline = self.file_system in (libc.TMPFS, libc.RAMFS)
        self.disk = disk_of(status)
        self.known_data = (0, 0)
        """[start, stop) in bytes of a stretch that is data, not a hole; see holes.segments."""
        self._asks_the_cache = True
        """Until the file system says that it cannot tell whether it would wait (many network ones)."""
        self._spare: list[int] = []
        self._spare_lock = threading.Lock()
        self._closed = False

    def pread(self, offset: int, length: int) -> bytes:
        data = os.pread(self.fd, length, offset)
        if len(data) == length:
            return data
        parts = [data]
        got = len(data)
        while got < length:
            more = os.pread(self.fd, length - got, offset + got)
            if not more:
                raise OSError(errno.EIO, f"{self.path} ends at byte {offset + got}, {length - got} too early")
            parts.append(more)
            got += len(more)
        return b"".join(parts)

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        got = os.preadv(self.fd, [buffer], offset)
        while got < len(buffer):
            more = os.preadv(self.fd, [buffer[got:]], offset + got)
            if not more:
                raise OSError(errno.EIO, f"{self.path} ends at byte {offset + got}, {len(buffer) - got} too early")
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

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        written = os.pwrite(self.fd, data, offset)
        while written < len(data):
            more = os.pwrite(self.fd, memoryview(data)[written:], offset + written)
            if not more:
                raise OSError(errno.EIO, f"{self.path} took no byte at {offset + written}")
            written += more

    def make_zero(self, offset: int, length: int, *, punch: bool) -> None:
        holes.make_zero(self, offset, offset + length, punch=punch)

    def data_until(self, offset: int, stop: int) -> tuple[bool, int]:
        found = holes.segments(self, offset, stop)
        return found[0][2], found[0][1]

    def is_known_data(self, offset: int, stop: int) -> bool:
        known = self.known_data
        return known[0] <= offset and stop <= known[1]

    def fdatasync(self) -> None:
        os.fdatasync(self.fd)

    def copy_from(self, source: Backing, offset: int, length: int) -> int:
        assert isinstance(source, PlexFile), "one host opens all plexes of a volume"
        return copying.copy_range(source, self, offset, length)

    def copy_spans(self, source: Backing, spans: Sequence[tuple[int, int]]) -> int:
        assert isinstance(source, PlexFile), "one host opens all plexes of a volume"
        return copying.copy_spans(source, self, spans)

    def extend(self, length: int) -> None:
        if self.is_block:
            if self.length < length:
                raise OSError(errno.ENOSPC, f"{self.path} has {self.length} usable bytes, {length} are needed")
            return
        if self.length < length:
            os.ftruncate(self.fd, length)
            self.length = length

    def stamp(self) -> Stamp | None:
        if self.is_block:
            return None
        status = os.fstat(self.fd)
        return Stamp(status.st_ino, status.st_size, status.st_mtime_ns)

    def borrow(self) -> int:
        """A descriptor with a file position of its own, for sendfile; give it back with ``give_back``."""
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

    def close(self) -> None:
        """Once is enough, twice does no harm. A call that comes too late fails with EBADF: the number of a closed
        descriptor may belong to another plex by then.
        """
        with self._spare_lock:
            if self._closed:
                return
            self._closed = True
            descriptors, self._spare = [*self._spare, self.fd], []
            self.fd = -1
        for descriptor in descriptors:
            os.close(descriptor)


def open_plex(path: str, tail_bytes: int) -> PlexFile:
    """Open and lock; see Host.open_plex for the errors."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise Failed("plex_missing", f"there is no {path}") from None
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise BadRequest("not_a_plex", f"{path} is neither a regular file nor a block device")
    exclusive = os.O_EXCL if stat.S_ISBLK(mode) else 0
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | exclusive)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise Failed("plex_busy", f"{path} is in use (mounted, or another owner's)") from None
        raise
    return _locked(path, descriptor, tail_bytes)


def create_plex(path: str, length: int) -> PlexFile:
    """A new sparse file of that many zero bytes."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise Failed("plex_exists", f"{path} exists") from None
    try:
        os.ftruncate(descriptor, length)
        os.fsync(descriptor)
        sync_directory(path)
    except BaseException:
        os.close(descriptor)
        os.unlink(path)
        raise
    return _locked(path, descriptor, 0)


def clone(source: str, target: str) -> None:
    """A new file that shares the blocks of ``source``, at the cost of nothing. OSError where that cannot be done."""
    with contextlib.ExitStack() as stack:
        original = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, original)
        copy = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        stack.callback(os.close, copy)
        try:
            fcntl.ioctl(copy, FICLONE, original)
            os.fsync(copy)
            sync_directory(target)
        except BaseException:
            os.unlink(target)
            raise


def _locked(path: str, descriptor: int, tail_bytes: int) -> PlexFile:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return PlexFile(path, descriptor, tail_bytes)
    except BlockingIOError:
        os.close(descriptor)
        raise Failed("plex_busy", f"{path} is locked by another daemon or volume") from None
    except BaseException:
        os.close(descriptor)
        raise


def sync_directory(path: str) -> None:
    """Make the directory entry of ``path`` durable."""
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def disk_of(status: os.stat_result) -> str:
    """The whole disk behind a file's file system or a device, by its kernel name where there is one: through
    partitions, loop devices, and device-mapper targets that lie on a single device.
    """
    device = status.st_rdev if stat.S_ISBLK(status.st_mode) else status.st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        where = os.path.realpath(f"/sys/dev/block/{number}", strict=True)
    except OSError:
        return f"dev:{number}"
    if os.path.exists(os.path.join(where, "partition")):
        where = os.path.dirname(where)
    with contextlib.suppress(OSError):
        below = os.listdir(os.path.join(where, "slaves"))
        if len(below) == 1:
            return disk_of(os.stat(f"/dev/{below[0]}"))
        with open(os.path.join(where, "loop", "backing_file")) as file:
            return disk_of(os.stat(file.read().rstrip("\n")))
    return os.path.basename(where)
