"""Volumes are made, taken in, made longer, set, shown and removed here."""

import click

from fmrd.front.conf.heeding import settings_of
from fmrd.front.conf.reading import read_conf
from fmrd.front.ctl import words
from fmrd.front.ctl.app import App
from fmrd.front.ctl.hand.asking import YES, sure
from fmrd.front.ctl.hand.loops import tell_loops
from fmrd.front.ctl.hand.many import chosen
from fmrd.front.ctl.hand.sizing import growth, size_and_plexes
from fmrd.front.ctl.hand.starting import with_tasks
from fmrd.front.ctl.options import DRY_RUN, TAG, TAKE, WAIT, force
from fmrd.front.ctl.tables import print_volumes
from fmrd.front.ctl.words import parse_pairs


@click.command()
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


@click.command("import")
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


@click.command()
@click.argument("volume")
@click.option("--erase", is_flag=True, help="Remove the plex files too.")
@YES
@click.pass_obj
def remove(app: App, volume: str, erase: bool, yes: bool) -> None:
    """Forget a volume. Its plex files stay, and hold its data. On a terminal it asks first."""
    lost = "and erase its plex files, and all data in them" if erase else "its plex files stay"
    sure(app, f"Remove volume {volume}: {lost}?", yes=yes)
    app.show(app.ask("remove", volume=volume, erase=erase), app.tell_gone)


@click.command()
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


@click.command("set")
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


@click.command("print")
@click.argument("volume", nargs=-1)
@click.pass_obj
def print_all(app: App, volume: tuple[str, ...]) -> None:
    """Show volumes (names and globs; all without one), their plexes, and what is being copied."""
    result = chosen(app, volume)
    app.show(result, lambda shown: print_volumes(app.out, shown["volumes"], shown["tasks"]))
    if result["opening"] and not app.as_json:
        app.err.print(f"fmrctl: still being opened: {', '.join(result['opening'])}")
