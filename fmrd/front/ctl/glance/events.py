"""`fmrctl events` shows what happens, as it does; `fmrctl history` what has happened, over restarts."""

import time
from datetime import datetime

import click

from fmrd.core.json_object import Json
from fmrd.errors import Unreachable
from fmrd.front.ctl.app import App, print_json
from fmrd.front.ctl.tables import GOOD, SICK, WARN

AGAIN_SECONDS = 0.5
"""So often a daemon that went away is looked for."""
BEFORE = "0.0"
"""The cursor of a life that was before any other: what comes behind it is all that a daemon remembers."""
COLOURS = {"error": SICK, "warning": WARN}
GOOD_NEWS = ("volume_well", "plex_in_sync")


@click.command()
@click.option("--since", metavar="WHEN", help="From a cursor (shown with --json) on, or a time ago: 90s, 15m, 12h, 7d.")
@click.option("--no-follow", is_flag=True, help="Show what the daemon remembers, and end.")
@click.pass_obj
def events(app: App, since: str | None, no_follow: bool) -> None:
    """Show each change of state, copy and verb, one a line, from now on.

    When the daemon is started anew this goes on with it. Nothing is missed while one daemon lives; what happened
    around its end may be, which is said then, and is in 'fmrctl history'. With --json: an object a line.
    """
    if no_follow:
        app.show(app.ask("events", since=since, follow=False), lambda shown: show_events(app, shown["events"]))
        return
    follower = Follower(app, since)
    while True:
        try:
            app.ask("events", on_events=follower.show, since=follower.cursor, follow=True)
        except Unreachable:
            if not follower.answered:
                raise
            follower.lost()
            time.sleep(AGAIN_SECONDS)


class Follower:
    """Where somebody who listens has got to."""

    def __init__(self, app: App, since: str | None) -> None:
        self._app = app
        self.cursor = since
        self.answered = False
        self._told = False

    def show(self, found: list[Json]) -> None:
        self.answered, self._told = True, False
        self.cursor = found[-1]["cursor"] if found else self.cursor
        if not found:
            return
        if self._app.as_json:
            print_json({"events": found})
        else:
            show_events(self._app, found)

    def lost(self) -> None:
        self.cursor = self.cursor or BEFORE
        if not self._told:
            self._app.err.print("fmrctl: the daemon is away; this goes on when it is back")
        self._told = True


@click.command()
@click.argument("volume", required=False)
@click.option(
    "-n", "most", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="The newest so many."
)
@click.pass_obj
def history(app: App, volume: str | None, most: int) -> None:
    """Show what has happened (to VOLUME), oldest first, over restarts of the daemon.

    The history is two files of a megabyte in the state directory; the oldest events leave them. What happened just
    before a kill or a power loss may be missing.
    """
    result = app.ask("history", volume=volume, most=most)
    app.show(result, lambda shown: show_events(app, shown["events"]))


def show_events(app: App, found: list[Json]) -> None:
    for event in found:
        when = datetime.fromtimestamp(event["time"]).strftime("%Y-%m-%d %H:%M:%S")
        action = f" - {event['action']}" if event["action"] else ""
        style = GOOD if event["kind"] in GOOD_NEWS else COLOURS.get(event["level"])
        app.out.print(f"{when} {event['kind']} {event['message']}{action}", style=style)
