"""What gives something up asks first, where somebody sits before it: a program is taken at its word."""

import sys

import click

from fmrd.core.printable import escaped
from fmrd.errors import Refused
from fmrd.front.ctl.app import App

YES = click.option("--yes", is_flag=True, help="Do not ask.")
"""Of every verb that asks."""


def sure(app: App, question: str, *, yes: bool) -> None:
    """Ask on a terminal; Refused('not_confirmed') unless the answer is yes."""
    if yes or not (sys.stdin.isatty() and app.is_watched):
        return
    click.echo(escaped(f"{question} [y/N] "), err=True, nl=False)
    try:
        answer = sys.stdin.readline().strip().lower()
    except KeyboardInterrupt:
        raise click.Abort from None
    if answer not in ("y", "yes"):
        raise Refused("not_confirmed", "nothing was done: the answer was not yes", "--yes does not ask")
