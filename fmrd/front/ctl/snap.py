"""These are fmrctl's verbs over snapshots: prepare a plex, break it off, give it back, restore from it."""

import click

from fmrd.core.json_object import Json
from fmrd.errors import BadRequest
from fmrd.front.ctl import words
from fmrd.front.ctl.app import App
from fmrd.front.ctl.hand.many import COUNT, counted, each_of
from fmrd.front.ctl.options import DRY_RUN, FREEZE, RATE, TAG, TAKE, WAIT, force
from fmrd.front.ctl.tables import print_snapshots, print_taken
from fmrd.front.maps.keeping import put_back


@click.command()
@click.argument("volume")
@click.argument("path", nargs=-1, required=True)
@COUNT
@TAKE
@RATE
@TAG
@WAIT
@DRY_RUN
@click.pass_obj
def snapstart(
    app: App, volume: str, path: tuple[str, ...], count: int | None, force: bool, rate: int | None, wait: bool,
    dry_run: bool,
) -> None:  # fmt: skip
    """Prepare a plex on each PATH to be broken off: copied in full, and kept current until then.

    With --count N one PATH, in which %n stands for the number, makes N plexes. Where one of several cannot be, none is
    begun.
    """
    places = counted(path, count)

    def one(path: str, *, dry_run: bool = dry_run) -> Json:
        place = places[path]
        return app.ask(
            "snapstart", volume=volume, path=path, dco=place.get("dco"), force=force, rate=rate, dry_run=dry_run
        )

    if len(places) > 1 and not dry_run:
        for each in places:
            one(each, dry_run=True)
    each_of(app, list(places), "decision" if dry_run else "task", one, volume=volume, wait=wait)


@click.command()
@click.argument("volume")
@COUNT
@click.pass_obj
def snapwait(app: App, volume: str, count: int | None) -> None:
    """Return when a plex of VOLUME, or N of them, are SNAPDONE."""
    app.show(app.ask("snapwait", volume=volume, count=count))


@click.command()
@click.argument("volume")
@click.option("--plex", type=words.plex, help="Which, where there are several.")
@click.pass_obj
def snapabort(app: App, volume: str, plex: str | None) -> None:
    """Give up a SNAPATT or SNAPDONE plex; its file stays."""
    app.show(app.ask("snapabort", volume=volume, plex=plex), app.tell_gone)


def _place(text: str) -> Json:
    """Of --instant, which may have no word."""
    return words.wish(text) if text else {}


@click.command()
@click.argument("volume", nargs=-1)
@click.option(
    "--all", "every", is_flag=True, help="Every volume that is no snapshot; fails wholly if one is not ready."
)
@click.option(
    "--name",
    metavar="PATTERN",
    help="The snapshot's name; %v stands for the volume's, %Y %m %d %H %M %S for the time. Default: SNAP-VOLUME.",
)
@click.option("--nmirror", type=click.IntRange(1, 8), default=1, help="With so many plexes.")
@FREEZE
@click.option(
    "--instant", type=_place, metavar="[PATH]", is_flag=False, flag_value="",
    help="Without a prepared plex: old data is kept on PATH, or in a store, before it is written over.",
)  # fmt: skip
@click.option("--store", metavar="NAME", help="With --instant, in the place of PATH: in a store that others share.")
@TAKE
@click.option("--sync", is_flag=True, help="With --instant: copy the rest too, in the background.")
@TAG
@WAIT
@DRY_RUN
@click.pass_obj
def snapshot(
    app: App, volume: tuple[str, ...], every: bool, name: str | None, nmirror: int, freeze: tuple[str, ...],
    instant: Json | None, store: str | None, force: bool, sync: bool, wait: bool, dry_run: bool,
) -> None:  # fmt: skip
    """Take a snapshot of each VOLUME, all at one instant: a volume of its own, readable and writable at once."""
    place = instant or {}
    if (instant == {}) and store is None:
        raise BadRequest("bad_request", "--instant takes a PATH, or --store NAME beside it")
    if place and store is not None:
        raise BadRequest("bad_request", "--instant PATH or --store NAME: one of both", "--instant behind the volume")
    result = app.ask(
        "snapshot", volumes=list(volume), all=every, name=words.dated(name) if name else None, nmirror=nmirror,
        freeze=list(freeze), instant=place.get("path"), dco=place.get("dco"), store=store, force=force, sync=sync,
        dry_run=dry_run,
    )  # fmt: skip
    app.conclude(result, wait=wait, people=print_taken)


@click.command()
@click.argument("snapshot")
@RATE
@TAG
@WAIT
@click.pass_obj
def snapsync(app: App, snapshot: str, rate: int | None, wait: bool) -> None:
    """Let an instant snapshot copy all that it still reads from its original."""
    app.conclude(app.ask("snapsync", snapshot=snapshot, rate=rate), wait=wait)


@click.command()
@click.argument("snapshot", nargs=-1, required=True)
@click.option("--from-replica", is_flag=True, help="The other way: the snapshot's data onto its original.")
@click.option("--plex", type=words.plex, multiple=True, help="Only this plex of the snapshot. May be repeated.")
@click.option("--all-plexes", is_flag=True, help="All plexes of the snapshot, not only one.")
@click.option("--keep-undo", is_flag=True, help="With --from-replica: keep the original as it was, for 'undo'.")
@click.option("--keep", is_flag=True, help="With --from-replica: SNAPSHOT stays, and is copied from; several at once.")
@force("With --from-replica: though the original is open.")
@RATE
@TAG
@WAIT
@DRY_RUN
@click.pass_obj
def snapback(
    app: App, snapshot: tuple[str, ...], from_replica: bool, plex: tuple[str, ...], all_plexes: bool, keep_undo: bool,
    keep: bool, force: bool, rate: int | None, wait: bool, dry_run: bool,
) -> None:  # fmt: skip
    """Give SNAPSHOT back to its original: only what changed on either side is copied, the original's data wins."""
    if keep:
        if not from_replica or plex or all_plexes or keep_undo or force:
            raise BadRequest("bad_request", "--keep goes with --from-replica alone: SNAPSHOT is only copied from")
        put_back(app, snapshot, rate=rate, wait=wait, dry_run=dry_run)
        return
    if len(snapshot) > 1:
        raise BadRequest("bad_request", "several snapshots go with --from-replica --keep; else one at a time")
    result = app.ask(
        "snapback", snapshot=snapshot[0], from_replica=from_replica, plexes=list(plex), all_plexes=all_plexes,
        keep_undo=keep_undo, force=force, rate=rate, dry_run=dry_run,
    )  # fmt: skip
    app.conclude(result, wait=wait)


@click.command()
@click.argument("volume")
@force("Though the volume is open.")
@RATE
@TAG
@WAIT
@DRY_RUN
@click.pass_obj
def undo(app: App, volume: str, force: bool, rate: int | None, wait: bool, dry_run: bool) -> None:
    """Put back what 'snapback --from-replica --keep-undo' kept."""
    app.conclude(app.ask("undo", volume=volume, force=force, rate=rate, dry_run=dry_run), wait=wait)


@click.command()
@click.argument("snapshot")
@FREEZE
@RATE
@TAG
@WAIT
@DRY_RUN
@click.pass_obj
def refresh(
    app: App, snapshot: str, freeze: tuple[str, ...], rate: int | None, wait: bool, dry_run: bool
) -> None:  # fmt: skip
    """Give SNAPSHOT back and take it anew under its name: for the nightly backup."""
    result = app.ask("refresh", snapshot=snapshot, freeze=list(freeze), rate=rate, dry_run=dry_run)
    app.conclude(result, wait=wait)


@click.command()
@click.argument("snapshot")
@click.pass_obj
def snapclear(app: App, snapshot: str) -> None:
    """Forget what ties SNAPSHOT to its original, for good: two volumes that are strangers."""
    app.show(app.ask("snapclear", snapshot=snapshot))


@click.command()
@click.argument("volume", required=False)
@click.pass_obj
def snapprint(app: App, volume: str | None) -> None:
    """Show how much differs between snapshots and their originals, and what detached plexes miss."""
    app.show(app.ask("snapprint", volume=volume), lambda shown: print_snapshots(app.out, shown))
