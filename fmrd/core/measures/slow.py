"""Which plex is much slower than its peers is decided here, from what each of them took for the same work.

A disk that is about to fail often becomes slow long before it hangs or errs, and every write of the volume waits for
it. Peers do the same work at the same time, so what the load is, or what the machine does besides, counts for nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fmrd.core.measures.latency import Times

LEAST_OPERATIONS = 32
"""Fewer say nothing: one of them may have met a disk that was just waking up."""
TIMES_SLOWER = 4.0
LEAST_NS = 5_000_000
"""Below this a mean bothers nobody, however fast the peers are: one in a page cache, another on a disk."""
PERIODS = 2
"""It has to be slow for so many periods in a row before that is said, and one that is not ends it."""

Work = Mapping[str, Times]
"""What was done on a plex, by kind: 'read', 'write', 'flush'."""


@dataclass(frozen=True)
class Slowness:
    """A plex takes ``mean_ns`` for an operation of this kind, and its peers ``peers_ns``, the median of their means."""

    kind: str
    mean_ns: float
    peers_ns: float

    def sentence(self) -> str:
        """Say it, without the name of the plex."""
        return f"a {self.kind} takes {_shown(self.mean_ns)} there, and {_shown(self.peers_ns)} on its peers"


def who_is_slow(works: Mapping[str, Work]) -> dict[str, Slowness | None]:
    """Return of each plex, by name, that could be compared in this period, how slow it was: None, it kept up."""
    found: dict[str, Slowness | None] = {}
    for kind in ("read", "write", "flush"):
        means = {
            name: mean
            for name, work in works.items()
            if work[kind].count >= LEAST_OPERATIONS and (mean := work[kind].mean_ns) is not None
        }
        for name, mean in means.items():
            peers = [other for peer, other in means.items() if peer != name]
            if not peers:
                continue
            slowness = Slowness(kind, mean, _median(peers))
            if mean < LEAST_NS or mean < TIMES_SLOWER * slowness.peers_ns:
                found.setdefault(name, None)
            elif _worse(slowness, found.get(name)):
                found[name] = slowness
    return found


def _worse(one: Slowness, other: Slowness | None) -> bool:
    return other is None or one.mean_ns / max(one.peers_ns, 1) > other.mean_ns / max(other.peers_ns, 1)


def in_a_row(seen: Iterable[Slowness | None]) -> Slowness | None:
    """Return how slow it is, once the last PERIODS of those in which it could be compared say so."""
    last = tuple(seen)[-PERIODS:]
    return last[-1] if len(last) == PERIODS and None not in last else None


def _median(values: Sequence[float]) -> float:
    ordered, half = sorted(values), len(values) // 2
    return (ordered[half] + ordered[-1 - half]) / 2


def _shown(ns: float) -> str:
    return f"{ns / 1e6:.3g} ms" if ns < 1e9 else f"{ns / 1e9:.3g} s"
