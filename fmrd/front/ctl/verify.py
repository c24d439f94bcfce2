"""`fmrctl verify` asks whether all copies are the same, and whose the bytes are that are not."""

import click

from fmrd.core.json_object import Json
from fmrd.errors import Failed, FmrdError
from fmrd.front.ctl import words
from fmrd.front.ctl.app import App, Told, problem_of
from fmrd.front.ctl.file_names import names_of
from fmrd.front.ctl.options import RATE, TAG
from fmrd.front.ctl.tables import Out, task_line
from fmrd.front.wire import error_json


@click.command()
@click.argument("volume")
@click.option("--repair", is_flag=True, help="Write anew what is proven to be wrong.")
@click.option("--from", "from_plex", type=words.plex, help="PLEX is right where they differ: make the others like it.")
@click.option("--files", is_flag=True, help="On ext4, name the files that own the bytes (needs debugfs).")
@RATE
@TAG
@click.pass_obj
def verify(app: App, volume: str, repair: bool, from_plex: str | None, files: bool, rate: int | None) -> None:
    """Compare all copies of VOLUME, byte by byte, while it is used. Fails where they differ and were not repaired.

    The majority tells which copy is wrong, or the checksums of an earlier verify. It is a task: 'fmrctl task pause',
    'resume', 'abort' and 'set' steer it, and after a restart of the volume it goes on where it was.
    """
    started = app.ask("verify", volume=volume, repair=repair, from_plex=from_plex, rate=rate)
    if "notice" in started:
        app.err.print(f"fmrctl: {started['notice']}")
    ended = app.wait([started["task"]["id"]])
    result = app.ask("verify_report", id=started["task"]["id"])
    if files:
        _name_files(app, volume, result["mismatches"])
    problem = problem_of(ended) or _problem(volume, result["mismatches"])
    if problem is not None and app.as_json:
        result["error"] = error_json(problem)
    app.show(result, lambda shown: _print(app.out, shown))
    if problem is not None:
        raise Told(problem)


def _name_files(app: App, volume: str, mismatches: list[Json]) -> None:
    """Where that cannot be done it is said, and the report stays what it is."""
    path = app.ask("print", volume=volume)["volumes"][0]["path"]
    try:
        for mismatch, names in zip(mismatches, names_of(path, mismatches), strict=True):
            mismatch["files"] = names
    except Failed as error:
        app.err.print(f"fmrctl: no files are named: {error.message}")


def _problem(volume: str, mismatches: list[Json]) -> FmrdError | None:
    left = sum(not each["repaired"] for each in mismatches)
    if not left:
        return None
    return Failed("plexes_differ", f"volume {volume}: {left} range(s) differ", "fmrctl explain plexes_differ")


def _print(out: Out, result: Json) -> None:
    out.print(task_line(result["task"]))
    for each in result["mismatches"]:
        names = ", ".join(each["plexes"])
        verdict = f"{names} differs from the others" if each["proven"] else f"{names} differ, and none is proven right"
        outcome = "; written anew" if each["repaired"] else ""
        owners = f" ({', '.join(each['files']) or 'no file'})" if "files" in each else ""
        out.print(f"bytes {each['offset_bytes']} to {_end(each)}: {verdict}{outcome}{owners}")
    alone = result["not_compared_regions"]
    if alone:
        out.print(f"{alone} region(s) were not compared: only one plex holds them just now")
    if result["task"]["state"] == "done" and not result["mismatches"]:
        out.print("all copies are the same" if not alone else "all that was compared is the same")


def _end(mismatch: Json) -> int:
    return int(mismatch["offset_bytes"] + mismatch["length_bytes"] - 1)
