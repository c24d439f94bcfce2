"""Several verbs of fmrctl take these options: each means, and says, the same everywhere."""

from collections.abc import Callable
from typing import Any

import click

from fmrd.front.ctl import words

WAIT = click.option("--wait", is_flag=True, help="Return when the copies it starts have ended; draw their progress.")
DRY_RUN = click.option("--dry-run", is_flag=True, help="Say what would be done, and why, and change nothing.")
RATE = click.option("--rate", type=words.size, help="Copy at most so many bytes a second.")
TAG = click.option(
    "--tag", metavar="TAG", expose_value=False, callback=lambda ctx, option, tag: _remember(ctx, tag),
    help="Call the copies that it starts so: 'task list --tag', 'task pause TAG'.",
)  # fmt: skip
SETTLED = click.option(
    "--settled", is_flag=True, help="Nothing is under way on the far side any more: see 'explain session_open'."
)
FREEZE = click.option(
    "--freeze", "freeze", type=words.path, multiple=True, metavar="MOUNTPOINT",
    help="Freeze the file system mounted there around the instant. May be repeated.",
)  # fmt: skip


def _remember(ctx: click.Context, tag: str | None) -> None:
    """The tag goes with every verb that the command asks for, so it is the run's."""
    if tag is not None:
        ctx.obj.tag = tag


def force(what: str) -> Callable[[Any], Any]:
    """Return --force. It allows something else with each verb, so ``what`` it allows is said there."""
    return click.option("--force", is_flag=True, help=what)


TAKE = force("Take what was recognised at PATH: it is overwritten. What somebody uses is refused all the same.")
"""Of every verb that takes a path."""
