"""Which snapshots of a volume are kept: by restic's words and its rules, as a decision over their times.

A rule is a count and a period. Going from the newest to the oldest, it keeps the newest one of each period, until it
has kept so many. What any rule keeps is kept; what none does goes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from fmrd.core.json_object import Json
from fmrd.core.names import derived
from fmrd.core.states import KState

Period = Callable[[datetime], object]

PERIODS: dict[str, Period] = {
    "last": lambda at: at,
    "hourly": lambda at: (at.date(), at.hour),
    "daily": lambda at: at.date(),
    "weekly": lambda at: at.isocalendar()[:2],
    "monthly": lambda at: (at.year, at.month),
    "yearly": lambda at: at.year,
}
"""What two snapshots have in common that are of one period, in local time. Each one is a 'last' of its own."""


@dataclass(frozen=True)
class Taken:
    """A snapshot, and when it was taken, in seconds since 1970. ``whole``: nothing of it is lost."""

    name: str
    uuid: str
    at: float
    whole: bool = True


def kept(snapshots: Sequence[Taken], rules: Mapping[str, int], zone: tzinfo | None = None) -> dict[str, list[str]]:
    """Return, by the name of each snapshot, the rules that keep it: an empty list for one that goes. ``rules``: how
    many, by the words of PERIODS. ``zone``: None for the machine's. One of which something is lost counts for no rule.
    """
    found: dict[str, list[str]] = {each.name: [] for each in snapshots}
    whole = [each for each in snapshots if each.whole]
    newest_first = sorted(whole, key=lambda each: (each.at, each.name), reverse=True)
    for word, count in rules.items():
        seen: set[object] = set()
        for number, each in enumerate(newest_first):
            period = number if word == "last" else PERIODS[word](_local(each.at, zone))
            if len(seen) < count and period not in seen:
                seen.add(period)
                found[each.name].append(word)
    return found


def stands_alone(taken: Taken, snapshots: Sequence[Taken]) -> bool:
    """Tell whether one of which something is lost is the newest of all: what is left of it nobody else has."""
    return not taken.whole and not any(each.whole and each.at >= taken.at for each in snapshots)


def _local(at: float, zone: tzinfo | None) -> datetime:
    return datetime.fromtimestamp(at, zone)


def candidates(volumes: Sequence[Json], original: str) -> tuple[list[Taken], list[Json]]:
    """Return the snapshots of a volume that may be pruned, and those that are left alone, each with why. Of all volumes
    as 'print' tells them.
    """
    found, left = [], []
    stopped = "it is stopped: nobody can tell whether all of it is there"
    for volume in volumes:
        if volume["snapshot_of"] != original:
            continue
        if volume["receiving"]:
            left.append(_left(volume, "receive_present", "a stream is being received into it"))
        elif volume["name"] == derived("UNDO", original):
            left.append(_left(volume, "undo_present", "it is what 'undo' puts back"))
        elif volume["taken"] is None:
            left.append(_left(volume, "snap_unknown", "nobody noted when it was taken"))
        elif volume["error"] is not None:
            left.append(_left(volume, volume["error"]["code"], volume["error"]["message"]))
        elif volume["kstate"] == KState.DISABLED:
            left.append(_left(volume, "volume_stopped", stopped))
        else:
            found.append(Taken(volume["name"], volume["uuid"], volume["taken"], not volume["lost"]))
    return found, left


def _left(volume: Json, code: str, message: str) -> Json:
    return {"name": volume["name"], "code": code, "message": message}
