"""One round of fdatasyncs at a time on each plex: Linux tells of a lost page once, so of two rounds under way one may
fail and the other, which proves nothing then, be judged first. Rounds on different plexes do not wait for each other:
a flush is not held up by the plex that may lag.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from fmrd.core.volume.plex import Plex


class Turns:
    """These are the locks of one started volume, by plex uuid, taken in the order of these. They are semaphores: a
    callback gives back what a step took.
    """

    def __init__(self) -> None:
        self._locks: defaultdict[str, trio.Semaphore] = defaultdict(lambda: trio.Semaphore(1, max_value=1))

    def take_now(self, plexes: Sequence[Plex]) -> bool:
        """Take the turns of these plexes in this step, until ``give_back``; False, and none is taken, where another
        has one.
        """
        had: list[trio.Semaphore] = []
        for plex in plexes:
            try:
                self._locks[plex.uuid].acquire_nowait()
            except trio.WouldBlock:
                for lock in had:
                    lock.release()
                return False
            had.append(self._locks[plex.uuid])
        return True

    def give_back(self, plexes: Sequence[Plex]) -> None:
        """Give back what ``take_now`` took."""
        for plex in plexes:
            self._locks[plex.uuid].release()

    @asynccontextmanager
    async def of(self, choose: Callable[[], list[Plex]]) -> AsyncIterator[list[Plex]]:
        """Hold the turns of the plexes that ``choose`` names when all are had."""
        while True:
            plexes = choose()
            async with AsyncExitStack() as stack:
                for uuid in sorted(plex.uuid for plex in plexes):
                    await stack.enter_async_context(self._locks[uuid])
                if choose() == plexes:
                    yield plexes
                    return
