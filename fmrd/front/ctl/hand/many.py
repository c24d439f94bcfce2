"""Verbs over several volumes or plexes at once: names and globs, one after the other, and the outcome of each."""

from collections.abc import Callable, Sequence

import click

from fmrd.core.json_object import Json
from fmrd.errors import BadRequest, Failed, FmrdError
from fmrd.front.ctl.app import App, Told
from fmrd.front.ctl.glance.picking import GLOB, matching, meant, picked
from fmrd.front.ctl.words import wish
from fmrd.front.wire import error_json

COUNT = click.option("--count", type=click.IntRange(1, 8), metavar="N", help="So many plexes.")


def volumes_named(app: App, wanted: Sequence[str]) -> list[str]:
    """Return the volumes that are meant. One plain name is itself: the daemon says whether there is such a volume."""
    if len(wanted) == 1 and not GLOB & set(wanted[0]):
        return list(wanted)
    return picked(wanted, [volume["name"] for volume in app.ask("print")["volumes"]])


def chosen(app: App, wanted: Sequence[str]) -> Json:
    """What print tells of these volumes, and of the tasks on them; of all without any."""
    if len(wanted) == 1 and not GLOB & set(wanted[0]):
        return app.ask("print", volume=wanted[0])
    shown = app.ask("print")
    names = picked(wanted, [volume["name"] for volume in shown["volumes"]])
    volumes = [volume for volume in shown["volumes"] if volume["name"] in names]
    return shown | {"volumes": volumes, "tasks": [task for task in shown["tasks"] if task["volume"] in names]}


def plexes_named(app: App, volume: str, wanted: Sequence[str]) -> list[str]:
    """The same of the plexes of one volume, which may be named by their paths as well."""
    if len(wanted) == 1 and not GLOB & set(wanted[0]):
        return list(wanted)
    [shown] = app.ask("print", volume=volume)["volumes"]
    names = [plex["name"] for plex in shown["plexes"]]
    by_path = {plex["path"]: plex["name"] for plex in shown["plexes"]}
    found: dict[str, None] = {}
    for each in wanted:
        these = [by_path[each]] if each in by_path else matching(each, names)
        if not these:
            raise Failed("plex_unknown", f"volume {volume} has no plex {each}", meant(each, names))
        found |= dict.fromkeys(these)
    return list(found)


def counted(texts: Sequence[str], count: int | None) -> dict[str, Json]:
    """Return the places of ``count`` plexes by their paths, of as many PATH[,dco=PATH], or of one with %n for the
    number of each. BadRequest('bad_request').
    """
    if "%n" in texts[0] and len(texts) == 1 and count is not None:
        texts = [texts[0].replace("%n", str(number)) for number in range(1, count + 1)]
    if count not in (None, len(texts)):
        hint = "name one for each, or one with %n for its number: '/srv/disk3/data-%n' --count 2"
        raise BadRequest("bad_request", f"{len(texts)} path(s) for {count} plexes", hint)
    places = {place["path"]: place for place in map(wish, texts)}
    if len(places) != len(texts):
        raise BadRequest("bad_request", "a path is named twice")
    return places


def each_of(
    app: App, names: Sequence[str], kind: str, verb: Callable[[str], Json], *, volume: str = "", wait: bool = False
) -> None:
    """Carry a verb out on each, and show one answer for all: that of the only one, or lists of ``kind`` (volume, or
    of one ``volume`` plex or task) and what failed. One that fails keeps no other from its turn; Told is raised for
    the first of them.
    """
    if len(names) == 1:
        app.conclude(verb(names[0]), wait=wait)
        return
    kinds = "plexes" if kind == "plex" else f"{kind}s"
    changed: list[Json] = []
    failed: list[Json] = []
    notices: list[str] = []
    tasks: list[Json] = []
    first: FmrdError | None = None
    for name in names:
        try:
            answer = verb(name)
        except FmrdError as error:
            where = {"volume": volume, "plex": name} if volume else {"volume": name, "plex": ""}
            if first is None:
                first = error
                if not app.as_json:  # people are told of it at the end, with what to do
                    continue
            failed.append({**where, "code": error.code, "message": error.message})
        else:
            changed.append(answer[kind])
            tasks += answer.get("tasks", []) if kind == "volume" else []
            notices += [answer["notice"]] if "notice" in answer else []
    result: Json = {kinds: changed, "failed": failed}
    result |= {"tasks": tasks} if tasks else {}
    result |= {"notice": "; ".join(notices)} if notices else {}
    if first is not None and app.as_json:
        result["error"] = error_json(first)
    app.conclude(result, wait=wait)
    if first is not None:
        raise Told(first)
