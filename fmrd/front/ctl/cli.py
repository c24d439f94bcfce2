"""This is fmrctl: the verbs over volumes, and how every verb ends (exit status, one clear line, JSON)."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from fmrd.core.json_object import Json
from fmrd.core.printable import escaped
from fmrd.errors import EXPLANATIONS, BadRequest, Failed, FmrdError
from fmrd.front.ctl import words
from fmrd.front.ctl.app import App, Told, print_json
from fmrd.front.ctl.dump import dump
from fmrd.front.ctl.options import DRY_RUN, TAKE, WAIT, force
from fmrd.front.ctl.plex import plex, recover
from fmrd.front.ctl.snap import COMMANDS as SNAP_COMMANDS
from fmrd.front.ctl.tables import print_volumes
from fmrd.front.ctl.task import task
from fmrd.front.ctl.verify import verify
from fmrd.front.ctl.words import parse_pairs
from fmrd.front.places import default_places
from fmrd.front.wire import error_json

INTERRUPTED = 130
LOSES = {
    *("remove", "dis", "snapclear", "snapabort", "snapback", "undo", "refresh", "abort"),
    *("--erase", "--discard", "--force"),
}
"""What gives something up is never suggested for a word that was mistyped: whoever is in a hurry would take it."""


@click.group(no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output. Anywhere on the line.")
@click.option(
    "--socket", type=words.path, envvar="FMRD_SOCKET", help="The daemon's control socket. Anywhere on the line."
)
@click.version_option(package_name="fmrd", prog_name="fmrctl")
@click.pass_context
def cli(ctx: click.Context, as_json: bool, socket: str | None) -> None:
    """Command mirrored volumes. Sizes are bytes, or K, M, G, T (powers of 1024).

    Exit status: 0 done, 1 failed, 2 usage, 3 refused for safety, 4 the daemon cannot be reached.
    """
    ctx.obj = App(Path(socket) if socket else default_places().socket, as_json)


@cli.command()
@click.argument("volume")
@click.argument("size", type=words.size)
@click.argument("path", type=words.wish, nargs=-1, required=True)
@click.option("--from", "from_path", type=words.path, help="Keep this plex's content; the others are copied from it.")
@TAKE
@click.option("--region-size", type=words.size, default="64K", show_default=True, help="The grain of the maps.")
@click.option(
    "--drl-extent", type=words.size, help="The grain of the dirty region log. Default: 4M, or a region if that is more."
)
@click.option("--no-fmr", is_flag=True, help="Without FastResync: every attach copies everything.")
@click.option("--rdpol", default="select", show_default=True, help="select, round or prefer:PLEX.")
@WAIT
@DRY_RUN
@click.pass_obj
def make(
    app: App, volume: str, size: int, path: tuple[Json, ...], from_path: str | None, force: bool, region_size: int,
    drl_extent: int | None, no_fmr: bool, rdpol: str, wait: bool, dry_run: bool,
) -> None:  # fmt: skip
    """Make a volume with one plex a PATH. Missing files are created sparse.

    PATH,dco=PATH puts the plex's DCO elsewhere than beside it.
    """
    result = app.ask(
        "make", volume=volume, size_bytes=size, plexes=list(path), from_path=from_path, force=force,
        region_size_bytes=region_size, drl_extent_bytes=drl_extent, fmr=not no_fmr, rdpol=rdpol, dry_run=dry_run,
    )  # fmt: skip
    app.conclude(result, wait=wait)


@cli.command("import")
@click.argument("path", type=words.path, nargs=-1, required=True)
@click.option("--prefer", type=words.plex, help="In a split brain: the side that is kept.")
@force("Without plexes that took part in the last writes.")
@WAIT
@DRY_RUN
@click.pass_obj
def import_volume(
    app: App, path: tuple[str, ...], prefer: str | None, force: bool, wait: bool, dry_run: bool
) -> None:  # fmt: skip
    """Take in a volume that only its plexes know, such as one from another host."""
    result = app.ask("import_volume", paths=list(path), prefer=prefer, force=force, dry_run=dry_run)
    app.conclude(_with_tasks(app, result, wait), wait=wait)


@cli.command()
@click.argument("volume")
@click.option("--without", type=words.plex, multiple=True, help="Go on without this plex, from now on.")
@click.option(
    "--accept", type=words.plex, help="Take this plex as it is, though it was changed; the others are copied."
)
@force("Accept an older record where the newest may be missing.")
@click.option("--settled", is_flag=True, help="Nothing of the fmrd before is under way on a far plex any more.")
@WAIT
@click.pass_obj
def start(
    app: App, volume: str, without: tuple[str, ...], accept: str | None, force: bool, settled: bool, wait: bool
) -> None:
    """Open a volume: its file appears."""
    result = app.ask("start", volume=volume, without=list(without), accept=accept, force=force, settled=settled)
    app.conclude(_with_tasks(app, result, wait), wait=wait)


@cli.command()
@click.argument("volume")
@click.pass_obj
def stop(app: App, volume: str) -> None:
    """Close a volume in order. Refused while its file is open."""
    app.show(app.ask("stop", volume=volume))


@cli.command()
@click.argument("volume")
@click.option("--erase", is_flag=True, help="Remove the plex files too.")
@click.pass_obj
def remove(app: App, volume: str, erase: bool) -> None:
    """Forget a volume. Its plex files stay, and hold its data."""
    app.show(app.ask("remove", volume=volume, erase=erase), app.tell_gone)


@cli.command()
@click.argument("volume")
@click.argument("size", type=words.size)
@click.pass_obj
def grow(app: App, volume: str, size: int) -> None:
    """Make a volume longer while it is in use; a loop device follows with 'losetup -c'."""
    app.show(app.ask("grow", volume=volume, size_bytes=size))


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
@click.argument("volume", required=False)
@click.pass_obj
def print_all(app: App, volume: str | None) -> None:
    """Show volumes, their plexes, and what is being copied."""
    result = app.ask("print", volume=volume)
    app.show(result, lambda shown: print_volumes(app.out, shown["volumes"], shown["tasks"]))
    if result["opening"] and not app.as_json:
        app.err.print(f"fmrctl: still being opened: {', '.join(result['opening'])}")


@cli.command()
@click.argument("code")
@click.pass_obj
def explain(app: App, code: str) -> None:
    """Say what an error or reason code means, and what to do."""
    if code not in EXPLANATIONS:
        raise Failed("unknown_code", f"no error or reason has the code {code!r}")
    app.show({"code": code, "explanation": EXPLANATIONS[code]}, lambda shown: app.out.print(shown["explanation"]))


for command in (plex, recover, *SNAP_COMMANDS, verify, task, dump):
    cli.add_command(command)


def _with_tasks(app: App, result: Json, wait: bool) -> Json:
    """A volume that was just opened, and the copies that began by themselves."""
    if "volume" not in result or not wait:
        return result
    return result | {"tasks": app.ask("print", volume=result["volume"]["name"])["tasks"]}


def _hoisted(words: Sequence[str]) -> list[str]:
    """--json and --socket may stand anywhere: bring them to the front, where click looks for them."""
    front: list[str] = []
    rest = list(words)
    stop = rest.index("--") if "--" in rest else len(rest)
    at = 0
    while at < stop:
        taken = 1 if rest[at] == "--json" or rest[at].startswith("--socket=") else 2 if rest[at] == "--socket" else 0
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
    sys.exit(run(sys.argv[1:]))
