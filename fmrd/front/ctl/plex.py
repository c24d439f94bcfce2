"""`fmrctl plex` lets mirrors come and go; `recover` brings back all it can."""

import click

from fmrd.core.json_object import Json
from fmrd.errors import BadRequest, Failed
from fmrd.front.ctl import words
from fmrd.front.ctl.app import App, Told
from fmrd.front.ctl.hand.asking import YES, sure
from fmrd.front.ctl.hand.many import each_of, plexes_named
from fmrd.front.ctl.options import DRY_RUN, RATE, SETTLED, TAG, TAKE, WAIT
from fmrd.front.wire import error_json


@click.group(no_args_is_help=False)
def plex() -> None:
    """Add, detach, attach and dissociate the plexes of a volume."""


@plex.command()
@click.argument("volume")
@click.argument("path", type=words.wish)
@TAKE
@RATE
@TAG
@WAIT
@DRY_RUN
@click.pass_obj
def add(app: App, volume: str, path: Json, force: bool, rate: int | None, wait: bool, dry_run: bool) -> None:
    """One more mirror on PATH, fully copied."""
    place = {"path": path["path"], "dco": path.get("dco")}
    result = app.ask("plex_add", volume=volume, **place, force=force, rate=rate, dry_run=dry_run)
    app.conclude(result, wait=wait)


@plex.command()
@click.argument("volume")
@click.argument("plex", type=words.plex, nargs=-1, required=True)
@click.pass_obj
def det(app: App, volume: str, plex: tuple[str, ...]) -> None:
    """Detach: the plexes (names and globs) take no I/O, and what they miss is remembered."""
    names = plexes_named(app, volume, plex)
    each_of(app, names, "plex", lambda name: app.ask("plex_det", volume=volume, plex=name), volume=volume)


@plex.command()
@click.argument("volume")
@click.argument("plex", type=words.plex, nargs=-1, required=True)
@click.option("--full", is_flag=True, help="Copy everything, whatever the map says.")
@click.option("--discard", is_flag=True, help="In a split brain: give up what was written to this plex alone.")
@SETTLED
@RATE
@TAG
@WAIT
@DRY_RUN
@click.pass_obj
def att(
    app: App, volume: str, plex: tuple[str, ...], full: bool, discard: bool, settled: bool, rate: int | None,
    wait: bool, dry_run: bool,
) -> None:  # fmt: skip
    """Attach: copy what the plexes (names and globs) missed, in the background."""
    names = plexes_named(app, volume, plex)
    if discard and len(names) > 1:
        raise BadRequest("bad_request", "--discard gives up what one plex holds: name one")

    def one(name: str) -> Json:
        return _attach(app, volume, name, full=full, discard=discard, settled=settled, rate=rate, dry_run=dry_run)

    each_of(app, names, "decision" if dry_run else "task", one, volume=volume, wait=wait)


def _attach(
    app: App, volume: str, plex: str, *, full: bool, discard: bool, settled: bool, rate: int | None, dry_run: bool
) -> Json:
    if discard and not dry_run:  # what is given up is told first
        would = app.ask("plex_att", volume=volume, plex=plex, full=full, discard=True, settled=settled, dry_run=True)[
            "decision"
        ]
        app.err.print(f"fmrctl: {would['reason']['message']}")
    return app.ask(
        "plex_att", volume=volume, plex=plex, full=full, discard=discard, settled=settled, rate=rate, dry_run=dry_run
    )


@plex.command()
@click.argument("volume")
@click.argument("plex", type=words.plex)
@YES
@click.pass_obj
def dis(app: App, volume: str, plex: str, yes: bool) -> None:
    """Dissociate: the volume forgets the plex and its map; the file stays. On a terminal it asks first."""
    sure(app, f"Take plex {plex} out of volume {volume} for good (its file stays)?", yes=yes)
    app.show(app.ask("plex_dis", volume=volume, plex=plex), app.tell_gone)


def _simple(name: str, text: str) -> None:
    @plex.command(name, help=text)
    @click.argument("volume")
    @click.argument("plex", type=words.plex)
    @click.pass_obj
    def verb(app: App, volume: str, plex: str) -> None:
        app.show(app.ask(f"plex_{name}", volume=volume, plex=plex))


_simple("convert", "A regular plex becomes SNAPDONE: ready to be broken off. Never the last one.")
_simple("off", "Take offline: the plex stays away across restarts.")
_simple("on", "Back from offline: the plex is STALE, and may be attached.")


@click.command()
@click.argument("volume", required=False)
@click.option(
    "--waiting", is_flag=True, help="Only what fmrd tries again by itself, at once: a disk has come. Of all volumes."
)
@TAG
@WAIT
@DRY_RUN
@click.pass_obj
def recover(app: App, volume: str | None, waiting: bool, wait: bool, dry_run: bool) -> None:
    """Attach every STALE and IOFAIL plex whose backing answers."""
    if waiting and (volume is not None or dry_run):
        raise BadRequest("bad_request", "recover --waiting is for all volumes, and is no --dry-run")
    result = app.ask("recover", volume=volume, waiting=waiting or None, dry_run=dry_run)
    nothing = result["failed"] and not (result.get("tasks") or result.get("decisions"))
    problem = Failed("not_recovered", "none of the plexes that are out can be attached") if nothing else None
    if problem is not None and app.as_json:
        result["error"] = error_json(problem)
    app.conclude(result, wait=wait)
    if problem is not None:
        raise Told(problem)
