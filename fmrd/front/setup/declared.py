"""`fmrctl apply FILE` brings volumes to what a file declares, and says what it changed. It makes, grows, adds plexes
and sets; it never removes, stops or shortens anything: what is there and not declared is left alone, and told.

All of it is looked at before the first thing is done, so a file that cannot be is refused whole.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click

from fmrd.core.far.uris import is_uri
from fmrd.core.json_object import Json
from fmrd.core.sizes import read_size
from fmrd.engine.verbs.settings import parse_settings
from fmrd.errors import BadRequest
from fmrd.front.conf.heeding import arguments_of_make, settings_of
from fmrd.front.conf.reading import VOLUMES, Conf, bad, check_keys, read_conf, read_toml, typed
from fmrd.front.ctl import words
from fmrd.front.ctl.app import App
from fmrd.front.ctl.options import DRY_RUN, WAIT
from fmrd.front.setup.changes import Change, answer, show

KEYS = {**VOLUMES, "size": str, "plexes": list, "start": bool}
MAX_PLEXES = 39


@dataclass(frozen=True)
class Step:
    """One verb of the daemon, and what it changes."""

    change: Change
    verb: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@click.command()
@click.argument("file", type=words.path)
@WAIT
@DRY_RUN
@click.pass_obj
def apply(app: App, file: str, wait: bool, dry_run: bool) -> None:
    """Bring volumes to what FILE declares: make, grow, add plexes, set. Never removes anything.

    FILE is TOML, with a table [volumes.NAME] for each volume: size, plexes (paths), and settings as in fmrd.conf.
    """
    conf, declared = read_conf(), read_toml(Path(file))
    if declared is None:
        raise BadRequest("bad_conf", f"there is no file {file}")
    volumes = _checked(Path(file), declared)
    there = {volume["name"]: volume for volume in app.ask("print")["volumes"]}
    steps, left = [], []
    for name, wanted in volumes.items():
        found = there.get(name)
        made = _made(conf, name, wanted) if found is None else _brought(Path(file), found, wanted)
        steps += list(made)
        left += [] if found is None else _left_alone(found, wanted)
    for line in left:
        app.err.print(f"fmrctl: {line}")
    _tried(app, steps)
    tasks: list[Json] = []
    for step in steps if not dry_run else ():
        result = app.ask(step.verb, **step.arguments)
        tasks += result.get("tasks", [result["task"]] if "task" in result else [])
    told = answer(step.change for step in steps) | {"tasks": tasks}
    app.conclude(told, wait=wait, people=partial(show, dry_run=dry_run))


def _tried(app: App, steps: Sequence[Step]) -> None:
    """Ask for all that can be asked for without being done, so that no other step is done before one that cannot be."""
    started = {step.arguments["volume"] for step in steps if step.verb == "start"}
    for step in steps:
        if step.verb == "set":
            parse_settings(dict(step.arguments["settings"]))
        elif step.verb in ("make", "plex_add") and step.arguments["volume"] not in started:
            app.ask(step.verb, **step.arguments, dry_run=True)


def _checked(file: Path, declared: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what each volume is declared to be. BadRequest('bad_conf')."""
    check_keys(file, "the file", declared, {"volumes"})
    volumes = declared.get("volumes")
    if not isinstance(volumes, dict) or not volumes:
        raise bad(file, "declares no volume: [volumes.NAME]")
    for name, wanted in volumes.items():
        where = f"[volumes.{name}]"
        if not isinstance(wanted, dict):
            raise bad(file, f"has {name!r} in [volumes], which must be a table: {where}")
        typed(file, where, wanted, KEYS)
        if not {"size", "plexes"} <= wanted.keys():
            raise bad(file, f"lacks size or plexes in {where}")
        if read_size(wanted["size"]) is None:
            raise bad(file, f"has {where} size = {wanted['size']!r}, which is not a size")
        if not 1 <= len(wanted["plexes"]) <= MAX_PLEXES:
            raise bad(file, f"has {len(wanted['plexes'])} plexes in {where}: 1 to {MAX_PLEXES} can be")
        for plex in wanted["plexes"]:
            if not isinstance(plex, str) or not (plex.startswith("/") or is_uri(plex)):
                raise bad(file, f"has the plex {plex!r} in {where}, which is no absolute path, URI, or PATH,dco=PATH")
    return volumes


def _settings(wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in wanted.items() if key in VOLUMES}


def _made(conf: Conf, name: str, wanted: Mapping[str, Any]) -> Iterator[Step]:
    """The steps to a volume that is not there."""
    plexes = [words.wish(plex) for plex in wanted["plexes"]]
    change = Change(name, "make", f"make volume {name}, {wanted['size']}, with {len(plexes)} plex(es)")
    told = _settings(wanted)
    yield Step(change, "make", {
        "volume": name, "size_bytes": read_size(wanted["size"]), "plexes": plexes, **arguments_of_make(conf, told),
    })  # fmt: skip
    settings = settings_of({**conf.volumes, **told}, made=True)
    if settings:
        yield _set(name, settings)


def _brought(file: Path, volume: Json, wanted: Mapping[str, Any]) -> Iterator[Step]:
    """The steps from a volume that is there. BadRequest('bad_conf') for what no step leads to."""
    name, size = volume["name"], read_size(wanted["size"]) or 0
    for key, has in (("region_size", volume["region_size_bytes"]), ("drl_extent", volume["drl"]["extent_bytes"])):
        if key in wanted and read_size(wanted[key]) != has:
            raise bad(file, f"has {key} = {wanted[key]!r} for volume {name}, which was made with {has} bytes, for good")
    if size < volume["length_bytes"]:
        has = words.format_size(volume["length_bytes"])
        raise bad(file, f"has size = {wanted['size']!r} for volume {name}, which has {has}: no volume becomes shorter")
    if volume["kstate"] == "DISABLED" and wanted.get("start"):
        yield Step(Change(name, "start", f"start volume {name}"), "start", {"volume": name})
    if size > volume["length_bytes"]:
        grown = Change(name, "grow", f"grow volume {name} to {wanted['size']}")
        yield Step(grown, "grow", {"volume": name, "size_bytes": size})
    has = {plex["path"] for plex in volume["plexes"]}
    for plex in map(words.wish, wanted["plexes"]):
        if plex["path"] not in has:
            added = Change(name, "plex_add", f"add a plex {plex['path']} to volume {name}")
            yield Step(added, "plex_add", {"volume": name, **plex})
    now = _now(volume)
    differ = {
        key: value for key, value in settings_of(_settings(wanted), made=False).items() if now[key] != _same(key, value)
    }
    if differ:
        yield _set(name, differ)


def _set(name: str, settings: dict[str, str]) -> Step:
    shown = " ".join(f"{key}={value}" for key, value in settings.items())
    return Step(Change(name, "set", f"set {shown} of volume {name}"), "set", {"volume": name, "settings": settings})


def _now(volume: Json) -> dict[str, Any]:
    """The settings of a volume, as ``_same`` has them."""
    return {
        "fmr": "on" if volume["fmr"] else "off", "rdpol": volume["rdpol"], "io_timeout": float(volume["io_timeout"]),
        "rate": volume["rate"], "auto_attach": "on" if volume["auto_attach"] else "off",
        "drl_extents": volume["drl"]["most_extents"],
    }  # fmt: skip


def _same(key: str, value: str) -> Any:
    """A setting in the form in which the daemon tells it."""
    if key == "rate":
        return read_size(value)
    return float(value) if key == "io_timeout" else int(value) if key == "drl_extents" else value


def _left_alone(volume: Json, wanted: Mapping[str, Any]) -> list[str]:
    declared = {words.wish(plex)["path"] for plex in wanted["plexes"]}
    name = volume["name"]
    return [
        f"volume {name} has a plex {plex['name']} ({plex['path']}) that is not declared: it is left alone"
        for plex in volume["plexes"]
        if plex["path"] not in declared
    ]
