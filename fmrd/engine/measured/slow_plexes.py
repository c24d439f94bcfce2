"""A plex that is much slower than its peers is named, long before it hangs: asked once a period of the cleaner's."""

import logging
from collections import deque
from collections.abc import Mapping

from fmrd.core.measures.latency import Times
from fmrd.core.measures.slow import PERIODS, Slowness, in_a_row, who_is_slow
from fmrd.core.volume.plex import Plex
from fmrd.engine.events import telling
from fmrd.engine.running import Running
from fmrd.engine.serving.open_plex import Lanes

log = logging.getLogger(__name__)


class SlowPlexes:
    """These are those of one started volume. What is found is told, once, and shown until it is over."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._before: dict[str, Mapping[str, Times]] = {}
        """By plex uuid, at the end of the last period."""
        self._seen: dict[str, deque[Slowness | None]] = {}
        for plex in running.volume.plexes:
            self._lanes(plex).begin_measuring()

    def look(self) -> None:
        """A period has ended."""
        plexes = [plex for plex in self._running.volume.plexes if plex.is_open and not plex.lags]
        for plex in self._running.volume.plexes:
            if plex not in plexes:
                self._forget(plex)
        now = {plex.uuid: self._lanes(plex).data.took.times() for plex in plexes}
        works = {
            uuid: {kind: each.since(self._before[uuid][kind]) for kind, each in times.items()}
            for uuid, times in now.items()
            if uuid in self._before
        }
        self._before = dict(now)
        found = who_is_slow(works)
        for plex in plexes:
            if plex.uuid in found:
                self._note(plex, found[plex.uuid])

    def _note(self, plex: Plex, slowness: Slowness | None) -> None:
        seen = self._seen.setdefault(plex.uuid, deque(maxlen=PERIODS))
        seen.append(slowness)
        told, lanes = in_a_row(seen), self._lanes(plex)
        if told is not None:
            if lanes.slow is None:
                telling.slow(self._running.context.events, self._running.volume, plex, told.sentence())
            lanes.slow = told.sentence()
        elif slowness is None:
            if lanes.slow is not None:
                telling.slow_no_more(self._running.context.events, self._running.volume, plex)
                log.info("volume %s: plex %s keeps up with its peers again", self._running.volume.name, plex.name)
            lanes.slow = None

    def _forget(self, plex: Plex) -> None:
        """It takes no I/O, or nobody waits for it: nothing is said of it, and it begins anew when that is over."""
        self._before.pop(plex.uuid, None)
        self._seen.pop(plex.uuid, None)
        self._lanes(plex).slow = None

    def _lanes(self, plex: Plex) -> Lanes:
        return self._running.home.lanes_of(plex.uuid, plex.name)
