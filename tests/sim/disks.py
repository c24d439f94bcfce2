"""Simulated disks: the data of plexes, and the ways in which they fail.

Fault model. Plex data is cached: a write may be lost, torn between its granules, or reordered with others until an
fdatasync that began after it has ended. A failed fdatasync drops what it should have written: the cache shows it, the
disk never gets it. DCO writes are durable when they return; one cut off by power loss is torn between sectors, one cut
off by a kill between blocks. Any call may fail, or hang and land late. A kill keeps the cache, a power loss does not.
Faults are kept apart from contents, so that healing a disk needs no memory of what was there.
"""

import contextlib
import errno
import random
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from fmrd.backing.calls.reach import Standing
from fmrd.backing.calls.system_calls import Began
from fmrd.backing.protocol import Backing, SourceError
from fmrd.core.stamps import Piece, Stamp, Sum
from fmrd.errors import PlexChanged
from tests.sim.sessions import Sessions

GRANULE = 2048
"""The unit in which a write is torn: each holds one label, repeated."""
SECTOR = 512
CHUNK = GRANULE // 8
JUST_PAST = 150
"""In calls of the machine: longer than a record takes."""


class Crash(BaseException):
    """The machine, or the daemon on it, is dead. Nothing done after this reaches a disk."""


class Bench(Protocol):
    """The machine that a disk is in. ``cutting``: '', 'kill' or 'power' while a crash cuts off calls."""

    rng: random.Random
    cutting: str
    ticks: int
    blocking: bool
    begins: bool
    caches: bool
    devices: bool
    far: bool
    under_way: "list[tuple[PlexDisk, int, int]]"
    sessions: Sessions
    at_once: Callable[[], None] | None
    now: random.Random | None
    """Before each call that is made in place."""

    def alive(self) -> None:
        """Raises Crash when the machine is dead."""


@dataclass
class Faults:
    """What is wrong with a file now."""

    dead: bool = False
    bad_reads: set[int] = field(default_factory=set)
    """Granules that cannot be read until they are written."""
    bad_writes: set[int] = field(default_factory=set)
    """Granules that can be neither read nor written."""
    fail_writes: int = 0
    fail_syncs: int = 0
    """So many calls fail, then it is well again."""

    def any(self) -> bool:
        return bool(self.dead or self.bad_reads or self.bad_writes or self.fail_writes or self.fail_syncs)


class PlexDisk:
    """The data of one plex, as labels by granule: what the cache shows, what the disk holds, what lies between."""

    def __init__(self, path: str, length: int, inode: int) -> None:
        self.path = path
        self.length = length
        self.cache = [0] * (length // GRANULE)
        self.disk = list(self.cache)
        self.unsynced: dict[int, list[int]] = {}
        self.mtime = self.mtime_on_disk = 1
        self.cut: int | None = None
        """Somebody cut the file: there is nothing from this granule on."""
        self.inode = inode
        self.faults = Faults()
        self.dropped: dict[int, tuple[int, list[int]]] = {}
        self.present = True
        self.worst = False
        """Directed schedules: power loss takes everything that was not fdatasync'ed."""
        self.locked = False
        self.extended = False
        """In this life of the daemon."""
        self.elsewhere = False
        """It was written elsewhere, and looks changed."""
        self.unstamped = False
        """It was extended, and the daemon killed, perhaps before that was recorded: it may look changed."""

    def put(self, granule: int, label: int) -> None:
        self.cache[granule] = label
        self.unsynced.setdefault(granule, []).append(label)
        self.faults.bad_reads.discard(granule)

    def mark(self) -> dict[int, int]:
        """What an fdatasync that begins now must make durable."""
        return {granule: len(labels) for granule, labels in self.unsynced.items()}

    def settle(self, mark: dict[int, int]) -> None:
        for granule, count in mark.items():
            labels = self.unsynced.get(granule, [])
            if len(labels) >= count > 0:
                self.disk[granule] = labels[count - 1]
                self.dropped.pop(granule, None)  # written anew since, and that is on the disk
                del labels[:count]
            if not labels:
                self.unsynced.pop(granule, None)
        self.mtime_on_disk = self.mtime

    def drop(self, mark: dict[int, int], now: int) -> None:
        """A failed fdatasync: the pages count as clean, and the disk never gets them."""
        for granule in mark:
            self.dropped[granule] = (now, self.unsynced.pop(granule, []))

    def killed(self, now: int) -> None:
        """What this leaves out: the daemon dies after an fdatasync failed and before it recorded so. Linux tells such
        an error once; whoever opens the file afterwards reads from the cache what the disk never got, and cannot know.
        So a failure that is only just past counts as one that never was.
        """
        for granule, (then, labels) in self.dropped.items():
            if now - then < JUST_PAST:
                self.unsynced.setdefault(granule, labels)
        self.dropped = {}

    def write_elsewhere(self, granules: Iterable[int], label: int) -> None:
        """Nobody has it open; another program, or host, writes to it, and all of that reaches the disk."""
        self.elsewhere = True
        for granule in granules:
            self.cache[granule] = self.disk[granule] = label
            self.unsynced.pop(granule, None)
            self.dropped.pop(granule, None)
        self.mtime += 1
        self.mtime_on_disk = self.mtime

    def lose_power(self, rng: random.Random) -> None:
        for granule, labels in self.unsynced.items():
            if not self.worst:
                self.disk[granule] = rng.choice([self.disk[granule], *labels])
        if self.unsynced or self.mtime != self.mtime_on_disk:
            self.mtime_on_disk = rng.choice([self.mtime, self.mtime_on_disk])
        self.mtime = self.mtime_on_disk
        self.dropped = {}
        self.cache = list(self.disk)
        self.unsynced = {}

    def grow(self, length: int) -> None:
        more = [0] * (length // GRANULE - len(self.cache))
        self.cache += more
        self.disk += more
        self.extended = True
        self.length = max(self.length, length)
        self.cut = None

    def cut_at(self, granule: int) -> None:
        """What was there is gone for good; whoever makes the file longer again finds zeros."""
        self.cut = granule
        for each in range(granule, len(self.cache)):
            self.cache[each] = self.disk[each] = 0
            self.unsynced.pop(each, None)
        self.mtime = self.mtime_on_disk = self.mtime + 1

    def must_reach(self, granules: Iterable[int]) -> None:
        """PlexChanged where it does not, any more."""
        if self.cut is not None and any(granule >= self.cut for granule in granules):
            raise PlexChanged(errno.EIO, f"{self.path} was cut by somebody else")


class SimBacking:
    """An open PlexDisk (see fmrd.backing.protocol.Backing)."""

    def __init__(self, machine: "Bench", disk: PlexDisk) -> None:
        self.session = machine.sessions.begin(disk.path)
        server = machine.sessions.server(disk.path)
        self.is_block = machine.devices or bool(server.far)
        self.far = "NFS" if machine.far else server.far
        self.fence = server.fence
        self.patience_seconds = float("inf")
        self.machine = machine
        self.plex = disk
        self.path = disk.path
        self.disk = disk.path
        self.inline = not machine.blocking and not server.far
        self.begins = machine.begins or (not machine.blocking and bool(server.far))
        disk.locked = True

    @property
    def standing(self) -> Standing | None:
        lost = self.machine.sessions.is_lost(self.path, self.session)
        return Standing("lost" if lost else "", None, None) if self.machine.sessions.server(self.path).far else None

    @property
    def length(self) -> int:
        return self.plex.length if self.plex.cut is None else self.plex.cut * GRANULE

    def pread(self, offset: int, length: int) -> bytes:
        self.machine.alive()
        return self._look(offset, length)

    def _must_be_there(self) -> None:
        self.machine.sessions.must_be_there(self.path, self.session)

    def _look(self, offset: int, length: int) -> bytes:
        self._must_be_there()
        faults = self.plex.faults
        granules = range(offset // GRANULE, (offset + length) // GRANULE)
        self.plex.must_reach(granules)
        if faults.dead or any(g in faults.bad_reads or g in faults.bad_writes for g in granules):
            raise OSError(errno.EIO, "simulated read error")
        return b"".join([_bytes(self.plex.cache[g]) for g in granules])

    pread_there = pread

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        buffer[:] = self.pread(offset, len(buffer))

    def pread_now(self, offset: int, buffer: memoryview) -> bool:
        if not self.machine.caches or offset // GRANULE % 8 > 4:  # in the page cache is some of it
            return False
        try:
            buffer[:] = self.pread(offset, len(buffer))
        except OSError:
            return False
        return True

    def pwrite_now(self, offset: int, data: bytes | memoryview) -> bool | None:
        """It is taken, or not, or in part: nobody can know before."""
        chance = self.machine.now.random() if self.machine.now is not None else None
        if chance is None or chance < 0.2:
            return None if chance is None else False
        some = data if chance < 0.8 else data[: len(data) // GRANULE // 2 * GRANULE]
        try:
            self.pwrite(offset, some)
        except OSError:
            return False
        return len(some) == len(data)

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        if self.machine.at_once is not None:
            self.machine.at_once()
        self.machine.alive()
        first = offset // GRANULE
        labels = [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), GRANULE)]
        self._put(list(enumerate(labels, first)))

    def begin_pwrite(self, offset: int, data: bytes | memoryview, ended: Began) -> None:
        raise AssertionError("calls are run here, by whatever runs calls")

    def begin_pwrites(self, parts: Sequence[tuple[int, bytes | memoryview]], ended: Began) -> None:
        raise AssertionError("calls are run here, by whatever runs calls")

    def begin_fdatasync(self, ended: Began) -> None:
        raise AssertionError("calls are run here, by whatever runs calls")

    def begin_pread_into(self, offset: int, buffer: memoryview, ended: Began) -> None:
        raise AssertionError("calls are run here, by whatever runs calls")

    def make_zero(self, offset: int, length: int, *, punch: bool) -> None:
        self.machine.alive()
        self._put([(granule, 0) for granule in range(offset // GRANULE, (offset + length) // GRANULE)])

    def data_until(self, offset: int, stop: int) -> tuple[bool, int]:
        """Only in a store somebody looks: elsewhere all is data."""
        if not self.path.startswith("/store/"):
            return True, stop
        there = [bool(label) for label in self.plex.cache[offset // GRANULE : stop // GRANULE]]
        run = there.index(not there[0]) if (not there[0]) in there else len(there)
        return there[0], min(stop, offset + run * GRANULE)

    def is_known_data(self, offset: int, stop: int) -> bool:
        return True

    def _put(self, labelled: list[tuple[int, int]]) -> None:
        plex, rng = self.plex, self.machine.rng
        plex.must_reach(granule for granule, _ in labelled)
        if plex.faults.dead:
            raise OSError(errno.EIO, "simulated dead disk")
        cut, sessions = self.machine.cutting, self.machine.sessions
        if sessions.server(self.path).far and sessions.is_newer(self.path, self.session):
            self._must_be_there()  # nothing is sent in this one any more
        if sessions.server(self.path).far and (cut or sessions.is_lost(self.path, self.session)):
            for granule, label in labelled:
                sessions.cut_off(self.path, partial(plex.put, granule, label))
            self._must_be_there()
            return
        failing = plex.faults.fail_writes > 0
        if failing:
            plex.faults.fail_writes -= 1
        plex.mtime += 1
        for granule, label in labelled:
            if granule in plex.faults.bad_writes:
                failing = True
            elif not (failing or cut) or rng.random() < 0.5:
                plex.put(granule, label)
            elif failing and sessions.server(self.path).far:
                sessions.cut_off(self.path, partial(plex.put, granule, label))
            elif failing and self.far:
                self.machine.under_way.append((plex, granule, label))
        if failing:
            raise OSError(errno.EIO, "simulated write error")

    def fdatasync(self) -> None:
        self.end_sync(self.plex.mark())

    def fsync(self) -> None:
        self.fdatasync()

    def end_sync(self, mark: dict[int, int]) -> None:
        self.machine.alive()
        self._must_be_there()
        faults = self.plex.faults
        self.plex.must_reach([len(self.plex.cache)])
        if faults.dead or faults.fail_syncs:
            faults.fail_syncs = max(0, faults.fail_syncs - 1)
            self.plex.drop(mark, self.machine.ticks)
            raise OSError(errno.EIO, "simulated fdatasync error")
        if not self.machine.cutting:
            self.plex.settle(mark)

    def copy_spans(self, source: Backing, spans: Sequence[tuple[int, int]]) -> int:
        return sum(self.copy_from(source, start, stop - start) for start, stop in spans)

    def copy_from(self, source: Backing, offset: int, length: int) -> int:
        self.machine.alive()
        try:
            data = source.pread(offset, length)
        except OSError as error:
            raise SourceError(error) from error
        self.pwrite(offset, data)
        return length

    def extend(self, length: int) -> None:
        self.machine.alive()
        self._must_be_there()
        if self.plex.faults.dead:
            raise OSError(errno.EIO, "simulated dead disk")
        self.plex.grow(length)

    def stamp(self, pieces: Sequence[Piece] = ()) -> Stamp:
        self.machine.alive()
        self._must_be_there()
        content: list[Sum] = []
        with contextlib.suppress(OSError):
            for offset, length in pieces:
                content.append(Sum(offset, length, zlib.crc32(self._look(offset, length))))
        if self.is_block:
            return Stamp(0, 0, 0, content=tuple(content))
        plex = self.plex
        return Stamp(plex.inode, self.length, plex.mtime, plex.mtime, content=tuple(content))

    def hang_up(self) -> None:
        self.machine.sessions.lose(self.path)

    def close(self) -> None:
        if not self.machine.sessions.is_newer(self.path, self.session):
            self.plex.locked = False


def _bytes(label: int) -> bytes:
    return label.to_bytes(8, "little") * CHUNK


def labels_of(data: bytes) -> list[int]:
    """The label of each granule; a granule that holds two is torn, and no simulated disk does that."""
    return [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), GRANULE)]


def data_of(labels: Iterable[int]) -> bytes:
    return b"".join([_bytes(label) for label in labels])
