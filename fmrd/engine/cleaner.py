"""The cleaner of one started volume lets extents leave the DRL: what has been idle, every few seconds, and whatever was
written least recently, before the log is full.

So a crash costs what was written in the last of its periods, and a write waits for a cleaning only where the load
fills a quarter of the log faster than one fdatasync of all plexes and one write of each page takes.
"""

import logging
from collections.abc import Callable

import trio

from fmrd.engine.running import Running
from fmrd.errors import FmrdError

log = logging.getLogger(__name__)


class Cleaner:
    """``relieve`` is called once a period, when the log was cleaned."""

    def __init__(self, running: Running, relieve: Callable[[], None]) -> None:
        self._running = running
        self._mirror = running.mirror
        self._relieve = relieve
        self._in_vain = False
        """Nothing could leave ahead of need: that is tried again when a period has ended, not with every write."""

    async def run(self) -> None:
        """Clean until the volume stops."""
        stopping, seconds = self._running.life.stopping, self._running.context.clean_seconds
        self._running.volume.drl.end_period()
        due = trio.current_time() + seconds
        while True:
            await _any_of([stopping] if self._in_vain else [stopping, self._mirror.filling], due)
            if stopping.is_set():
                return
            try:
                if trio.current_time() < due:
                    self._in_vain = True
                    self._in_vain = not await self._mirror.clean_ahead()
                    continue
                self._in_vain = False
                try:
                    await self._mirror.clean(self._running.volume.drl.end_period())
                finally:  # a load that the fdatasync held up is given time to use again what it uses
                    due = trio.current_time() + seconds
                if stopping.is_set():
                    return
                self._relieve()
                await self._running.renew_copies()
            except (FmrdError, OSError) as error:
                log.warning("volume %s is not settled yet: %s", self._running.volume.name, error)


async def _any_of(events: list[trio.Event], until: float) -> None:
    """Return when one of them is set, or at that time of trio's clock."""
    with trio.move_on_at(until):
        async with trio.open_nursery() as nursery:

            async def wait_for(event: trio.Event) -> None:
                await event.wait()
                nursery.cancel_scope.cancel()

            for event in events:
                nursery.start_soon(wait_for, event)
