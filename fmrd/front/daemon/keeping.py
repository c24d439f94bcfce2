"""What a keeper needs of fmrd: to be begun, by a process that becomes one and loads no more; and to see it end."""

import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from fmrd.backing.ring.ring import Ring
from fmrd.front.daemon import stand_in

log = logging.getLogger("fmrd")

HOLDER = "fmrd.front.daemon.mount_holder"
END_SECONDS = 1.0
"""So long requests in the ring are waited for at the end of the process, before they count as hung."""
SERVING = "fmrd.front.daemon.daemon"


def become_keeper(options: Sequence[object], door: str) -> NoReturn:
    """Be it from now on; ``options`` are those of the child."""
    stands_in = stand_in.is_wanted(os.environ)
    if door != "channel" and not stands_in:
        raise click.UsageError("--keeper needs --door channel: no other door's mount can be taken over")
    child = [sys.executable, "-P", "-m", SERVING, *map(str, options)]
    os.execv(sys.executable, [sys.executable, "-P", "-m", stand_in.__name__ if stands_in else HOLDER, *child])


def be_killed_where_a_request_hangs(ring: Ring | None) -> None:
    """The first thread of this process does not end before its ring has, and by nothing could a keeper tell that from
    a thread that serves, but by the signal.
    """
    if ring is not None and not ring.all_end(END_SECONDS):
        log.warning("a write to a disk hangs: this process stays until that returns; the next one serves without it")
        logging.shutdown()
        os.kill(os.getpid(), signal.SIGKILL)
