"""This is the real machine: plex files, copies of the DCO, and the state directory."""

import contextlib
import logging
import os
import stat
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from fmrd.backing import dcofile, locator, plexfile, private
from fmrd.backing.dcofile import DcoFile
from fmrd.backing.freezing import Freezer
from fmrd.backing.looking import trying
from fmrd.backing.looking.look import look
from fmrd.backing.looking.trail import leads_to
from fmrd.backing.notefile import NoteFile
from fmrd.backing.owning.locking import Lock
from fmrd.backing.owning.under_way import Process, identity
from fmrd.backing.plexfile import PlexFile
from fmrd.backing.protocol import Place, Probe, Room, Seen
from fmrd.core.printable import printable
from fmrd.errors import BadRequest, Failed, Refused

log = logging.getLogger(__name__)

T = TypeVar("T", PlexFile, DcoFile)

HOME_SUFFIX = ".dco"
UNPUBLISHED = ".new"
CHECKSUMS_SUFFIX = ".sums"
STANDARD_ERROR = 2

END_SECONDS = 2.0
"""How long the fmrd before this one may take for its last calls before they count as calls that hang."""


class LinuxHost:
    """This is protocol.Host for real. ``state`` is the state directory, made with mode 0700 if it is missing, as are
    its parents. ``mount``: fmrd's own mount point. Nothing that leads back to it is ever opened: whoever opens that
    waits for fmrd, and where fmrd itself does, for ever.
    """

    def __init__(self, state: Path, mount: Path | None = None) -> None:
        self.state = state
        self._mount = None if mount is None else str(mount)
        self._volumes = state / "volumes"
        private.make(self._volumes)
        self._lock: Lock | None = None
        self.left_behind: list[Process] = []
        """Those that owned the state directory, and have calls that hang."""
        self._opened_here: weakref.WeakSet[PlexFile] = weakref.WeakSet()
        self._opened_lock = threading.Lock()

    def lock(self) -> None:
        """Own the state directory, and clear it of what was never finished; Refused('daemon_running') while another
        daemon owns it.
        """
        descriptor = os.open(self.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock = Lock(descriptor)
            self.left_behind = _succeed(descriptor)
        except BlockingIOError:
            raise Refused("daemon_running", f"another daemon owns {self.state}") from None
        finally:
            os.close(descriptor)
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
        return trying.room(path)

    def look(self, path: str, mount: str | None, *, sidecar: bool = True) -> Seen:
        return look(path, mount, sidecar=sidecar)

    def try_out(self, path: str, length: int, *, allocated: bool = False) -> None:
        trying.try_out(path, length, allocated=allocated)

    def try_home(self, name: str, length: int) -> None:
        trying.try_out(str(self._home(name)) + UNPUBLISHED, length, allocated=True)

    def try_clone(self, source: str, target: str) -> None:
        trying.try_clone(source, target)

    def create_plex(self, path: str, length: int) -> PlexFile:
        return self._opened(plexfile.create_plex(path, length))

    def open_plex(self, path: str, tail_bytes: int) -> PlexFile:
        self._must_lead_elsewhere(path)
        try:
            return self._opened(self._settled(plexfile.open_plex(path, tail_bytes)))
        except Failed as error:
            twin = self._twin(path) if error.code == "plex_busy" else None
            if twin is None:
                raise
            raise Failed("plex_busy", f"{path} and {twin} are one file, which cannot be two plexes") from None

    def take_plex(self, path: str, tail_bytes: int, seen: Seen) -> PlexFile:
        return self._opened(self._settled(plexfile.take_plex(path, tail_bytes, seen)))

    def is_at(self, path: str, seen: Seen) -> bool:
        try:
            status = os.stat(path)
        except OSError:
            return False
        if stat.S_ISBLK(status.st_mode):  # a device has several nodes
            return seen.identity is not None and seen.place is Place.DEVICE and status.st_rdev == seen.identity[-1]
        return seen.is_same(status)

    def tail_bytes(self, path: str, known: int | None = None) -> int | None:
        self._must_lead_elsewhere(path)
        probe = self.probe(path)
        if not probe.is_block:
            return None
        found = locator.locate(path, known)
        return None if found is None else probe.size - found[0]

    def create_dco(self, plex_path: str, dco_path: str | None, length: int, *, replace: bool = False) -> DcoFile:
        self._must_lead_elsewhere(dco_path or plex_path)
        if dco_path is None and self.probe(plex_path).is_block:
            return dcofile.create_tail(plex_path, length)
        path = dco_path or plex_path + HOME_SUFFIX
        if self.left_behind and (there := dcofile.open_file(path)) is not None:
            self._settled(there).close()
        return dcofile.create_file(path, length, replace=replace)

    def open_dco(self, plex_path: str, dco_path: str | None, known: int | None = None) -> DcoFile | None:
        self._must_lead_elsewhere(dco_path or plex_path)
        if dco_path is None and self.probe(plex_path).is_block:
            found = dcofile.open_tail(plex_path, known)
        else:
            found = dcofile.open_file(dco_path or plex_path + HOME_SUFFIX)
        return None if found is None else self._settled(found)

    def clone_plex(self, source: str, target: str) -> None:
        plexfile.clone(source, target)

    def rename_home(self, name: str, new: str) -> None:
        os.rename(self._home(name), self._home(new))
        plexfile.sync_directory(str(self._home(new)))

    def freezer(self, mountpoint: str, needed: Mapping[str, str]) -> Freezer:
        ours = {str(self.state): "the state directory"}
        with contextlib.suppress(OSError):
            if stat.S_ISREG(os.fstat(STANDARD_ERROR).st_mode):
                ours[os.readlink(f"/proc/self/fd/{STANDARD_ERROR}")] = "the daemon's log"
        freezer = Freezer(mountpoint, {**ours, **needed}, self._mount)
        freezer.check()
        return freezer

    def homes(self) -> list[str]:
        return sorted(p.name.removesuffix(HOME_SUFFIX) for p in self._volumes.glob("*" + HOME_SUFFIX))

    def open_home(self, name: str) -> DcoFile:
        found = dcofile.open_file(str(self._home(name)))
        if found is None:
            raise Failed("home_missing", f"{self._home(name)} is not there")
        return self._settled(found)

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

    def _must_lead_elsewhere(self, path: str) -> None:
        """Refused('refused_in_use'), as for whoever takes a path (look)."""
        if self._mount is not None and (words := leads_to(path, self._mount)) is not None:
            raise Refused(
                "refused_in_use", f"{printable(path)}: {words}", "no volume lies on itself: name another path"
            )

    def _opened(self, file: PlexFile) -> PlexFile:
        with self._opened_lock:
            self._opened_here.add(file)
        return file

    def _twin(self, path: str) -> str | None:
        """The path of another of our plexes that is the same file, or device."""
        with self._opened_lock:
            files = list(self._opened_here)
        file = identity(os.stat(path))
        return next((e.path for e in files if e.path != path and e.file == file and e.lock is not None), None)

    def _settled(self, found: T) -> T:
        """What was just opened, unless a process that was left behind may still write to it: Failed('plex_hung')."""
        writer = next((each for each in self.left_behind if each.may_write(found.file)), None)
        if writer is None:
            return found
        found.close()
        raise Failed(
            "plex_hung",
            f"{found.path}: a call of the fmrd before this one (process {writer.number}) has not returned, and may "
            "still write there",
        )

    def _home(self, name: str) -> Path:
        return self._of(name, HOME_SUFFIX)

    def _checksums(self, name: str) -> Path:
        return self._of(name, CHECKSUMS_SUFFIX)

    def _of(self, name: str, suffix: str) -> Path:
        assert "/" not in name and name not in (".", ".."), f"a volume's name was not checked: {name!r}"
        return self._volumes / (name + suffix)


def _succeed(descriptor: int) -> list[Process]:
    """Write into the lock file who owns it now, and return who did and is not gone. A kill frees the lock, and is not
    over with that: whatever is under way then ends by itself, or hangs.
    """
    lines = os.pread(descriptor, 1 << 16, 0).decode(errors="replace").splitlines()
    before = [each for each in map(Process.parse, lines) if each is not None and each.number != os.getpid()]
    deadline = time.monotonic() + END_SECONDS
    while (left := [each for each in before if each.threads()]) and time.monotonic() < deadline:
        time.sleep(0.01)
    for each in left:
        log.warning("process %d was fmrd, and has calls that hang: what they write to stays out", each.number)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, "".join(f"{each}\n" for each in [*left, Process.this()]).encode(), 0)
    except OSError as error:
        log.warning("should this process hang at its end, the next one does not know it: %s", error.strerror)
    return left
