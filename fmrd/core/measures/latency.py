"""How long operations took is counted here, cheaply: buckets whose limits are powers of two, found by ``bit_length``.

Whoever sees an end anyway adds the time, in nanoseconds. Where requests follow each other so fast that even two looks
at a clock would be felt, only one of SAMPLE is timed, and counts for all of them: those that are over in the step in
which they began, and those of which many are under way at once. Sums and buckets are estimates then; how many there
were is counted apart, exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

BUCKETS = 64
"""Bucket n has the times of n bits, from 2^(n-1) to 2^n - 1 ns; a time of 64 bits would be 292 years."""
SAMPLE = 13
"""A prime, so that an application that does two things in turn, or a policy that takes two plexes in turn, is not seen
from one side alone.
"""
MANY = 4
"""While so many others are under way, one of SAMPLE is timed."""


class Latency:
    """These are the times of one operation on one plex, or of the requests of one volume. They only grow."""

    __slots__ = ("buckets", "sampled", "total_ns")

    def __init__(self) -> None:
        self.buckets = [0] * BUCKETS
        self.total_ns = 0
        self.sampled = Sampled(self)
        """What counts one for SAMPLE of its kind."""

    def add(self, ns: int, weight: int = 1) -> None:
        """Count an operation that took so long, and stands for ``weight`` of its kind."""
        self.buckets[ns.bit_length()] += weight
        self.total_ns += ns * weight

    def times(self) -> "Times":
        """Return them as they are now."""
        return Times(tuple(self.buckets), self.total_ns)


class Sampled:
    """This counts into a latency, one for SAMPLE of its kind."""

    __slots__ = ("_latency",)

    def __init__(self, latency: Latency) -> None:
        self._latency = latency

    def add(self, ns: int) -> None:
        """Count an operation that took so long."""
        self._latency.add(ns, SAMPLE)


@dataclass(frozen=True)
class Times:
    """Times are what a Latency held at some moment, or what came between two moments."""

    buckets: Sequence[int]
    total_ns: int

    @property
    def count(self) -> int:
        return sum(self.buckets)

    @property
    def mean_ns(self) -> float | None:
        """None where there was nothing."""
        count = self.count
        return self.total_ns / count if count else None

    def since(self, before: "Times | None") -> "Times":
        """Return what came after ``before``; all of it where that is None."""
        if before is None:
            return self
        pairs = zip(self.buckets, before.buckets, strict=True)
        return Times(tuple([now - then for now, then in pairs]), self.total_ns - before.total_ns)

    def quantile_ns(self, part: float) -> float | None:
        """Return what ``part`` of them (0 to 1) did not exceed, as if they lay evenly in their bucket: true within a
        factor of two. None where there was nothing.
        """
        count = self.count
        if not count:
            return None
        wanted, below = part * count, 0
        for bits, here in enumerate(self.buckets):
            if here and below + here >= wanted:
                low = (1 << bits) >> 1
                return low + ((1 << bits) - low) * max(0.0, wanted - below) / here
            below += here
        raise AssertionError("the buckets hold as many as they count")


class Latencies:
    """These are the times of one plex, by what was done there for the application. They outlive its descriptors."""

    __slots__ = ("flush", "read", "write")

    def __init__(self) -> None:
        self.read = Latency()
        self.write = Latency()
        self.flush = Latency()

    def times(self) -> dict[str, Times]:
        """Return them as they are now, by kind."""
        return {"read": self.read.times(), "write": self.write.times(), "flush": self.flush.times()}


class Requests:
    """These are the requests of one kind on one volume: how many were answered, of how many bytes, in what time."""

    __slots__ = ("bytes", "count", "errors", "latency")

    def __init__(self) -> None:
        self.count = 0
        self.bytes = 0
        self.errors = 0
        """Those of them that were answered with an error."""
        self.latency = Latency()

    def ended(self, size: int, ns: int, *, failed: bool = False) -> None:
        """Count one that has been answered."""
        self.count += 1
        self.latency.add(ns)
        if failed:
            self.errors += 1
        else:
            self.bytes += size
