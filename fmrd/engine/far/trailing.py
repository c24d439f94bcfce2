"""A plex that may lag is brought up to date here, region by region, for as long as its volume is started.

What it lacks is in its map (core/volume/lagging.py). A few flights are on their way at a time, of many regions each
(cargo.py): what they carry is read from a plex that holds it while nobody writes there, and written when its bytes are
free again, so that no writer waits for the line. What was written to meanwhile stays in the map. No copy of another
kind works on that plex then (CopyTasks), and while something is on its way the volume is not at rest. As of any copy,
what has arrived is durable with the next checkpoint, and in the map on disk until then (rule 2b).
"""

import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from fmrd.backing.calls.system_calls import Outcome
from fmrd.core.maps.runs import adjacent
from fmrd.core.volume import lagging
from fmrd.core.volume.plex import Plex
from fmrd.engine.far.cargo import Cargo, Round, load_held
from fmrd.engine.far.pace import Pace
from fmrd.engine.far.together import carry_out
from fmrd.engine.running import Running
from fmrd.errors import FmrdError

log = logging.getLogger(__name__)

FLIGHTS = 4
"""So many are on their way at a time."""
GATHER_SECONDS = 0.05
SLOW_GATHER = 5
"""Writes that come soon after each other share one copy of their region. Beside an application it is so many times as
long, for more of them to go in one flight.
"""
CHECKPOINT_SECONDS = 5.0
PATIENCE_SECONDS = 1.0
"""After an error, and while it is halted."""
IDLE_SECONDS = 60.0


class Trailer:
    """A trailer serves the plexes of one started volume that may lag, one task each."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._due: dict[str, trio.Event] = {}
        """By plex uuid, of those that have a task: set when there may be something to do."""
        self._halted: Counter[str] = Counter()
        self._flights: Counter[str] = Counter()
        self._landed = trio.Event()
        running.volume.left_behind = self._left_behind

    def begin(self) -> None:
        """Look after each plex that may lag, from now on; that it may is recorded by now."""
        for plex in self._running.volume.plexes:
            plex.trails = bool(plex.behind)
            if plex.behind and plex.uuid not in self._due:
                self._due[plex.uuid] = trio.Event()
                self._running.context.nursery.start_soon(self._trail, plex)
        self.wake()

    def wake(self) -> None:
        """Have all of them look whether they go on."""
        for event in self._due.values():
            event.set()

    @asynccontextmanager
    async def halted(self, plex: Plex) -> AsyncIterator[None]:
        """Send nothing to it in here; what was on its way has landed."""
        self._halted[plex.uuid] += 1
        try:
            while self._flights[plex.uuid]:
                await self._landed.wait()
            yield
        finally:
            self._halted[plex.uuid] -= 1
            self.wake()

    def _left_behind(self, plex: Plex) -> None:
        if plex.lags_since is None:
            plex.lags_since = self._running.context.now()
        if (event := self._due.get(plex.uuid)) is not None:
            event.set()

    def _goes_on(self, plex: Plex) -> bool:
        life = self._running.life
        return bool(plex.behind) and plex in self._running.volume.plexes and not (life.stopping.is_set() or life.ended)

    def _may_send(self, plex: Plex, generation: int) -> bool:
        on = not self._halted[plex.uuid] and self._goes_on(plex)
        return on and plex.lags and plex.generation == generation

    async def _trail(self, plex: Plex) -> None:
        checked, unchecked = trio.current_time(), False
        pace = Pace(self._running.mirror.load)
        try:
            while self._goes_on(plex):
                self._due[plex.uuid] = trio.Event()
                patience = IDLE_SECONDS if not plex.lags else PATIENCE_SECONDS
                try:
                    if plex.lags and not self._halted[plex.uuid]:
                        arrived = await self._pass(plex, pace)
                        unchecked = unchecked or arrived
                        if unchecked and trio.current_time() >= checked + CHECKPOINT_SECONDS:  # as left, below
                            await self._checkpoint(plex)
                            checked, unchecked = trio.current_time(), False
                        if not plex.map.any():
                            left = max(0.0, checked + CHECKPOINT_SECONDS - trio.current_time())
                            patience = left if unchecked else IDLE_SECONDS
                        elif arrived:
                            patience = 0.0
                except FmrdError as error:
                    self._say(plex, f"lags on: {error}")
                with trio.move_on_after(patience):
                    await self._due[plex.uuid].wait()
                await trio.sleep(GATHER_SECONDS * (SLOW_GATHER if pace.is_slow else 1))
        finally:
            del self._due[plex.uuid]

    async def _pass(self, plex: Plex, pace: Pace) -> bool:
        """Send what it lacks, once. Return whether anything arrived."""
        began = self._running.context.now()
        if plex.lags_since is None and plex.map.any():
            plex.lags_since = began
        if self._running.mirror.opened[plex.uuid].lane.late:
            lagging.doubt([plex])
        lagging.give_room(plex)
        flights = _Flights(plex, pace, plex.generation)
        async with trio.open_nursery() as nursery:
            await self._send_all(flights, nursery)
        lagging.give_room(plex)
        plex.lags_since = began if plex.map.any() else None
        if flights.failures:
            raise flights.failures[0]
        return flights.arrived

    async def _send_all(self, flights: "_Flights", nursery: trio.Nursery) -> None:
        plex, mirror = flights.plex, self._running.mirror
        everything, pace = Round(mirror, plex), flights.pace
        more = True
        while (more or everything.put_off) and not flights.failures and self._may_send(plex, flights.generation):
            await flights.slots.acquire()
            await pace.turn()
            if not more:
                nursery.start_soon(self._send_held, flights, everything.put_off.pop(0))
                continue
            cargo = None
            if await mirror.rest_lock.enter(mirror.timeout_seconds):
                if self._may_send(plex, flights.generation):
                    cargo = everything.load()
                    more = cargo is not None
                if cargo is None or not cargo.sent:
                    mirror.rest_lock.leave()
            if cargo is not None:
                pace.took(plex, cargo.seconds, self._lag_seconds(plex))
            if cargo is None or not cargo.sent:
                flights.slots.release()
                continue
            self._flights[plex.uuid] += 1
            nursery.start_soon(self._fly, flights, cargo)

    async def _send_held(self, flights: "_Flights", run: range) -> None:
        """Send what was put off, read with the bytes of these regions held: if these can be had soon, for a write that
        hangs there is nobody else's business.
        """
        plex, mirror, entered, cargo = flights.plex, self._running.mirror, False, None
        offset, length = mirror.volume.geometry.bytes_of(run)
        try:
            async with AsyncExitStack() as stack:
                with trio.move_on_after(PATIENCE_SECONDS) as patience:
                    await stack.enter_async_context(mirror.ranges.hold((offset, offset + length)))
                if patience.cancelled_caught or not (
                    self._may_send(plex, flights.generation) and plex.map.these(run).all()
                ):
                    return
                loaded = await load_held(mirror, plex, run)
                entered = await mirror.rest_lock.enter(mirror.timeout_seconds)
                if entered and self._may_send(plex, flights.generation):
                    cargo = loaded
                    lagging.send(plex, cargo.sent)
                    self._flights[plex.uuid] += 1
        except FmrdError as error:  # out of the nursery it would come as a group
            flights.failures.append(error)
        finally:
            if cargo is None:
                flights.slots.release()
                if entered:
                    mirror.rest_lock.leave()
        if cargo is not None:
            await self._fly(flights, cargo)

    async def _fly(self, flights: "_Flights", cargo: Cargo) -> None:
        """Write it while its bytes are free. What became of it is judged in the step in which it has landed."""
        plex, mirror, volume = flights.plex, self._running.mirror, self._running.volume
        outcomes: list[Outcome] = []
        try:
            if plex.generation == cargo.generation:
                plex.writes += len(cargo.pieces) + len(cargo.zeros)
                plex.write_bytes += cargo.length
                calls = cargo.calls(mirror.opened[plex.uuid])
                outcomes = await carry_out(mirror.system, calls, mirror.timeout_seconds)
        finally:
            as_read = lagging.arrived(plex, cargo.sent)
            self._flights[plex.uuid] -= 1
            self._landed.set()
            self._landed = trio.Event()
            flights.slots.release()
            mirror.rest_lock.leave()
        if plex.generation != cargo.generation:
            return
        errors = [each.error for each in outcomes if each.error is not None]
        if errors:
            lagging.doubt([plex])
            mirror.say(volume.fail_plex(plex, errors[0]))
            return
        for run in adjacent(as_read):
            if volume.copied(plex, run, cargo.dropped):
                plex.room += len(run)
                flights.arrived = True

    def _lag_seconds(self, plex: Plex) -> float:
        return self._running.context.now() - plex.lags_since if plex.lags_since is not None else 0.0

    async def _checkpoint(self, plex: Plex) -> None:
        """As that of a copy: what has arrived is durable, and then out of the map on disk."""
        mirror = self._running.mirror
        await mirror.sync(plex)
        await mirror.until_recorded()
        await mirror.store.write_pages(mirror.volume.touched_pages())
        if plex.reason and plex.lags and plex.settled:
            mirror.volume.recovered(plex)

    def _say(self, plex: Plex, sentence: str) -> None:
        log.warning("volume %s: plex %s %s", self._running.volume.name, plex.name, sentence)


class _Flights:
    """The flights of one round to a plex; they count for the generation in which it began."""

    def __init__(self, plex: Plex, pace: Pace, generation: int) -> None:
        self.plex = plex
        self.pace = pace
        self.generation = generation
        self.slots = trio.Semaphore(FLIGHTS)
        self.failures: list[FmrdError] = []
        self.arrived = False
        """Some of what it lacked."""
