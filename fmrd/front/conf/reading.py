"""/etc/fmrd.conf is read here: TOML, bounded and checked to the last value. Nothing in it is needed.

``[daemon]`` has options of fmrd by their long names, ``[volumes]`` what new volumes get where the command line says
nothing, ``[vx.disks]`` the directories in which fmrd-vx makes plexes, by the name that a disk has there.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fmrd.core.names import is_name
from fmrd.errors import BadRequest

PLACE = Path("/etc/fmrd.conf")
LIMIT_BYTES = 1 << 20
MAX_DISKS = 64

DAEMON: dict[str, type] = {"state": str, "mount": str, "socket": str, "door": str, "uring": bool, "log_level": str}
"""Options of fmrd that may stand in [daemon], and of which type each is."""

VOLUMES: dict[str, type] = {
    "region_size": str, "drl_extent": str, "fmr": bool, "rdpol": str, "io_timeout": int, "rate": str,
    "auto_attach": bool, "drl_extents": int,
}  # fmt: skip
"""What [volumes] may set; sizes are text, as on the command line."""

_WORDS = {str: "text", bool: "true or false", int: "a whole number", list: "a list"}
MOST = 1 << 60
"""No number in a file is larger."""


@dataclass(frozen=True)
class Conf:
    """What the file says; empty where there is none. ``disks``: name -> absolute path of a directory, in its order."""

    path: Path
    daemon: Mapping[str, Any] = field(default_factory=dict)
    volumes: Mapping[str, Any] = field(default_factory=dict)
    disks: Mapping[str, str] = field(default_factory=dict)


def default_path() -> Path:
    """Return FMRD_CONF, or the system's file for root, and the user's own for everybody else."""
    named = os.environ.get("FMRD_CONF")
    if named:
        return Path(named)
    if os.geteuid() == 0:
        return PLACE
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "fmrd.conf"


def read_conf(path: Path | None = None) -> Conf:
    """Return what ``path`` (``default_path()``) says. BadRequest('bad_conf') names the file and what is wrong there."""
    path = path or default_path()
    found = read_toml(path)
    if found is None:
        return Conf(path)
    check_keys(path, "the file", found, {"daemon", "volumes", "vx"})
    daemon, volumes = (_section(path, name, found, known) for name, known in (("daemon", DAEMON), ("volumes", VOLUMES)))
    vx = _table(path, "vx", found.get("vx", {}))
    check_keys(path, "[vx]", vx, {"disks"})
    return Conf(path, daemon, volumes, _disks(path, _table(path, "vx.disks", vx.get("disks", {}))))


def read_toml(path: Path) -> dict[str, Any] | None:
    """Return a file of TOML, or None where there is none. BadRequest('bad_conf')."""
    try:
        with open(path, "rb") as file:
            data = file.read(LIMIT_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise bad(path, f"cannot be read: {error.strerror}") from error
    if len(data) > LIMIT_BYTES:
        raise bad(path, f"is longer than {LIMIT_BYTES} bytes")
    import tomllib  # mostly there is no file, and each fmrctl asks for it

    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # also a number that has more digits than Python takes
        raise bad(path, f"is not TOML: {error}") from error


def bad(path: Path, what: str) -> BadRequest:
    return BadRequest("bad_conf", f"{path} {what}", "man fmrd.conf, or README, has every key")


def check_keys(path: Path, where: str, found: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(found.keys() - known)
    if unknown:
        raise bad(path, f"has {unknown[0]!r} in {where}; it may have {', '.join(sorted(known))}")


def typed(path: Path, where: str, found: Mapping[str, Any], known: Mapping[str, type]) -> None:
    """Each value is of the type that ``known`` names. BadRequest('bad_conf')."""
    check_keys(path, where, found, set(known))
    for key, value in found.items():
        if isinstance(value, int) and abs(value) > MOST:
            raise bad(path, f"has {where} {key}, a number that is too large")
        if type(value) is not known[key]:
            raise bad(path, f"has {where} {key} = {value!r:.100}, which must be {_WORDS[known[key]]}")
        if isinstance(value, str) and (not value or not value.isprintable()):
            raise bad(path, f"has {where} {key}, which is not a line of text")


def _table(path: Path, name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise bad(path, f"has {name!r}, which must be a table: [{name}]")
    return value


def _section(path: Path, name: str, found: Mapping[str, Any], known: Mapping[str, type]) -> dict[str, Any]:
    section = _table(path, name, found.get(name, {}))
    typed(path, f"[{name}]", section, known)
    return section


def _disks(path: Path, found: Mapping[str, Any]) -> dict[str, str]:
    typed(path, "[vx.disks]", found, dict.fromkeys(found, str))
    for name, folder in found.items():
        if not is_name(name):
            raise bad(path, f"names a disk {name!r} in [vx.disks], which is no name")
        if not folder.startswith("/"):
            raise bad(path, f"has [vx.disks] {name} = {folder!r}, which is not an absolute path of a directory")
    if len(found) > MAX_DISKS:
        raise bad(path, f"has more than {MAX_DISKS} disks in [vx.disks]")
    return dict(found)
