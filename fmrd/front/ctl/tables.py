"""fmrctl prints this for people: volumes and plexes in the spirit of ``vxprint -ht``, tasks, decisions.

What comes from a record, a path or the system may hold anything: all that is printed goes through ``Out``.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime

import click
from rich.cells import cell_len, set_cell_size

from fmrd.core.json_object import Json
from fmrd.core.printable import escaped
from fmrd.front.ctl.words import format_size

VOLUME_HEAD = ("V", "NAME", "FMR", "KSTATE", "STATE", "LENGTH", "READPOL", "OPEN", "PATH")
PLEX_HEAD = ("PL", "NAME", "VOLUME", "KSTATE", "STATE", "LENGTH", "DIRTY", "MODE", "PATH")
SNAP_HEAD = ("SS", "NAME", "VOLUME", "LENGTH", "DIRTY", "%DIRTY", "TAKEN", "KIND")
GOOD, WARN, SICK = "green", "yellow", "red"
COLOURS = {"IOFAIL": SICK, "STALE": WARN, "OFFLINE": WARN, "TEMP": WARN, "SNAPATT": WARN}
"""Of plexes that are not well, on a terminal, unless NO_COLOR is set."""
TASK_HEAD = ("ID", "TYPE", "VOLUME", "PLEX", "STATE", "DONE", "BYTES", "COPIED", "RATE", "ETA", "REASON", "TAG")


class Out:
    """Standard output, or standard error. Each text that it prints is one line, however long, and nothing in it but
    what can be seen: a terminal wraps it, a pipe gets all of it.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        self._stderr = stderr

    def print(self, text: str = "", style: str | None = None) -> None:
        """With ``style``, a colour, on a terminal."""
        file = sys.stderr if self._stderr else sys.stdout
        if file is None:  # it is closed
            return
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") in ("dumb", "unknown")
        coloured = style is not None and file.isatty() and not plain
        click.echo(click.style(escaped(text), fg=style) if coloured else escaped(text), file=file)


def print_volumes(out: Out, volumes: Sequence[Json], tasks: Sequence[Json] = ()) -> None:
    if not volumes:
        out.print("there are no volumes")
        return
    rows: list[Sequence[str]] = [VOLUME_HEAD, PLEX_HEAD]
    styles: dict[int, str] = {}
    for volume in volumes:
        rows.append(_volume(volume))
        if volume.get("error") or volume["lost"] or volume.get("suspect"):
            styles[len(rows) - 1] = SICK
        for plex in volume["plexes"]:
            rows.append(_plex(plex, volume["name"], volume["length_bytes"]))
            styles |= {len(rows) - 1: COLOURS[plex["state"]]} if plex["state"] in COLOURS else {}
    print_rows(out, rows, styles)
    for plex in (plex for volume in volumes for plex in volume["plexes"]):
        if plex.get("far"):
            out.print(_far(plex))
        if plex.get("reason"):
            out.print(_why(plex), style=COLOURS.get(plex["state"]))
        if plex.get("slow"):
            out.print(f"plex {plex['name']} is slow: {plex['slow']}", style=SICK)
        _print_lags(out, [plex])
    for volume in volumes:
        if volume.get("comment"):
            out.print(f"volume {volume['name']}: {volume['comment']}")
    associations = [snap for volume in volumes for snap in volume["snapshots"]]
    if associations:
        out.print()
        print_rows(out, [SNAP_HEAD, *(_association("ss", snap) for snap in associations)])
    for volume in volumes:
        for part in volume["lost"]:
            where = f"{format_size(part['length_bytes'])} at byte {part['offset_bytes']}"
            if volume["snapshot_of"]:
                out.print(f"snapshot {volume['name']} is invalid: {where} could not be kept, or cannot be read")
            else:
                out.print(f"volume {volume['name']}: {where} cannot be read from any plex; write them anew")
        error = volume.get("error")
        if error:
            hint = f" (hint: {error['hint']})" if error.get("hint") else ""
            out.print(f"volume {volume['name']} does not start: {error['code']}: {error['message']}{hint}")
    if tasks:
        out.print()
        print_tasks(out, tasks)


def print_plex(out: Out, plex: Json, volume: str) -> None:
    print_rows(out, [PLEX_HEAD, _plex(plex, volume, None)])
    if plex.get("reason"):
        out.print(_why(plex))
    _print_lags(out, [plex])


def _print_lags(out: Out, plexes: Sequence[Json]) -> None:
    """Say how far plexes lag that may."""
    for plex in plexes:
        if plex.get("lag_bytes") is not None:
            behind = f"is {format_size(plex['lag_bytes'])} and {plex['lag_seconds']:.1f} s behind"
            out.print(f"plex {plex['name']} {behind if plex['lag_bytes'] else 'may lag, and has everything'}")


def _far(plex: Json) -> str:
    """How a plex is reached that does not lie here."""
    far = plex["far"]
    said = [f"plex {plex['name']} is reached by {far['transport']}"]
    if far["session"] != "none":
        said.append(f"session {far['session']}" + (f" ({far['lost']})" if far["lost"] else ""))
    if far["round_trip_seconds"] is not None:
        said.append(
            f"round trip {1000 * far['round_trip_seconds']:.2f} ms (p99 {1000 * far['round_trip_p99_seconds']:.2f})"
        )
    said.append(f"fence {far['fence']}" if far["fence"] else "no fence: see 'fmrctl explain session_open'")
    return ", ".join(said)


def _why(plex: Json) -> str:
    """Why a plex is not as it should be, and since when."""
    reason = plex["reason"]
    since = datetime.fromtimestamp(reason["since"]).strftime(" since %Y-%m-%d %H:%M:%S") if reason["since"] else ""
    return f"plex {plex['name']} is {plex['state']}{since}: {reason['message']} ({reason['code']})"


def _volume(v: Json) -> tuple[str, ...]:
    return ("v", v["name"], "on" if v["fmr"] else "off", v["kstate"], v["state"], format_size(v["length_bytes"]),
            v["rdpol"].upper() if ":" not in v["rdpol"] else v["rdpol"], str(v["open_count"]), v["path"])  # fmt: skip


def _plex(p: Json, volume: str, length: int | None) -> tuple[str, ...]:
    shown = "-" if length is None else format_size(length)
    return ("pl", p["name"], volume, p["kstate"], p["state"], shown, format_size(p["dirty_bytes"]), p["mode"],
            p["path"])  # fmt: skip


def _association(kind: str, snap: Json) -> tuple[str, ...]:
    return (kind, snap["name"], snap["volume"], format_size(snap["length_bytes"]), format_size(snap["dirty_bytes"]),
            f"{snap['percent_dirty']:g}", _when(snap.get("taken")), snap.get("taken_as") or "-")  # fmt: skip


def _when(time: float | None) -> str:
    return "-" if time is None else datetime.fromtimestamp(time).strftime("%Y-%m-%d %H:%M:%S")


def print_snapshots(out: Out, result: Json) -> None:
    """Print what snapprint gave: associations (ss) and detached plexes (dp)."""
    rows = [_association("ss", snap) for snap in result["snapshots"]]
    rows += [_association("dp", plex) for plex in result["detached"]]
    if not rows:
        out.print("there are no snapshots and no detached plexes")
        return
    print_rows(out, [SNAP_HEAD, ("DP", *SNAP_HEAD[1:]), *rows])


def print_taken(out: Out, result: Json) -> None:
    """Print what snapshot made of which volume, where it is seen, and how long writes waited."""
    for volume in result.get("volumes", []):
        out.print(f"snapshot {volume['name']} of volume {volume['snapshot_of']}: {volume['path']}")
    if "held_seconds" in result:
        out.print(f"writes were held for {1000 * result['held_seconds']:.1f} ms")
    for task in [*result.get("tasks", []), *([result["task"]] if "task" in result else [])]:
        out.print(task_line(task))


def print_tasks(out: Out, tasks: Sequence[Json]) -> None:
    if not tasks:
        out.print("there are no tasks")
        return
    print_rows(out, [TASK_HEAD, *map(_task, tasks)])


def _task(t: Json) -> tuple[str, ...]:
    eta = "-" if t["eta_seconds"] is None or t["ended"] is not None else f"{t['eta_seconds']:.0f}s"
    return (str(t["id"]), t["type"], t["volume"], t["plex"], t["state"], f"{percent(t):.0f}%",
            format_size(t["total_bytes"]), format_size(t["copied_bytes"]),
            f"{format_size(t['rate_bytes_per_second'])}/s", eta, t["reason"]["code"],
            t["tag"] or "-")  # fmt: skip


def task_name(task: Json) -> str:
    """Return its number, and the tag that it has."""
    return f"{task['id']} ({task['tag']})" if task["tag"] else str(task["id"])


def percent(task: Json) -> float:
    total: int = task["total_bytes"]
    if total:
        return float(min(100.0, 100.0 * task["done_bytes"] / total))
    return 100.0 if task["state"] == "done" else 0.0


def task_line(task: Json) -> str:
    """Return a task as a sentence: what it copies and why."""
    regions, size = task["total_regions"], format_size(task["total_bytes"])
    what = f"{regions} region(s), {size}" if regions else "nothing to copy"
    return f"task {task_name(task)}: {task['reason']['message']} ({task['reason']['code']}; {what}) - {task['state']}"


def decision_line(decision: Json) -> str:
    reason = decision["reason"]
    return (
        f"{decision['plex']}: {reason['message']} ({reason['code']}; {decision['regions']} region(s), "
        f"{format_size(decision['bytes'])}, about {decision['estimate_seconds']:g} s)"
    )


def print_rows(
    out: Out, rows: Sequence[Sequence[str]], styles: Mapping[int, str] | None = None,
    below: Mapping[int, Sequence[str]] | None = None,
) -> None:  # fmt: skip
    """Columns as wide as what is in them; nothing is ever cut, so that a path can be copied from here. By the number of
    a row: its colour, and lines that stand below it.
    """
    shown = [[escaped(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*shown, strict=True)]
    for number, row in enumerate(shown):
        text = " ".join(set_cell_size(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
        out.print(text, style=(styles or {}).get(number))
        for line in (below or {}).get(number, ()):
            out.print(line)
