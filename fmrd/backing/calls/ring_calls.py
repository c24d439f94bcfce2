"""System calls by a ring: those that can be begun need no thread. All others go the way of threaded_calls.py. Requests
to a server are begun as well, by a session of theirs (backing/nbd), also where there is no ring.

What was begun in a step of the door's is handed to the kernel when the door has no further request, all of it in one
system call (IdleTime.use); what a task begins, at once. Ends are told wherever the ring is looked at: by the door
between its requests, or by a task that sleeps until the ring has some.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

import trio

from fmrd.backing.calls.batches import Batch, batch_of
from fmrd.backing.calls.fan import Fan
from fmrd.backing.calls.system_calls import Call, Ended, Outcome
from fmrd.backing.calls.threaded_calls import THREADS, ThreadedCalls
from fmrd.backing.ring.probe import open_ring
from fmrd.backing.ring.ring import Ring

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.1
"""How often it is asked who has waited too long."""


def system_calls(*, uring: bool = True) -> ThreadedCalls:
    """Return those of this process: with a ring where it may have one, which the log tells otherwise."""
    ring = open_ring() if uring else "it is switched off"
    if isinstance(ring, Ring):
        return RingCalls(ring)
    log.info("writes to disks take threads: %s", ring)
    return RingCalls(None)


class RingCalls(ThreadedCalls):
    """This is SystemCalls with a ring, for one run of trio; without one only what needs none is begun."""

    def __init__(self, ring: Ring | None, threads: int = THREADS) -> None:
        super().__init__(threads)
        self.ring = ring
        self.idle.ring = ring
        self._batches: dict[Batch, None] = {}
        """Those under way, in the order in which they began."""
        self._runs = False
        self._some: trio.Event | None = None
        """Where nothing is under way: who waits for that to change."""

    def begin(self, calls: Sequence[Call], timeout_seconds: float, ended: Ended) -> None:
        for call in calls if not isinstance(calls, Fan) else ():
            if call.begin is None:
                super().begin(calls, timeout_seconds, ended)
                return
        self._begin(calls, timeout_seconds, ended)

    def submit(self) -> None:
        if self.ring is not None:
            self.ring.submit()

    async def in_turn(self, calls: Sequence[Call], timeout_seconds: float) -> list[Outcome]:
        """They are begun together where no thread is needed: nothing has to come before something else then."""
        if not calls or not all(call.begin is not None for call in calls):
            return await super().in_turn(calls, timeout_seconds)
        over = trio.Event()
        batch = self._begin(calls, timeout_seconds, lambda outcomes: over.set())
        try:
            await over.wait()
        finally:
            self._look()  # what has ended is not given up, though nobody has looked yet
            batch.give_up("nobody waits any more")
        return batch.told()

    async def at_once(self, calls: Sequence[Call], timeout_seconds: float) -> list[Outcome]:
        if calls and all(call.begin is not None for call in calls):
            return await self.in_turn(calls, timeout_seconds)
        return await super().at_once(calls, timeout_seconds)

    def _begin(self, calls: Sequence[Call], timeout_seconds: float, ended: Ended) -> Batch:
        if not self._runs:
            self._runs = True
            if self.ring is not None:
                trio.lowlevel.spawn_system_task(self._reap)
            trio.lowlevel.spawn_system_task(self._watch)
        batch = batch_of(self, calls, timeout_seconds, ended)
        self._batches[batch] = None
        if self._some is not None:
            self._some.set()
        batch.begin()
        if not self.idle.in_step:
            self._look()
        return batch

    def _look(self) -> None:
        if self.ring is not None:
            self.idle.hand_over()

    def ended(self, batch: Batch) -> None:
        """All of its calls have, or were given up."""
        self._batches.pop(batch, None)

    def hang(self, more: int) -> None:
        """So many more (or fewer) requests were given up, and have not ended."""
        self.idle.hung += more
        if self.ring is not None:
            self.ring.make_up_for(self.idle.hung)

    async def by_thread(self, call: Call, timeout_seconds: float) -> Outcome:
        """What the kernel did not even begin."""
        counted_here = replace(call, latency=None)
        return (await super().in_turn([counted_here], timeout_seconds))[0]

    async def _reap(self) -> None:
        assert self.ring is not None, "it is looked at only where there is one"
        while True:
            await trio.lowlevel.wait_readable(self.ring.fileno())
            self.idle.hand_over()

    async def _watch(self) -> None:
        while True:
            if not self._batches:
                self._some = trio.Event()
                await self._some.wait()
                self._some = None
            await trio.sleep(LOOK_SECONDS)
            self._look()  # the loop may have stood still
            now = trio.current_time()
            for batch in [each for each in self._batches if each.deadline <= now]:
                batch.give_up(f"no answer within {batch.timeout_seconds:g} s")
