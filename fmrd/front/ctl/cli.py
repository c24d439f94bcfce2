"""This is fmrctl: which verbs there are, and how every verb ends (exit status, one clear line, JSON)."""

import os
import sys
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import cast

import click

from fmrd.core.printable import escaped
from fmrd.errors import BadRequest, Failed, FmrdError
from fmrd.front.client import TIMEOUT_SECONDS
from fmrd.front.conf.heeding import options_of_make
from fmrd.front.conf.reading import read_conf
from fmrd.front.ctl import words
from fmrd.front.ctl.app import App, Told, print_json
from fmrd.front.ctl.hand.meaning import LOSES
from fmrd.front.places import default_places
from fmrd.front.wire import error_json

INTERRUPTED = 130
ANYWHERE = ("--socket", "--timeout")
"""Options with a value that may stand anywhere on the line."""


COMPLETING = "_FMRCTL_COMPLETE"
"""A shell that completes a line sets this, and runs fmrctl."""
ROOMS = {
    "ctl.hand.volumes": {"make": "make", "import": "import_volume", "remove": "remove", "grow": "grow",
                         "set": "set_volume", "print": "print_all"},
    "ctl.hand.starting": {"start": "start", "stop": "stop"},
    "ctl.hand.swapping": {"rename": "rename", "replace": "replace"},
    "ctl.hand.loops": {"loop": "loop", "unloop": "unloop"},
    "ctl.hand.explaining": {"explain": "explain"},
    "ctl.glance.status": {"status": "status"},
    "ctl.glance.events": {"events": "events", "history": "history"},
    "ctl.plex": {"plex": "plex", "recover": "recover"},
    "ctl.snap": {verb: verb for verb in ("snapstart", "snapwait", "snapabort", "snapshot", "snapsync", "snapback",
                                         "undo", "refresh", "snapclear", "snapprint")},
    "stores.commands": {"store": "store"},
    "maps.commands": {verb: verb for verb in ("changed", "mark", "send", "receive", "stream")},
    "maps.keeping": {verb: verb for verb in ("cat", "restore", "prune")},
    "ctl.verify": {"verify": "verify"},
    "ctl.task": {"task": "task"},
    "ctl.dump": {"dump": "dump"},
    "ctl.measured.stat": {"stat": "stat"},
    "ctl.measured.map": {"map": "draw_map"},
    "ctl.measured.top": {"top": "top"},
    "nightly.command": {"nightly": "nightly"},
    "setup.declared": {"apply": "apply"},
    "setup.installing": {"install-units": "install_units"},
}  # fmt: skip
"""Where each verb is, below fmrd.front: by module, what is typed -> what it is called there."""


class Verbs(Mapping[str, click.Command]):
    """The verbs by what is typed. One is imported when it is looked up: nobody waits for all others."""

    def __init__(self) -> None:
        self._rooms = {word: (room, name) for room, verbs in ROOMS.items() for word, name in verbs.items()}
        self._found: dict[str, click.Command] = {}

    def __getitem__(self, word: str) -> click.Command:
        if word not in self._found:
            room, name = self._rooms[word]
            self._found[word] = getattr(import_module(f"fmrd.front.{room}"), name)
        return self._found[word]

    def __contains__(self, word: object) -> bool:
        return word in self._rooms

    def __iter__(self) -> Iterator[str]:
        return iter(self._rooms)

    def __len__(self) -> int:
        return len(self._rooms)


@click.group(
    commands=cast(MutableMapping[str, click.Command], Verbs()),  # none is added
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output. Anywhere on the line.")
@click.option(
    "--socket", type=words.path, envvar="FMRD_SOCKET", help="The daemon's control socket. Anywhere on the line."
)
@click.option(
    "--timeout", type=words.seconds, default=TIMEOUT_SECONDS, show_default=True, metavar="SECONDS",
    help="Give up a daemon that says nothing for so long. Anywhere on the line.",
)  # fmt: skip
@click.version_option(package_name="fmrd", prog_name="fmrctl")
@click.pass_context
def cli(ctx: click.Context, as_json: bool, socket: str | None, timeout: float) -> int:
    """Command mirrored volumes. Without a command: how they are. Sizes are bytes, or K, M, G, T (powers of 1024; KB,
    MB, GB, TB of 1000), as 1.5G.

    Exit status: 0 done, 1 failed, 2 usage, 3 refused for safety, 4 the daemon cannot be reached.
    """
    conf = read_conf()
    ctx.default_map = {"make": options_of_make(conf)}
    ctx.obj = app = App(Path(socket or conf.daemon.get("socket") or default_places().socket), as_json, timeout)
    if ctx.invoked_subcommand is not None:
        return 0
    from fmrd.front.ctl.glance.status import show_status

    found = show_status(app, ())
    app.err.print("fmrctl --help lists the commands; fmrctl COMMAND --help says what one takes")
    return found


def _hoisted(words: Sequence[str]) -> list[str]:
    """--json, --socket and --timeout may stand anywhere: bring them to the front, where click looks for them."""
    front: list[str] = []
    rest = list(words)
    stop = rest.index("--") if "--" in rest else len(rest)
    at = 0
    while at < stop:
        whole = rest[at] == "--json" or rest[at].startswith(tuple(f"{option}=" for option in ANYWHERE))
        taken = 1 if whole else 2 if rest[at] in ANYWHERE else 0
        front += rest[at : at + taken]
        del rest[at : at + taken]
        stop -= taken
        at += not taken
    return front + rest


def run(words: Sequence[str]) -> int:
    """Run one command line, and return its exit status."""
    as_json = "--json" in words
    try:
        status = cli.main(_hoisted(words), prog_name="fmrctl", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except Told as told:
        return _complain(told.error, as_json=False)
    except FmrdError as error:
        return _complain(error, as_json=as_json)
    except click.UsageError as error:
        similar = getattr(error, "possibilities", None)
        if isinstance(similar, list):
            similar[:] = [word for word in similar if word not in LOSES]
        path = error.ctx.command_path if error.ctx is not None else "fmrctl"
        return _complain(BadRequest("bad_request", error.format_message(), f"{path} --help"), as_json=as_json)
    except click.Abort:
        click.echo("fmrctl: interrupted; what the daemon has begun goes on", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Failed.exit_status


def _complain(error: FmrdError, *, as_json: bool) -> int:
    if as_json:
        print_json({"error": error_json(error)})
    click.echo(escaped(f"fmrctl: {error.code}: {error.message}"), err=True)
    if error.hint:
        click.echo(escaped(f"hint: {error.hint}"), err=True)
    return error.exit_status


def main() -> None:
    if COMPLETING in os.environ:
        from fmrd.front.setup.completing import complete

        complete(cli)
    sys.exit(run(sys.argv[1:]))
