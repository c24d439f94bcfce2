"""What a volume or a plex did in an interval: the difference of two answers of the daemon, as docs/JSON.md has it."""

from fmrd.core.json_object import Json
from fmrd.core.measures.latency import Times

TAIL = 0.99
"""This part of all operations was not slower than what is told as the 99th percentile."""
KINDS = ("read", "write", "flush")
Figures = dict[tuple[str, str | None], Json]
"""The figures of the daemon by volume and plex; of the volume itself, None."""


def by_name(answer: Json) -> Figures:
    """Return the figures of an answer of the verb stat, in its order."""
    return {(each["volume"], each["plex"]): each for each in answer["figures"]}


def interval_of(now: Json, before: Json | None) -> Json:
    """Return what came between the two; all since the volume was started, where there is no ``before``, or where that
    belongs to an earlier start.
    """
    if before is not None and (before["began_ns"] != now["began_ns"] or before["at_ns"] > now["at_ns"]):
        before = None
    seconds = (now["at_ns"] - (now["began_ns"] if before is None else before["at_ns"])) / 1e9
    found: Json = {"volume": now["volume"], "plex": now["plex"], "state": now["state"], "seconds": seconds}
    busy_ns = 0
    for kind in KINDS:
        then = None if before is None else before["kinds"][kind]
        here = now["kinds"][kind]
        times = _times(here).since(None if then is None else _times(then))
        busy_ns += times.total_ns
        found[f"{_plural(kind)}"] = here["count"] - (0 if then is None else then["count"])
        if kind != "flush":
            found[f"{kind}_bytes"] = here["bytes"] - (0 if then is None else then["bytes"])
        found[f"{kind}_seconds"] = _seconds(times.mean_ns)
        found[f"{kind}_p99_seconds"] = _seconds(times.quantile_ns(TAIL))
    found["errors"] = now["errors"] - (0 if before is None else before["errors"])
    found["queue"] = busy_ns / 1e9 / seconds if seconds > 0 else 0.0
    return found | {"under_way": now["under_way"], "slow": now["slow"]}


def intervals(now: Figures, before: Figures) -> list[Json]:
    """Return the interval of each volume and plex, in the order of the answer."""
    return [interval_of(each, before.get(name)) for name, each in now.items()]


def _plural(kind: str) -> str:
    return {"read": "reads", "write": "writes", "flush": "flushes"}[kind]


def _times(counted: Json) -> Times:
    return Times(counted["buckets"], counted["total_ns"])


def _seconds(ns: float | None) -> float | None:
    return None if ns is None else ns / 1e9
