"""`fmrctl stat` shows how much is read and written, how long that takes, and which plex is slow."""

import time
from collections.abc import Sequence

import click

from fmrd.core.json_object import Json
from fmrd.errors import BadRequest
from fmrd.front.ctl.app import App
from fmrd.front.ctl.measured.intervals import Figures, by_name, intervals
from fmrd.front.ctl.tables import Out, print_rows
from fmrd.front.ctl.words import format_size

HEAD = ("", "NAME", "R/S", "W/S", "F/S", "READ/S", "WRITE/S", "RWAIT", "WWAIT", "FWAIT", "R99%", "W99%", "QUEUE")
LONGEST_SECONDS = 86400.0


@click.command()
@click.argument("words", metavar="[VOLUME] [INTERVAL] [COUNT]", nargs=-1)
@click.pass_obj
def stat(app: App, words: tuple[str, ...]) -> None:
    """Show operations and bytes a second, and how long they take, of volumes (v) and their plexes (pl).

    First since the volume was started; with INTERVAL (seconds) again for each of these, COUNT times in all. RWAIT,
    WWAIT, FWAIT are the mean time of a read, a write and a flush, R99% and W99% what 99 of 100 did not exceed, within
    a factor of two. QUEUE is how many were under way on average. A name that is a number is taken for an INTERVAL,
    unless all three are given.
    """
    volume, interval, count = _asked(words)
    before: Figures = {}
    left = count
    while True:
        now = by_name(app.ask("stat", volume=volume))
        app.show({"figures": intervals(now, before)}, lambda shown: print_figures(app.out, shown["figures"]))
        before = now
        left = None if left is None else left - 1
        if interval is None or left == 0:
            return
        time.sleep(interval)


def _asked(words: tuple[str, ...]) -> tuple[str | None, float | None, int | None]:
    """Return volume, interval and count; BadRequest('bad_request')."""
    rest = list(words)
    volume = rest.pop(0) if len(rest) == 3 or (rest and _number(rest[0]) is None) else None
    interval = _number(rest[0]) if rest else None
    count = int(rest[1]) if len(rest) > 1 and rest[1].isdecimal() and len(rest[1]) < 10 else None
    if len(rest) > 2 or (rest and interval is None) or (len(rest) > 1 and not count):
        raise BadRequest("bad_request", f"{' '.join(words)!r} is not [VOLUME] [INTERVAL] [COUNT]", "fmrctl stat --help")
    return volume, interval, count if rest else 1


def _number(word: str) -> float | None:
    try:
        found = float(word)
    except ValueError:
        return None
    return found if 0 < found <= LONGEST_SECONDS else None


def print_figures(out: Out, figures: Sequence[Json]) -> None:
    """Print them as a table, and below it each plex that is much slower than its peers."""
    if not figures:
        out.print("no volume is started")
        return
    print_rows(out, [HEAD, *map(_row, figures)])
    for each in figures:
        if each["slow"] is not None:
            out.print(f"plex {each['plex']} is slow: {each['slow']}")


def _row(figure: Json) -> tuple[str, ...]:
    seconds = max(figure["seconds"], 1e-9)
    return (
        "v" if figure["plex"] is None else "pl",
        figure["volume"] if figure["plex"] is None else figure["plex"],
        *(format_rate(figure[kind] / seconds) for kind in ("reads", "writes", "flushes")),
        *(format_size(round(figure[kind] / seconds)) for kind in ("read_bytes", "write_bytes")),
        *(format_seconds(figure[f"{kind}_seconds"]) for kind in ("read", "write", "flush")),
        *(format_seconds(figure[f"{kind}_p99_seconds"]) for kind in ("read", "write")),
        f"{figure['queue']:.1f}",
    )


def format_rate(per_second: float) -> str:
    """Return so many a second in at most five characters or so: 0, 3.2, 640, 12.5k."""
    if per_second >= 10_000:
        return f"{per_second / 1000:.3g}k" if per_second < 999_500 else f"{per_second / 1e6:.3g}M"
    return f"{per_second:.0f}" if per_second >= 10 or per_second == 0 else f"{per_second:.1f}"


def format_seconds(seconds: float | None) -> str:
    """Return a time in the largest unit that leaves at least 1; '-' for none."""
    if seconds is None:
        return "-"
    for unit, factor in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= factor:
            return f"{seconds / factor:.3g}{unit}"
    return f"{seconds / 1e-6:.3g}us"
