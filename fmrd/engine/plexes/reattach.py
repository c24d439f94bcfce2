"""A plex that failed, or was away at a start, is attached by itself once its disk answers: soon, then less often.

A plex that the administrator took away stays away until the next start. The decision is that of any attach
(PROTOCOLS, "Join"), so it is fast where its map and its file allow; where only people can decide it stays out.
"""

import logging

import trio

from fmrd.core.states import PlexState
from fmrd.core.volume.plex import Plex
from fmrd.engine.plexes.attach import Attacher
from fmrd.engine.running import Running
from fmrd.errors import FmrdError, Refused

log = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS = 300.0
STEADY = 10
"""A plex that stayed for so many pauses had come back; one that failed earlier waits twice as long as before."""


class Reattacher:
    """A reattacher brings back the failed plexes of one started volume."""

    def __init__(self, running: Running, attacher: Attacher) -> None:
        self._running = running
        self._attacher = attacher
        self._waiting: dict[str, object] = {}
        """By plex: the task that waits for it."""
        self._tried: dict[str, tuple[float, float]] = {}
        """By plex: when it was attached last, and the pause before that, in seconds."""

    async def attach_those_that_answer(self) -> None:
        """Try each plex that is out once, at a start; those whose disk may only be late are expected from then on."""
        volume, stopping = self._running.volume, self._running.life.stopping
        for plex in list(volume.plexes):
            if plex.state in (PlexState.STALE, PlexState.IOFAIL) and not plex.excluded and not stopping.is_set():
                try:
                    await self._attacher.attach(plex)
                except (FmrdError, OSError) as error:
                    log.warning("volume %s: plex %s stays %s: %s", volume.name, plex.name, plex.state, error)
                    if plex.state is PlexState.IOFAIL or not isinstance(error, Refused):
                        self.expect(plex)

    def expect(self, plex: Plex) -> None:
        """A plex failed, or its disk was not there: try to attach it from now on, in a task of its own."""
        running = self._running
        if not running.context.return_seconds or plex.uuid in self._waiting or running.volume.settings.is_instant:
            return
        self._waiting[plex.uuid] = me = object()
        running.context.nursery.start_soon(self._bring_back, plex, me)

    def forget(self, plex: Plex) -> None:
        """The administrator took it away."""
        self._waiting.pop(plex.uuid, None)

    async def _bring_back(self, plex: Plex, me: object) -> None:
        def expected() -> bool:
            """Nobody took it away, or brought it back, meanwhile."""
            away = plex.state in (PlexState.IOFAIL, PlexState.STALE) and not plex.excluded
            return away and self._waiting.get(plex.uuid) is me

        pause = self._first_pause(plex)
        told = ""
        try:
            # What was looked for in vain hears of disks that come; to what failed in use they are no news.
            while await self._still_away_after(pause, plex, hears=bool(told)) and expected():
                if not self._running.volume.settings.auto_attach:
                    continue
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                try:
                    await self._attacher.attach(plex, still=expected)
                except Refused as refused:
                    self._say(plex, f"is not attached by itself: {refused.message}; {refused.hint}")
                    return
                except (FmrdError, OSError) as error:
                    if str(error) != told:
                        told = str(error)
                        self._say(plex, f"stays {plex.state}: {told}; tried again in {pause:g} s, and so on")
                else:
                    self._tried[plex.uuid] = trio.current_time(), pause
                    return
        finally:
            if self._waiting.get(plex.uuid) is me:
                del self._waiting[plex.uuid]

    def _first_pause(self, plex: Plex) -> float:
        first = self._running.context.return_seconds
        attached, pause = self._tried.get(plex.uuid, (0.0, 0.0))
        return pause if pause and trio.current_time() - attached < STEADY * pause else first

    async def _still_away_after(self, seconds: float, plex: Plex, *, hears: bool) -> bool:
        running = self._running
        if hears:
            await running.context.coming.heard_or(running.life.stopping, seconds)
        else:
            with trio.move_on_after(seconds):
                await running.life.stopping.wait()
        return plex in running.volume.plexes and not running.life.stopping.is_set() and not running.life.ended

    def _say(self, plex: Plex, sentence: str) -> None:
        log.warning("volume %s: plex %s %s", self._running.volume.name, plex.name, sentence)
