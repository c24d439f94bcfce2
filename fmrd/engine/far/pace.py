"""How much of its time a daemon gives to a plex that lags while there is an application to be served: a small part, so
that a mirror over a slow line costs the application next to nothing. What is put off so is sent in larger, rarer
pieces, and what is written again meanwhile is sent once.

It never starves: a part is a part, so each round over what is lacked comes to its end. And there is none of this where
the plex has lagged for long, or where a writer would soon have to wait for it, since that costs more.
"""

import trio

from fmrd.core.volume.plex import Plex
from fmrd.engine.serving.load import Load

SHARE = 0.04
"""This part of the time, while there are requests."""
LONGEST_PAUSE_SECONDS = 0.25
LONG_SECONDS = 10.0
"""Whoever has lagged for so long waits for nobody."""
ALL_OF_IT = 6.0
"""What it takes to read something, to send it, and to hear that it arrived, by what it takes to read it."""


class Pace:
    """The pace at which one plex is sent what it lacks."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._seen = load.served
        self._next = 0.0
        self.is_slow = False
        """Is there an application to be served?"""

    async def turn(self) -> None:
        """Return when it is time for more."""
        if self._next > trio.current_time():
            await trio.sleep_until(self._next)

    def took(self, plex: Plex, seconds: float, lag_seconds: float) -> None:
        """It took so long to read what is sent, in which nothing else was done."""
        served, self._seen = self._load.served != self._seen or self._load.requests > 0, self._load.served
        self.is_slow = served and not is_urgent(plex, lag_seconds)
        if self.is_slow:
            pause = min(LONGEST_PAUSE_SECONDS, seconds * ALL_OF_IT * (1 / SHARE - 1))
            self._next = max(self._next, trio.current_time()) + pause


def is_urgent(plex: Plex, lag_seconds: float) -> bool:
    """Would a writer soon have to wait for it, or has it lagged for long?"""
    bound = plex.behind // plex.geometry.region_bytes
    others = plex.geometry.regions - (bound - plex.room)  # which may be left behind yet
    return plex.room < min(bound // 2, others) or lag_seconds >= LONG_SECONDS
