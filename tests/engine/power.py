"""Power loss for the real backing: its system calls are recorded, and whatever was not synced may be dropped.

The model is what POSIX promises, and no more. A write, or a change of length, is sure once an fsync or fdatasync of its
file has begun after it, or when it was made by O_DSYNC; a name once the directory that holds it was fsync'ed; a rename
is whole or never was. Whatever is not sure is there or not, in any combination; of a write also any of its sectors.
(A file's time of change comes with what changed it: a real disk may have it earlier, which costs a comparison.)
"""

import fcntl
import os
import random
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fmrd.backing import libc
from fmrd.backing.owning.locking import LOCK_THREAD, Lock

SECTOR_BYTES = 512
UNKNOWN = ("write", "writev", "pwritev", "truncate", "replace", "link", "symlink", "rmdir", "posix_fallocate")
"""Calls that the backing does not make so far."""
LINK = os.link


@dataclass(frozen=True)
class Written:
    """Bytes of a file, at an offset; or, with none, its length."""

    inode: int
    offset: int
    data: bytes | None
    mtime_ns: int


@dataclass(frozen=True)
class Named:
    """What some names in a directory lead to from now on, together: an inode or nothing."""

    directory: int
    names: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True)
class Synced:
    """A file or directory; ``only`` is the one write, where O_DSYNC made it."""

    inode: int
    only: Written | None = None


Event = Written | Named | Synced
Survives = Callable[[Event], bool | None]
"""Does it, though nothing made it sure? None: some of its sectors."""


@dataclass
class _Inode:
    is_directory: bool = False
    content: bytearray = field(default_factory=bytearray)
    mtime_ns: int = 0
    names: dict[str, int] = field(default_factory=dict)
    unsure: list[Written | Named] = field(default_factory=list)

    def settle(self, event: Written | Named, sectors: Callable[[], bool] | None = None) -> None:
        if isinstance(event, Named):
            for name, inode in event.names:
                if inode is None:
                    self.names.pop(name, None)
                else:
                    self.names[name] = inode
        elif event.data is None:
            self.content[event.offset :] = bytes(max(0, event.offset - len(self.content)))
        else:
            stop = event.offset + len(event.data)
            self.content.extend(bytes(max(0, stop - len(self.content))))
            for at in range(0, len(event.data), SECTOR_BYTES if sectors else len(event.data)):
                piece = event.data[at : at + SECTOR_BYTES] if sectors else event.data
                if sectors is None or sectors():
                    self.content[event.offset + at : event.offset + at + len(piece)] = piece
        if isinstance(event, Written):
            self.mtime_ns = event.mtime_ns


class Machine:
    """The files below ``root``, and what was done to them while it was recorded. Files keep their inodes when they come
    back after a power loss: ``vault``, on the same file system, has a link to each.
    """

    def __init__(self, root: Path, vault: Path) -> None:
        self.root = root
        self.vault = vault
        root.mkdir()
        vault.mkdir()
        self.events: list[Event] = []
        self._known: dict[int, bool] = {root.stat().st_ino: True}
        """By inode: whether it is a directory."""
        self._opened: set[int] = set()
        self._recording = False

    # Recording

    def recording(self) -> None:
        """What the next daemon does counts."""
        self._recording = True

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Whatever is open, or locked, at the end is closed then, as by the end of a process."""
        locks: list[Lock] = []
        begin = Lock.__init__

        def locked(self: Lock, *arguments: Any, **options: Any) -> None:
            begin(self, *arguments, **options)
            locks.append(self)

        names = ("open", "close", "pwrite", "ftruncate", "fsync", "fdatasync", "rename", "unlink", "mkdir",
                 "copy_file_range", "sendfile")  # fmt: skip
        patches = [patch.object(os, name, self._watched(name, getattr(os, name))) for name in names]
        patches += [patch.object(os, name, self._refused(name, getattr(os, name))) for name in UNKNOWN]
        patches.append(patch.object(libc, "fallocate", self._watched("fallocate", libc.fallocate)))
        patches.append(patch.object(Lock, "__init__", locked))
        for each in patches:
            each.start()
        try:
            yield
        finally:
            for each in patches:
                each.stop()
            for lock in locks:
                lock.release()
            for descriptor in self._opened:
                os.close(descriptor)
            self._opened.clear()

    def freeze(self) -> None:
        """Nothing from here on reaches the disk."""
        self._recording = False

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        note = getattr(self, f"_{name}")

        def call(*arguments: Any, **options: Any) -> Any:
            if threading.current_thread().name == LOCK_THREAD:  # its descriptors are others
                return real(*arguments, **options)
            return note(real, *arguments, **options)

        return call

    def _refused(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(at: Any, *arguments: Any, **options: Any) -> Any:
            ours = os.fstat(at).st_ino in self._known if isinstance(at, int) else Path(at).is_relative_to(self.root)
            assert not (ours and self._recording), f"os.{name} is not recorded yet"
            return real(at, *arguments, **options)

        return call

    def _note(self, event: Event) -> None:
        if self._recording:
            self.events.append(event)

    def _named(self, path: Any, *names: tuple[str, int | None]) -> None:
        directory = os.stat(os.path.dirname(os.fspath(path)) or ".").st_ino
        if directory in self._known:
            self._note(Named(directory, names))

    def _made(self, path: Any, *, is_directory: bool) -> None:
        status = os.lstat(path)
        if os.stat(os.path.dirname(os.fspath(path)) or ".").st_ino in self._known and self._recording:
            self._known[status.st_ino] = is_directory
            if not is_directory:
                LINK(path, self.vault / str(status.st_ino))
            self._named(path, (os.path.basename(os.fspath(path)), status.st_ino))

    def _written(self, descriptor: int, offset: int, data: bytes | None) -> None:
        status = os.fstat(descriptor)
        if status.st_ino in self._known:
            event = Written(status.st_ino, offset, data, status.st_mtime_ns)
            self._note(event)
            if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DSYNC and data is not None:
                self._note(Synced(status.st_ino, event))

    def _open(self, real: Callable[..., int], path: Any, flags: int, *rest: Any, **options: Any) -> int:
        new = bool(flags & os.O_CREAT) and not os.path.lexists(path)
        descriptor = real(path, flags, *rest, **options)
        self._opened.add(descriptor)
        if new:
            self._made(path, is_directory=False)
        return descriptor

    def _close(self, real: Callable[..., None], descriptor: int) -> None:
        self._opened.discard(descriptor)
        real(descriptor)

    def _mkdir(self, real: Callable[..., None], path: Any, *rest: Any, **options: Any) -> None:
        real(path, *rest, **options)
        self._made(path, is_directory=True)

    def _pwrite(self, real: Callable[..., int], descriptor: int, data: Any, offset: int) -> int:
        count = real(descriptor, data, offset)
        self._written(descriptor, offset, bytes(memoryview(data)[:count]))
        return count

    def _ftruncate(self, real: Callable[..., None], descriptor: int, length: int) -> None:
        real(descriptor, length)
        self._written(descriptor, length, None)

    def _fallocate(self, real: Callable[..., None], descriptor: int, mode: int, offset: int, length: int) -> None:
        real(descriptor, mode, offset, length)
        if mode & (libc.PUNCH_HOLE | libc.ZERO_RANGE):
            self._written(descriptor, offset, bytes(length))
        elif os.fstat(descriptor).st_size == offset + length:
            self._written(descriptor, offset + length, None)

    def _copy_file_range(self, real: Callable[..., int], source: int, target: int, count: int, at: int, to: int) -> int:
        count = real(source, target, count, at, to)
        self._written(target, to, os.pread(source, count, at))
        return count

    def _sendfile(self, real: Callable[..., int], target: int, source: int, offset: int, count: int) -> int:
        to = os.lseek(target, 0, os.SEEK_CUR)
        count = real(target, source, offset, count)
        self._written(target, to, os.pread(source, count, offset))
        return count

    def _fsync(self, real: Callable[..., None], descriptor: int) -> None:
        real(descriptor)
        if os.fstat(descriptor).st_ino in self._known:
            self._note(Synced(os.fstat(descriptor).st_ino))

    _fdatasync = _fsync

    def _rename(self, real: Callable[..., None], old: Any, new: Any) -> None:
        inode = os.lstat(old).st_ino
        real(old, new)
        assert os.path.dirname(os.fspath(old)) == os.path.dirname(os.fspath(new)), "of one directory"
        self._named(new, (os.path.basename(os.fspath(old)), None), (os.path.basename(os.fspath(new)), inode))

    def _unlink(self, real: Callable[..., None], path: Any, **options: Any) -> None:
        real(path, **options)
        self._named(path, (os.path.basename(os.fspath(path)), None))

    # Replaying

    def put_back(self, count: int, survives: Survives, rng: random.Random) -> None:
        """Make the files what they are after a power loss behind the first ``count`` events. Nothing may be open."""
        inodes = {inode: _Inode(is_directory) for inode, is_directory in self._known.items()}
        for event in self.events[:count]:
            of = inodes[event.directory if isinstance(event, Named) else event.inode]
            if not isinstance(event, Synced):
                of.unsure.append(event)
                continue
            for each in [event.only] if event.only is not None else of.unsure[:]:
                of.settle(each)
                of.unsure.remove(each)
        for of in inodes.values():
            for each in of.unsure:
                kept = survives(each)
                if kept is not False:
                    torn = kept is None and isinstance(each, Written)
                    of.settle(each, (lambda: rng.random() < 0.5) if torn else None)
        for path in self.root.iterdir():
            shutil.rmtree(path) if stat.S_ISDIR(path.lstat().st_mode) else path.unlink()
        self._build(inodes, self.root, inodes[self.root.stat().st_ino])

    def _build(self, inodes: dict[int, _Inode], where: Path, directory: _Inode) -> None:
        for name, inode in directory.names.items():
            of, path = inodes[inode], where / name
            if of.is_directory:
                path.mkdir(mode=0o700)
                self._build(inodes, path, of)
                continue
            stored = self.vault / str(inode)
            stored.write_bytes(of.content)
            os.utime(stored, ns=(of.mtime_ns, of.mtime_ns))
            os.link(stored, path)
