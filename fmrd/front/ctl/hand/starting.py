"""`fmrctl start` and `stop`: one volume, several, or all of them or none."""

import click

from fmrd.core.json_object import Json
from fmrd.errors import BadRequest
from fmrd.front.ctl import words
from fmrd.front.ctl.app import App
from fmrd.front.ctl.hand.many import each_of, volumes_named
from fmrd.front.ctl.options import SETTLED, TAG, WAIT, force


@click.command()
@click.argument("volume", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All volumes; where one cannot be, none is.")
@click.option("--without", type=words.plex, multiple=True, help="Go on without this plex, from now on.")
@click.option(
    "--accept", type=words.plex, help="Take this plex as it is, though it was changed; the others are copied."
)
@force("Accept an older record where the newest may be missing.")
@SETTLED
@TAG
@WAIT
@click.pass_obj
def start(
    app: App, volume: tuple[str, ...], everything: bool, without: tuple[str, ...], accept: str | None, force: bool,
    settled: bool, wait: bool,
) -> None:  # fmt: skip
    """Open volumes: their files appear. Names and globs."""
    if everything:
        _only_all(volume, bool(without or accept or force or settled))
        app.conclude(with_tasks(app, app.ask("start_all"), wait), wait=wait)
        return
    names = _some(app, volume)
    if len(names) > 1 and (without or accept):
        raise BadRequest("bad_request", "--without and --accept name a plex of one volume", "name one volume")

    def one(name: str) -> Json:
        result = app.ask("start", volume=name, without=list(without), accept=accept, force=force, settled=settled)
        return with_tasks(app, result, wait)

    each_of(app, names, "volume", one, wait=wait)


@click.command()
@click.argument("volume", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All volumes; where one is open, none is stopped.")
@click.pass_obj
def stop(app: App, volume: tuple[str, ...], everything: bool) -> None:
    """Close volumes in order. Names and globs. Refused while a volume's file is open."""
    if everything:
        _only_all(volume, False)
        app.show(app.ask("stop_all"))
        return
    each_of(app, _some(app, volume), "volume", lambda name: app.ask("stop", volume=name))


def with_tasks(app: App, result: Json, wait: bool) -> Json:
    """What was just opened, and the copies that began by themselves."""
    if not wait or not ("volume" in result or "volumes" in result):
        return result
    name = result["volume"]["name"] if "volume" in result else None
    return result | {"tasks": app.ask("print", volume=name)["tasks"]}


def _some(app: App, volumes: tuple[str, ...]) -> list[str]:
    if not volumes:
        raise BadRequest("bad_request", "no volume is named", "name one, or several, or --all")
    return volumes_named(app, volumes)


def _only_all(volumes: tuple[str, ...], options: bool) -> None:
    if volumes or options:
        raise BadRequest("bad_request", "--all takes neither names nor other options")
