"""The daemon's clock: time in which it did not run itself is nobody's fault.

A process that is stopped (SIGSTOP, a debugger), or a machine that stands still, wakes up with all its time limits long
over, and would blame every disk that was about to answer. So the loop is woken once a second, and a longer gap between
two looks at the clock does not count at all. All limits of the daemon are on this clock.
"""

import logging
import threading
from collections.abc import Callable
from time import perf_counter

import trio

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How long trio sleeps at most."""
ABSENT_SECONDS = 2.0
"""A gap as long as that, or longer, is one in which nobody looked."""


class Attention(trio.abc.Clock):
    """``now`` counts seconds, all of them but those in which the machine slept."""

    def __init__(self, now: Callable[[], float] = perf_counter) -> None:
        self._now = now
        self._looked = now()
        self._absent = 0.0
        self._thread = threading.get_ident()

    def start_clock(self) -> None:
        self._thread = threading.get_ident()
        self._looked = self._now()

    def current_time(self) -> float:
        """A worker thread may ask as well; whether the loop runs, only the loop's own thread can tell."""
        now = self._now()
        if threading.get_ident() == self._thread:
            gap = now - self._looked
            if gap >= ABSENT_SECONDS:
                self._absent += gap
                log.warning("fmrd itself stood still for %.1f s: no disk is blamed for that", gap)
            self._looked = now
        return now - self._absent

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return min(deadline - self.current_time(), LOOK_SECONDS)
