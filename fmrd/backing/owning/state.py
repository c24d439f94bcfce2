"""The state directory: who owns it, the home copies in it, and what verify knows."""

import contextlib
import logging
import os
import time
from pathlib import Path
from typing import TypeVar

from fmrd.backing import dcofile, plexfile, private
from fmrd.backing.dcofile import DcoFile
from fmrd.backing.notefile import NoteFile
from fmrd.backing.owning import stores
from fmrd.backing.owning.locking import Lock
from fmrd.backing.owning.under_way import Process
from fmrd.backing.plexfile import PlexFile
from fmrd.errors import Failed, Refused

log = logging.getLogger(__name__)

T = TypeVar("T", PlexFile, DcoFile)

HOME_SUFFIX = ".dco"
UNPUBLISHED = ".new"
CHECKSUMS_SUFFIX = ".sums"

END_SECONDS = 2.0
"""How long the fmrd before this one may take for its last calls before they count as calls that hang."""


class StateDirectory:
    """This is what protocol.Host says of home copies and checksums, for real. ``state`` is made with mode 0700 if it is
    missing, as are its parents.
    """

    def __init__(self, state: Path) -> None:
        self.state = state
        self._volumes = state / "volumes"
        private.make(self._volumes)
        self._lock: Lock | None = None
        self.left_behind: list[Process] = []
        """Those that owned the state directory, and have calls that hang."""

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
        known = {"lock", "history", "history.1", "identity", "nights", stores.NAME, stores.NEW, self._volumes.name}
        private.mend(self.state, but_for=known)
        for left in self._volumes.glob("*" + HOME_SUFFIX + UNPUBLISHED):
            log.info("removing %s: a kill came before that volume was made, or imported", left)
            left.unlink()

    def homes(self) -> list[str]:
        return sorted(p.name.removesuffix(HOME_SUFFIX) for p in self._volumes.glob("*" + HOME_SUFFIX))

    def open_home(self, name: str) -> DcoFile:
        found = dcofile.open_file(str(self.home_path(name)))
        if found is None:
            raise Failed("home_missing", f"{self.home_path(name)} is not there")
        return self.settled(found)

    def create_home(self, name: str, length: int) -> DcoFile:
        return dcofile.create_file(str(self.home_path(name)) + UNPUBLISHED, length, replace=True)

    def publish_home(self, name: str) -> None:
        home = str(self.home_path(name))
        os.rename(home + UNPUBLISHED, home)
        plexfile.sync_directory(home)

    def remove_home(self, name: str) -> None:
        home = self.home_path(name)
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

    def rename_home(self, name: str, new: str) -> None:
        os.rename(self.home_path(name), self.home_path(new))
        plexfile.sync_directory(str(self.home_path(new)))

    def read_stores(self) -> bytes | None:
        return stores.read(self.state)

    def write_stores(self, data: bytes) -> None:
        stores.write(self.state, data)

    def prepare_store(self, directory: str, *, make: bool = True) -> None:
        stores.prepare(directory, make=make)

    def store_files(self, directory: str) -> dict[str, int]:
        return stores.files(directory)

    def settled(self, found: T) -> T:
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

    def home_path(self, name: str) -> Path:
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
