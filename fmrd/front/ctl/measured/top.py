"""`fmrctl top` shows volumes, plexes, copies and latencies as they go on."""

import sys

import click

from fmrd.errors import BadRequest, Failed
from fmrd.front.ctl.app import App
from fmrd.front.ctl.measured.intervals import by_name, intervals


@click.command()
@click.argument("interval", type=click.FloatRange(0.1, 3600), default=2.0, metavar="[SECONDS]")
@click.pass_obj
def top(app: App, interval: float) -> None:
    """Show volumes, plexes, copies and latencies, anew every 2 seconds, or as often as you say.

    Keys: up and down choose a copy; p pauses it, r resumes it, l limits its rate; + and - change how often it is
    looked; PgUp and PgDn scroll; q ends. Volumes that are not well come first. With --json: what it would show, once.
    """
    if app.as_json:
        shown, figures = app.ask("print"), by_name(app.ask("stat"))
        app.show({"volumes": shown["volumes"], "tasks": shown["tasks"], "figures": intervals(figures, {})})
        return
    try:
        from fmrd.front.ctl.measured.screen import Screen  # most who use fmrctl need not have its library
    except ImportError as error:
        raise Failed(
            "top_missing", f"fmrctl top needs the library textual ({error})", "pip install 'fmrd[top]'"
        ) from error
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadRequest("bad_request", "fmrctl top needs a terminal", "fmrctl stat 2, or fmrctl top --json")
    app.ask("stat")  # whether there is a daemon is told before the screen is another one
    Screen(app.ask, interval).run()
