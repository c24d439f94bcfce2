"""This is the real machine: plex files, copies of the DCO, and the state directory."""

import contextlib
import fcntl
import logging
import os
import stat
import threading
import weakref
from pathlib import Path

from fmrd.backing import dcofile, locator, plexfile, private
from fmrd.backing.dcofile import DcoFile
from fmrd.backing.freezing import Freezer
from fmrd.backing.looking.look import look
from fmrd.backing.notefile import NoteFile
from fmrd.backing.plexfile import PlexFile
from fmrd.backing.protocol import Place, Probe, Room, Seen
from fmrd.errors import BadRequest, Failed, Refused

log = logging.getLogger(__name__)

HOME_SUFFIX = ".dco"
UNPUBLISHED = ".new"
CHECKSUMS_SUFFIX = ".sums"


class LinuxHost:
    """This is protocol.Host for real. ``state`` is the state directory, made with mode 0700 if it is missing, as are
    its parents.
    """

    def __init__(self, state: Path) -> None:
        self.state = state
        self._volumes = state / "volumes"
        private.make(self._volumes)
        self._lock_fd: int | None = None
        self._opened_here: weakref.WeakSet[PlexFile] = weakref.WeakSet()
        self._opened_lock = threading.Lock()

    def lock(self) -> None:
        """Own the state directory, and clear it of what was never finished; Refused('daemon_running') while another
        daemon owns it.
        """
        descriptor = os.open(self.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise Refused("daemon_running", f"another daemon owns {self.state}") from None
        self._lock_fd = descriptor
        private.mend(self._volumes)
        private.mend(self.state, but_for={"lock", self._volumes.name})
        for left in self._volumes.glob("*" + HOME_SUFFIX + UNPUBLISHED):
            log.info("removing %s: a kill came before that volume was made, or imported", left)
            left.unlink()

    def probe(self, path: str) -> Probe:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return Probe(False)
        if stat.S_ISBLK(status.st_mode):
            return Probe(True, True, locator.device_bytes(path))
        if not stat.S_ISREG(status.st_mode):
            raise BadRequest("not_a_plex", f"{path} is neither a regular file nor a block device")
        return Probe(True, False, status.st_size)

    def room(self, path: str) -> Room | None:
        status, system = os.stat(path), os.statvfs(path)
        if stat.S_ISBLK(status.st_mode):
            return None
        return Room(status.st_dev, system.f_bavail * system.f_frsize, status.st_blocks * 512)

    def look(self, path: str, mount: str | None, *, sidecar: bool = True) -> Seen:
        return look(path, mount, sidecar=sidecar)

    def create_plex(self, path: str, length: int) -> PlexFile:
        return self._opened(plexfile.create_plex(path, length))

    def open_plex(self, path: str, tail_bytes: int) -> PlexFile:
        try:
            return self._opened(plexfile.open_plex(path, tail_bytes))
        except Failed as error:
            twin = self._twin(path) if error.code == "plex_busy" else None
            if twin is None:
                raise
            raise Failed("plex_busy", f"{path} and {twin} are one file, which cannot be two plexes") from None

    def take_plex(self, path: str, tail_bytes: int, seen: Seen) -> PlexFile:
        return self._opened(plexfile.take_plex(path, tail_bytes, seen))

    def is_at(self, path: str, seen: Seen) -> bool:
        try:
            status = os.stat(path)
        except OSError:
            return False
        if stat.S_ISBLK(status.st_mode):  # a device has several nodes
            return seen.identity is not None and seen.place is Place.DEVICE and status.st_rdev == seen.identity[-1]
        return seen.is_same(status)

    def tail_bytes(self, path: str, known: int | None = None) -> int | None:
        probe = self.probe(path)
        if not probe.is_block:
            return None
        found = locator.locate(path, known)
        return None if found is None else probe.size - found[0]

    def create_dco(self, plex_path: str, dco_path: str | None, length: int, *, replace: bool = False) -> DcoFile:
        if dco_path is None and self.probe(plex_path).is_block:
            return dcofile.create_tail(plex_path, length)
        return dcofile.create_file(dco_path or plex_path + HOME_SUFFIX, length, replace=replace)

    def open_dco(self, plex_path: str, dco_path: str | None, known: int | None = None) -> DcoFile | None:
        if dco_path is None and self.probe(plex_path).is_block:
            return dcofile.open_tail(plex_path, known)
        return dcofile.open_file(dco_path or plex_path + HOME_SUFFIX)

    def clone_plex(self, source: str, target: str) -> None:
        plexfile.clone(source, target)

    def rename_home(self, name: str, new: str) -> None:
        os.rename(self._home(name), self._home(new))
        plexfile.sync_directory(str(self._home(new)))

    def freezer(self, mountpoint: str) -> Freezer:
        return Freezer(mountpoint)

    def homes(self) -> list[str]:
        return sorted(p.name.removesuffix(HOME_SUFFIX) for p in self._volumes.glob("*" + HOME_SUFFIX))

    def open_home(self, name: str) -> DcoFile:
        found = dcofile.open_file(str(self._home(name)))
        if found is None:
            raise Failed("home_missing", f"{self._home(name)} is not there")
        return found

    def create_home(self, name: str, length: int) -> DcoFile:
        return dcofile.create_file(str(self._home(name)) + UNPUBLISHED, length, replace=True)

    def publish_home(self, name: str) -> None:
        home = str(self._home(name))
        os.rename(home + UNPUBLISHED, home)
        plexfile.sync_directory(home)

    def remove_home(self, name: str) -> None:
        home = self._home(name)
        home.unlink(missing_ok=True)
        plexfile.sync_directory(str(home))

    def open_checksums(self, volume: str, *, make: bool) -> NoteFile | None:
        try:
            return NoteFile(str(self._checksums(volume)), make=make)
        except FileNotFoundError:
            return None

    def remove_checksums(self, volume: str) -> None:
        path = self._checksums(volume)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            plexfile.sync_directory(str(path))

    def remove_dco(self, plex_path: str, dco_path: str | None) -> None:
        if dco_path is None and self.probe(plex_path).is_block:
            dcofile.wipe_tail(plex_path)
            return
        path = dco_path or plex_path + HOME_SUFFIX
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
            plexfile.sync_directory(path)

    def remove_plex(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISREG(os.stat(path).st_mode):
                os.unlink(path)
                plexfile.sync_directory(path)

    def _opened(self, file: PlexFile) -> PlexFile:
        with self._opened_lock:
            self._opened_here.add(file)
        return file

    def _twin(self, path: str) -> str | None:
        """The path of another of our plexes that is the same file, or device."""
        with self._opened_lock:
            files = list(self._opened_here)
        identity = plexfile.identity(os.stat(path))
        return next((each.path for each in files if each.path != path and each.identity() == identity), None)

    def _home(self, name: str) -> Path:
        return self._of(name, HOME_SUFFIX)

    def _checksums(self, name: str) -> Path:
        return self._of(name, CHECKSUMS_SUFFIX)

    def _of(self, name: str, suffix: str) -> Path:
        assert "/" not in name and name not in (".", ".."), f"a volume's name was not checked: {name!r}"
        return self._volumes / (name + suffix)
