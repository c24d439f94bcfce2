"""This is the descriptor of /dev/fuse: mounting, and one request or answer at a time, never waiting."""

import array
import contextlib
import ctypes
import errno
import mmap
import os
import shutil
import socket
import stat
import subprocess
from pathlib import Path

from fmrd.backing.ring.buffers import Pool
from fmrd.errors import Failed
from fmrd.front.doors.channel.protocol import MAX_WRITE_BYTES, WRITE_FIXED_BYTES

MS_NOSUID, MS_NODEV, MS_NOATIME = 2, 4, 1024
POOLED = 16
"""Large writes whose memory is used again; more than these are rarely under way."""
_libc = ctypes.CDLL(None, use_errno=True)


def open_and_mount(mount: Path) -> int:
    """Mount there, and return the descriptor. Failed('mount_failed')."""
    try:
        return _by_system_call(mount) if os.geteuid() == 0 else _by_helper(mount)
    except OSError as error:
        raise Failed("mount_failed", f"{mount} cannot be mounted: {error.strerror or error}") from error


def _by_system_call(mount: Path) -> int:
    descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        mode = stat.S_IFMT(os.stat(mount).st_mode)
        who = f"user_id={os.geteuid()},group_id={os.getegid()}"
        options = f"fd={descriptor},rootmode={mode:o},{who},default_permissions"
        flags = MS_NOSUID | MS_NODEV | MS_NOATIME
        if _libc.mount(b"fmrd", os.fsencode(mount), b"fuse.fmrd", ctypes.c_ulong(flags), options.encode()) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _by_helper(mount: Path) -> int:
    """fusermount3 mounts for users, and sends the descriptor over a socket."""
    helper = shutil.which("fusermount3")
    if helper is None:
        raise Failed("mount_failed", "only root mounts without fusermount3 (package fuse3)")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = subprocess.run(
            [helper, "-o", "default_permissions,nosuid,nodev,noatime,fsname=fmrd,subtype=fmrd", "--", str(mount)],
            env=os.environ | {"_FUSE_COMMFD": str(theirs.fileno())}, pass_fds=[theirs.fileno()],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise Failed("mount_failed", f"{mount} cannot be mounted: {done.stderr.strip()}")
        theirs.close()
        _, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_LEN(4))
    for _, kind, data in ancillary:
        if kind == socket.SCM_RIGHTS:
            [descriptor] = array.array("i", data[:4])
            os.set_inheritable(descriptor, False)
            return descriptor
    raise Failed("mount_failed", f"{helper} sent no descriptor for {mount}")


class Device:
    """A device is the open /dev/fuse of one mount. Requests come in two parts, so that the data of a write begins on a
    page: in-kernel copies into unaligned memory cost four times as much.
    """

    def __init__(self, descriptor: int) -> None:
        self._closed = False
        self.descriptor = descriptor
        os.set_blocking(descriptor, False)
        self._pool = Pool(MAX_WRITE_BYTES + mmap.PAGESIZE, POOLED)
        self.head, self.data = self._parts = bytearray(WRITE_FIXED_BYTES), self._pool.take()
        self._next: memoryview | None = None

    def received(self, size: int) -> memoryview | bytes:
        """Return the data that was received last, for whoever may keep it: then ``swap`` is called. Where there is no
        memory to receive the next request in, or all that is used again is in use, it is a copy; MemoryError where
        there is none for that either.
        """
        if self._next is None:
            with contextlib.suppress(OSError, MemoryError):
                self._next = self._pool.spare()
            if self._next is None:
                return bytes(self.data[:size])
        return self.data[:size]

    def swap(self) -> None:
        """Receive into other memory from now on: what was kept stays as it is while somebody refers to it."""
        if self._next is not None:
            self.head, self.data = self._parts = self.head, self._next
            self._next = None

    def receive(self) -> int:
        """Return how many bytes the next request has, in ``head`` and ``data``; 0: there is none. ENODEV: unmounted."""
        while True:
            try:
                return os.readv(self.descriptor, self._parts)
            except BlockingIOError:
                return 0
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EINTR):  # the one it was about went away meanwhile
                    raise

    def request(self, count: int) -> bytes:
        """Return what was received last, to be kept."""
        return bytes(self.head[:count]) + bytes(self.data[: max(0, count - len(self.head))])

    def put_back(self, request: bytes) -> int:
        """Put a request back as if it were received now; return how many bytes it has."""
        head, data = request[: len(self.head)], request[len(self.head) :]
        self.head[: len(head)] = head
        self.data[: len(data)] = data
        return len(request)

    def send(self, *parts: bytes | memoryview) -> None:
        """Send an answer or a notification. Nobody wants it where the request is gone (interrupted), or the mount. It
        may be called on any thread.
        """
        if self._closed:  # its number may be another file's
            return
        try:
            os.writev(self.descriptor, parts)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV, errno.ENOTCONN):
                raise

    def close(self) -> None:
        self._closed = True
        os.close(self.descriptor)
