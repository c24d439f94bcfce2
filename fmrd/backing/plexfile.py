"""A plex's data is a regular file or a block device, buffered, raw from byte 0."""

import contextlib
import errno
import fcntl
import os
import shlex
import stat
import zlib
from collections.abc import Iterator, Sequence

from fmrd.backing import copying, holes, libc
from fmrd.backing.descriptor import Descriptor
from fmrd.backing.nbd.copying import fetch
from fmrd.backing.nbd.plex import NbdPlex
from fmrd.backing.owning.locking import Lock
from fmrd.backing.protocol import Backing, Seen
from fmrd.core.stamps import Piece, Stamp, Sum
from fmrd.errors import BadRequest, Failed, Refused


class PlexFile(Descriptor):
    """This is protocol.Backing for real, open and locked. All methods may be called from any thread."""

    lock: Lock | None = None

    def pread_there(self, offset: int, length: int) -> bytes:
        if self.far:  # pages that nobody flushed yet stay, and are what will be there
            os.posix_fadvise(self.fd, offset, length, os.POSIX_FADV_DONTNEED)
        return self.pread(offset, length)

    def make_zero(self, offset: int, length: int, *, punch: bool) -> None:
        with self.writing():
            holes.make_zero(self, offset, offset + length, punch=punch)

    def data_until(self, offset: int, stop: int) -> tuple[bool, int]:
        found = holes.segments(self, offset, stop)
        return found[0][2], found[0][1]

    def is_known_data(self, offset: int, stop: int) -> bool:
        known = self.known_data
        return known[0] <= offset and stop <= known[1]

    def fdatasync(self) -> None:
        self.must_be_ours()
        os.fdatasync(self.fd)

    def fsync(self) -> None:
        self.must_be_ours()
        os.fsync(self.fd)

    def copy_from(self, source: Backing, offset: int, length: int) -> int:
        if not isinstance(source, PlexFile):
            return self.copy_spans(source, [(offset, offset + length)])
        if offset + length >= self.length:
            self.must_be_ours()
        with self.writing():
            return copying.copy_range(source, self, offset, length)

    def copy_spans(self, source: Backing, spans: Sequence[tuple[int, int]]) -> int:
        if not isinstance(source, PlexFile):
            assert isinstance(source, NbdPlex), "one host opens all plexes of a volume"
            return fetch(source, self, spans)
        if spans[-1][1] >= self.length:
            self.must_be_ours()
        with self.writing():
            return copying.copy_spans(source, self, spans)

    def extend(self, length: int) -> None:
        if self.is_block:
            if self.length < length:
                raise OSError(errno.ENOSPC, f"{self.path} has {self.length} usable bytes, {length} are needed")
            return
        if self.length < length:
            self._becoming = length
            with self.writing():
                os.ftruncate(self.fd, length)
            self.length = length

    def fallocate(self, mode: int, offset: int, length: int) -> None:
        """Of a device only its owner may do that."""
        if not self.is_block or self.lock is None:
            super().fallocate(mode, offset, length)
            return

        def call(descriptor: int) -> None:
            with self.writing():
                libc.fallocate(descriptor, mode, offset, length)

        self.lock.run(call)

    def close(self) -> None:
        super().close()
        lock, self.lock = self.lock, None
        if lock is not None:
            lock.release()

    def stamp(self, pieces: Sequence[Piece] = ()) -> Stamp:
        content: list[Sum] = []
        with contextlib.suppress(OSError):
            for offset, length in pieces:
                os.posix_fadvise(self.fd, offset, length, os.POSIX_FADV_DONTNEED)
                content.append(Sum(offset, length, zlib.crc32(self.pread(offset, length))))
        if self.is_block:
            return Stamp(0, 0, 0, content=tuple(content))
        status = os.fstat(self.fd)
        return Stamp(
            status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, content=tuple(content),
            invented=self.file_system in libc.INVENTED_INODES,
        )  # fmt: skip


def open_plex(path: str, tail_bytes: int) -> PlexFile:
    """Open and lock a file or a block device; protocol.Host.open_plex has the errors."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise Failed("plex_missing", f"there is no {path}") from None
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise BadRequest("not_a_plex", f"{path} is neither a regular file nor a block device")
    with _in_use(path):
        return _locked(path, os.open(path, os.O_RDWR | os.O_CLOEXEC), tail_bytes)


def take_plex(path: str, tail_bytes: int, seen: Seen) -> PlexFile:
    """See Host.take_plex."""
    plex = open_plex(path, tail_bytes)
    try:
        status = os.fstat(plex.fd)
        if not seen.is_same(status):
            raise Refused("refused_in_use", f"{path} was replaced by something else while fmrd looked at it")
        if not plex.is_block:
            own(path, plex.fd, status)
    except BaseException:
        plex.close()
        raise
    return plex


def own(path: str, descriptor: int, status: os.stat_result) -> None:
    """Nobody else may read or write a file that carries a volume's bytes. Who has it open already, keeps it so. A file
    system that keeps no modes (nbdfuse) says by its mount who may use it.
    """
    uid = os.geteuid()
    try:
        if status.st_uid != uid:
            os.fchown(descriptor, uid, os.getegid())
        if stat.S_IMODE(status.st_mode) != 0o600:
            os.fchmod(descriptor, 0o600)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
            return
        if error.errno != errno.EPERM:
            raise
        mode = stat.S_IMODE(status.st_mode)
        raise Refused(
            "refused_unsafe",
            f"{path} belongs to the user {status.st_uid} with mode {mode:04o}, and that cannot be mended",
            f"chown {uid} {shlex.quote(path)}; chmod 600 {shlex.quote(path)}",
        ) from None


def create_plex(path: str, length: int) -> PlexFile:
    """Make a sparse file of that many zero bytes, durable under its name, open and locked. Failed('plex_exists')."""
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
    """Make a file that shares the blocks of ``source``, which costs nothing. OSError where that cannot be done."""
    with contextlib.ExitStack() as stack:
        original = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, original)
        copy = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        stack.callback(os.close, copy)
        try:
            fcntl.ioctl(copy, libc.FICLONE, original)
            os.fsync(copy)
            sync_directory(target)
        except BaseException:
            os.unlink(target)
            raise


def _locked(path: str, descriptor: int, tail_bytes: int) -> PlexFile:
    """A device is locked by O_EXCL alone. A flock on it is udev's language: it takes a shared one while it looks at a
    device, and waits, with everybody who waits for it, where another has it exclusively.
    """
    try:
        plex = PlexFile(path, descriptor, tail_bytes)
    except BaseException:
        os.close(descriptor)
        raise
    try:
        plex.lock = Lock(descriptor, device=plex.is_block)
    except BlockingIOError:
        plex.close()
        raise Failed("plex_busy", f"{path} is locked by another daemon or volume") from None
    except BaseException:
        plex.close()
        raise
    return plex


@contextlib.contextmanager
def _in_use(path: str) -> Iterator[None]:
    """Some kernels let nobody even open a device that is mounted."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise Failed("plex_busy", f"{path} is in use (mounted, or another owner's)") from None
        raise


def sync_directory(path: str) -> None:
    """Make the directory entry of ``path`` durable."""
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
