"""This is the real machine: plex files and copies of the DCO, beside the state directory."""

import contextlib
import errno
import os
import stat
import threading
import weakref
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from fmrd.backing import dcofile, locator, plexfile
from fmrd.backing.freezing import Freezer
from fmrd.backing.looking import trying
from fmrd.backing.looking.look import look
from fmrd.backing.looking.trail import leads_to
from fmrd.backing.nbd.exports import Exports
from fmrd.backing.owning.state import HOME_SUFFIX, UNPUBLISHED, StateDirectory
from fmrd.backing.owning.under_way import identity
from fmrd.backing.plexfile import PlexFile
from fmrd.backing.protocol import DCO_BLOCK_BYTES, Backing, DcoFile, Place, Probe, Room, Seen
from fmrd.backing.rbd.owning import who
from fmrd.backing.ring.ring import Ring
from fmrd.core.far.uris import is_uri, read_uri
from fmrd.core.printable import printable
from fmrd.errors import BadRequest, Failed, Refused

STANDARD_ERROR = 2


class LinuxHost(StateDirectory):
    """This is protocol.Host for real. ``mount``: fmrd's own mount point. Nothing that leads back to it is ever opened:
    whoever opens that waits for fmrd, and where fmrd itself does, for ever. ``ring``: for what lies on local disks.
    """

    def __init__(self, state: Path, mount: Path | None = None, ring: Ring | None = None) -> None:
        super().__init__(state)
        self._ring = ring
        self._mount = None if mount is None else str(mount)
        self._opened_here: weakref.WeakSet[PlexFile] = weakref.WeakSet()
        self._opened_lock = threading.Lock()
        self._exports = Exports(me=partial(who, state))
        """What a URI names; all else is a path."""

    def probe(self, path: str) -> Probe:
        if is_uri(path):
            return self._exports.probe(path)
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
        return None if is_uri(path) else trying.room(path)

    def look(self, path: str, mount: str | None, *, sidecar: bool = True) -> Seen:
        if is_uri(path):
            return self._exports.look(path, least=1 if sidecar else DCO_BLOCK_BYTES)
        return look(path, mount, sidecar=sidecar)

    def try_out(self, path: str, length: int, *, allocated: bool = False) -> None:
        if is_uri(path):
            if allocated:  # of a plex the look has told
                self._exports.try_out(path, length)
        else:
            trying.try_out(path, length, allocated=allocated)

    def try_home(self, name: str, length: int) -> None:
        trying.try_out(str(self.home_path(name)) + UNPUBLISHED, length, allocated=True)

    def try_clone(self, source: str, target: str) -> None:
        _must_be_here(source)
        trying.try_clone(source, target)

    def create_plex(self, path: str, length: int) -> PlexFile:
        _must_be_here(path)
        return self._opened(plexfile.create_plex(path, length))

    def open_plex(self, path: str, tail_bytes: int) -> Backing:
        if is_uri(path):
            return self._exports.open_plex(path, tail_bytes)
        self._must_lead_elsewhere(path)
        try:
            return self._opened(self.settled(plexfile.open_plex(path, tail_bytes)))
        except Failed as error:
            twin = self._twin(path) if error.code == "plex_busy" else None
            if twin is None:
                raise
            raise Failed("plex_busy", f"{path} and {twin} are one file, which cannot be two plexes") from None

    def take_plex(self, path: str, tail_bytes: int, seen: Seen) -> Backing:
        if is_uri(path):
            return self._exports.take_plex(path, tail_bytes, seen)
        return self._opened(self.settled(plexfile.take_plex(path, tail_bytes, seen)))

    def is_at(self, path: str, seen: Seen) -> bool:
        if is_uri(path):
            return read_uri(path).identity == seen.real
        try:
            status = os.stat(path)
        except OSError:
            return False
        if stat.S_ISBLK(status.st_mode):  # a device has several nodes
            return seen.identity is not None and seen.place is Place.DEVICE and status.st_rdev == seen.identity[-1]
        return seen.is_same(status)

    def tail_bytes(self, path: str, known: int | None = None) -> int | None:
        if is_uri(path):
            return self._exports.tail_bytes(path, known)
        self._must_lead_elsewhere(path)
        probe = self.probe(path)
        if not probe.is_block:
            return None
        found = locator.locate(path, known)
        return None if found is None else probe.size - found[0]

    def create_dco(self, plex_path: str, dco_path: str | None, length: int, *, replace: bool = False) -> DcoFile:
        where = dco_path or plex_path
        if is_uri(where):
            return self._exports.create_dco(where, length, whole=dco_path is not None, replace=replace)
        self._must_lead_elsewhere(dco_path or plex_path)
        if dco_path is None and self.probe(plex_path).is_block:
            return dcofile.create_tail(plex_path, length)
        path = dco_path or plex_path + HOME_SUFFIX
        if self.left_behind and (there := dcofile.open_file(path)) is not None:
            self.settled(there).close()
        return dcofile.create_file(path, length, replace=replace)

    def open_dco(self, plex_path: str, dco_path: str | None, known: int | None = None) -> DcoFile | None:
        where = dco_path or plex_path
        if is_uri(where):
            return self._exports.open_dco(where, known, whole=dco_path is not None)
        self._must_lead_elsewhere(dco_path or plex_path)
        if dco_path is None and self.probe(plex_path).is_block:
            found = dcofile.open_tail(plex_path, known)
        else:
            found = dcofile.open_file(dco_path or plex_path + HOME_SUFFIX)
        return None if found is None else self.settled(found)

    def clone_plex(self, source: str, target: str) -> None:
        _must_be_here(source)
        plexfile.clone(source, target)

    def freezer(self, mountpoint: str, needed: Mapping[str, str]) -> Freezer:
        ours = {str(self.state): "the state directory"}
        with contextlib.suppress(OSError):
            if stat.S_ISREG(os.fstat(STANDARD_ERROR).st_mode):
                ours[os.readlink(f"/proc/self/fd/{STANDARD_ERROR}")] = "the daemon's log"
        ours |= {path: what for path, what in needed.items() if not is_uri(path)}
        freezer = Freezer(mountpoint, ours, self._mount)
        freezer.check()
        return freezer

    def remove_dco(self, plex_path: str, dco_path: str | None) -> None:
        where = dco_path or plex_path
        if is_uri(where):
            self._exports.remove_dco(where, whole=dco_path is not None)
            return
        if dco_path is None and self.probe(plex_path).is_block:
            dcofile.wipe_tail(plex_path)
            return
        path = dco_path or plex_path + HOME_SUFFIX
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
            plexfile.sync_directory(path)

    def remove_plex(self, path: str) -> None:
        if is_uri(path):
            return
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
        if not file.inline and not file.far:
            file.ring = self._ring
        with self._opened_lock:
            self._opened_here.add(file)
        return file

    def _twin(self, path: str) -> str | None:
        """The path of another of our plexes that is the same file, or device."""
        with self._opened_lock:
            files = list(self._opened_here)
        file = identity(os.stat(path))
        return next((e.path for e in files if e.path != path and e.file == file and e.lock is not None), None)


def _must_be_here(path: str) -> None:
    """Of what a server has nobody makes a file, or a clone."""
    if is_uri(path):
        raise OSError(errno.EOPNOTSUPP, "an export of a server can be used, and neither made nor cloned", path)
