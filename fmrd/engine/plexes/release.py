"""A volume parts here with a plex whose gate has closed, and with all of its files at the end.

This runs by itself after the gate closed: record, wait until the plex's last system call has landed (its buffers and
its lock are held until then), fsync, stamp, record again, close.
"""

import logging

import trio

from fmrd.backing.calls.system_calls import ask
from fmrd.core.reasons import Reason
from fmrd.core.stamps import Stamp
from fmrd.core.volume.plex import Plex
from fmrd.engine.opening.closing import let_go
from fmrd.engine.opening.stamping import stamp_of
from fmrd.engine.running import Running
from fmrd.errors import FmrdError

log = logging.getLogger(__name__)


class Releaser:
    """A releaser lets go of the plexes of one started volume."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._under_way: dict[str, trio.Event] = {}
        self._late: set[str] = set()
        """On these a call was outstanding when the gate closed, so a stamp from before may not fit any more."""

    def begin(self, plex: Plex) -> None:
        """Begin a parting, in the step that closed the gate."""
        self._note_unproven(plex)
        self._under_way[plex.uuid] = trio.Event()
        if self._running.home.lanes_of(plex.uuid, plex.name).outstanding:
            self._late.add(plex.uuid)
        self._running.context.nursery.start_soon(self._part, plex)

    async def wait(self, plex: Plex) -> None:
        """Return when the plex was let go of; where a call on it hangs, that may take as long."""
        while (event := self._under_way.get(plex.uuid)) is not None:
            await event.wait()

    async def _part(self, plex: Plex) -> None:
        running = self._running
        try:
            await running.mirror.until_recorded()
        except FmrdError as error:
            log.warning("volume %s: plex %s is out, not yet recorded: %s", running.volume.name, plex.name, error)
        try:
            while True:
                await running.home.lanes[plex.uuid].idle()
                if plex.uuid not in self._under_way:
                    return
                async with running.verb():
                    await self.complete(plex)
        except FmrdError as error:
            log.warning("volume %s: letting go of plex %s: %s", running.volume.name, plex.name, error)

    async def complete(self, plex: Plex) -> None:
        """Take the last steps, under the verb lock. It returns at once where nothing is left to do, and where a call on
        the plex is outstanding.
        """
        running = self._running
        lanes = running.home.lanes_of(plex.uuid, plex.name)  # one that was never looked for has none yet
        opened = running.mirror.opened.get(plex.uuid)
        if plex.is_open or opened is None:
            self._end(plex.uuid)
            return
        if lanes.outstanding:
            return
        self._note_unproven(plex)
        if plex.stamp is None or plex.uuid in self._late:
            plex.stamp = await self.stamp(plex)
        if lanes.outstanding:
            return  # the fsync hangs; the files stay open until it has landed
        running.note_session(plex)
        del running.mirror.opened[plex.uuid]
        try:
            await running.mirror.store.commit()
        except FmrdError as error:
            log.warning("volume %s: the stamp of plex %s is not recorded: %s", running.volume.name, plex.name, error)
        try:
            await ask(running.context.system, lanes.data, opened.close, running.timeout_seconds)
        except OSError as error:
            log.warning("volume %s: closing plex %s: %s", running.volume.name, plex.name, error)
        self._end(plex.uuid)

    def _note_unproven(self, plex: Plex) -> None:
        """What a restart must know, too: it may be that what failed lands after it."""
        if self._running.home.lanes_of(plex.uuid, plex.name).unproven:
            plex.reason = Reason.SESSION_OPEN

    def _end(self, uuid: str) -> None:
        self._late.discard(uuid)
        event = self._under_way.pop(uuid, None)
        if event is not None:
            event.set()

    async def stamp(self, plex: Plex) -> Stamp | None:
        """Return how fmrd leaves it (``stamp_of``)."""
        running = self._running
        return await stamp_of(running.context, running.volume, plex, running.mirror.opened, running.timeout_seconds)

    def close_all(self) -> None:
        """Have all files closed: the volume ended. What hangs is closed when it has landed. The closed ones can
        still be looked up: who keeps old data on a snapshot may come just then, and asks for itself whether that is
        still there.
        """
        running = self._running
        for opened in running.mirror.opened.values():
            let_go(running.context, opened.lanes, opened)
        for uuid in list(self._under_way):
            self._end(uuid)

    async def closed(self) -> None:
        """Return when they are, and the home copy if that was let go of; but for what hangs."""
        await self._running.home.lane.closed(self._running.timeout_seconds)
        for opened in self._running.mirror.opened.values():
            await opened.lanes.closed(self._running.timeout_seconds)
