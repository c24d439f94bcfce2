"""`fmrctl status` shows each volume on one line, what is not well first, and below it why and what to do."""

import click

from fmrd.core.json_object import Json
from fmrd.front.ctl.app import App
from fmrd.front.ctl.glance.health import Health, Judged, Level, judge, worst_first
from fmrd.front.ctl.glance.picking import picked
from fmrd.front.ctl.tables import GOOD, SICK, WARN, print_rows
from fmrd.front.ctl.words import format_size
from fmrd.front.nightly.shown import with_nights

HEAD = ("NAME", "STATE", "PLEXES", "LENGTH")
COLOURS = {Level.WELL: GOOD, Level.UNWELL: WARN, Level.BAD: SICK}


@click.command()
@click.argument("volume", nargs=-1)
@click.option("-x", "--unwell", is_flag=True, help="Only what is not well, one line each.")
@click.pass_obj
def status(app: App, volume: tuple[str, ...], unwell: bool) -> int:
    """Show how each VOLUME is (names and globs; all of them without one), why, and what to do.

    Exit status: 0 all are well, 1 one is not, 2 one is bad (it does not start, has lost data, or may have), 4 no
    daemon answers within --timeout.
    """
    return show_status(app, volume, unwell=unwell)


def show_status(app: App, wanted: tuple[str, ...], *, unwell: bool = False) -> int:
    """Return the exit status: the worst level of all that was asked for."""
    shown = app.ask("print")
    names = picked(wanted, [v["name"] for v in shown["volumes"]])
    all_judged = [judge(v, shown["tasks"], shown["opening"]) for v in shown["volumes"] if v["name"] in names]
    coming = sorted(set(shown["opening"]) - {each.name for each in all_judged}) if not wanted else []
    all_judged += [Judged(name, Health.OPENING, 0, 0, 0) for name in coming]
    judged = worst_first(with_nights(all_judged, app.ask("nights")["nights"], all_of_them=not wanted))
    worst = max((each.level for each in judged), default=Level.WELL)
    sick = [each for each in judged if each.level is not Level.WELL]
    result: Json = {"level": worst.name.lower(), "health": [each.json() for each in (sick if unwell else judged)]}
    app.show(result, lambda _: _one_line_each(app, sick, len(judged)) if unwell else _table(app, judged, sick))
    return int(worst)


def _one_line_each(app: App, sick: list[Judged], count: int) -> None:
    for each in sick:
        why = "; ".join(finding.cause for finding in each.findings[:1]) or "the daemon is still opening it"
        action = f" - {each.findings[0].action}" if each.findings else ""
        more = f" (and {len(each.findings) - 1} more)" if len(each.findings) > 1 else ""
        app.out.print(f"{each.name} {each.health}: {why}{more}{action}", style=COLOURS[each.level])
    if not sick:
        app.out.print("all volumes are well" if count else "there are no volumes")


def _table(app: App, judged: list[Judged], sick: list[Judged]) -> None:
    if not judged:
        app.out.print("there are no volumes")
        return
    if sick:
        app.out.print(f"{len(sick)} of {len(judged)} volume(s) not well")
    rows = [HEAD, *((j.name, j.health, f"{j.in_sync}/{j.plexes}", format_size(j.length_bytes)) for j in judged)]
    below = {n: _why(each) for n, each in enumerate(judged, 1)}
    print_rows(app.out, rows, {n: COLOURS[each.level] for n, each in enumerate(judged, 1) if each in sick}, below)


def _why(judged: Judged) -> list[str]:
    return [line for f in judged.findings for line in (f"  cause:  {f.cause}", f"  action: {f.action}")]
