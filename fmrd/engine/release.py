"""How a volume parts with a plex whose gate has closed, and with all of its files at the end.

Runs by itself after the gate closed: record, wait until the plex's last system call has landed (its buffers and its
lock are held until then), fdatasync, stamp, record again, close.
"""

import logging
from typing import TYPE_CHECKING

import trio

from fmrd.backing.system_calls import ask
from fmrd.core.plex import Plex
from fmrd.core.record import Stamp
from fmrd.engine.files import let_go
from fmrd.engine.open_plex import OpenPlex
from fmrd.errors import FmrdError

if TYPE_CHECKING:
    from fmrd.engine.service import Service

log = logging.getLogger(__name__)


class Releaser:
    """Of one started volume."""

    def __init__(self, service: "Service") -> None:
        self._service = service
        self._under_way: dict[str, trio.Event] = {}

    def begin(self, plex: Plex) -> None:
        """In the step that closed its gate."""
        self._under_way[plex.uuid] = trio.Event()
        self._service.context.nursery.start_soon(self._part, plex)

    async def wait(self, plex: Plex) -> None:
        """Returns when the plex was let go of."""
        while (event := self._under_way.get(plex.uuid)) is not None:
            await event.wait()

    async def _part(self, plex: Plex) -> None:
        service = self._service
        try:
            await service.mirror.until_recorded()
        except FmrdError as error:
            log.warning("volume %s: plex %s is out, not yet recorded: %s", service.volume.name, plex.name, error)
        try:
            while True:
                await service.lanes[plex.uuid].idle()
                if plex.uuid not in self._under_way:
                    return
                async with service.verb():
                    await self.complete(plex)
        except FmrdError as error:
            log.warning("volume %s: letting go of plex %s: %s", service.volume.name, plex.name, error)

    async def complete(self, plex: Plex) -> None:
        """The last steps, under the verb lock, when nothing is outstanding on the plex. Nothing left to do: returns."""
        service = self._service
        lanes = service.lanes[plex.uuid]
        opened = service.mirror.opened.get(plex.uuid)
        if plex.is_open or opened is None:
            self._end(plex.uuid)
            return
        if lanes.outstanding:
            return
        plex.stamp = await self.stamp(opened)
        if lanes.outstanding:
            return  # the fdatasync hangs; the files stay open until it has landed
        del service.mirror.opened[plex.uuid]
        try:
            await service.mirror.store.commit()
        except FmrdError as error:
            log.warning("volume %s: the stamp of plex %s is not recorded: %s", service.volume.name, plex.name, error)
        try:
            await ask(service.context.system, lanes.data, opened.close, service.timeout_seconds)
        except OSError as error:
            log.warning("volume %s: closing plex %s: %s", service.volume.name, plex.name, error)
        self._end(plex.uuid)

    def _end(self, uuid: str) -> None:
        event = self._under_way.pop(uuid, None)
        if event is not None:
            event.set()

    async def stamp(self, opened: OpenPlex) -> Stamp | None:
        """How fmrd leaves the file (DESIGN 4): after an fdatasync, where it answers. None where it does not."""

        def run() -> Stamp | None:
            try:
                opened.backing.fdatasync()
            except OSError as error:
                log.info("%s: the last fdatasync before its stamp failed: %s", opened.backing.path, error)
            return opened.backing.stamp()

        service = self._service
        try:
            return await ask(service.context.system, opened.lanes.data, run, service.timeout_seconds)
        except OSError:
            return None

    def close_all(self) -> None:
        """The volume ended. What hangs is closed when it has landed. The closed ones can still be looked up: who keeps
        old data on a snapshot may come just then, and asks for itself whether that is still there.
        """
        service = self._service
        for opened in service.mirror.opened.values():
            let_go(service.context, opened.lanes, opened)
        for uuid in list(self._under_way):
            self._end(uuid)
