"""A simulated machine: plex files, copies of the DCO, a home directory, and the ways in which they fail.

Fault model. Plex data is cached: a write may be lost, torn between its granules, or reordered with others until an
fdatasync that began after it has ended. A failed fdatasync drops what it should have written: the cache shows it, the
disk never gets it. DCO writes are durable when they return; one cut off by power loss is torn between sectors, one cut
off by a kill between blocks. Any call may fail, or hang and land late. A kill keeps the cache, a power loss does not.
Faults are kept apart from contents, so that healing a disk needs no memory of what was there.
"""

import errno
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fmrd.backing.protocol import DCO_BLOCK_BYTES, Backing, Probe, SourceError
from fmrd.core.record import Stamp
from fmrd.errors import Failed

GRANULE = 2048
"""The unit in which a write is torn: each holds one label, repeated."""
SECTOR = 512
CHUNK = GRANULE // 8


class Crash(BaseException):
    """The machine, or the daemon on it, is dead. Nothing done after this reaches a disk."""


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
        self.inode = inode
        self.faults = Faults()
        self.present = True
        self.worst = False
        """Directed schedules: power loss takes everything that was not fdatasync'ed."""
        self.locked = False

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
                del labels[:count]
            if not labels:
                self.unsynced.pop(granule, None)
        self.mtime_on_disk = self.mtime

    def drop(self, mark: dict[int, int]) -> None:
        """A failed fdatasync: the pages count as clean, and the disk never gets them."""
        for granule in mark:
            self.unsynced.pop(granule, None)

    def lose_power(self, rng: random.Random) -> None:
        for granule, labels in self.unsynced.items():
            if not self.worst:
                self.disk[granule] = rng.choice([self.disk[granule], *labels])
        if self.unsynced or self.mtime != self.mtime_on_disk:
            self.mtime_on_disk = rng.choice([self.mtime, self.mtime_on_disk])
        self.mtime = self.mtime_on_disk
        self.cache = list(self.disk)
        self.unsynced = {}

    def grow(self, length: int) -> None:
        more = [0] * (length // GRANULE - len(self.cache))
        self.cache += more
        self.disk += more
        self.length = max(self.length, length)


class SimBacking:
    """An open PlexDisk (see fmrd.backing.protocol.Backing)."""

    is_block = False

    def __init__(self, machine: "Machine", disk: PlexDisk) -> None:
        self.machine = machine
        self.plex = disk
        self.path = disk.path
        self.disk = disk.path
        self.inline = False
        disk.locked = True

    @property
    def length(self) -> int:
        return self.plex.length

    def pread(self, offset: int, length: int) -> bytes:
        self.machine.alive()
        faults = self.plex.faults
        granules = range(offset // GRANULE, (offset + length) // GRANULE)
        if faults.dead or any(g in faults.bad_reads or g in faults.bad_writes for g in granules):
            raise OSError(errno.EIO, "simulated read error")
        return b"".join([_bytes(self.plex.cache[g]) for g in granules])

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self.machine.alive()
        first = offset // GRANULE
        labels = [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), GRANULE)]
        self._put(list(enumerate(labels, first)))

    def _put(self, labelled: list[tuple[int, int]]) -> None:
        plex, rng = self.plex, self.machine.rng
        if plex.faults.dead:
            raise OSError(errno.EIO, "simulated dead disk")
        cut = self.machine.cutting
        failing = plex.faults.fail_writes > 0
        if failing:
            plex.faults.fail_writes -= 1
        plex.mtime += 1
        for granule, label in labelled:
            if granule in plex.faults.bad_writes:
                failing = True
            elif not (failing or cut) or rng.random() < 0.5:
                plex.put(granule, label)
        if failing:
            raise OSError(errno.EIO, "simulated write error")

    def fdatasync(self) -> None:
        self.end_sync(self.plex.mark())

    def end_sync(self, mark: dict[int, int]) -> None:
        self.machine.alive()
        faults = self.plex.faults
        if faults.dead or faults.fail_syncs:
            faults.fail_syncs = max(0, faults.fail_syncs - 1)
            self.plex.drop(mark)
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
        if self.plex.faults.dead:
            raise OSError(errno.EIO, "simulated dead disk")
        self.plex.grow(length)

    def stamp(self) -> Stamp | None:
        self.machine.alive()
        return Stamp(self.plex.inode, self.plex.length, self.plex.mtime)

    def close(self) -> None:
        self.plex.locked = False


class SimDco:
    """One copy of the DCO, in blocks (see fmrd.backing.protocol.DcoFile)."""

    def __init__(self, machine: "Machine", path: str, length: int) -> None:
        self.machine = machine
        self.path = path
        self.length = length
        self.blocks: dict[int, bytes] = {}
        self.faults = Faults()

    def read(self, offset: int, length: int) -> bytes:
        self.machine.alive()
        if self.faults.dead:
            raise OSError(errno.EIO, "simulated dead disk")
        first, stop = offset // DCO_BLOCK_BYTES, -(-(offset + length) // DCO_BLOCK_BYTES)
        data = b"".join([self.blocks.get(i, _BLANK) for i in range(first, stop)])
        return data[offset - first * DCO_BLOCK_BYTES :][:length]

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self.machine.alive()
        failing = self.faults.dead or self.faults.fail_writes > 0
        self.faults.fail_writes = max(0, self.faults.fail_writes - 1)
        if self.faults.dead:
            raise OSError(errno.EIO, "simulated dead disk")
        assert offset % DCO_BLOCK_BYTES == 0 and len(data) % DCO_BLOCK_BYTES == 0
        if offset + len(data) > self.length:
            raise OSError(errno.ENOSPC, "beyond the copy's end")
        first = offset // DCO_BLOCK_BYTES
        rng = self.machine.rng
        for i in range(len(data) // DCO_BLOCK_BYTES):
            block = bytes(data[i * DCO_BLOCK_BYTES : (i + 1) * DCO_BLOCK_BYTES])
            if self.machine.cutting == "power" or failing:
                old = self.blocks.get(first + i, _BLANK)
                block = _torn(old, block, rng)
            elif self.machine.cutting and rng.random() < 0.5:
                continue
            self.blocks[first + i] = block
        if failing:
            raise OSError(errno.EIO, "simulated write error")

    def extend(self, length: int) -> None:
        self.machine.alive()
        if self.faults.dead:
            raise OSError(errno.EIO, "simulated dead disk")
        self.length = max(self.length, length)

    def close(self) -> None:
        pass


class Machine:
    """Everything that outlives the daemon. ``cutting``: '', 'kill' or 'power' while a crash cuts off calls."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.plexes: dict[str, PlexDisk] = {}
        self.dcos: dict[str, SimDco] = {}
        self.homes_: dict[str, SimDco] = {}
        self.unpublished: dict[str, SimDco] = {}
        self.dead = False
        self.cutting = ""
        self._inode = 100

    def alive(self) -> None:
        if self.dead:
            raise Crash

    def reboot(self, *, power: bool) -> None:
        """After a crash. Whether the daemon was killed or the power failed."""
        self.dead = False
        self.unpublished.clear()
        for disk in self.plexes.values():
            disk.locked = False
            if power:
                disk.lose_power(self.rng)

    def heal(self) -> None:
        for thing in (*self.plexes.values(), *self.dcos.values(), *self.homes_.values()):
            thing.faults = Faults()

    # fmrd.backing.protocol.Host

    def probe(self, path: str) -> Probe:
        self.alive()
        disk = self.plexes.get(path)
        return Probe(True, False, disk.length) if disk is not None and disk.present else Probe(False)

    def create_plex(self, path: str, length: int) -> SimBacking:
        self.alive()
        if path in self.plexes:
            raise Failed("plex_exists", f"{path} exists")
        self._inode += 1
        self.plexes[path] = PlexDisk(path, length, self._inode)
        return SimBacking(self, self.plexes[path])

    def open_plex(self, path: str, tail_bytes: int) -> SimBacking:
        self.alive()
        disk = self.plexes.get(path)
        if disk is None or not disk.present:
            raise Failed("plex_missing", f"there is no {path}")
        if disk.faults.dead:
            raise OSError(errno.EIO, "simulated dead disk")
        if disk.locked:
            raise Failed("plex_busy", f"{path} is locked")
        return SimBacking(self, disk)

    def tail_bytes(self, path: str) -> int | None:
        return None

    def create_dco(self, plex_path: str, dco_path: str | None, length: int) -> SimDco:
        self.alive()
        if plex_path in self.plexes and self.plexes[plex_path].faults.dead:
            raise OSError(errno.EIO, "simulated dead disk")
        self.dcos[plex_path] = SimDco(self, plex_path + ".dco", length)
        return self.dcos[plex_path]

    def open_dco(self, plex_path: str, dco_path: str | None) -> SimDco | None:
        self.alive()
        return self.dcos.get(plex_path)

    def homes(self) -> list[str]:
        return sorted(self.homes_)

    def open_home(self, name: str) -> SimDco:
        self.alive()
        if name not in self.homes_:
            raise Failed("home_missing", f"{name} is not there")
        return self.homes_[name]

    def create_home(self, name: str, length: int) -> SimDco:
        self.alive()
        self.unpublished[name] = SimDco(self, name + " home", length)
        return self.unpublished[name]

    def publish_home(self, name: str) -> None:
        self.alive()
        self.homes_[name] = self.unpublished.pop(name)

    def remove_home(self, name: str) -> None:
        self.alive()
        self.homes_.pop(name, None)

    def remove_dco(self, plex_path: str, dco_path: str | None) -> None:
        self.alive()
        self.dcos.pop(plex_path, None)

    def remove_plex(self, path: str) -> None:
        self.alive()
        self.plexes.pop(path, None)


_BLANK = bytes(DCO_BLOCK_BYTES)


def _bytes(label: int) -> bytes:
    return label.to_bytes(8, "little") * CHUNK


def labels_of(data: bytes) -> list[int]:
    """The label of each granule; a granule that holds two is torn, and no simulated disk does that."""
    return [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), GRANULE)]


def data_of(labels: Iterable[int]) -> bytes:
    return b"".join([_bytes(label) for label in labels])


def _torn(old: bytes, new: bytes, rng: random.Random) -> bytes:
    return b"".join([(new if rng.random() < 0.5 else old)[at : at + SECTOR] for at in range(0, len(old), SECTOR)])
