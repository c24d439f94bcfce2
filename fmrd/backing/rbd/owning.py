"""An image's exclusive lock is taken here: whoever had it and is gone is kept out by the cluster from then on (its
blocklist), so that nothing of it lands any more.

The lock is taken from nobody who may be at work: only from a session of this very fmrd, of which this process has none
any more, or from a client that the cluster has not heard of for a while (librbd does that by itself). All of it blocks.
"""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from fmrd.backing.plexfile import sync_directory
from fmrd.backing.rbd.image import Opened, asked, hint
from fmrd.core.far.images import ImageUri
from fmrd.core.printable import printable
from fmrd.errors import Failed

OWNER_KEY = "fmrd_owner"
"""Of the image's metadata: the address of the client that has the lock for fmrd, and which fmrd that is."""
IDENTITY, IDENTITY_BYTES = "identity", 16
KEPT_OUT_SECONDS = 24 * 3600.0
"""The cluster's own time is an hour. A call that waits for an OSD which is away for longer would be carried out."""
MOST_LINGERING = 4
"""So many sessions with an image may be lost and not closed: each has threads, and calls that nobody answers."""
CLOSE_SECONDS = 2.0
_MAKING = threading.Lock()


def who(state: Path) -> str:
    """Return which fmrd this is: one at a time has a state directory. A machine that was copied may have the number of
    its original, and the same paths: so the directory has one of its own, which is made here. OSError.
    """
    machine = ""
    with contextlib.suppress(OSError):
        machine = Path("/etc/machine-id").read_text(encoding="ascii", errors="replace").strip()
    with _MAKING:
        mine = _identity(state / IDENTITY)
    return hashlib.sha256(f"{machine}\0{state.absolute()}\0{mine}".encode()).hexdigest()


def _identity(path: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        there = path.read_bytes()[: 4 * IDENTITY_BYTES].decode("ascii", "replace").strip()
        if len(there) == 2 * IDENTITY_BYTES:
            return there
    made = secrets.token_hex(IDENTITY_BYTES)
    new = f"{path}.new"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(descriptor, f"{made}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(new, path)
    sync_directory(str(path))
    return made


class Session(Protocol):
    """As much of a session as is asked about others."""

    uri: ImageUri
    peer: object
    gone: threading.Event

    @property
    def lost(self) -> OSError | None:
        """Return why it is over, once it is."""

    owner: str | None
    """The address under which it has, or had, the lock."""


class Owners:
    """The sessions of this process until they are closed. From whatever thread. ``who_am_i``: which fmrd this is; "":
    one that takes no lock from a process before it.
    """

    def __init__(self, who_am_i: Callable[[], str]) -> None:
        self.who_am_i = who_am_i
        self._lock = threading.Lock()
        self._sessions: list[Session] = []

    def add(self, session: Session) -> None:
        with self._lock:
            self._sessions = [*self._there(), session]

    def must_be_few(self, uri: ImageUri) -> None:
        """Failed('plex_busy') where too many before it have not ended."""
        with self._lock:
            count = sum(each.uri.identity == uri.identity and each.lost is not None for each in self._there())
        if count >= MOST_LINGERING:
            raise Failed(
                "plex_busy", f"{uri}: {uri.server} has not answered calls of the {count} sessions before yet",
                "which OSDs are down? See 'ceph health detail'",
            )  # fmt: skip

    def has(self, owner: str) -> "Session | None":
        """Return the session of ours that has a lock by that address."""
        with self._lock:
            return next((each for each in self._there() if each.owner == owner), None)

    def lingering(self, place: object) -> list[str]:
        """Return the addresses of those that are lost and had that image's lock."""
        with self._lock:
            return [each.owner for each in self._there() if each.owner and each.lost is not None and each.peer == place]

    def _there(self) -> list[Session]:
        return [each for each in self._sessions if not each.gone.is_set()]


def owner_of(opened: Opened) -> str | None:
    """Return the address of the client that has the lock; None where nobody has. OSError."""
    owners = list(asked(opened.image.lock_get_owners))
    return str(owners[0]["owner"]) if owners else None


def take_lock(uri: ImageUri, opened: Opened, owners: Owners, session: Session) -> None:
    """Take the image's lock for ``session``, whose ``owner`` is then by which address. Failed('plex_busy'), OSError."""
    image, me = opened.image, owners.who_am_i()
    owner = owner_of(opened)
    try:
        if owner is not None and _may_break(opened, owners, owner, me):
            _keep_out(opened, owner)  # before that is done for an hour: a second time does not make it longer
            _break(opened, owner)
        for each in owners.lingering(opened.place):  # who was kept out may have been forgotten meanwhile
            if each != owner:
                _keep_out(opened, each)
        asked(opened.cluster.wait_for_latest_osdmap)
    except OSError as error:
        raise Failed(
            "plex_missing", f"{uri}: a session before this one cannot be kept out: {error.strerror}", hint(error)
        ) from error  # fmt: skip
    try:
        asked(lambda: image.lock_acquire(opened.rbd.RBD_LOCK_MODE_EXCLUSIVE))
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EBUSY, errno.EAGAIN, errno.ETIMEDOUT):
            raise Failed("plex_missing", f"{uri}: its lock cannot be had: {error.strerror}", hint(error)) from error
        holder = "another client" if owner is None else printable(owner)
        raise Failed(
            "plex_busy", f"{uri}: {holder} has its exclusive lock",
            "a machine that has it mapped, a virtual machine, or another fmrd; of one that died the cluster lets go "
            "after half a minute; one that rbd mirrors here from another cluster is written by that alone",
        ) from error  # fmt: skip
    mine = owner_of(opened)
    if mine is None or not asked(image.is_exclusive_lock_owner):
        raise Failed("plex_busy", f"{uri}: its exclusive lock was taken away in this moment", "see 'rbd lock ls'")
    session.owner = mine
    if me:
        asked(lambda: image.metadata_set(OWNER_KEY, f"{mine} {me}"))


def _may_break(opened: Opened, owners: Owners, owner: str, me: str) -> bool:
    """Of ours, one that ends now is waited for; else it was ours if the image says so, and its process is gone."""
    if (session := owners.has(owner)) is not None:
        if session.lost is not None:
            session.gone.wait(CLOSE_SECONDS)
        return session.lost is not None
    return bool(me) and _says(opened) == f"{owner} {me}"


def _break(opened: Opened, owner: str) -> None:
    try:
        asked(lambda: opened.image.lock_break(opened.rbd.RBD_LOCK_MODE_EXCLUSIVE, owner))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EBUSY):  # it has not gone by itself in this moment
            raise


def _keep_out(opened: Opened, address: str) -> None:
    """Have the cluster keep that client out. OSError. (Asked by librbd's own call, the monitor refuses a time.)"""
    words = {"prefix": "osd blocklist", "blocklistop": "add", "addr": address, "expire": KEPT_OUT_SECONDS}
    status, _, said = asked(lambda: opened.cluster.mon_command(json.dumps(words), b""))
    if status:
        raise OSError(abs(status), printable(said))


def _says(opened: Opened) -> str | None:
    try:
        return str(asked(lambda: opened.image.metadata_get(OWNER_KEY)))
    except OSError:
        return None
