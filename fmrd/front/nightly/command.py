"""`fmrctl nightly VOLUME` does what the volume's plan says, and tells the daemon how that went. The timer runs it."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import click

from fmrd.core.json_object import Json
from fmrd.core.printable import printable
from fmrd.errors import BadRequest, Failed, FmrdError, Refused
from fmrd.front.ctl.app import App, Told
from fmrd.front.ctl.options import DRY_RUN
from fmrd.front.nightly.notes import MOST_CHARACTERS
from fmrd.front.nightly.plan import SUFFIX, directory, plans_in, read_plan
from fmrd.front.nightly.steps import Night
from fmrd.front.wire import error_json


@click.command()
@click.argument("volume")
@DRY_RUN
@click.pass_obj
def nightly(app: App, volume: str, dry_run: bool) -> None:
    """Do what the plan of VOLUME says for a night: hooks, snapshot, send, prune. The plan is /etc/fmrd.d/VOLUME.toml.

    Each step is told as it ends. One that fails does not keep the others from what is sane without it; the exit status
    then is 1, and the daemon tells of it (events, status).
    """
    path = directory() / f"{volume}{SUFFIX}"
    if volume not in plans_in(directory()):
        raise BadRequest("bad_conf", f"there is no plan {path}", "README, 'Every night', has one")
    plan = read_plan(path)
    begun = int(time.time())
    with alone(path, volume):
        night = Night(app, plan, dry_run, lambda step: _tell(app, step))
        problem = night.run()
    error: FmrdError = Failed(
        "night_failed", f"the night of volume {volume} failed: {problem}", "mend that, and run it again"
    )  # fmt: skip
    if not dry_run:
        try:
            why = None if problem is None else printable(problem, MOST_CHARACTERS)
            app.ask("night_note", volume=volume, begun=begun, problem=why, snapshot=night.snapshot or None,
                    sent=night.sent or None)  # fmt: skip
        except FmrdError as unheard:  # the exit status is that of any command whose daemon does not answer
            error, problem = unheard, problem or "the daemon was not told"
    shown: Json = {"steps": night.steps, **({"taken": night.snapshot} if night.snapshot else {})}
    if app.as_json:
        app.show(shown | ({"error": error_json(error)} if problem else {}))
    if problem is not None:
        raise Told(error) if app.as_json else error


def _tell(app: App, step: Json) -> None:
    if not app.as_json:
        app.out.print(f"{step['name']:<9} {step['state']:<8} {step['message']}")


@contextlib.contextmanager
def alone(path: Path, volume: str) -> Iterator[None]:
    """One night of a volume at a time. Refused('night_running')."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused("night_running", f"a night of volume {volume} is under way", "let it end first") from None
        yield
    finally:
        os.close(descriptor)
