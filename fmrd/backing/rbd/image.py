"""An image is opened here, by a client of the cluster that nothing else uses, and its exclusive lock taken: whoever had
it and is gone is kept out by the cluster from then on (its blocklist), so that nothing of it lands any more.

The lock is taken from nobody who may be at work: only from a session of this very fmrd, of which this process has none
any more, or from a client that the cluster has not heard of for a while (librbd does that by itself). All of it blocks.
"""

import contextlib
import errno
import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fmrd.backing.rbd.library import Module, load
from fmrd.core.far.images import ImageUri
from fmrd.core.printable import printable
from fmrd.errors import Failed, FmrdError, Refused

OPEN_SECONDS = 10.0
OWNER_KEY = "fmrd_owner"
"""Of the image's metadata: the address of the client that has the lock for fmrd, and which fmrd that is."""
SETTINGS = {
    "rbd_cache": "false",  # what was written is in the cluster; nothing is remembered here
    "rbd_blocklist_on_break_lock": "true",  # without that a broken lock proves nothing
    "rados_osd_op_timeout": "0",  # a call that is given up here may land; it is given up by the session
    "rados_mon_op_timeout": "10",
    "client_mount_timeout": "10",
}


@dataclass(frozen=True)
class Opened:
    """An open image. ``size`` is bytes; ``place`` the same for all names of it; ``seconds``: what opening it took."""

    cluster: Any
    pool: Any
    image: Any
    rbd: Module
    size: int
    place: tuple[str, str]
    seconds: float

    def close(self) -> None:
        """Let go of lock, image and cluster. It blocks until what is under way has ended, and raises nothing."""
        for close in (self.image.close, self.pool.close, self.cluster.shutdown):
            with contextlib.suppress(Exception):  # it is lost, and what could be told was
                close()


def who(state: Path) -> str:
    """Return which fmrd this is: one at a time has a state directory of one machine."""
    machine = ""
    with contextlib.suppress(OSError):
        machine = Path("/etc/machine-id").read_text(encoding="ascii", errors="replace").strip()
    return hashlib.sha256(f"{machine}\0{state.absolute()}".encode()).hexdigest()


class _Opening:
    """One opening, on a thread of its own: a cluster that does not answer holds that up, and nobody else."""

    def __init__(self, uri: ImageUri, rados: Module, rbd: Module) -> None:
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._found: Opened | Exception | None = None
        self._unwanted = False
        self._run = partial(_connect, uri, rados, rbd)
        threading.Thread(target=self._open, name="fmrd rbd opens", daemon=True).start()

    def _open(self) -> None:
        found: Opened | Exception
        try:
            found = self._run()
        except Exception as error:  # whatever these modules raise is told to who asked
            found = error
        with self._lock:
            self._found = found
            self.over.set()
            unwanted = self._unwanted
        if unwanted and isinstance(found, Opened):
            found.close()

    def found(self) -> Opened | Exception | None:
        """Return what came of it; None: nothing yet, and what comes of it is closed."""
        with self._lock:
            self._unwanted = self._found is None
            return self._found


_hung: dict[str, _Opening] = {}
"""By what was to be opened: nobody asks a second time while the first is not answered."""


def connect(uri: ImageUri, open_seconds: float = OPEN_SECONDS) -> Opened:
    """Open it, within that time, one at a time. FmrdError says why not: ``plex_missing``, ``not_fenced``."""
    rados, rbd = load(uri)
    found: Opened | Exception | None = None
    if (before := _hung.get(uri.identity)) is None or before.over.wait(open_seconds):
        _hung[uri.identity] = opening = _Opening(uri, rados, rbd)
        opening.over.wait(open_seconds)
        if (found := opening.found()) is not None:
            del _hung[uri.identity]
    if found is None:
        raise Failed("plex_missing", f"{uri}: {uri.server} does not answer", "is it up? See 'ceph -s' there")
    if isinstance(found, Exception):
        raise found if isinstance(found, FmrdError) else _failed(uri, found)
    return found


def _connect(uri: ImageUri, rados: Module, rbd: Module) -> Opened:
    began = time.monotonic()
    cluster = rados.Rados(conffile=uri.conf, rados_id=uri.id or "admin", conf=SETTINGS)
    opened: list[Callable[[], object]] = [cluster.shutdown]
    try:
        cluster.connect(timeout=int(OPEN_SECONDS))
        pool = cluster.open_ioctx(uri.pool)
        opened.append(pool.close)
        if uri.namespace:
            pool.set_namespace(uri.namespace)
        image = rbd.Image(pool, uri.image)
        opened.append(image.close)
        if not image.features() & rbd.RBD_FEATURE_EXCLUSIVE_LOCK:
            raise Refused(
                "not_fenced", f"{uri} has no exclusive lock, which proves when a session with it is over",
                f"rbd feature enable {uri.export} exclusive-lock",
            )  # fmt: skip
        place = (printable(cluster.get_fsid()), f"{uri.pool}/{uri.namespace}/{image.id()}")
        return Opened(cluster, pool, image, rbd, image.size(), place, time.monotonic() - began)
    except BaseException:
        for close in reversed(opened):
            with contextlib.suppress(Exception):
                close()
        raise


def owner_of(opened: Opened) -> str | None:
    """Return the address of the client that has the lock; None where nobody has. OSError."""
    owners = list(_asked(opened.image.lock_get_owners))
    return str(owners[0]["owner"]) if owners else None


def take_lock(uri: ImageUri, opened: Opened, me: str, is_gone: Callable[[str], bool]) -> str:
    """Take the image's lock, and return the address under which we have it. ``me``: which fmrd this is (``who``);
    ``is_gone`` tells of an address of this fmrd's whether no session of this process has it. Failed('plex_busy').
    """
    image = opened.image
    owner = owner_of(opened)
    if owner is not None and _says(opened) == f"{owner} {me}" and is_gone(owner):
        try:
            _asked(lambda: image.lock_break(opened.rbd.RBD_LOCK_MODE_EXCLUSIVE, owner))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EBUSY):  # it has not gone by itself in this moment
                raise Failed(
                    "plex_missing", f"{uri}: the lock of a session before this one cannot be broken: {error.strerror}",
                    _hint(error),
                ) from error  # fmt: skip
    try:
        _asked(lambda: image.lock_acquire(opened.rbd.RBD_LOCK_MODE_EXCLUSIVE))
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EBUSY, errno.EAGAIN, errno.ETIMEDOUT):
            raise Failed("plex_missing", f"{uri}: its lock cannot be had: {error.strerror}", _hint(error)) from error
        holder = "another client" if owner is None else printable(owner)
        raise Failed(
            "plex_busy", f"{uri}: {holder} has its exclusive lock",
            "a machine that has it mapped, a virtual machine, or another fmrd; of one that died the cluster lets go "
            "after half a minute",
        ) from error  # fmt: skip
    mine = owner_of(opened)
    if mine is None:
        raise Failed("plex_busy", f"{uri}: its exclusive lock was taken away in this moment", "see 'rbd lock ls'")
    _asked(lambda: image.metadata_set(OWNER_KEY, f"{mine} {me}"))
    return mine


def _says(opened: Opened) -> str | None:
    try:
        return str(_asked(lambda: opened.image.metadata_get(OWNER_KEY)))
    except OSError:
        return None


def _asked(call: Callable[[], Any]) -> Any:
    """Make what these modules raise an OSError: theirs are none."""
    try:
        return call()
    except Exception as error:
        raise _plain(error) from error


def _plain(error: Exception) -> OSError:
    number = getattr(error, "errno", None)
    number = abs(number) if isinstance(number, int) and number else errno.EIO
    return OSError(number, printable(str(error)))


def _failed(uri: ImageUri, error: Exception) -> Failed:
    plain = _plain(error)
    return Failed("plex_missing", f"{uri}: {uri.server}: {plain.strerror}", _hint(plain))


def _hint(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return "its key needs the profile rbd: ceph auth get-or-create client.NAME mon 'profile rbd' osd 'profile rbd'"
    if error.errno == errno.ENOENT:
        return "the pool or the image is not there ('rbd ls POOL'), or no configuration or key (conf=, id=)"
    return "is the cluster up? See 'ceph -s', and whether fmrd's unit may use the network"
