"""The pyfuse3 door: every started volume as a file in a FUSE mount. The only module that imports pyfuse3.

The files behave like block devices: fixed length, no truncation, ENOSPC past the end. All data of a volume passes
through this mount, so the kernel may cache attributes and pages for as long as it likes; it is told when a volume
grows or goes. Telling it can block on requests that this very process must answer, hence the thread.
"""

import contextlib
import errno
import logging
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pyfuse3
import trio

from fmrd.engine.registry import Registry, Served
from fmrd.errors import Failed, FmrdError
from fmrd.front.mounts import allow_more_in_flight, clear_stale_mount

log = logging.getLogger(__name__)

CACHE_SECONDS = 86400.0
"""How long the kernel may trust names and sizes: until it is told, in practice."""
WORKERS = (16, 128)
"""Idle tasks kept, and tasks at most; each holds a buffer of 1 MiB."""
TELL_SECONDS = 1.0
"""How long a verb waits for the kernel to have heard of what it did."""
FINISH_SECONDS = 5.0
BLOCK_BYTES = 4096


def _fuse_error(code: int) -> pyfuse3.FUSEError:
    return pyfuse3.FUSEError(code)


@contextlib.contextmanager
def _errors_as_errno(what: str) -> Iterator[None]:
    """Whatever goes wrong becomes an errno: no failure of one request may end the mount for all."""
    try:
        yield
    except FmrdError as error:
        raise _fuse_error(error.errno) from error
    except OSError as error:
        raise _fuse_error(error.errno or errno.EIO) from error
    except pyfuse3.FUSEError:
        raise
    except Exception:
        log.exception("%s failed in a way that nobody foresaw", what)
        raise _fuse_error(errno.EIO) from None


class VolumeFiles(pyfuse3.Operations):
    """FUSE requests -> Served. Inode numbers are the volumes' own, 1 is the mount's root."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, registry: Registry) -> None:
        super().__init__()
        self._registry = registry
        self._handles: dict[int, Served] = {}
        self._next_handle = 1
        self._born_ns = time.time_ns()

    # Names and attributes

    async def lookup(self, parent_inode: int, name: bytes, ctx: object) -> pyfuse3.EntryAttributes:
        if name in (b".", b".."):
            return self._root()
        served = self._registry.find(os.fsdecode(name)) if parent_inode == pyfuse3.ROOT_INODE else None
        if served is None:
            raise _fuse_error(errno.ENOENT)
        return self._attributes(served)

    async def getattr(self, inode: int, ctx: object = None) -> pyfuse3.EntryAttributes:
        return self._root() if inode == pyfuse3.ROOT_INODE else self._attributes(self._served(inode))

    async def setattr(
        self, inode: int, attr: pyfuse3.EntryAttributes, fields: pyfuse3.SetattrFields, fh: int | None, ctx: object
    ) -> pyfuse3.EntryAttributes:
        """Times are not kept; a device has no other length, mode or owner than its own."""
        if inode == pyfuse3.ROOT_INODE or fields.update_mode or fields.update_uid or fields.update_gid:
            raise _fuse_error(errno.EPERM)
        served = self._served(inode)
        if fields.update_size and attr.st_size != served.length_bytes:
            raise _fuse_error(errno.EPERM)
        return self._attributes(served)

    def _served(self, inode: int) -> Served:
        for served in self._registry.served():
            if served.number == inode:
                return served
        raise _fuse_error(errno.ESTALE)

    def _attributes(self, served: Served) -> pyfuse3.EntryAttributes:
        entry = self._entry(served.number, stat.S_IFREG | 0o600)
        entry.st_size = served.length_bytes
        entry.st_blocks = served.length_bytes // 512
        return entry

    def _root(self) -> pyfuse3.EntryAttributes:
        return self._entry(pyfuse3.ROOT_INODE, stat.S_IFDIR | 0o700)

    def _entry(self, inode: int, mode: int) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        entry.st_mode = mode
        entry.st_nlink = 1
        entry.st_uid, entry.st_gid = os.geteuid(), os.getegid()
        entry.st_blksize = BLOCK_BYTES
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = self._born_ns
        entry.entry_timeout = entry.attr_timeout = CACHE_SECONDS
        return entry

    async def statfs(self, ctx: object) -> pyfuse3.StatvfsData:
        """A file system that is exactly full of its volumes."""
        found = self._registry.served()
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = BLOCK_BYTES
        data.f_blocks = sum(served.length_bytes for served in found) // BLOCK_BYTES
        data.f_bfree = data.f_bavail = data.f_ffree = data.f_favail = 0
        data.f_files = len(found)
        data.f_namemax = 64
        return data

    # The directory

    async def opendir(self, inode: int, ctx: object) -> int:
        if inode != pyfuse3.ROOT_INODE:
            raise _fuse_error(errno.ENOTDIR)
        return pyfuse3.ROOT_INODE

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        for served in sorted(self._registry.served(), key=lambda s: s.number):
            if served.number > start_id and not pyfuse3.readdir_reply(
                token, os.fsencode(served.name), self._attributes(served), served.number
            ):
                return

    async def releasedir(self, fh: int) -> None:
        pass

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        pass

    async def access(self, inode: int, mode: int, ctx: object) -> bool:
        return True

    async def _never(self, *_: Any, **__: Any) -> NoReturn:
        """Volumes come and go by fmrctl alone."""
        raise _fuse_error(errno.EPERM)

    create = mknod = mkdir = unlink = rmdir = symlink = rename = link = _never

    # Data

    async def open(self, inode: int, flags: int, ctx: object) -> pyfuse3.FileInfo:
        """O_TRUNC changes nothing; the kernel asks for the length again before it believes otherwise."""
        served = self._served(inode)
        with _errors_as_errno("open"):
            served.opened()
        handle = self._next_handle
        self._next_handle += 1
        self._handles[handle] = served
        return pyfuse3.FileInfo(fh=handle)

    async def release(self, fh: int) -> None:
        self._handles.pop(fh).released()

    async def read(self, fh: int, offset: int, size: int) -> bytes:
        with _errors_as_errno("read"):
            return await self._handles[fh].read(offset, size)

    async def write(self, fh: int, offset: int, data: bytes) -> int:
        """Up to the end of the volume, as on a device; ENOSPC when nothing fits."""
        with _errors_as_errno("write"):
            served = self._handles[fh]
            room = max(0, served.length_bytes - offset)
            if len(data) > room > 0:
                data = data[:room]
            await served.write(offset, data)
            return len(data)

    async def fsync(self, fh: int, datasync: bool) -> None:
        with _errors_as_errno("fsync"):
            await self._handles[fh].flush()


class FuseDoor:
    """Mounts, serves until ``stop``, unmounts."""

    def __init__(self, registry: Registry, mount: Path) -> None:
        self._registry = registry
        self._mount = mount
        self._operations = VolumeFiles(registry)
        self._news: list[Served] = []
        self._telling = False
        self._wake = trio.Event()
        self._told = trio.Event()
        self._ended = trio.Event()
        registry.watch(self._hear)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Started when mounted, or Failed('mount_failed'); returns after ``stop``, or when somebody else unmounts."""
        await clear_stale_mount(self._mount)
        options = {"default_permissions", "nosuid", "nodev", "noatime", "fsname=fmrd", "subtype=fmrd"}
        try:
            pyfuse3.init(self._operations, str(self._mount), options)
        except (RuntimeError, OSError) as error:
            raise Failed("mount_failed", f"{self._mount} cannot be mounted: {error}") from error
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tell)
                nursery.start_soon(allow_more_in_flight, self._mount, WORKERS[1])
                task_status.started()
                await pyfuse3.main(*WORKERS)
                nursery.cancel_scope.cancel()
        finally:
            pyfuse3.close(unmount=True)
            self._ended.set()

    async def stop(self) -> None:
        """Return when ``run`` has answered what is under way, and unmounted."""
        if not self._ended.is_set():
            await self.caught_up()  # the thread that tells the kernel must be out of libfuse before it is closed
            pyfuse3.terminate()
            await self._ended.wait()

    # What the kernel must be told

    def _hear(self, served: Served) -> None:
        self._news.append(served)
        self._wake.set()

    async def caught_up(self) -> None:
        """Return when the kernel has heard the news, or does not listen for a second."""
        with trio.move_on_after(TELL_SECONDS):
            while self._news or self._telling:
                await self._told.wait()

    async def _tell(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            news, self._news = self._news, []
            self._telling = True
            for served in news:
                await trio.to_thread.run_sync(self._tell_kernel, served, abandon_on_cancel=True)
            self._telling = False
            self._told.set()
            self._told = trio.Event()

    def _tell_kernel(self, served: Served) -> None:
        """On a thread. What the kernel cached of a volume may be other data since a restore. The stat makes it take
        over the length now: loop devices of old kernels read it there without asking.
        """
        with contextlib.suppress(OSError):  # the kernel never heard of it
            if served.closed:
                pyfuse3.invalidate_entry(pyfuse3.ROOT_INODE, os.fsencode(served.name))
            else:
                pyfuse3.invalidate_inode(served.number, attr_only=False)
                os.stat(self._mount / served.name)
