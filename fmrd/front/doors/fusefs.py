"""The pyfuse3 door shows every started volume as a file in a FUSE mount. This is the only module that imports pyfuse3.

The files behave like block devices: fixed length, no truncation, ENOSPC past the end. All data of a volume passes
through this mount, so the kernel may cache attributes and pages for as long as it likes; it is told when a volume grows
or goes.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pyfuse3
import trio

from fmrd.engine.registry import Registry
from fmrd.engine.served import Served, answer_to
from fmrd.errors import Failed
from fmrd.front.doors.kernel_notify import News
from fmrd.front.doors.mounts import allow_more_in_flight, clear_stale_mount, mounted_on, unmount
from fmrd.front.doors.tree import BLOCK_BYTES, CACHE_SECONDS, NAME_BYTES, ROOT, Entry, Tree, errno_of

WORKERS = (16, 128)
"""Idle tasks kept, and tasks at most; each holds a buffer of 1 MiB."""


def _fuse_error(code: int) -> pyfuse3.FUSEError:
    return pyfuse3.FUSEError(code)


@contextlib.contextmanager
def _errors_as_errno(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _fuse_error(errno_of(error, what)) from None


class VolumeFiles(pyfuse3.Operations):
    """This turns FUSE requests into those of ``Served``; whatever fails becomes an errno. Inode numbers are the
    volumes' own, 1 is the mount's root. pyfuse3 calls each method in a task of its own.
    """

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, registry: Registry) -> None:
        super().__init__()
        self._tree = Tree(registry)
        self._handles: dict[int, Served] = {}
        self._next_handle = 1

    # Names and attributes

    async def lookup(self, parent_inode: int, name: bytes, ctx: object) -> pyfuse3.EntryAttributes:
        with _errors_as_errno("lookup"):
            return self._attributes(self._tree.lookup(parent_inode, name))

    async def getattr(self, inode: int, ctx: object = None) -> pyfuse3.EntryAttributes:
        with _errors_as_errno("getattr"):
            return self._attributes(self._tree.entry(inode))

    async def setattr(
        self, inode: int, attr: pyfuse3.EntryAttributes, fields: pyfuse3.SetattrFields, fh: int | None, ctx: object
    ) -> pyfuse3.EntryAttributes:
        other = fields.update_mode or fields.update_uid or fields.update_gid
        size = attr.st_size if fields.update_size else None
        with _errors_as_errno("setattr"):
            return self._attributes(self._tree.change(inode, owner_or_mode=other, size=size))

    def _attributes(self, found: Entry) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = found.inode
        entry.st_mode = found.mode
        entry.st_size = found.size
        entry.st_blocks = found.size // 512
        entry.st_nlink = 1
        entry.st_uid, entry.st_gid = self._tree.owner
        entry.st_blksize = BLOCK_BYTES
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = found.changed_ns
        entry.entry_timeout = entry.attr_timeout = float(CACHE_SECONDS)
        return entry

    async def statfs(self, ctx: object) -> pyfuse3.StatvfsData:
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = BLOCK_BYTES
        data.f_blocks, data.f_files = self._tree.space()
        data.f_bfree = data.f_bavail = data.f_ffree = data.f_favail = 0
        data.f_namemax = NAME_BYTES
        return data

    # The directory

    async def opendir(self, inode: int, ctx: object) -> int:
        with _errors_as_errno("opendir"):
            self._tree.must_be_root(inode)
        return ROOT

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        for name, entry in self._tree.files():
            if entry.inode > start_id and not pyfuse3.readdir_reply(token, name, self._attributes(entry), entry.inode):
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
        """Open a volume. O_TRUNC changes nothing; the kernel asks for the length again before it believes otherwise."""
        with _errors_as_errno("open"):
            served = self._tree.served(inode)
            served.opened()
        handle = self._next_handle
        self._next_handle += 1
        self._handles[handle] = served
        return pyfuse3.FileInfo(fh=handle)

    async def release(self, fh: int) -> None:
        self._handles.pop(fh).released()

    async def read(self, fh: int, offset: int, size: int) -> bytes:
        with _errors_as_errno("read"):
            read = partial(self._handles[fh].read_now, offset, memoryview(bytearray(size)))
            return bytes(await answer_to(read))

    async def write(self, fh: int, offset: int, data: bytes) -> int:
        """Write up to the end of the volume, as on a device; ENOSPC when nothing fits."""
        with _errors_as_errno("write"):
            return await answer_to(partial(self._handles[fh].write_now, offset, data))

    async def fsync(self, fh: int, datasync: bool) -> None:
        with _errors_as_errno("fsync"):
            await answer_to(self._handles[fh].flush_now)


class FuseDoor:
    """A door mounts, serves until ``stop``, and unmounts."""

    def __init__(self, registry: Registry, mount: Path) -> None:
        self._registry = registry
        self._mount = mount
        self._operations = VolumeFiles(registry)
        self._news = News(registry, self._tell_kernel)
        self._ended = trio.Event()
        self.caught_up = self._news.caught_up

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Mount and serve; report started when mounted, or raise Failed('mount_failed'). Return after ``stop``, or when
        somebody else unmounts.
        """
        await clear_stale_mount(self._mount)
        options = {"default_permissions", "nosuid", "nodev", "noatime", "fsname=fmrd", "subtype=fmrd"}
        try:
            pyfuse3.init(self._operations, str(self._mount), options)
        except (RuntimeError, OSError) as error:
            raise Failed("mount_failed", f"{self._mount} cannot be mounted: {error}") from error
        number = mounted_on(self._mount)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._news.run)
                nursery.start_soon(allow_more_in_flight, self._mount, WORKERS[1])
                task_status.started()
                await pyfuse3.main(*WORKERS)
                nursery.cancel_scope.cancel()
        finally:
            pyfuse3.close(unmount=True)
            if number and mounted_on(self._mount) == number:  # libfuse leaves a connection alone that was cut off
                unmount(self._mount)
            self._ended.set()

    def leave(self) -> bool:
        """Return False: this mount ends with the process."""
        return False

    async def stop(self) -> None:
        """Return when ``run`` has answered what is under way, and unmounted."""
        if not self._ended.is_set():
            await self.caught_up()  # the thread that tells the kernel must be out of libfuse before it is closed
            pyfuse3.terminate()
            await self._ended.wait()

    def _tell_kernel(self, served: Served) -> None:
        """Tell it on a thread. What the kernel cached of a volume may be other data since a restore. The stat makes it
        take over the length now: loop devices of old kernels read it there without asking.
        """
        with contextlib.suppress(OSError):  # the kernel never heard of it
            if served.withdrawn:
                pyfuse3.invalidate_entry(ROOT, os.fsencode(served.name))
            else:
                pyfuse3.invalidate_inode(served.number, attr_only=False)
                os.stat(self._mount / served.name)
