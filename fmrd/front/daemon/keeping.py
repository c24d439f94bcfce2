"""fmrd --keeper begins here: this process becomes one that runs the serving fmrd as its child, and loads no more."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from fmrd.front.daemon import stand_in

HOLDER = "fmrd.front.daemon.mount_holder"
SERVING = "fmrd.front.daemon.daemon"


def become_keeper(options: Sequence[object], door: str) -> NoReturn:
    """Be it from now on; ``options`` are those of the child."""
    stands_in = stand_in.is_wanted(os.environ)
    if door != "channel" and not stands_in:
        raise click.UsageError("--keeper needs --door channel: no other door's mount can be taken over")
    child = [sys.executable, "-P", "-m", SERVING, *map(str, options)]
    os.execv(sys.executable, [sys.executable, "-P", "-m", stand_in.__name__ if stands_in else HOLDER, *child])
