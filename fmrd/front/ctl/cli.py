"""This is fmrctl: the verbs over volumes, and how every verb ends (exit status, one clear line, JSON)."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from fmrd.core.printable import escaped
from fmrd.errors import BadRequest, Failed, FmrdError
from fmrd.front.client import TIMEOUT_SECONDS
from fmrd.front.conf.heeding import options_of_make, settings_of
from fmrd.front.conf.reading import read_conf
from fmrd.front.ctl import words
from fmrd.front.ctl.app import App, Told, print_json
from fmrd.front.ctl.dump import dump
from fmrd.front.ctl.glance.events import events, history
from fmrd.front.ctl.glance.status import show_status, status
from fmrd.front.ctl.hand.asking import YES, sure
from fmrd.front.ctl.hand.explaining import explain
from fmrd.front.ctl.hand.loops import loop, tell_loops, unloop
from fmrd.front.ctl.hand.many import chosen
from fmrd.front.ctl.hand.meaning import LOSES
from fmrd.front.ctl.hand.sizing import growth, size_and_plexes
from fmrd.front.ctl.hand.starting import start, stop, with_tasks
from fmrd.front.ctl.hand.swapping import rename, replace
from fmrd.front.ctl.measured.map import draw_map
from fmrd.front.ctl.measured.stat import stat
from fmrd.front.ctl.measured.top import top
from fmrd.front.ctl.options import DRY_RUN, TAG, TAKE, WAIT, force
from fmrd.front.ctl.plex import plex, recover
from fmrd.front.ctl.snap import COMMANDS as SNAP_COMMANDS
from fmrd.front.ctl.tables import print_volumes
from fmrd.front.ctl.task import task
from fmrd.front.ctl.verify import verify
from fmrd.front.ctl.words import parse_pairs
from fmrd.front.maps.commands import COMMANDS as MAP_COMMANDS
from fmrd.front.nightly.command import nightly
from fmrd.front.places import default_places
from fmrd.front.setup.completing import complete
from fmrd.front.setup.declared import apply
from fmrd.front.setup.installing import install_units
from fmrd.front.stores.commands import COMMANDS as STORE_COMMANDS
from fmrd.front.wire import error_json

INTERRUPTED = 130
ANYWHERE = ("--socket", "--timeout")
"""Options with a value that may stand anywhere on the line."""


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
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
    found = show_status(app, ())
    app.err.print("fmrctl --help lists the commands; fmrctl COMMAND --help says what one takes")
    return found


@cli.command()
@click.argument("volume")
@click.argument("size_and_path", metavar="[SIZE] PATH...", nargs=-1, required=True)
@click.option("--from", "from_path", type=words.path, help="Keep this plex's content; the others are copied from it.")
@TAKE
@click.option("--region-size", type=words.size, default="64K", show_default=True, help="The grain of the maps.")
@click.option(
    "--drl-extent", type=words.size, help="The grain of the dirty region log. Default: 4M, or a region if that is more."
)
@click.option("--no-fmr", is_flag=True, help="Without FastResync: every attach copies everything.")
@click.option("--rdpol", default="select", show_default=True, help="select, round or prefer:PLEX.")
@TAG
@WAIT
@DRY_RUN
@click.pass_obj
def make(
    app: App, volume: str, size_and_path: tuple[str, ...], from_path: str | None, force: bool, region_size: int,
    drl_extent: int | None, no_fmr: bool, rdpol: str, wait: bool, dry_run: bool,
) -> None:  # fmt: skip
    """Make a volume with one plex a PATH. Missing files are created sparse.

    SIZE 'max' is as long as the shortest device among them allows; without a SIZE it is as long as --from.
    PATH,dco=PATH puts the plex's DCO elsewhere than beside it.
    """
    size, plexes = size_and_plexes(size_and_path, from_path, region_size, drl_extent)
    result = app.ask(
        "make", volume=volume, size_bytes=size, plexes=plexes, from_path=from_path, force=force,
        region_size_bytes=region_size, drl_extent_bytes=drl_extent, fmr=not no_fmr, rdpol=rdpol, dry_run=dry_run,
    )  # fmt: skip
    settings = settings_of(read_conf().volumes, made=True)
    if settings and not dry_run:
        app.ask("set", volume=volume, settings=settings)
    app.conclude(result, wait=wait)


@cli.command("import")
@click.argument("path", type=words.path, nargs=-1, required=True)
@click.option("--prefer", type=words.plex, help="In a split brain: the side that is kept.")
@force("Without plexes that took part in the last writes.")
@TAG
@WAIT
@DRY_RUN
@click.pass_obj
def import_volume(
    app: App, path: tuple[str, ...], prefer: str | None, force: bool, wait: bool, dry_run: bool
) -> None:  # fmt: skip
    """Take in a volume that only its plexes know, such as one from another host."""
    result = app.ask("import_volume", paths=list(path), prefer=prefer, force=force, dry_run=dry_run)
    app.conclude(with_tasks(app, result, wait), wait=wait)


@cli.command()
@click.argument("volume")
@click.option("--erase", is_flag=True, help="Remove the plex files too.")
@YES
@click.pass_obj
def remove(app: App, volume: str, erase: bool, yes: bool) -> None:
    """Forget a volume. Its plex files stay, and hold its data. On a terminal it asks first."""
    lost = "and erase its plex files, and all data in them" if erase else "its plex files stay"
    sure(app, f"Remove volume {volume}: {lost}?", yes=yes)
    app.show(app.ask("remove", volume=volume, erase=erase), app.tell_gone)


@cli.command()
@click.argument("volume")
@click.argument("size")
@TAG
@click.pass_obj
def grow(app: App, volume: str, size: str) -> None:
    """Make a volume longer while it is in use: to SIZE, by +SIZE, or to 'max', the most that its devices hold. Loop
    devices on it are told.
    """
    result = app.ask("grow", volume=volume, **growth(size))
    tell_loops(result["volume"]["path"])
    app.show(result)


@cli.command("set")
@click.argument("volume")
@click.argument("setting", nargs=-1, required=True)
@click.pass_obj
def set_volume(app: App, volume: str, setting: tuple[str, ...]) -> None:
    """Change settings: fmr=on|off, rdpol=select|round|prefer:PLEX, io_timeout=SECONDS, rate=BYTES,
    auto_attach=on|off (attach at a start, and what failed once its disk answers), drl_extents=N (16 to 65536: so many
    extents of the dirty region log, each 4 MiB unless made otherwise, are copied after a crash at most),
    write_behind=PLEX[:BYTES]|off (writers do not wait for that plex, which lags by so much at most).
    """
    app.show(app.ask("set", volume=volume, settings=parse_pairs(setting)))


@cli.command("print")
@click.argument("volume", nargs=-1)
@click.pass_obj
def print_all(app: App, volume: tuple[str, ...]) -> None:
    """Show volumes (names and globs; all without one), their plexes, and what is being copied."""
    result = chosen(app, volume)
    app.show(result, lambda shown: print_volumes(app.out, shown["volumes"], shown["tasks"]))
    if result["opening"] and not app.as_json:
        app.err.print(f"fmrctl: still being opened: {', '.join(result['opening'])}")


AT_HAND = (status, events, history, start, stop, explain, loop, unloop, rename, replace)
SEEN = (dump, stat, draw_map, top, nightly)
for command in (*AT_HAND, plex, recover, *SNAP_COMMANDS, *STORE_COMMANDS, *MAP_COMMANDS, verify, task, *SEEN, apply,
                install_units):  # fmt: skip
    cli.add_command(command)


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
    complete(cli)
    sys.exit(run(sys.argv[1:]))
