"""`fmrctl replace` puts one plex in the place of another; `rename` gives a volume another name."""

import click

from fmrd.core.json_object import Json
from fmrd.front.ctl import words
from fmrd.front.ctl.app import App
from fmrd.front.ctl.options import DRY_RUN, RATE, TAG, TAKE, WAIT


@click.command()
@click.argument("volume")
@click.argument("old", type=words.plex)
@click.argument("new", type=words.wish)
@TAKE
@RATE
@TAG
@WAIT
@DRY_RUN
@click.pass_obj
def replace(
    app: App, volume: str, old: str, new: Json, force: bool, rate: int | None, wait: bool, dry_run: bool
) -> None:
    """Add a plex on the path NEW, copy everything to it, and then dissociate the plex OLD (its file stays). OLD serves
    until then; where the copy fails, or the daemon ends before it has, nothing is dissociated.
    """
    place = {"path": new["path"], "dco": new.get("dco")}
    result = app.ask("plex_replace", volume=volume, plex=old, **place, force=force, rate=rate, dry_run=dry_run)
    app.conclude(result, wait=wait)


@click.command()
@click.argument("volume")
@click.argument("name", metavar="NEW")
@click.pass_obj
def rename(app: App, volume: str, name: str) -> None:
    """Give a stopped volume another name. Its plexes keep theirs, and nothing of its data is touched."""
    app.show(app.ask("rename", volume=volume, name=name))
