"""A plex that may lag is brought up to date here, region by region, for as long as its volume is started.

What it lacks is in its map (core/volume/lagging.py). A few runs of regions are on their way at a time: each is read
from a plex that holds it, with its bytes held, and written when they are free again, so that no writer waits for the
line. What was written to meanwhile stays in the map. No copy of another kind works on that plex then (CopyTasks), and
while something is on its way the volume is not at rest. As of any copy, what has arrived is durable with the next
checkpoint, and in the map on disk until then (rule 2b).
"""

import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from fmrd.core.volume import lagging
from fmrd.core.volume.plex import Plex
from fmrd.engine.running import Running
from fmrd.engine.serving import reading
from fmrd.engine.serving.writes_under_way import Writer, Zeroer
from fmrd.errors import FmrdError

log = logging.getLogger(__name__)

FLIGHTS = 8
"""So many runs are on their way at a time."""
FLIGHT_BYTES = 256 << 10
GATHER_SECONDS = 0.05
"""Writes that come soon after each other share one copy of their region."""
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
        try:
            while self._goes_on(plex):
                self._due[plex.uuid] = trio.Event()
                patience = IDLE_SECONDS if not plex.lags else PATIENCE_SECONDS
                try:
                    if plex.lags and not self._halted[plex.uuid]:
                        arrived = await self._pass(plex)
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
                await trio.sleep(GATHER_SECONDS)
        finally:
            del self._due[plex.uuid]

    async def _pass(self, plex: Plex) -> bool:
        """Send what it lacks, once. Return whether anything arrived."""
        began = self._running.context.now()
        if plex.lags_since is None and plex.map.any():
            plex.lags_since = began
        lagging.give_room(plex)
        geometry, generation = self._running.volume.geometry, plex.generation
        most = max(1, FLIGHT_BYTES // geometry.region_bytes)
        cursor, arrived = 0, False
        failures: list[FmrdError] = []

        async def send() -> None:
            nonlocal cursor, arrived
            while not failures and self._may_send(plex, generation):
                run = plex.map.next_run(cursor, most)
                if run is None:
                    return
                cursor = run.stop
                try:
                    arrived = await self._send(plex, run, generation) or arrived
                except FmrdError as error:  # out of the nursery it would come as a group
                    failures.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(FLIGHTS):
                nursery.start_soon(send)
        lagging.give_room(plex)
        plex.lags_since = began if plex.map.any() else None
        if failures:
            raise failures[0]
        return arrived

    async def _send(self, plex: Plex, run: range, generation: int) -> bool:
        mirror, entered = self._running.mirror, False
        offset, length = self._running.volume.geometry.bytes_of(run)
        try:
            async with mirror.ranges.hold((offset, offset + length)):
                if not (self._may_send(plex, generation) and plex.map.these(run).all()):
                    return False
                data = await reading.read_all(mirror, offset, length, mend=False)
                entered = await mirror.rest_lock.enter(mirror.timeout_seconds)
                if not (entered and self._may_send(plex, generation)):
                    return False
                lagging.send(plex, run)
                self._flights[plex.uuid] += 1
            return await self._fly(plex, run, offset, data)
        finally:
            if entered:
                mirror.rest_lock.leave()

    async def _fly(self, plex: Plex, run: range, offset: int, data: bytes) -> bool:
        """Write it while its bytes are free. What became of it is judged in the step in which it has landed."""
        mirror, volume = self._running.mirror, self._running.volume
        generation, dropped = plex.generation, plex.dropped
        span = ((offset, offset + len(data)),)
        disk = mirror.opened[plex.uuid]
        zero = data.count(0) == len(data)
        # On the far side zeros keep their blocks, as in every copy (docs/FAR.md): it must not run out of room later.
        work = (
            Zeroer(disk.backing, span, punch=not disk.backing.far) if zero else Writer(disk.backing, [(offset, data)])
        )
        try:
            call = disk.writing(work, span, inline=disk.inline and not zero)
            plex.writes += 1
            plex.write_bytes += len(data)
            [outcome] = await mirror.system.in_turn([call], mirror.timeout_seconds)
        finally:
            as_read = lagging.arrived(plex, run)
            self._flights[plex.uuid] -= 1
            self._landed.set()
            self._landed = trio.Event()
        if plex.generation != generation:
            return False
        if outcome.error is not None:
            mirror.say(volume.fail_plex(plex, outcome.error))
            return False
        return volume.copied_these(plex, run.start, as_read, dropped)

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
