"""A load is the requests of the application on one volume: how many are under way, and whether new ones are taken."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter_ns

import trio

from fmrd.core.measures.latency import Requests
from fmrd.core.volume.volume import Volume
from fmrd.errors import Failed


@dataclass
class Load:
    """A load says what the application is doing, for those that give way to it and those that show it: how many
    requests are under way, how many were answered, and how long they took.
    """

    requests: int = 0
    reads: Requests = field(default_factory=Requests)
    writes: Requests = field(default_factory=Requests)
    """Zeros, too."""
    flushes: Requests = field(default_factory=Requests)
    began_ns: int = field(default_factory=perf_counter_ns)
    """Since when it is counted, by that clock."""
    waited: int = 0
    """How many requests were answered later than in the step in which they came."""
    none_left: trio.Event = field(default_factory=trio.Event)
    closed: bool = False

    @property
    def served(self) -> int:
        """A number that has grown since whenever a request was served."""
        return self.reads.count + self.writes.count + self.waited

    @contextmanager
    def request(self, volume: Volume) -> Iterator[None]:
        """Count a request of the application, from arrival to answer; Failed('volume_stopped') once it closes."""
        if self.closed:
            raise Failed("volume_stopped", f"volume {volume.name} is stopped", errno=errno.ENODEV)
        self.requests += 1
        with self.entered():
            yield

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Count the rest of a request that is counted already."""
        try:
            yield
        finally:
            self.left()

    def left(self) -> None:
        """Count off a request that is answered."""
        self.requests -= 1
        self.waited += 1
        if self.closed and not self.requests:
            self.none_left.set()
