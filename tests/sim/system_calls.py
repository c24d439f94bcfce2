"""Calls in a simulated machine: each waits a while, takes effect at one instant, waits a while, and returns.

Between issue and effect other tasks run, and the machine may die: whatever was issued and had no effect yet is then cut
off, whole or in part. An fdatasync covers only what was written before it was issued, the least it may do.
"""

import errno
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import trio

from fmrd.backing.calls.second_thread import Errors, Share
from fmrd.backing.calls.system_calls import Call, Ended, Lane, Outcome, outcome_of
from tests.sim.disks import Crash, SimBacking
from tests.sim.machine import Machine

MOST_STEPS = 50_000
PATIENCE = 300


@dataclass(eq=False)
class _Flight:
    call: Call
    mark: dict[int, int] | None
    done: bool = False

    def take_effect(self) -> Outcome:
        self.done = True
        if self.mark is None:
            return outcome_of(self.call)
        backing: SimBacking = self.call.run.__self__  # type: ignore[attr-defined]  # a bound method: see _flight
        mark = self.mark
        return outcome_of(Call(self.call.lane, lambda: backing.end_sync(mark)))


@dataclass
class SimCalls:
    """``crash_at``: the call whose effect is the last one ('kill' or 'power' is ``crash_kind``)."""

    machine: Machine
    rng: random.Random
    crash_at: int | None = None
    crash_kind: str = "kill"
    steps: int = 0
    moment: int | None = None
    """The call before which ``at_that_moment`` is called."""
    at_that_moment: Callable[[], None] = lambda: None
    laziness: int = 2
    hung: set[str] = field(default_factory=set)
    """Names of lanes whose calls do not return."""
    delay: Callable[[Call], bool] = lambda call: False
    """Directed schedules: a call waits (at most PATIENCE checkpoints) while this says so."""
    linger: Callable[[Call], bool] = lambda call: False
    """Directed schedules: such a call has had its effect, and its answer is late (by at most PATIENCE checkpoints)."""
    start: Callable[[Callable[[], Awaitable[None]]], object] = trio.lowlevel.spawn_system_task
    """A task of the life's own, which dies with it."""
    stick: Callable[[Call], bool] = lambda call: False
    """Directed schedules: such a call hangs."""
    _flying: list[_Flight] = field(default_factory=list)
    _stuck: list[_Flight] = field(default_factory=list)

    async def in_turn(self, calls: Sequence[Call], timeout_seconds: float) -> list[Outcome]:
        return [(await self.at_once([call], timeout_seconds))[0] for call in calls]

    async def at_once(self, calls: Sequence[Call], timeout_seconds: float) -> list[Outcome]:
        """All are issued now and take effect in any order. (One task does it: a nursery would only cost time.)"""
        self.machine.alive()
        flights = [_Flight(call, self._mark(call)) for call in calls]
        began = trio.current_time()
        for flight in flights:
            flight.call.lane.enter()
        stuck = [f for f in flights if f.call.lane.name in self.hung or self.stick(f.call)]
        flying = [f for f in flights if f not in stuck] if stuck else flights[:]
        self._stuck += stuck
        self._flying += flying
        if len(flying) > 1:
            self.rng.shuffle(flying)
        outcomes: dict[_Flight, Outcome] = {}
        try:
            for flight in flying:
                await self._dawdle()
                for _ in range(PATIENCE):
                    if not self.delay(flight.call):
                        break
                    await trio.lowlevel.checkpoint()
                if trio.current_time() - began > timeout_seconds:  # the clock jumped, and whoever waits woke up
                    self._give_up(flight)
                    continue
                self.step()
                outcomes[flight] = flight.take_effect()
                self._flying.remove(flight)
                for _ in range(PATIENCE):
                    if not self.linger(flight.call):
                        break
                    await trio.lowlevel.checkpoint()
            await self._dawdle()
        finally:
            for flight in [f for f in flying if f not in self._stuck]:
                if flight in self._flying:
                    self._flying.remove(flight)
                if not flight.done and not self.machine.dead:
                    flight.take_effect()  # cancelled, and lands all the same
                flight.call.lane.leave()
        if stuck:
            await trio.sleep(timeout_seconds)
            for flight in stuck:
                if not flight.done:
                    flight.call.lane.give_up(flight.call)
        late = Outcome(error=TimeoutError(errno.ETIMEDOUT, "no answer"))
        return [outcomes.get(flight, late) for flight in flights]

    def begin(self, calls: Sequence[Call], timeout_seconds: float, ended: Ended) -> None:
        """In the kernel they are at once: whatever follows, they take effect in any order, or not where it dies."""

        async def run() -> None:
            ended(await self.at_once(calls, timeout_seconds))

        self.start(run)

    def _give_up(self, flight: _Flight) -> None:
        self._flying.remove(flight)
        self._stuck.append(flight)
        flight.call.lane.give_up(flight.call)

    async def in_idle_time(self, step: Callable[[], bool]) -> Outcome:
        """Each piece takes effect at one instant, or never; others run in between."""
        while True:
            await self._dawdle()
            self.step()
            outcome = outcome_of(Call(Lane("idle time"), step))
            if outcome.error is not None or not outcome.value:
                return outcome

    def share(self, calls: Sequence[Callable[[], object]], ended: Callable[[Errors], None]) -> bool:
        """One after the other, in any order: nobody can tell."""
        share = Share(calls)
        self.rng.shuffle(share._left)
        while share.run_one():
            pass
        ended(share.errors)
        return False

    def memory(self, length: int) -> memoryview:
        return memoryview(bytearray(b"?" * length))

    def submit(self) -> None:
        """What was begun is on its way."""

    def finish_share(self) -> None:
        """None is under way."""

    @staticmethod
    def _mark(call: Call) -> dict[int, int] | None:
        owner = getattr(call.run, "__self__", None)
        if isinstance(owner, SimBacking) and getattr(call.run, "__name__", "") == "fdatasync":
            return owner.plex.mark()
        return None

    async def _dawdle(self) -> None:
        for _ in range(self.rng.randrange(self.laziness + 1)):
            await trio.lowlevel.checkpoint()

    def step(self) -> None:
        self.machine.alive()
        self.steps += 1
        if self.steps == self.moment:
            self.at_that_moment()
        assert self.steps < MOST_STEPS, "the daemon goes round in circles"
        if self.steps == self.crash_at:
            self.crash(self.crash_kind)

    def release(self) -> None:
        """What hung lands now, late."""
        self.hung.clear()
        stuck, self._stuck = self._stuck, []
        for flight in stuck:
            lane = flight.call.lane
            given_up = flight.call in lane.late
            flight.take_effect()
            if given_up:
                lane.landed(flight.call)
            else:
                lane.leave()

    def crash(self, kind: str) -> None:
        """Cut off whatever is in flight, and die."""
        for flight in [*self._stuck, *self._flying]:
            fate = self.rng.randrange(3) or int(flight.call.lane.far)  # what was sent there may be carried out yet
            if fate:
                self.machine.cutting = kind if fate == 1 else ""
                flight.take_effect()
        self.machine.cutting = ""
        self.machine.dead = True
        raise Crash
