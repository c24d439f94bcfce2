"""How far a started volume is from its end: one answer, for all who ask or wait for it."""

from dataclasses import dataclass, field
from enum import Enum

import trio


class Life(Enum):
    """In this order; only a volume that is LEAVING may be OPEN again."""

    OPEN = "open"
    LEAVING = "leaving"
    """A snapshot on its way back to its original: no copy begins by itself any more, unless that comes to nothing."""
    STOPPING = "stopping"
    """For good: what runs by itself comes to its end."""
    ENDED = "ended"
    """Its files are closed, and nothing is done on it any more."""


@dataclass
class Lifetime:
    """Of one started volume. It is changed by who stops it or takes it back, in the step that this concerns."""

    state: Life = Life.OPEN
    stopping: trio.Event = field(default_factory=trio.Event)
    """Set when it stops for good, or has ended."""
    gone: trio.Event = field(default_factory=trio.Event)
    """Set when it has ended."""

    @property
    def is_open(self) -> bool:
        return self.state is Life.OPEN

    @property
    def ended(self) -> bool:
        return self.state is Life.ENDED

    def leave(self) -> None:
        if self.state is Life.OPEN:
            self.state = Life.LEAVING

    def come_back(self) -> None:
        """What it was leaving for did not come to be."""
        if self.state is Life.LEAVING:
            self.state = Life.OPEN

    def stop(self) -> None:
        self.state = Life.STOPPING
        self.stopping.set()

    def end(self) -> None:
        self.state = Life.ENDED
        self.stopping.set()
        self.gone.set()
