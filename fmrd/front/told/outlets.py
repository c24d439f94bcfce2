"""All that hears of events beside clients, put together for the daemon: log or journal, history, hooks."""

import os
import sys
from pathlib import Path

import trio

from fmrd.engine.events.ring import Events
from fmrd.engine.registry import Registry
from fmrd.engine.served import Served
from fmrd.front.nightly.plan import directory
from fmrd.front.nightly.watching import Nights
from fmrd.front.told.history import History
from fmrd.front.told.hooks import Hooks
from fmrd.front.told.journal import Journal, connected


class Outlets:
    """Made once, before anything happens; ``run`` lasts as long as the daemon, ``close`` ends what threads do."""

    def __init__(self, registry: Registry, state: Path, hooks: Path) -> None:
        self._registry = registry
        self._events: Events = registry.context.events
        self.history = History(state)
        self._hooks = Hooks(hooks, self._events)
        self.nights = Nights(state, directory(), self._events)
        self._seen: set[str] = set()
        self._events.listeners += [self.history.add, self._hooks.add]
        self._journal = Journal() if connected(os.environ, sys.stderr.fileno()) else None
        if self._journal is not None:
            self._events.listeners.append(self._journal.add)
            self._events.logs = False  # the journal has them, with their fields
        registry.watch(self._changed)

    async def run(self) -> None:
        """Until cancelled."""
        self._events.tell("daemon_started", f"fmrd (process {os.getpid()}) has begun")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.nights.run)
            await self._hooks.run()

    def _changed(self, served: Served) -> None:
        """A volume appears or goes; it also tells of other changes, which are no events."""
        if served.withdrawn and served.name in self._seen:
            self._seen.discard(served.name)
            self._events.tell("volume_stopped", f"volume {served.name} is not served any more", volume=served.name)
        elif not served.withdrawn and served.name not in self._seen:
            self._seen.add(served.name)
            self._events.tell("volume_started", f"volume {served.name} is served", volume=served.name)

    def close(self) -> None:
        self._events.tell("daemon_stopping", f"fmrd (process {os.getpid()}) ends in order")
        self.history.close()
        if self._journal is not None:
            self._journal.close()
