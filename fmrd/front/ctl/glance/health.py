"""How a volume is, in one word, with the cause and what to do: judged from what print tells of it, and nothing else."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum

from fmrd.core.far.uris import is_fenced
from fmrd.core.json_object import Json
from fmrd.core.states import IN_SYNC, OPEN_GATE, KState, PlexState, VolumeState
from fmrd.front.ctl.words import format_size


class Level(IntEnum):
    """A level is also the exit status of fmrctl status: the worst of all volumes."""

    WELL = 0
    UNWELL = 1
    """It serves all of its data, with less redundancy than it was given, or not for long."""
    BAD = 2
    """It does not serve all of its data, or may not have what was written to it."""


class Health(StrEnum):
    """A health is the state of a volume as a whole. The worst that is true of it counts, in this order from bad to
    good.
    """

    REFUSED = "REFUSED"
    LOST = "LOST"
    INVALID = "INVALID"
    SUSPECT = "SUSPECT"
    DEGRADED = "DEGRADED"
    RECOVERING = "RECOVERING"
    RESYNCING = "RESYNCING"
    OVERDUE = "OVERDUE"
    OPENING = "OPENING"
    STOPPED = "STOPPED"
    OK = "OK"


LEVELS = {
    Health.REFUSED: Level.BAD,
    Health.LOST: Level.BAD,
    Health.INVALID: Level.BAD,
    Health.SUSPECT: Level.BAD,
    Health.DEGRADED: Level.UNWELL,
    Health.RECOVERING: Level.UNWELL,
    Health.RESYNCING: Level.UNWELL,
    Health.OVERDUE: Level.UNWELL,
    Health.OPENING: Level.UNWELL,
    Health.STOPPED: Level.WELL,
    Health.OK: Level.WELL,
}
MEANS = {
    Health.REFUSED: "The volume does not start; the cause says why, and the action what would allow it.",
    Health.LOST: "Some bytes of the volume cannot be read from any plex; 'fmrctl print VOL' lists them.",
    Health.INVALID: "The snapshot has lost old data: some of its bytes cannot be read. Its original is not touched.",
    Health.SUSPECT: "A flush failed on the last copy of what was written: it is in doubt until it is written again.",
    Health.DEGRADED: "A plex is out: the volume serves all of its data, and has fewer copies than it was given.",
    Health.RECOVERING: "After a crash the plexes are made equal again; the volume is in use meanwhile.",
    Health.RESYNCING: "A plex gets what it missed; the volume is in use meanwhile.",
    Health.OVERDUE: "The volume is well, and its night is not: it failed, was missed, or its plan cannot be read.",
    Health.OPENING: "The daemon is still opening the volume.",
    Health.STOPPED: "The volume was stopped by the administrator, or never started; 'fmrctl start VOL' opens it.",
    Health.OK: "All plexes are there, and in sync.",
}
"""What 'fmrctl explain' says of each."""


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be. ``cause`` is a sentence, ``action`` what to do, often a command."""

    health: Health
    cause: str
    action: str


@dataclass(frozen=True)
class Judged:
    """A volume as a whole; ``findings`` are what is wrong, the worst first."""

    name: str
    health: Health
    plexes: int
    in_sync: int
    length_bytes: int
    findings: Sequence[Finding] = field(default=())

    @property
    def level(self) -> Level:
        return LEVELS[self.health]

    def json(self) -> Json:
        """Return the health of docs/JSON.md."""
        return {
            "name": self.name,
            "state": self.health.value,
            "level": self.level.name.lower(),
            "length_bytes": self.length_bytes,
            "plexes": self.plexes,
            "plexes_in_sync": self.in_sync,
            "findings": [{"state": f.health.value, "cause": f.cause, "action": f.action} for f in self.findings],
        }


def judge(volume: Json, tasks: Collection[Json], opening: Collection[str]) -> Judged:
    """Return how one volume of print is; ``tasks`` are those that run, ``opening`` the names that may come yet."""
    own = [task for task in tasks if task["volume"] == volume["name"]]
    found = sorted(_findings(volume, own, opening), key=lambda finding: list(Health).index(finding.health))
    stopped = volume["kstate"] == KState.DISABLED
    worst = found[0].health if found else Health.STOPPED if stopped else Health.OK
    whole = [plex for plex in volume["plexes"] if not plex["dirty_regions"] or volume.get("instant") or _lags(plex)]
    in_sync = sum(plex["state"] in (*IN_SYNC, "CLEAN") for plex in whole)
    return Judged(volume["name"], worst, len(volume["plexes"]), in_sync, volume["length_bytes"], tuple(found))


def worst_first(judged: Collection[Judged]) -> list[Judged]:
    return sorted(judged, key=lambda each: (-each.level, list(Health).index(each.health), each.name))


def _findings(volume: Json, tasks: Sequence[Json], opening: Collection[str]) -> Iterator[Finding]:
    name, error = volume["name"], volume["error"]
    started = volume["kstate"] != KState.DISABLED
    if not started and name in opening:
        yield Finding(Health.OPENING, "the daemon is still opening it", "wait; the daemon's log says for what")
    elif error:
        hint = error["hint"] or f"fmrctl explain {error['code']}"
        yield Finding(Health.REFUSED, f"it does not start: {error['code']}: {error['message']}", hint)
    if volume["lost"]:
        yield _lost(volume)
    if volume.get("suspect"):
        cause = "a flush failed on the last copy of what was written, and it was not written again since"
        yield Finding(Health.SUSPECT, cause, "let the application write again what it wrote last, or restore it")
    for plex in volume["plexes"]:
        if not volume.get("instant") or plex["state"] not in OPEN_GATE:  # it lacks what it reads from its original
            yield from _of_plex(name, plex, tasks, started=started)
    if started and volume["state"] == VolumeState.SYNC and not any(t["type"] == "RDWRBACK" for t in tasks):
        yield Finding(Health.RECOVERING, "it recovers from a crash", "nothing; it is in use meanwhile")


def _lost(volume: Json) -> Finding:
    size = sum(part["length_bytes"] for part in volume["lost"])
    if volume["snapshot_of"]:
        cause = f"{format_size(size)} of old data could not be kept, or cannot be read"
        return Finding(Health.INVALID, cause, f"take another one: fmrctl snapshot {volume['snapshot_of']}")
    cause = f"{format_size(size)} cannot be read from any plex"
    return Finding(Health.LOST, cause, f"fmrctl print {volume['name']} lists them; write them anew, or restore them")


def _of_plex(volume: str, plex: Json, tasks: Sequence[Json], *, started: bool) -> Iterator[Finding]:
    state, name = plex["state"], plex["name"]
    task = next((t for t in tasks if t["plex"] == name), None)
    if state in (PlexState.STALE, PlexState.IOFAIL, PlexState.OFFLINE):
        yield Finding(Health.DEGRADED, _why_out(plex), _to_attach(volume, plex, started=started))
    elif state == PlexState.SNAPATT:
        return  # a snapshot that is being prepared is no copy that the volume lacks
    elif started and task is not None and task["type"] != "VERIFY":
        recovering = task["type"] == "RDWRBACK" and task["reason"]["code"] == "recovery"
        what = Health.RECOVERING if recovering else Health.RESYNCING
        action = "nothing; it is in use meanwhile"
        if task["state"] == "paused":
            action = f"fmrctl task resume {task['id']}"
        yield Finding(what, _progress(task), action)
    elif started and not _lags(plex) and state in OPEN_GATE and (plex["dirty_regions"] or state == PlexState.TEMP):
        cause = f"plex {name} still misses {format_size(plex['dirty_bytes'])}, and nothing is copied to it"
        yield Finding(Health.DEGRADED, cause, f"fmrctl plex att {volume} {name}")


def _lags(plex: Json) -> bool:
    """It is behind because it may be (write_behind), and follows by itself, without a task."""
    return plex.get("lag_bytes") is not None


def _progress(task: Json) -> str:
    done = min(100.0, 100.0 * task["done_bytes"] / task["total_bytes"]) if task["total_bytes"] else 0.0
    eta = f", about {task['eta_seconds']:.0f} s left" if task["eta_seconds"] else ""
    paused = " (paused)" if task["state"] == "paused" else eta
    return f"plex {task['plex']}: {done:.0f}% of {format_size(task['total_bytes'])} copied{paused}"


def _why_out(plex: Json) -> str:
    reason = plex["reason"]
    missed = f"; it misses {format_size(plex['dirty_bytes'])}" if plex["dirty_bytes"] else ""
    if reason is None:
        return f"plex {plex['name']} ({plex['path']}) is {plex['state']}{missed}"
    since = datetime.fromtimestamp(reason["since"]).strftime(" since %Y-%m-%d %H:%M:%S") if reason["since"] else ""
    why = f"{reason['message']} ({reason['code']})"
    return f"plex {plex['name']} ({plex['path']}) is {plex['state']}{since}: {why}{missed}"


def _to_attach(volume: str, plex: Json, *, started: bool) -> str:
    if not started:
        return f"fmrctl start {volume}, then fmrctl recover {volume}"
    code = plex["reason"]["code"] if plex["reason"] else ""
    at = f"{volume} {plex['name']}"
    if plex["state"] == PlexState.OFFLINE:
        return f"fmrctl plex on {at}, then fmrctl plex att {at}"
    if code == "session_open" and is_fenced(plex["path"]):
        return f"bring back what serves it; it is attached by itself then, or by fmrctl plex att {at}"
    if code == "session_open":
        return f"see to it that nothing is under way there, then fmrctl plex att --settled {at}"
    if code == "refused_split_brain":
        return f"choose a side: fmrctl plex att --dry-run --discard {at} tells what would be given up"
    if code == "refused_unknown_plex":
        return f"put the plex back, or fmrctl plex att --full {at}, which overwrites what lies there"
    if plex["state"] == PlexState.IOFAIL:
        return f"mend its disk; it is attached by itself then, or by fmrctl plex att {at}"
    return f"fmrctl plex att {at}"
