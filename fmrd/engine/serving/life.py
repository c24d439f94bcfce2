"""A life says how far a started volume is from its end: it is one answer, for all who ask or wait for it. And it may
be at rest, or at work for others.
"""

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


class RestLock:
    """A volume is at rest for one who asks, or at work for any number of others: never both. First come, first served:
    who comes to work while somebody waits for its rest waits behind.
    """

    def __init__(self) -> None:
        self._resting = False
        self._workers = 0
        self._waiting: list[tuple[bool, trio.Event]] = []
        """Whether for its rest, in the order in which they came."""

    async def acquire(self) -> None:
        """Return when it is at rest, until ``release``."""
        await self._take(rest=True)

    def release(self) -> None:
        self._resting = False
        self._wake()

    async def enter(self, timeout_seconds: float) -> bool:
        """Return when it may be worked on, until ``leave``; False where it was at rest for so long."""
        with trio.move_on_after(timeout_seconds) as patience:
            await self._take(rest=False)
        return not patience.cancelled_caught

    def leave(self) -> None:
        self._workers -= 1
        self._wake()

    async def _take(self, *, rest: bool) -> None:
        entry = (rest, trio.Event())
        self._waiting.append(entry)
        self._wake()
        try:
            await entry[1].wait()
        except trio.Cancelled:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self._wake()
            elif rest:
                self.release()
            else:
                self.leave()
            raise

    def _wake(self) -> None:
        while self._waiting and not self._resting and not (self._waiting[0][0] and self._workers):
            rest, event = self._waiting.pop(0)
            if rest:
                self._resting = True
            else:
                self._workers += 1
            event.set()
