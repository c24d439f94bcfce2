"""A load is the requests of the application on one volume: how many are under way, and whether new ones are taken."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from fmrd.core.volume.volume import Volume
from fmrd.errors import Failed


@dataclass
class Load:
    """A load says what the application is doing, for those that give way to it: how many requests are under way, and
    how many were served.
    """

    requests: int = 0
    served: int = 0
    none_left: trio.Event = field(default_factory=trio.Event)
    closed: bool = False

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
        self.served += 1
        if self.closed and not self.requests:
            self.none_left.set()
