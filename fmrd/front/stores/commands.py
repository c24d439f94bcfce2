"""`fmrctl store`: directories that instant snapshots of several volumes share, with a quota."""

import click

from fmrd.core.json_object import Json
from fmrd.errors import BadRequest
from fmrd.front.ctl import words
from fmrd.front.ctl.app import App
from fmrd.front.ctl.options import DRY_RUN
from fmrd.front.ctl.tables import print_rows
from fmrd.front.ctl.words import format_size, parse_pairs, parse_size

STORE_HEAD = ("ST", "NAME", "SIZE", "USED", "%USED", "SNAPSHOTS", "AUTOGROW", "HIGH", "DIRECTORY")
MEMBER_HEAD = ("SS", "NAME", "VOLUME", "STORE", "HELD", "VALID")
VALID = {True: "yes", False: "INVALID", None: "-"}


@click.group(no_args_is_help=False)
def store() -> None:
    """Declare and watch directories that instant snapshots share, with a quota."""


@store.command("add")
@click.argument("name")
@click.argument("directory", type=words.path)
@click.argument("measures", metavar="size=SIZE [autogrow=STEP:MOST] [high_water=PERCENT]", nargs=-1, required=True)
@DRY_RUN
@click.pass_obj
def add_store(app: App, name: str, directory: str, measures: tuple[str, ...], dry_run: bool) -> None:
    """Declare DIRECTORY, which is made if it is missing, as the store NAME.

    Snapshots that are taken with --store NAME keep old data there, all together at most SIZE. From the high-water mark
    on (90% of it) it grows by STEP, up to MOST. When it is full, the oldest snapshot in it is given up.
    """
    wanted = _measures(measures)
    if "size_bytes" not in wanted:
        raise BadRequest("bad_size", "a store has a size", f"fmrctl store add {name} {directory} size=10G")
    _show(app, app.ask("store_add", name=name, directory=directory, **wanted, dry_run=dry_run))


@store.command("list")
@click.pass_obj
def list_stores(app: App) -> None:
    """List the stores, and how full they are."""
    app.show(app.ask("store_print"), lambda shown: _print_stores(app, shown["stores"]))


@store.command("print")
@click.argument("store_name", metavar="[NAME]", required=False)
@click.pass_obj
def print_store(app: App, store_name: str | None) -> None:
    """Show a store (or all), and the snapshots in it, the oldest first."""
    app.show(app.ask("store_print", name=store_name), lambda shown: _print_all(app, shown["stores"]))


@store.command("resize")
@click.argument("store_name", metavar="NAME")
@click.argument("measures", metavar="[SIZE] [autogrow=STEP:MOST|off] [high_water=PERCENT]", nargs=-1, required=True)
@DRY_RUN
@click.pass_obj
def resize_store(app: App, store_name: str, measures: tuple[str, ...], dry_run: bool) -> None:
    """Give a store another size, or let it grow otherwise. It is never made smaller than what is in it."""
    _show(app, app.ask("store_resize", name=store_name, **_measures(measures), dry_run=dry_run))


@store.command("remove")
@click.argument("store_name", metavar="NAME")
@DRY_RUN
@click.pass_obj
def remove_store(app: App, store_name: str, dry_run: bool) -> None:
    """Forget a store in which no snapshot lies; its directory stays."""
    result = app.ask("store_remove", name=store_name, dry_run=dry_run)
    app.show(result, lambda shown: None if dry_run else app.out.print(f"store {store_name} is gone"))


def _measures(given: tuple[str, ...]) -> Json:
    """Read SIZE, size=, autogrow= and high_water=; BadRequest('bad_size'), ('bad_setting')."""
    pairs = parse_pairs(tuple(word if "=" in word else f"size={word}" for word in given))
    if unknown := sorted(pairs.keys() - {"size", "autogrow", "high_water"}):
        raise BadRequest("bad_setting", f"a store has size, autogrow and high_water, not {', '.join(unknown)}")
    found: Json = {}
    if "size" in pairs:
        found["size_bytes"] = parse_size(pairs["size"])
    if "autogrow" in pairs:
        step, colon, most = pairs["autogrow"].removeprefix("+").partition(":")
        if pairs["autogrow"] == "off":
            step, colon, most = "0", ":", "0"
        if not colon:
            raise BadRequest("bad_setting", "autogrow is STEP:MOST, such as +1G:20G, or off")
        found |= {"step_bytes": parse_size(step), "most_bytes": parse_size(most)}
    if "high_water" in pairs:
        percent = pairs["high_water"].removesuffix("%")
        if not (percent.isascii() and percent.isdigit() and len(percent) <= 3):
            raise BadRequest("bad_setting", f"high_water is a percentage, such as 90%, not {percent!r}")
        found["high_water"] = int(percent)
    return found


def _show(app: App, result: Json) -> None:
    app.show(result, lambda shown: _print_stores(app, [shown["store"]]) if "store" in shown else None)


def _print_stores(app: App, stores: list[Json]) -> None:
    if stores:
        print_rows(app.out, [STORE_HEAD, *map(_row, stores)])
    else:
        app.out.print("there are no stores")


def _print_all(app: App, stores: list[Json]) -> None:
    _print_stores(app, stores)
    rows = [_member(store["name"], each) for store in stores for each in store["snapshots"]]
    if rows:
        app.out.print()
        print_rows(app.out, [MEMBER_HEAD, *rows])


def _row(s: Json) -> tuple[str, ...]:
    used, size = s["used_bytes"], s["size_bytes"]
    taken = ("-", "-") if used is None else (format_size(used), f"{100 * used / size:.0f}%")
    grows = f"+{format_size(s['step_bytes'])}:{format_size(s['most_bytes'])}" if s["step_bytes"] else "off"
    return ("st", s["name"], format_size(size), *taken, str(len(s["snapshots"])), grows, f"{s['high_water']}%",
            s["directory"])  # fmt: skip


def _member(store: str, each: Json) -> tuple[str, ...]:
    held = "-" if each["held_bytes"] is None else format_size(each["held_bytes"])
    return ("ss", each["name"], each["volume"], store, held, VALID[each["valid"]])
