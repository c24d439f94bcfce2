"""Mounts are watched: the plexes of a disk that is a file system come with its mount. The kernel tells that by POLLPRI
on the table of mounts, which can always be read, so it is asked through an epoll of its own.
"""

import logging
import os
import select
from collections.abc import Callable

import trio

log = logging.getLogger(__name__)

TABLE = "/proc/self/mountinfo"


async def watch_mounts(changed: Callable[[], None], table: str = TABLE) -> None:
    """Call ``changed`` whenever something was mounted or unmounted here; until cancelled. Where it cannot be watched,
    that is said: then what comes is found after a pause.
    """
    try:
        watched = os.open(table, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        log.info("mounts are not watched: %s", error)
        return
    try:
        with select.epoll() as told:
            told.register(watched, select.EPOLLPRI)
            while True:
                await trio.lowlevel.wait_readable(told.fileno())
                told.poll(0)
                changed()
    finally:
        os.close(watched)
