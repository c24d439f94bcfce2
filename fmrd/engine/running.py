"""This is what a started volume is: its mirror, its family's home copy, who has it open, and the lock of its verbs.

What is done to it (copies, joins, releases, verify, snapshots) imports this, and is put together by ``Service``.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from fmrd.core.decisions.standing import SETTLE
from fmrd.core.reasons import Reason
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.engine.context import Context
from fmrd.engine.opening.closing import let_go
from fmrd.engine.opening.files import PlexFiles
from fmrd.engine.opening.homes import Home
from fmrd.engine.serving.life import Lifetime
from fmrd.engine.serving.mirror import Mirror
from fmrd.engine.serving.open_plex import Lanes
from fmrd.errors import Failed, FmrdError, Refused

log = logging.getLogger(__name__)


class Running:
    """This is one started volume, from its opening to its end."""

    def __init__(self, context: Context, home: Home, mirror: Mirror) -> None:
        self.context = context
        self.home = home
        self.mirror = mirror
        self.open_count = 0
        """How many times its file is open."""
        self.turn: str | None = None
        """Of this start, for who writes a stream there (maps/receiving.py)."""
        self._verb = trio.Lock()

    @property
    def volume(self) -> Volume:
        return self.mirror.volume

    @property
    def life(self) -> Lifetime:
        return self.mirror.life

    @property
    def timeout_seconds(self) -> float:
        return self.mirror.timeout_seconds

    @asynccontextmanager
    async def verb(self) -> AsyncIterator[None]:
        """Hold the verb lock: one verb at a time changes the plexes of a volume. Failed('volume_stopped') where it was
        stopped while this one waited.
        """
        async with self._verb:
            if self.life.ended:
                raise Failed("volume_stopped", f"volume {self.volume.name} was stopped meanwhile")
            yield

    def at_rest(self) -> "_AtRest":
        """Hold all bytes; open plexes are fdatasync'ed, maps durable, the DRL cleared, as far as disks allow."""
        return _AtRest(self.mirror)

    async def lanes_of(self, plex: Plex) -> Lanes:
        """Return the lanes of a plex; Failed('plex_hung') while a call on one that is out has not returned: a write
        that lands after a join would overwrite newer bytes.
        """
        lanes = self.home.lanes_of(plex.uuid, plex.name)
        await lanes.closed(self.timeout_seconds)
        if lanes.outstanding and not plex.is_open:
            raise Failed("plex_hung", f"plex {plex.name}: {lanes.outstanding} system call(s) have not returned yet")
        return lanes

    def must_be_over(self, plex: Plex, files: PlexFiles) -> None:
        """Refused('session_open') for a plex on which something may be under way, of this daemon or of the one before,
        though no call is outstanding: what is carried out after a join would overwrite newer bytes, too. Where its
        files, opened just now, are fenced, it is not.
        """
        lanes = self.home.lanes_of(plex.uuid, plex.name)
        if files.fenced:
            return
        if lanes.unproven or plex.reason is Reason.SESSION_OPEN or (plex.session and not lanes.known):
            raise Refused(
                Reason.SESSION_OPEN,
                f"plex {plex.name}: what failed, or was under way, at {plex.path} may be carried out there yet, over "
                "newer bytes, and nothing there proves that it is over",
                f"{SETTLE}, then plex att --settled {self.volume.name} {plex.name}",
            )

    def note_session(self, plex: Plex) -> None:
        """Note, for the record, whether what was sent to a plex that is let go of may be carried out there yet."""
        lanes = self.home.lanes_of(plex.uuid, plex.name)
        plex.session = plex.session and bool(lanes.unproven or lanes.outstanding or not lanes.known)

    def must_have(self, plex: Plex) -> None:
        """Raise Failed('plex_unknown') for a plex that left while a verb waited for its turn."""
        if plex not in self.volume.plexes:
            raise Failed("plex_unknown", f"plex {plex.name} left volume {self.volume.name} meanwhile")

    def give_up(self, uuid: str) -> None:
        """Let go of the files of a plex that went to another volume."""
        opened = self.mirror.opened.pop(uuid, None)
        if opened is not None:
            let_go(self.context, opened.lanes, opened)

    async def renew_copies(self) -> None:
        """Make failed copies of the DCO anew; an instant snapshot keeps none. Failed('io_error') if not yet."""
        if not self.volume.settings.is_instant:
            await self.mirror.store.renew_copies()


class _AtRest:
    """The whole volume held, and settled as far as its disks allow."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._resting = False
        self._hold = mirror.ranges.hold((0, max(mirror.volume.geometry.length_bytes, 1)))

    async def __aenter__(self) -> None:
        await self._hold.__aenter__()
        try:
            await self._mirror.rest_lock.acquire()
            self._resting = True
            await self._settle()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise

    async def _settle(self) -> None:
        try:
            await self._mirror.sync()
            while await self._mirror.clean():
                pass
            await self._mirror.store.write_pages(self._mirror.volume.touched_pages())
        except FmrdError as error:
            log.warning("volume %s could not be settled: %s", self._mirror.volume.name, error)

    async def __aexit__(self, *details: object) -> None:
        if self._resting:
            self._mirror.rest_lock.release()
        await self._hold.__aexit__(None, None, None)
