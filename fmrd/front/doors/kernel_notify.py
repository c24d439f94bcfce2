"""The kernel must be told of volumes, whichever door they are behind.

Telling it can block on requests that this very process must answer, hence the thread.
"""

from collections.abc import Callable

import trio

from fmrd.engine.registry import Registry
from fmrd.engine.served import Served

TELL_SECONDS = 1.0
"""How long a verb waits for the kernel to have heard of what it did."""


class News:
    """The news is each volume that appears, disappears, changes length or becomes other data. ``run`` tells of it;
    ``tell`` is called on a thread.
    """

    def __init__(self, registry: Registry, tell: Callable[[Served], None]) -> None:
        self._tell = tell
        self._waiting: list[Served] = []
        self._telling = False
        self._wake = trio.Event()
        self._told = trio.Event()
        registry.watch(self._hear)

    def _hear(self, served: Served) -> None:
        self._waiting.append(served)
        self._wake.set()

    async def caught_up(self) -> None:
        """Return when the kernel has heard the news, or does not listen for a second."""
        with trio.move_on_after(TELL_SECONDS):
            while self._waiting or self._telling:
                await self._told.wait()

    async def run(self) -> None:
        """Tell of whatever comes, in order, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            news, self._waiting = self._waiting, []
            self._telling = True
            for served in news:
                await trio.to_thread.run_sync(self._tell, served, abandon_on_cancel=True)
            self._telling = False
            self._told.set()
            self._told = trio.Event()
