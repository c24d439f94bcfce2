"""These are the figures of a started volume at one moment: what was asked of it, and of each of its plexes, since its
start. Whoever wants those of an interval takes the difference of two.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter_ns

from fmrd.core.json_object import Json
from fmrd.core.measures.latency import Requests, Times
from fmrd.core.volume.plex import Plex
from fmrd.engine.running import Running


@dataclass(frozen=True)
class Counted:
    """So many operations of one kind, of so many bytes, took so long."""

    count: int
    bytes: int
    times: Times

    def json(self) -> Json:
        return {
            "count": self.count, "bytes": self.bytes, "total_ns": self.times.total_ns,
            "buckets": list(self.times.buckets),
        }  # fmt: skip


@dataclass(frozen=True)
class Figures:
    """Those of a volume (``plex`` is None), whose operations are the requests of the application; or those of one of
    its plexes, whose operations are what these led to there.
    """

    volume: str
    plex: str | None
    state: str
    kinds: dict[str, Counted]
    errors: int
    under_way: int
    """Requests or calls that have not ended, at this moment."""
    slow: str | None
    """In which way it is slower than its peers."""

    def json(self, at_ns: int, began_ns: int) -> Json:
        """What goes over the socket; fmrctl makes figures of an interval of it."""
        return {
            "volume": self.volume, "plex": self.plex, "state": self.state, "errors": self.errors,
            "under_way": self.under_way, "slow": self.slow, "at_ns": at_ns, "began_ns": began_ns,
            "kinds": {kind: counted.json() for kind, counted in self.kinds.items()},
        }  # fmt: skip


def figures_of(running: Running) -> Iterator[Figures]:
    """Yield those of the volume, and then of each plex, in their order."""
    load, volume = running.mirror.load, running.volume
    kinds = {"read": load.reads, "write": load.writes, "flush": load.flushes}
    yield Figures(
        volume.name, None, volume.state.value, {kind: _requests(each) for kind, each in kinds.items()},
        sum(each.errors for each in kinds.values()), load.requests, None,
    )  # fmt: skip
    for plex in volume.plexes:
        yield _of_plex(running, plex)


def figures_json(running: Running) -> list[Json]:
    """The same as JSON, with the moments of one clock at which they were taken, and since when they count."""
    now = perf_counter_ns()
    return [each.json(now, running.mirror.load.began_ns) for each in figures_of(running)]


def _of_plex(running: Running, plex: Plex) -> Figures:
    lanes = running.home.lanes_of(plex.uuid, plex.name)
    took = lanes.data.took
    flushes = took.flush.times()
    kinds = {
        "read": Counted(plex.reads, plex.read_bytes, took.read.times()),
        "write": Counted(plex.writes, plex.write_bytes, took.write.times()),
        "flush": Counted(flushes.count, 0, flushes),
    }
    name = running.volume.name
    return Figures(name, plex.name, plex.state.value, kinds, plex.errors, lanes.data.outstanding, lanes.slow)


def _requests(requests: Requests) -> Counted:
    return Counted(requests.count, requests.bytes, requests.latency.times())
