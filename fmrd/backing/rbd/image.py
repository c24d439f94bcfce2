"""An image is opened here, by a client of the cluster that nothing else uses, and it is seen that neither the image nor
its pool has librbd do otherwise than the fence and a durable write need. All of it blocks.
"""

import contextlib
import errno
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from shlex import quote
from typing import Any

from fmrd.backing.rbd.library import Module, load, on_a_thread
from fmrd.core.far.images import ImageUri
from fmrd.core.printable import printable
from fmrd.errors import Failed, FmrdError, Refused

OPEN_SECONDS = 10.0
SETTINGS = {
    "rbd_cache": "false",  # what was written is in the cluster; nothing is remembered here
    "rbd_persistent_cache_mode": "disabled",
    "rbd_blocklist_on_break_lock": "true",  # without that a broken lock proves nothing
    "rados_osd_op_timeout": "0",  # a call that is given up here may land; it is given up by the session
    "rados_mon_op_timeout": "10",
    "client_mount_timeout": "10",
}

CACHED = "not_durable", "it has a cache: writes would end before the cluster has them"
PROMISES = {
    "rbd_cache": CACHED, "rbd_persistent_cache_mode": CACHED,
    "rbd_blocklist_on_break_lock": ("not_fenced", "whoever loses its lock could write on"),
}  # fmt: skip
"""What an image, or its pool, may have set for itself, which librbd puts above what it is asked for here."""


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


class _Opening:
    """One opening, on a thread of its own: a cluster that does not answer holds that up, and nobody else."""

    def __init__(self, uri: ImageUri, rados: Module, rbd: Module) -> None:
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._found: Opened | Exception | None = None
        self._unwanted = False
        self._run = partial(_connect, uri, rados, rbd)
        on_a_thread(self._open, "fmrd rbd opens")

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
                f"rbd feature enable {quote(uri.export)} exclusive-lock",
            )  # fmt: skip
        _must_heed(uri, image, rbd)
        place = (printable(cluster.get_fsid()), f"{uri.pool}/{uri.namespace}/{image.id()}")
        return Opened(cluster, pool, image, rbd, image.size(), place, time.monotonic() - began)
    except BaseException:
        for close in reversed(opened):
            with contextlib.suppress(Exception):
                close()
        raise


def _must_heed(uri: ImageUri, image: Any, rbd: Module) -> None:
    """Refused where the settings that make a write durable, or the lock a fence, are not those of SETTINGS."""
    for each in image.config_list():
        name, value = each["name"], printable(each["value"])
        if name in PROMISES and value != SETTINGS[name]:
            code, why = PROMISES[name]
            hints = {
                rbd.RBD_CONFIG_SOURCE_IMAGE: f"rbd config image remove {quote(uri.export)} {name}",
                rbd.RBD_CONFIG_SOURCE_POOL: f"rbd config pool remove {quote(uri.pool)} {name}",
            }
            hint = hints.get(each["source"], f"the cluster's configuration: {name} = {SETTINGS[name]}")
            raise Refused(code, f"{uri} is set to {name} = {value}: {why}", hint)


def asked(call: Callable[[], Any]) -> Any:
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
    return Failed("plex_missing", f"{uri}: {uri.server}: {plain.strerror}", hint(plain))


def hint(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            "its key lies where the configuration says (keyring, mostly /etc/ceph/ceph.client.NAME.keyring), and needs "
            "the profile rbd: ceph auth get-or-create client.NAME mon 'profile rbd' osd 'profile rbd'"
        )
    if error.errno == errno.ENOENT:
        return "the pool or the image is not there ('rbd ls POOL'), or no configuration or key (conf=, id=)"
    if error.errno == errno.EINVAL:
        return "its configuration, or the key that this names, is not written as Ceph wants it"
    return "is the cluster up? See 'ceph -s', and whether fmrd's unit may use the network"
