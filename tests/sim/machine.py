"""A simulated machine: disks, sidecars and a state directory that outlive the daemon; it is the daemon's Host."""

import errno
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from fmrd.backing.protocol import DCO_BLOCK_BYTES, DcoFile, Finding, Freezer, Kind, Place, Probe, Seen
from fmrd.errors import Failed, Refused
from tests.sim.dcos import SimDco, SimNotes
from tests.sim.disks import GRANULE, Crash, Faults, PlexDisk, SimBacking
from tests.sim.far_copies import FarDco
from tests.sim.oracle import Broken
from tests.sim.sessions import Sessions

STRANGE = 1 << 60
"""Labels that no volume ever wrote."""


@dataclass
class Stranger:
    """Another disk where a plex lay, and what it and the file beside it held when it was put there."""

    disk: PlexDisk
    plex: PlexDisk
    dco: SimDco | None
    holds: list[int]
    blocks: dict[int, bytes] | None


class Machine:
    """Everything that outlives the daemon. ``cutting``: '', 'kill' or 'power' while a crash cuts off calls."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.plexes: dict[str, PlexDisk] = {}
        self.dcos: dict[str, SimDco] = {}
        self.homes_: dict[str, SimDco] = {}
        self.unpublished: dict[str, SimDco] = {}
        self.notes: dict[str, SimNotes] = {}
        self.stores: bytes | None = None
        self.dead = False
        self.cutting = ""
        self.ticks = 0
        self.blocking = True
        self.begins = False
        self.devices = False
        self.far = False
        self.caches = False
        self.sessions = Sessions(random.Random(0))
        self.under_way: list[tuple[PlexDisk, int, int]] = []
        """Granules and labels of writes that failed on the far side, and may be carried out yet."""
        self.at_once: Callable[[], None] | None = None
        self.now: random.Random | None = None
        """What a disk that blocks takes in place, or does not."""
        self._inode = 100
        self.strangers: dict[str, Stranger] = {}

    def alive(self) -> None:
        self.ticks += 1
        if self.dead:
            raise Crash
        self.sessions.tick()
        if self.under_way and self.rng.random() < 0.004:
            plex, granule, label = self.under_way.pop(0)
            plex.put(granule, label)

    def end_sessions(self, path: str | None = None) -> None:
        """Of one plex, or of all: what was under way there is carried out now, or never. The end of the daemon counts
        as one, too, since nothing here tells a new daemon what its predecessor had under way.
        """
        self.sessions.end(path)
        for plex, granule, label in [each for each in self.under_way if path in (None, each[0].path)]:
            if self.rng.random() < 0.5:
                plex.put(granule, label)
        self.under_way = [each for each in self.under_way if path not in (None, each[0].path)]

    @contextmanager
    def quickly(self, step: Callable[[], None]) -> Iterator[None]:
        """Calls on disks are made in place; ``step`` may let the machine die before each."""
        self.at_once = step
        try:
            yield
        finally:
            self.at_once = None

    def put_stranger(self, path: str) -> None:
        """Another disk, where a plex was: without a DCO, with one that names another plex, or with anything at all."""
        real, dco = self.plexes[path], self.dcos.pop(path, None)
        self._inode += 1
        disk = self.plexes[path] = PlexDisk(path, real.length, self._inode)
        disk.cache = [STRANGE + granule for granule in range(len(disk.cache))]
        disk.disk = list(disk.cache)
        beside = self.rng.choice(["nothing", "another plex's", "anything"])
        others = [found for name, found in sorted(self.dcos.items()) if name not in self.strangers]
        if beside == "another plex's" and others:
            other = self.rng.choice(others)
            self.dcos[path] = SimDco(self, path + ".dco", other.length)
            self.dcos[path].blocks = dict(other.blocks)
        elif beside == "anything":
            self.dcos[path] = SimDco(self, path + ".dco", 1 << 20)
            self.dcos[path].blocks = {0: self.rng.randbytes(DCO_BLOCK_BYTES)}
        theirs = self.dcos.get(path)
        blocks = dict(theirs.blocks) if theirs is not None else None
        self.strangers[path] = Stranger(disk, real, dco, list(disk.cache), blocks)

    def take_strangers_away(self) -> None:
        """The plexes lie there again. Broken where a stranger was written to."""
        for path, stranger in self.strangers.items():
            theirs = self.dcos.pop(path, None)
            blocks = dict(theirs.blocks) if theirs is not None else None
            if self.plexes.pop(path, None) is not stranger.disk or stranger.disk.cache != stranger.holds:
                raise Broken(f"another disk, where {path} lay, was overwritten")
            if blocks != stranger.blocks:
                raise Broken(f"what lay beside another disk, where {path} lay, was overwritten or removed")
            self.plexes[path] = stranger.plex
            if stranger.dco is not None:
                self.dcos[path] = stranger.dco
        self.strangers.clear()

    def reboot(self, *, power: bool) -> None:
        """After a crash. Whether the daemon was killed or the power failed."""
        self.dead = False
        self.unpublished.clear()
        for notes in self.notes.values() if power else ():
            notes.lose_power(self.rng)
        for disk in self.plexes.values():
            disk.locked = False
            disk.unstamped = disk.unstamped or disk.extended
            if power and not self.sessions.server(disk.path).far:
                disk.lose_power(self.rng)
            else:
                disk.killed(self.ticks)

    def heal(self) -> None:
        for thing in (*self.plexes.values(), *self.dcos.values(), *self.homes_.values()):
            thing.faults = Faults()

    # fmrd.backing.protocol.Host

    def probe(self, path: str) -> Probe:
        self.alive()
        disk = self.plexes.get(path)
        return Probe(True, False, disk.length) if disk is not None and disk.present else Probe(False)

    def room(self, path: str) -> None:
        """More than is needed."""

    def try_out(self, path: str, length: int, *, allocated: bool = False) -> None:
        self.alive()

    def try_home(self, name: str, length: int) -> None:
        self.alive()

    def try_clone(self, source: str, target: str) -> None:
        self.alive()

    def look(self, path: str, mount: str | None, *, sidecar: bool = True) -> Seen:
        self.alive()
        disk = self.plexes.get(path)
        if disk is None or not disk.present:
            return Seen(path, Place.MISSING, path)
        holds = (Finding(Kind.NOT_EMPTY, "a file that is not empty"),) if any(disk.cache) else ()
        return Seen(path, Place.FILE, path, disk.length, has_data=holds)

    def take_plex(self, path: str, tail_bytes: int, seen: Seen) -> SimBacking:
        return self.open_plex(path, tail_bytes)

    def is_at(self, path: str, seen: Seen) -> bool:
        return path == seen.real

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
        if disk.locked and not self.sessions.is_lost(path):
            raise Failed("plex_busy", f"{path} is locked")
        return SimBacking(self, disk)

    def clone_plex(self, source: str, target: str) -> None:
        self.alive()
        disk = self.plexes[source]
        if target in self.plexes:
            raise OSError(errno.EEXIST, "simulated clone")
        self._inode += 1
        clone = self.plexes[target] = PlexDisk(target, disk.length, self._inode)
        clone.cache, clone.disk = list(disk.cache), list(disk.cache)

    def rename_home(self, name: str, new: str) -> None:
        self.alive()
        self.homes_[new] = self.homes_.pop(name)

    def freezer(self, mountpoint: str, needed: Mapping[str, str]) -> Freezer:
        raise AssertionError("nothing is mounted on a simulated machine")

    def tail_bytes(self, path: str, known: int | None = None) -> int | None:
        return None

    def create_dco(self, plex_path: str, dco_path: str | None, length: int, *, replace: bool = False) -> DcoFile:
        self.alive()
        there = self.dcos.get(plex_path)
        if there is not None and there.blocks and not replace:
            raise Refused("refused_has_data", f"{plex_path}.dco is there")
        if plex_path in self.plexes and self.plexes[plex_path].faults.dead:
            raise OSError(errno.EIO, "simulated dead disk")
        made = self.dcos[plex_path] = SimDco(self, plex_path + ".dco", length, plex_path)
        return FarDco(made) if made.far else made

    def open_dco(self, plex_path: str, dco_path: str | None, known: int | None = None) -> DcoFile | None:
        self.alive()
        found = self.dcos.get(plex_path)
        return FarDco(found) if found is not None and found.far else found

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

    def open_checksums(self, volume: str, *, make: bool) -> SimNotes | None:
        self.alive()
        if make:
            self.notes.setdefault(volume, SimNotes(self))
        return self.notes.get(volume)

    def remove_checksums(self, volume: str) -> None:
        self.alive()
        self.notes.pop(volume, None)

    def remove_dco(self, plex_path: str, dco_path: str | None) -> None:
        self.alive()
        self.dcos.pop(plex_path, None)

    def read_stores(self) -> bytes | None:
        return self.stores

    def write_stores(self, data: bytes) -> None:
        self.alive()
        if not self.cutting:
            self.stores = data

    def prepare_store(self, directory: str, *, make: bool = True) -> None:
        self.alive()

    def store_files(self, directory: str) -> dict[str, int]:
        """Of each file as much as is not zeros: what is punched takes no room."""
        self.alive()
        inside = [disk for path, disk in self.plexes.items() if path.startswith(f"{directory}/")]
        return {disk.path: GRANULE * sum(map(bool, disk.cache)) for disk in inside}

    def remove_plex(self, path: str) -> None:
        self.alive()
        self.plexes.pop(path, None)
