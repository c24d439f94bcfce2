"""Idle time of trio's thread goes into copies in memory: they are made in pieces, while no request is to be answered.

A thread that copies beside it takes Python's lock twice for each piece, and whoever answers a request meanwhile falls
asleep over it: 50 to 100 us on busy processors, more than the piece takes. Here nobody waits for a lock, and a request
that comes waits for one piece at most.
"""

import select
import time
from collections import deque
from collections.abc import Callable

import outcome
import trio

from fmrd.backing.calls.second_thread import SecondThread
from fmrd.backing.ring.ring import Ring

PAUSE_RATIO = 4
"""After a piece nothing is done for so many times as long as it took: the rest of the thread's time is for others."""
SELECTABLE = 1024
"""Descriptors below this may be asked of select(2), the one whose time is no whole number of milliseconds."""
LAG_SECONDS = 0.001
"""What could not be done in time may be made up for, up to so much: under load there is no idle time, and a resync
gains on any load.
"""


class IdleTime:
    """This is the idle time of trio's thread, and is used on that thread alone. ``clock`` is in seconds; ``second`` is
    the thread that takes a part of large writes.
    """

    def __init__(self, second: SecondThread, clock: Callable[[], float] = time.perf_counter) -> None:
        self._second = second
        self._clock = clock
        self.ring: Ring | None = None
        """What was begun in a step is handed over, and asked for its end, when there is time."""
        self.in_step = False
        self.hung = 0
        """So many requests in the ring were given up, and have not ended."""
        self._works: deque[_Work] = deque()
        self._due = 0.0

    async def run(self, step: Callable[[], bool]) -> bool:
        """Call ``step`` now and then until it says False; what it raises is raised here."""
        if not self._works:
            self._due = max(self._due, self._clock())  # it lags behind since now, not since the last work
        work = _Work(step)
        self._works.append(work)
        try:
            while work.goes_on:
                await trio.lowlevel.checkpoint()
                while self.use():
                    pass
        finally:
            if work.goes_on:
                self._works.remove(work)
        return work.result.unwrap()

    def use(self) -> bool:
        """Do a piece of what is to be done, if it is time for one; return False where nothing was. It is for whoever
        has looked in vain for more urgent work; the event loop comes by in every round. A large write that is under way
        is ended first.
        """
        if self._second.finish():
            return True
        if self.ring is not None and self.ring.outstanding and self.hand_over():
            return True
        if not self._works:
            return False
        began = self._clock()
        if began < self._due:
            return False
        work = self._works[0]
        work.go_on()
        if not work.goes_on:
            self._works.popleft()
        self._due = max(self._due, began - LAG_SECONDS) + (1 + PAUSE_RATIO) * (self._clock() - began)
        return True

    def begin_step(self) -> None:
        """Requests come now, one after the other, with no checkpoint in between: large writes may overlap."""
        self._second.overlaps = self.in_step = True

    def end_step(self) -> None:
        """End what began in this step, or have the kernel go on with it."""
        self._second.overlaps = self.in_step = False
        self._second.finish()
        if self.ring is not None and self.ring.outstanding:
            self.hand_over()

    def hand_over(self) -> bool:
        """Hand over what was pushed into the ring, and tell of what has ended; what the kernel does not take has, too.
        Return whether anything has.
        """
        assert self.ring is not None, "who has begun something has a ring"
        told = 0
        while True:
            self.ring.submit()
            told += self.ring.reap()
            if not self.ring.is_pushed:  # as the rest of a short write is
                return told > 0

    def waits_with(self, descriptor: int, seconds: float) -> bool:
        """Where a request is under way in the ring, sleep until one has ended or ``descriptor`` is readable, at most so
        long; True: one of both.
        """
        ring = self.ring
        if ring is None or ring.outstanding <= self.hung:
            return False
        both = (descriptor, ring.fileno())
        return max(both) < SELECTABLE and bool(select.select(both, (), (), seconds)[0])


class _Work:
    """Until its step said False, or raised: whoever happened to call it is not who is to hear of that."""

    def __init__(self, step: Callable[[], bool]) -> None:
        self._step = step
        self.goes_on = True
        self.result: outcome.Maybe[bool] = outcome.Value(True)

    def go_on(self) -> None:
        self.result = outcome.capture(self._step)
        self.goes_on = isinstance(self.result, outcome.Value) and self.result.value
