"""One page of `fmrctl top`: what the daemon told, as lines for a terminal of a given size. Nothing here asks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len, set_cell_size

from fmrd.core.json_object import Json
from fmrd.core.printable import printable
from fmrd.front.ctl.measured.stat import format_rate, format_seconds
from fmrd.front.ctl.tables import percent
from fmrd.front.ctl.words import format_size

WELL = ("ACTIVE", "SNAPDONE", "CLEAN")
KEYS = "q quit  up/down select  p pause  r resume  l limit the rate  + - slower, faster  PgUp PgDn"
WIDE = 120
"""From this width on there are more columns."""
NAME_WIDTH = 16
BAR = 10
ROOM_FOR_EVENTS = 12
"""Lines that there must be for the rest, before events are shown as well."""

Column = tuple[str, int]
NARROW_COLUMNS: tuple[Column, ...] = (
    ("STATE", 8), ("MISSING", 7), ("R/S", 5), ("W/S", 5), ("READ/S", 6), ("WRITE/S", 7), ("RWAIT", 6), ("WWAIT", 6),
    ("QUEUE", 5),
)  # fmt: skip
WIDE_COLUMNS: tuple[Column, ...] = (
    *NARROW_COLUMNS[:-1], ("FWAIT", 6), ("R99%", 6), ("W99%", 6), ("QUEUE", 5), ("ERRORS", 6), ("PATH", 40),
)  # fmt: skip


@dataclass(frozen=True)
class Happened:
    """An event: at what time of day, how loud, and its sentence."""

    clock: str
    level: str
    message: str


@dataclass(frozen=True)
class View:
    """What is shown: answers of the daemon, and the figures of the last interval."""

    volumes: Sequence[Json] = ()
    tasks: Sequence[Json] = ()
    figures: Sequence[Json] = ()
    events: Sequence[Happened] = ()
    """The newest first."""
    problem: str = ""
    """Why there is nothing new."""
    clock: str = ""
    interval_seconds: float = 2.0


@dataclass(frozen=True)
class Line:
    """A line, and how it is to be seen: 'title', 'head', 'bad', 'chosen', or ''."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Place:
    """Where in it somebody is: the task that is chosen, and how many rows of volumes are passed over."""

    task: int | None = None
    passed: int = 0
    said: str = field(default="", compare=False)
    """What came of the last key."""


def page(view: View, width: int, height: int, place: Place) -> list[Line]:
    """Return exactly ``height`` lines, none of them wider than ``width``. Volumes that are not well come first."""
    copies, notes = list(_copies(view, place)), list(_notes(view))
    room = max(1, height - 3)  # beside the title, the head of the table and the keys
    copies = copies[: max(2, room // 3)] if len(copies) > 1 else []
    notes = notes[: max(2, room // 4)]
    below = len(copies) + len(notes) + bool(copies) + bool(notes)
    rows = list(_rows(view, width))
    least = min(room // 6, len(view.events)) + 2 if view.events and room >= ROOM_FOR_EVENTS else 0
    shown = max(1, room - below - least)
    first = min(place.passed, max(0, len(rows) - shown))
    body = rows[first : first + shown]
    lines = [_title(view, len(rows) - len(body)), Line(_head(width), "head"), *body]
    for part in (copies, notes):
        lines += [Line(""), *part] if part else []
    left = height - 1 - len(lines)
    if least and left >= 2:
        lines += [Line(""), Line("LAST EVENTS", "head"), *list(_events(view))[: left - 2]]
    lines = lines[: height - 1]
    lines += [Line("")] * (height - 1 - len(lines))
    last = Line(place.said, "bad") if place.said else Line(KEYS, "title")
    return [Line(set_cell_size(printable(each.text, 4 * width), width).rstrip(), each.style) for each in [*lines, last]]


def is_well(volume: Json) -> bool:
    """Tell whether nothing needs somebody: a volume that was stopped by hand is well, too."""
    return volume["error"] is None and not volume["lost"] and all(plex_is_well(plex) for plex in volume["plexes"])


def plex_is_well(plex: Json) -> bool:
    return plex["state"] in WELL and plex["slow"] is None


def _title(view: View, hidden: int) -> Line:
    unwell = sum(not is_well(volume) for volume in view.volumes)
    what = f"fmrctl top  {view.clock}  volumes {len(view.volumes)}"
    what += f", {unwell} not well" if unwell else ", all well"
    what += f"  copies {len(view.tasks)}  every {view.interval_seconds:g} s"
    what += f"  {hidden} rows more" if hidden else ""
    return Line(view.problem or what, "bad" if view.problem or unwell else "title")


def _columns(width: int) -> tuple[Column, ...]:
    return WIDE_COLUMNS if width >= WIDE else NARROW_COLUMNS


def _head(width: int) -> str:
    return _laid_out(["NAME", *(name for name, _ in _columns(width))], width)


def _laid_out(cells: Sequence[str], width: int) -> str:
    """The name takes what is left."""
    sizes = [size for _, size in _columns(width)]
    name = max(NAME_WIDTH, width - sum(sizes) - len(sizes))
    return " ".join(_fit(cell, size) for cell, size in zip(cells, [name, *sizes], strict=True))


def _fit(cell: str, size: int) -> str:
    return set_cell_size(cell if cell_len(cell) <= size else printable(cell, size), size)


def _rows(view: View, width: int) -> Iterator[Line]:
    figures = {(each["volume"], each["plex"]): each for each in view.figures}
    for volume in sorted(view.volumes, key=lambda each: (is_well(each), each["name"])):
        name = volume["name"]
        started = volume["kstate"] == "ENABLED"
        style = "" if is_well(volume) else "bad"
        state = volume["state"] if started else "stopped" if volume["error"] is None else "failed"
        missing = "" if started else "-"
        yield Line(_row(name, state, missing, figures.get((name, None)), volume["path"], width), style)
        for plex in volume["plexes"] if started else ():
            lacks = format_size(plex["dirty_bytes"])
            row = _row(
                f"  {plex['name']}", plex["state"], lacks, figures.get((name, plex["name"])), plex["path"], width
            )
            yield Line(row, "" if plex_is_well(plex) else "bad")


def _row(name: str, state: str, missing: str, figure: Json | None, path: str, width: int) -> str:
    cells = {"NAME": name, "STATE": state, "MISSING": missing, "PATH": path}
    if figure is not None:
        seconds = max(figure["seconds"], 1e-9)
        cells |= {
            "R/S": format_rate(figure["reads"] / seconds), "W/S": format_rate(figure["writes"] / seconds),
            "READ/S": format_size(round(figure["read_bytes"] / seconds)),
            "WRITE/S": format_size(round(figure["write_bytes"] / seconds)),
            "RWAIT": format_seconds(figure["read_seconds"]), "WWAIT": format_seconds(figure["write_seconds"]),
            "FWAIT": format_seconds(figure["flush_seconds"]), "R99%": format_seconds(figure["read_p99_seconds"]),
            "W99%": format_seconds(figure["write_p99_seconds"]), "QUEUE": f"{figure['queue']:.1f}",
            "ERRORS": str(figure["errors"]),
        }  # fmt: skip
    return _laid_out([cells.get(column, "") for column, _ in (("NAME", 0), *_columns(width))], width)


def _copies(view: View, place: Place) -> Iterator[Line]:
    yield Line(
        f"{'ID':>5} {'TYPE':8} {'PLEX':{NAME_WIDTH}} {'STATE':7} {'DONE':>4} {'':{BAR}} {'RATE':>8} {'ETA':6} WHY",
        "head",
    )
    tasks = sorted(view.tasks, key=lambda task: int(task["id"]))
    at = next((n for n, task in enumerate(tasks) if task["id"] == place.task), 0)
    for task in [*tasks[at:], *tasks[:at]] if at > 2 else tasks:
        done = percent(task)
        bar = "#" * round(BAR * done / 100)
        eta = "-" if task["eta_seconds"] is None else f"{task['eta_seconds']:.0f}s"
        rate = f"{format_size(task['rate_bytes_per_second'])}/s"
        text = (
            f"{task['id']:>5} {task['type']:8} {_fit(task['plex'] or task['volume'], NAME_WIDTH)} {task['state']:7} "
            f"{done:3.0f}% {bar:.<{BAR}} {rate:>8} {eta:6} {task['reason']['code']}"
        )
        yield Line(text, "chosen" if task["id"] == place.task else "")


def _events(view: View) -> Iterator[Line]:
    for event in view.events:
        yield Line(f"{event.clock} {event.message}", "" if event.level == "info" else "bad")


def _notes(view: View) -> Iterator[Line]:
    """Why something is not well."""
    for volume in view.volumes:
        if volume["error"] is not None:
            yield Line(f"{volume['name']}: {volume['error']['code']}: {volume['error']['message']}", "bad")
        if volume["lost"]:
            size = format_size(sum(part["length_bytes"] for part in volume["lost"]))
            yield Line(f"{volume['name']}: {size} cannot be read from any plex", "bad")
        for plex in volume["plexes"]:
            if plex["slow"] is not None:
                yield Line(f"{plex['name']} is slow: {plex['slow']}", "bad")
            elif plex["reason"] is not None:
                yield Line(f"{plex['name']}: {plex['reason']['message']} ({plex['reason']['code']})", "bad")
