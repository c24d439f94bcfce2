"""What /etc/fmrd.d/VOLUME.toml says is read here, and checked to the last value: what is to be done with a volume every
night, and after how long somebody is told that it was not.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fmrd.core.names import VOLUME_LENGTH, is_name
from fmrd.core.sizes import read_size
from fmrd.errors import BadRequest
from fmrd.front.conf.reading import bad, check_keys, default_path, read_toml, typed
from fmrd.front.maps.retention import PERIODS
from fmrd.front.told.trusted import whose

DAY = 86400.0
NEW, REFRESH = "new", "refresh"
TABLES: dict[str, dict[str, type]] = {
    "night": {"every": str, "late": str},
    "snapshot": {"take": str, "into": str, "name": str, "freeze": str},
    "prune": dict.fromkeys(PERIODS, int),
    "send": {"through": list, "volume": str, "compress": str, "rate": str},
    "hooks": {"before": list, "taken": list, "after": list, "seconds": int},
}
"""Which tables there are, their keys, and of which type each is."""
HOOKS = ("before", "taken", "after")
MOST_WORDS = 64
MOST_SECONDS = 366 * DAY
MOST_PLANS = 4096
SUFFIX = ".toml"
_AGO = re.compile(r"([0-9]{1,6})([mhd])", re.ASCII)
_SECONDS = {"m": 60.0, "h": 3600.0, "d": DAY}


@dataclass(frozen=True)
class Send:
    """Where a snapshot is sent: by a stream that these words (such as ssh HOST) give to 'fmrctl receive volume'."""

    through: tuple[str, ...]
    volume: str
    compress: str = ""
    rate: int = 0


@dataclass(frozen=True)
class Plan:
    """A plan of one volume. ``every`` and ``late`` are seconds: a night that began so long after the last good one, and
    later by more than ``late``, was missed. ``take``: a 'new' snapshot, on a file in the directory ``into``, or
    'refresh' of the one called ``name``. ``keep``: prune's rules, none for no pruning.
    """

    path: Path
    volume: str
    take: str
    name: str
    into: str = ""
    freeze: str = ""
    every: float = DAY
    late: float = DAY / 4
    keep: Mapping[str, int] = field(default_factory=dict)
    send: Send | None = None
    hooks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    hook_seconds: int = 3600

    @property
    def patience(self) -> float:
        """How many seconds after the last good night the next one is missed."""
        return self.every + self.late


def directory() -> Path:
    """Return where plans are: beside the file of settings (/etc/fmrd.conf), /etc/fmrd.d."""
    return default_path().with_suffix(".d")


def plans_in(folder: Path) -> dict[str, Path]:
    """Return the files of plans by the names of their volumes; none where there is no such directory. OSError."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return {}
    stems = [name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)]
    return {stem: folder / f"{stem}{SUFFIX}" for stem in stems[:MOST_PLANS] if is_name(stem, VOLUME_LENGTH)}


def read_plan(path: Path) -> Plan:
    """Return what the file of a plan says. BadRequest('bad_conf') names the file, and what is wrong there."""
    found = read_toml(path)
    if found is None:
        raise BadRequest("bad_conf", f"there is no plan {path}", "README, 'Every night', has one")
    must_be_ours(path)
    check_keys(path, "the file", found, set(TABLES))
    tables: dict[str, dict[str, Any]] = {}
    for name, known in TABLES.items():
        table = found.get(name, {})
        if not isinstance(table, dict):
            raise bad(path, f"has {name!r}, which must be a table: [{name}]")
        typed(path, f"[{name}]", table, known)
        tables[name] = table
    night, rest = tables["night"], tables["hooks"]
    hooks = {hook: _words(path, "hooks", hook, rest[hook]) for hook in HOOKS if hook in rest}
    for hook, words in hooks.items():
        if not words[0].startswith("/"):
            raise bad(path, f"has [hooks] {hook}, which begins with {words[0]!r}: that must be an absolute path")
    return Plan(
        path, path.name.removesuffix(SUFFIX), **_snapshot(path, tables["snapshot"]),
        every=_ago(path, "every", night.get("every", "1d")), late=_ago(path, "late", night.get("late", "6h")),
        keep=_keep(path, tables["prune"]), send=_send(path, found), hooks=hooks,
        hook_seconds=_positive(path, "[hooks] seconds", rest.get("seconds", 3600)),
    )  # fmt: skip


def must_be_ours(path: Path) -> None:
    """What a plan says is run: nobody but root, or who runs it, may have written it. BadRequest('bad_conf')."""
    try:
        why = whose(path)
    except OSError as error:
        raise bad(path, f"cannot be looked at: {error.strerror}") from error
    if why is not None:
        raise bad(path, f"is not heeded: {why}")


def _snapshot(path: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    if not table:
        raise bad(path, 'has no [snapshot]: take = "new", and into = a directory; or take = "refresh"')
    take = table.get("take", NEW)
    if take not in (NEW, REFRESH):
        raise bad(path, f'has [snapshot] take = {take!r}, which is neither "new" nor "refresh"')
    if (take == NEW) != ("into" in table):
        raise bad(path, 'needs [snapshot] into, a directory, with take = "new", and only then')
    for key in ("into", "freeze"):
        if key in table and not table[key].startswith("/"):
            raise bad(path, f"has [snapshot] {key} = {table[key]!r}, which is not an absolute path of a directory")
    name = table.get("name", "%v-%Y%m%d-%H%M%S" if take == NEW else f"SNAP-{path.name.removesuffix(SUFFIX)}")
    if take == NEW and not re.search(r"%[dHMS]", name):
        raise bad(path, f"has [snapshot] name = {name!r}, which is the same every night: put %Y%m%d-%H%M%S into it")
    if not is_name(re.sub(r"%[vYmdHMS]", "1", name)):
        raise bad(path, f"has [snapshot] name = {name!r}, which is no name of a volume")
    return {"take": take, "name": name, "into": table.get("into", ""), "freeze": table.get("freeze", "")}


def _keep(path: Path, table: Mapping[str, int]) -> dict[str, int]:
    for key, value in table.items():
        if value < 0:
            raise bad(path, f"has [prune] {key} = {value}, and no number of snapshots is below 0")
    if table and not sum(table.values()):
        raise bad(path, "has a [prune] that keeps nothing: last = 2, say")
    return dict(table)


def _send(path: Path, found: Mapping[str, Any]) -> Send | None:
    if "send" not in found:
        return None
    table = found["send"]
    if "through" not in table:
        raise bad(path, 'has a [send] without through = ["ssh", "HOST"]')
    volume = table.get("volume", path.name.removesuffix(SUFFIX))
    if not is_name(volume, VOLUME_LENGTH):
        raise bad(path, f"has [send] volume = {volume!r}, which is no name of a volume")
    if table.get("compress", "zstd") != "zstd":
        raise bad(path, f'has [send] compress = {table["compress"]!r}, and only "zstd" is known')
    rate = read_size(table.get("rate", "0"))
    if rate is None:
        raise bad(path, f"has [send] rate = {table['rate']!r}, which is not a size")
    return Send(_words(path, "send", "through", table["through"]), volume, table.get("compress", ""), rate)


def _words(path: Path, table: str, key: str, found: list[object]) -> tuple[str, ...]:
    """A command: its words, as they are; no shell takes them apart."""
    words = [each for each in found if isinstance(each, str) and each and "\0" not in each]
    if not words or len(words) != len(found) or len(words) > MOST_WORDS:
        raise bad(path, f'has [{table}] {key}, which must be a list of up to {MOST_WORDS} words: ["ssh", "HOST"]')
    return tuple(words)


def _ago(path: Path, key: str, text: str) -> float:
    found = _AGO.fullmatch(text)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not 0 < seconds <= MOST_SECONDS:
        raise bad(path, f"has [night] {key} = {text!r}, which is no time up to a year, as 90m, 12h or 7d")
    return seconds


def _positive(path: Path, where: str, value: int) -> int:
    if not 0 < value <= DAY:
        raise bad(path, f"has {where} = {value}, which is not from 1 to {DAY:.0f}")
    return value
