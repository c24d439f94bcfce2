"""What was gathered becomes families of metrics here. Names, units and labels are told in README, "Measured".

Seconds and bytes, whatever the inside counts in. Buckets are powers of two of a nanosecond, from 1 us to 34 s: each is
told, so that Prometheus can add those of several volumes.
"""

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from fmrd.core.measures.latency import Times
from fmrd.core.states import PlexState, VolumeState
from fmrd.engine.measured.figures import Figures
from fmrd.front.metrics.gathering import Gathered, VolumeSeen

FIRST_BITS, LAST_BITS = 10, 35
"""Of the buckets that are told: what took less is in the first, what took longer in +Inf."""
AT_A_TIME = 4
"""So many histograms are made in one step."""
OF_VOLUME = ("volume",)
OF_PLEX = ("volume", "plex")
Labelled = Iterable[tuple[tuple[str, ...], float]]


def families(found: Gathered) -> Iterator[Metric]:
    """Yield all of them; of one that is large several parts, one after the other."""
    yield InfoMetricFamily("fmrd_build", "The fmrd that runs.", value={"version": version("fmrd")})
    yield from _of_volumes(found)
    yield from _requests(found.volumes)
    yield from _of_plexes(found.volumes)
    yield from _operations(found.volumes)
    yield from _of_tasks(found)
    yield from _told(found)


def _of_volumes(found: Gathered) -> Iterator[Metric]:
    seen = found.volumes
    started = [((v.name,), 1.0) for v in seen] + [((name,), 0.0) for name in found.away]
    yield _gauge("fmrd_volume_started", "Whether the volume is started.", OF_VOLUME, started)
    failed = [((name, code), 1.0) for name, code in found.away.items() if code]
    yield _gauge("fmrd_volume_failed", "The volume does not start, and why.", ("volume", "code"), failed)
    states = [((v.name, s.value), float(v.state == s.value)) for v in seen for s in VolumeState]
    yield _gauge("fmrd_volume_state", "1 for the state that a started volume has.", ("volume", "state"), states)
    for name, text, value in (
        ("fmrd_volume_size_bytes", "How long the volume is.", lambda v: v.length_bytes),
        ("fmrd_volume_opens", "How often its file is open.", lambda v: v.open_count),
        ("fmrd_volume_plexes", "How many plexes it has.", lambda v: len(v.plexes)),
        ("fmrd_volume_plexes_in_sync", "How many of them are complete and take writes.", lambda v: v.in_sync),
        ("fmrd_volume_lost_bytes", "What no plex could give when it was read last.", lambda v: v.lost_bytes),
        ("fmrd_drl_dirty_extents", "Extents that a crash would have to recover now.", lambda v: v.dirty_extents),
        ("fmrd_drl_most_extents", "How many those can be.", lambda v: v.most_extents),
        ("fmrd_drl_extent_bytes", "How long an extent is.", lambda v: v.extent_bytes),
        ("fmrd_volume_requests_under_way", "Requests that are not answered yet.", lambda v: v.figures[0].under_way),
    ):
        yield _gauge(name, text, OF_VOLUME, [((v.name,), value(v)) for v in seen])
    differing = [((v.name, snap), float(size)) for v in seen for snap, size in v.differing.items()]
    text = "Bytes in which a snapshot and its original differ."
    yield _gauge("fmrd_snapshot_differing_bytes", text, ("volume", "snapshot"), differing)


def _requests(seen: list[VolumeSeen]) -> Iterator[Metric]:
    each: dict[tuple[str, ...], Figures] = {(v.name,): v.figures[0] for v in seen}
    errors = [(labels, float(figures.errors)) for labels, figures in each.items()]
    yield _counter("fmrd_volume_request_errors", "Requests that were answered with an error.", OF_VOLUME, errors)
    yield from _counted("fmrd_volume_request", "requests of those who use the volume", OF_VOLUME, each)


def _of_plexes(seen: list[VolumeSeen]) -> Iterator[Metric]:
    plexes = [(v.name, figures) for v in seen for figures in v.figures[1:]]
    states = [
        ((volume, str(f.plex), state.value), float(f.state == state.value))
        for volume, f in plexes
        for state in PlexState
    ]
    yield _gauge("fmrd_plex_state", "1 for the state that the plex has.", (*OF_PLEX, "state"), states)
    missing = [((v.name, plex.name), float(plex.missing_bytes)) for v in seen for plex in v.plexes]
    yield _gauge("fmrd_plex_missing_bytes", "What it lacks of its volume.", OF_PLEX, missing)
    hung = [((v.name, plex.name), float(plex.hung)) for v in seen for plex in v.plexes]
    yield _gauge("fmrd_plex_hung_calls", "Calls that were given up, and may land yet.", OF_PLEX, hung)
    slow = [((volume, str(f.plex)), float(f.slow is not None)) for volume, f in plexes]
    yield _gauge("fmrd_plex_slow", "Whether it is much slower than its peers.", OF_PLEX, slow)


def _operations(seen: list[VolumeSeen]) -> Iterator[Metric]:
    each: dict[tuple[str, ...], Figures] = {(v.name, str(f.plex)): f for v in seen for f in v.figures[1:]}
    errors = [(labels, float(figures.errors)) for labels, figures in each.items()]
    yield _counter("fmrd_plex_errors", "Calls on its file or device that failed.", OF_PLEX, errors)
    yield from _counted("fmrd_plex_operation", "operations that requests led to on the plex", OF_PLEX, each)


def _counted(
    name: str, what: str, labels: tuple[str, ...], each: Mapping[tuple[str, ...], Figures]
) -> Iterator[Metric]:
    """How many operations, of how many bytes, and how long they took, by kind."""
    kinds = [((*of, kind), counted) for of, figures in each.items() for kind, counted in figures.kinds.items()]
    names = (*labels, "operation")
    yield _counter(f"{name}s", f"How many {what} have ended.", names, [(of, float(c.count)) for of, c in kinds])
    sizes = [(of, float(c.bytes)) for of, c in kinds if of[-1] != "flush"]
    yield _counter(f"{name}_bytes", f"How many bytes the {what} had.", names, sizes)
    for at in range(0, max(len(kinds), 1), AT_A_TIME):
        took = HistogramMetricFamily(f"{name}_seconds", f"How long the {what} took.", labels=names, unit="seconds")
        for of, counted in kinds[at : at + AT_A_TIME]:
            took.add_metric(list(of), _buckets(counted.times), counted.times.total_ns / 1e9)
        yield took


def _of_tasks(found: Gathered) -> Iterator[Metric]:
    names = (*OF_PLEX, "type")
    each = [((task["volume"], task["plex"], task["type"]), task) for task in found.tasks]
    for name, text, field in (
        ("fmrd_task_total_bytes", "What a task that runs has to do.", "total_bytes"),
        ("fmrd_task_done_bytes", "How much of that is done.", "done_bytes"),
        ("fmrd_task_rate_bytes_per_second", "How fast it goes.", "rate_bytes_per_second"),
    ):
        yield _gauge(name, text, names, [(of, float(task[field])) for of, task in each])
    paused = [(of, float(task["state"] == "paused")) for of, task in each]
    yield _gauge("fmrd_task_paused", "Whether somebody holds it.", names, paused)


def _told(found: Gathered) -> Iterator[Metric]:
    events = [((kind,), float(count)) for kind, count in found.events.items()]
    yield _counter("fmrd_events", "Events since fmrd was started.", ("kind",), events)
    runs = [(of, float(count)) for of, count in sorted(found.runs.items())]
    yield _counter("fmrd_hook_runs", "Runs of hooks, by how they ended.", ("hook", "outcome"), runs)


def _gauge(name: str, text: str, labels: tuple[str, ...], values: Labelled) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for of, value in values:
        family.add_metric(list(of), value)
    return family


def _counter(name: str, text: str, labels: tuple[str, ...], values: Labelled) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for of, value in values:
        family.add_metric(list(of), value)
    return family


def _buckets(times: Times) -> list[tuple[str, float]]:
    """Return (limit in seconds, how many were no longer), cumulative."""
    found = []
    below = sum(times.buckets[:FIRST_BITS])
    for bits in range(FIRST_BITS, LAST_BITS + 1):
        below += times.buckets[bits]
        found.append((repr((1 << bits) / 1e9), float(below)))
    return [*found, ("+Inf", float(sum(times.buckets)))]
