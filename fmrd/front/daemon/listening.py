"""The control socket before anybody is understood: bound, and whoever comes is let in as far as the system can."""

import errno
import logging
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import trio

from fmrd.backing import private
from fmrd.backing.owning.under_way import has_ended
from fmrd.errors import Failed, Refused

log = logging.getLogger(__name__)

EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
"""Somebody waits, and cannot be let in for now."""
PAUSE_SECONDS = 1.0
_CREDENTIALS = struct.Struct("3i")


async def accept_all(
    listener: trio.abc.Listener[trio.SocketStream], serve: Callable[[trio.SocketStream], Awaitable[None]]
) -> NoReturn:
    """A task for each client. Where the system has no descriptor or memory for one, it waits; that is told once, and
    not again before one could be let in.
    """
    told = False
    async with trio.open_nursery() as nursery:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    raise
                if not told:
                    log.error("clients have to wait: %s", error.strerror)
                told = True
                await trio.sleep(PAUSE_SECONDS)
            else:
                told = False
                nursery.start_soon(serve, stream)


def bind(path: Path, waiting: int) -> socket.socket:
    """A listening socket, mode 0600 from its first moment; what a dead daemon left is replaced. ``waiting``: clients
    that are not accepted yet. Failed('socket_failed'), or Refused('daemon_running').
    """
    try:
        private.make(path.parent)
        old = os.lstat(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise Failed("socket_failed", f"{path}: {error.strerror or error}") from error
    else:
        if not stat.S_ISSOCK(old.st_mode):
            raise Failed("socket_failed", f"{path} exists and is not a socket")
        _must_be_dead(path)
        path.unlink()
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        bound.bind(str(path))
        bound.listen(waiting)
    except OSError as error:
        bound.close()
        raise Failed("socket_failed", f"{path}: {error.strerror or error}") from error
    finally:
        os.umask(mask)
    return bound


def _must_be_dead(path: Path) -> None:
    """One that was left behind, with a call that hangs, keeps the socket open, and accepts nobody."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError as error:
            if error.errno in (errno.ECONNREFUSED, errno.ENOENT):
                return
            raise Failed("socket_failed", f"{path}: {error}") from error
        process, _, _ = _CREDENTIALS.unpack(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    if not has_ended(process):
        raise Refused("daemon_running", f"another daemon answers on {path}")
