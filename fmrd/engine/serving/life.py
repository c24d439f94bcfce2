"""A life says how far a started volume is from its end: it is one answer, for all who ask or wait for it."""

from dataclasses import dataclass, field
from enum import Enum

import trio


class Life(Enum):
    """The states come in this order; only a volume that is LEAVING may be OPEN again."""

    OPEN = "open"
    LEAVING = "leaving"
    """A snapshot on its way back to its original: no copy begins by itself any more, unless that comes to nothing."""
    STOPPING = "stopping"
    """For good: what runs by itself comes to its end."""
    ENDED = "ended"
    """Its files are closed, and nothing is done on it any more."""


@dataclass
class Lifetime:
    """This is the life of one started volume. Who stops it or takes it back changes it, in that very step."""

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
        """Begin to leave; no copy begins by itself from now on."""
        if self.state is Life.OPEN:
            self.state = Life.LEAVING

    def come_back(self) -> None:
        """Be open again: what it was leaving for did not come to be."""
        if self.state is Life.LEAVING:
            self.state = Life.OPEN

    def stop(self) -> None:
        """Stop for good: whatever runs by itself on the volume comes to its end."""
        self.state = Life.STOPPING
        self.stopping.set()

    def end(self) -> None:
        """End: its files are closed, and nothing is done on it any more."""
        self.state = Life.ENDED
        self.stopping.set()
        self.gone.set()
