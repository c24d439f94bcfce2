"""Which thread writes to which file just now is noted here, in memory that outlives a kill, for whoever comes next.

A process that is killed while a call of it hangs on a disk is left behind: its locks are free (``locking``), but that
call may land yet, whenever the disk answers, on a plex that has newer bytes by then. What it may still write to is only
what its remaining threads are writing to. Each thread notes that before such a call, in a memfd that the process keeps
open; as long as a thread of it hangs, the kernel shows the memfd under /proc.
"""

import collections
import errno
import itertools
import mmap
import os
import stat
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass

File = tuple[int, int]
"""Which file it is: ``identity`` of its status."""

_ROW = struct.Struct("<QQQ")
"""The thread, and the file that it writes to; 0, 0 for none."""
_ROWS = 16384
"""Of threads that hang there may be many, each with a row; and of files that are written to by the ring."""
_EXITING = 0x4
_ENDED = "ZX"
_ENDS_OF_RINGS = ("io_wq_put_and_exit", "io_wq_exit", "io_uring_cancel", "io_uring_files_cancel", "__io_uring_cancel")
"""Where the kernel has a thread sleep that ends, until its workers and requests have (5.15 to 6.18)."""

_WORKER = "iou-wrk-"  # what the kernel calls a worker of a ring


def identity(status: os.stat_result) -> File:
    """Of a file, or of the device that a name stands for."""
    return (0, status.st_rdev) if stat.S_ISBLK(status.st_mode) else (status.st_dev, status.st_ino)


class _Row:
    """The row of one thread, which is another's when that thread has ended."""

    def __init__(self, table: "Table", index: int) -> None:
        self.table = table
        self.offset = index * _ROW.size
        self.file: File = (0, 0)
        self.thread = threading.get_native_id()

    def note(self, file: File) -> None:
        self.file = file
        _ROW.pack_into(self.table.memory, self.offset, self.thread, *file)

    def __del__(self) -> None:
        self.note((0, 0))
        self.table.free.append(self.offset // _ROW.size)


class Table:
    """The notes of one process. It is used from any thread."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("fmrd writes", os.MFD_CLOEXEC)
        os.ftruncate(self.descriptor, _ROWS * _ROW.size)
        self.memory = mmap.mmap(self.descriptor, _ROWS * _ROW.size)
        self.free: collections.deque[int] = collections.deque()
        self._fresh = itertools.count()
        self._mine = threading.local()

    def row(self) -> _Row:
        """Of this thread."""
        try:
            return self._mine.row  # type: ignore[no-any-return]  # what was put there below
        except AttributeError:
            pass
        row = self._mine.row = self.further_row()
        return row

    def further_row(self) -> _Row:
        """Of this thread, which may have several."""
        try:
            index = self.free.popleft()
        except IndexError:
            index = next(self._fresh)
            if index >= _ROWS:
                raise OSError(errno.EAGAIN, f"{index} threads write already") from None
        return _Row(self, index)


_table: Table | None = None
_making = threading.Lock()


def table() -> Table:
    """Of this process."""
    global _table
    if _table is None:
        with _making:
            _table = _table or Table()
    return _table


class Writing:
    """While this is entered, the thread writes to ``file``, or is about to."""

    __slots__ = ("_before", "_file", "_row")

    def __init__(self, file: File) -> None:
        self._file = file

    def __enter__(self) -> None:
        self._row = table().row()
        self._before = self._row.file
        self._row.note(self._file)

    def __exit__(self, *details: object) -> None:
        self._row.note(self._before)


class HandedOver:
    """Writes to ``file`` that this thread hands to a ring: it does not end before they have, so a row of its own notes
    the file while one is under way. Used on that thread alone.
    """

    __slots__ = ("_count", "_file", "_row")

    def __init__(self, file: File) -> None:
        self._file = file
        self._count = 0
        self._row: _Row | None = None

    def enter(self) -> None:
        if not self._count:
            if self._row is None:
                self._row = table().further_row()
            self._row.note(self._file)
        self._count += 1

    def leave(self) -> None:
        self._count -= 1
        if not self._count:
            assert self._row is not None, "who leaves has entered"
            self._row.note((0, 0))


@dataclass(frozen=True)
class Process:
    """A process that has notes, by its number and the moment that it began at; and where it keeps its memfd."""

    number: int
    began: int
    descriptor: int

    @classmethod
    def this(cls) -> "Process":
        number = os.getpid()
        return cls(number, _status(f"/proc/{number}")[1], table().descriptor)

    @classmethod
    def parse(cls, line: str) -> "Process | None":
        """As ``str`` has it. None for anything else."""
        words = line.split()
        return cls(*map(int, words)) if len(words) == 3 and all(word.isdecimal() for word in words) else None

    def __str__(self) -> str:
        return f"{self.number} {self.began} {self.descriptor}"

    def threads(self) -> list[str]:
        """Where the kernel shows those that have not ended, or are about to."""
        base = f"/proc/{self.number}"
        try:
            if _status(base)[1] != self.began:
                return []  # another one by now
            found = [f"{base}/task/{each}" for each in os.listdir(f"{base}/task")]
        except (FileNotFoundError, ProcessLookupError):
            return []
        return [each for each in found if not _is_ending(each)]

    def may_write(self, file: File) -> bool:
        """May a call of it still write there? True also where nobody can tell."""
        for thread in self.threads():
            files = self._writes(thread)
            if files is None or (file in files and not self._handed_over_and_over(thread)):
                return True
        return False

    def _handed_over_and_over(self, thread: str) -> bool:
        """Have all writes ended that it handed to rings? One that was killed never hears of that. Once it sleeps at its
        end no further one begins; those that have begun are in workers, and an fdatasync is no write.
        """
        if thread != f"/proc/{self.number}/task/{self.number}" or not _sleeps_at_its_end(self.number):
            return False
        return all(_only_syncs(each) for each in self.threads() if each != thread)

    def _writes(self, thread: str) -> set[File] | None:
        """None where it cannot be told."""
        try:
            with open(f"{thread}/fd/{self.descriptor}", "rb") as memory:
                rows = list(_rows(memory.read()))
        except (FileNotFoundError, ProcessLookupError):
            return set() if _is_ending(thread) else None
        except OSError:
            return None
        number = int(thread.rpartition("/")[2])
        return {file for writer, file in rows if writer == number}


def _rows(memory: bytes) -> Iterator[tuple[int, File]]:
    for thread, device, inode in _ROW.iter_unpack(memory):
        if device or inode:
            yield thread, (device, inode)


def _status(where: str) -> tuple[bool, int]:
    """Of a process or a thread: is it ending, so that it makes no call any more, and when did it begin?"""
    with open(f"{where}/stat") as file:
        words = file.read().rpartition(")")[2].split()
    return words[0] in _ENDED or bool(int(words[6]) & _EXITING), int(words[19])


def has_ended(process: int) -> bool:
    """Also one that was left behind: its first thread ends with the process, others when their calls have returned. One
    that has handed requests to a ring ends when they have, and sleeps at its end until then.
    """
    return _is_ending(f"/proc/{process}") or _sleeps_at_its_end(process)


def _sleeps_at_its_end(process: int) -> bool:
    """No flag of it tells: what it waits for does. A signal would stay pending, but not from all who send one."""
    try:
        with open(f"/proc/{process}/wchan") as file:
            return file.read().startswith(_ENDS_OF_RINGS)
    except OSError:
        return False


def _only_syncs(thread: str) -> bool:
    """Is it a worker of a ring, in an fdatasync? False of one whose stack the kernel does not show."""
    try:
        with open(f"{thread}/comm") as name, open(f"{thread}/stack") as stack:
            worker, calls = name.read().startswith(_WORKER), stack.read()
    except OSError:
        return _is_ending(thread)
    return worker and "io_fsync+" in calls


def _is_ending(thread: str) -> bool:
    try:
        return _status(thread)[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
