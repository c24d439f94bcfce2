"""One life of the daemon on the simulated machine: how it opens, what it does, how it ends."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from fmrd.core.states import PlexState
from fmrd.dco.loading import load
from fmrd.engine.context import Context
from fmrd.engine.registry import Registry
from fmrd.engine.served import Served
from fmrd.engine.service import Service
from fmrd.engine.verbs.verbs import Verbs
from fmrd.errors import Failed, FmrdError
from tests.door import Door
from tests.sim import shared, snaps, tracked
from tests.sim.disks import GRANULE, Crash, data_of, labels_of
from tests.sim.operations import APPLICATION, CHANGES, OPERATIONS, choose
from tests.sim.oracle import Broken
from tests.sim.system_calls import SimCalls

if TYPE_CHECKING:
    from tests.sim.schedule import Schedule

REGION = 8192
EXTENT = 16384
IO_TIMEOUT = 30.0
LONGEST_LIFE = 2_000.0
"""Seconds of simulated time after which a life is stuck."""
NAME = "v"


@dataclass
class Life:
    """One daemon, from its start to its end."""

    schedule: "Schedule"
    system: SimCalls
    mortal: bool
    rng: random.Random = field(init=False)
    registry: Registry = field(init=False)
    verbs: Verbs = field(init=False)
    nursery: trio.Nursery = field(init=False)
    under_way: int = 0
    busy: int = 0
    """Requests of the application under way."""
    quiet: bool = False
    """The application does nothing."""
    changing: bool = False
    """A snapshot is being taken, or goes back."""

    def __post_init__(self) -> None:
        self.rng = random.Random(self.schedule.rng.random())

    async def run(self, script: "Script") -> None:
        context = Context(self.schedule.machine, self.system, now=trio.current_time, new_uuid=self.schedule.new_uuid)
        context.draw = lambda below: 0  # all of so small a volume has its checksums anyway
        context.return_seconds = 0.0  # an attach is an operation of its own here
        context.checksums = self.schedule.profile.verify
        context.io_timeout_seconds = IO_TIMEOUT
        self.registry = Registry(context, "")
        self.verbs = Verbs(self.registry)
        if self.schedule.profile.store:
            context.now = lambda: float(self.schedule.machine.ticks)  # it does not begin anew with each life
            context.events.listeners.append(partial(shared.look, self))
        with trio.move_on_after(LONGEST_LIFE):
            async with trio.open_nursery() as nursery:
                self.nursery = nursery
                self.system.start = nursery.start_soon
                await nursery.start(self.registry.run)
                await script(self)
                while self.under_way:
                    await trio.testing.wait_all_tasks_blocked()
                    self.system.release()
                    await trio.sleep(IO_TIMEOUT)
                await self.registry.close()
                self.check_stopped()
            return
        raise Broken("something waits for ever")

    # The scripts of a life

    async def first(self) -> None:
        schedule, rng, context = self.schedule, self.rng, self.registry.context
        context.hot_extents = rng.choice([3, 4, 6, 8] if schedule.profile.crowded else [1, 2, 3])
        context.page_regions = rng.choice([2, 4, 8])
        context.columns = schedule.profile.columns
        await self.verbs.make(
            volume=NAME,
            size_bytes=schedule.length,
            plexes=[{"path": f"/{letter}"} for letter in "abcdefgh"[: schedule.profile.plexes]],
            region_size_bytes=REGION,
            drl_extent_bytes=EXTENT,
            rdpol=rng.choice(["select", "round"]),
        )
        if schedule.profile.store:
            await shared.add(self)

    async def work(self) -> None:
        if not await self.open():
            return
        snaps.look(self)
        tracked.look(self)
        for name in [NAME, *sorted(self.schedule.snaps.oracles)]:
            await self.read_all(name)
        tracked.look_at_maps(self)
        for _ in range(self.rng.randint(4, self.schedule.profile.steps)):
            await self.step()
            for _ in range(self.rng.choice([0, 0, 1, 5, 20])):
                await trio.lowlevel.checkpoint()

    async def last(self) -> None:
        """Everything is well again: all of it must come back, and agree."""
        self.system.laziness = 0
        if not await self.open(must=True):
            raise Broken("the volume did not come back")
        self.must_be_well()
        snaps.look(self)
        tracked.look(self)
        await self.read_all()
        tracked.look_at_maps(self)
        service = self.service
        for plex in list(service.volume.plexes):
            if plex.state is PlexState.OFFLINE:
                await self.verbs.plex_on(volume=NAME, plex=plex.name)
        await self.settle_tasks()
        for plex in list(service.volume.plexes):
            if not plex.is_open:
                await self.attach_at_last(plex.name)
        await self.settle_tasks()
        await tracked.at_last(self)
        await snaps.at_last(self)
        await self.flush_at_last()
        await trio.sleep(6)  # of simulated time: the service looks after what is left
        await self.settle_tasks()
        for _ in range(60):
            if not any(p.lags and not p.settled for p in service.volume.plexes):
                break
            await trio.sleep(1)
        await self.read_all()
        states = {p.name: p.state.value for p in service.volume.plexes}
        if not set(states.values()) <= {"ACTIVE", "SNAPDONE"} or any(p.map.any() for p in service.volume.plexes):
            tasks = [(t.state, t.error) for t in self.registry.context.tasks.all()]
            raise Broken(f"not in sync at last: {states} {tasks}")
        await self.verbs.stop(volume=NAME)
        disks = [self.schedule.machine.plexes[p.path] for p in service.volume.plexes]
        for granule in range(service.volume.geometry.length_bytes // GRANULE):
            found = {disk.disk[granule] for disk in disks}
            if len(found) > 1:
                raise Broken(f"plexes differ in granule {granule}: {[d.disk[granule] for d in disks]}")
            self.schedule.oracle.check(granule, found.pop(), "at last")

    async def attach_at_last(self, plex: str) -> None:
        try:
            answer = await self.verbs.plex_att(volume=NAME, plex=plex, settled=self.schedule.far)
        except FmrdError as error:
            if not (self.schedule.faulted and error.code.startswith("refused_")):
                raise
            self.schedule.count(error.code)
            parted = error.code == "refused_split_brain"
            answer = await self.verbs.plex_att(volume=NAME, plex=plex, full=not parted, discard=parted, settled=True)
            self.schedule.count(f"given up: {answer['task']['reason']['code']}")
        self.must_not_be_full(answer["task"])

    def must_not_be_full(self, task: dict[str, Any]) -> None:
        code = task["reason"]["code"]
        self.schedule.count(code)
        path = next((p.path for u in self.registry.units.values() if u.service is not None
                     for p in u.service.volume.plexes if p.name == task["plex"]), "")  # fmt: skip
        disk = self.schedule.machine.plexes.get(path)
        if code == "full_backing_changed" and disk is not None and (disk.unstamped or disk.elsewhere):
            disk.unstamped = disk.elsewhere = False
            return
        if code.startswith("full_") and code != "full_new_plex" and not self.schedule.faulted:
            raise Broken(f"plex {task['plex']} was copied in full without need: {task['reason']}")

    async def flush_at_last(self, volume: str = NAME) -> None:
        """A flush that failed on a last copy leaves regions suspect until they are written anew: so they are."""
        served = self.served_as(volume)
        try:
            await Door(served).flush()
        except FmrdError as error:
            if error.code != "suspect" or not self.schedule.faulted:
                raise
            await self.write(0, served.length_bytes, volume=volume)
            [shown] = (await self.verbs.print(volume=volume))["volumes"]
            full = self.schedule.profile.store and volume != NAME
            if not shown["lost"] and not full:  # what an instant snapshot has lost cannot be written either
                await Door(served).flush()

    async def settle_tasks(self) -> None:
        while running := self.registry.context.tasks.running():
            await running[0].finished.wait()
        await trio.testing.wait_all_tasks_blocked()

    # Opening

    async def open(self, *, must: bool = False) -> bool:
        """The volume serves, or what kept it is in order; then the administrator helps (import, bring plexes back)."""
        machine = self.schedule.machine
        for attempt in range(3):
            unit = self.registry.units.get(NAME)
            if unit is not None and unit.service is not None:
                self.schedule.put_back_in_time = False
                return True
            failure = unit.failure if unit is not None else None
            if unit is not None and failure is None:  # the crash came between a stop and the start after it
                try:
                    await self.verbs.start(volume=NAME)
                except FmrdError as error:
                    machine.alive()
                    unit.failure = error
                continue
            machine.alive()
            code = failure.code if failure is not None else "home_missing"
            self.schedule.note(f"not open: {failure}")
            self.schedule.count(code)
            if not self.schedule.faulted and not (code == "session_open" and self.schedule.far):
                raise Broken(f"the start was refused without need: {failure}")
            if not must and code != "home_missing" and self.rng.random() < 0.3:
                return False
            try:
                # Also where a home copy of old names a plex that was dissociated since as the only one.
                if code in ("home_missing", "foreign_plex", "home_damaged", "plexes_changed"):
                    self.schedule.put_back()
                    paths = [p for p in sorted(machine.plexes) if self.has_dco(p)]
                    # An old home copy of a line that the plexes never heard of: at last it is given up.
                    await self.verbs.import_volume(paths=paths, force=must and attempt > 0)
                else:
                    self.schedule.put_back()
                    settled = self.schedule.far
                    # A plex that somebody cut does not come back; a record that it alone has was never acted upon.
                    force = code == "home_torn" and any(disk.cut is not None for disk in machine.plexes.values())
                    await self.verbs.start(volume=NAME, force=force, settled=settled)
            except FmrdError as error:
                unit = self.registry.units.get(NAME)
                if unit is not None:
                    unit.failure = error
                self.schedule.note(f"still not open: {error}")
        if must:
            raise Broken(f"everything is here, and the start is refused: {self.schedule.trace[-1]}")
        return False

    def has_dco(self, path: str) -> bool:
        """A plex that was never joined, or was dissociated, is none that an administrator would name."""
        dco = self.schedule.machine.dcos.get(path)
        return dco is not None and load(dco).image.record is not None

    def check_stopped(self) -> None:
        if self.schedule.machine.dead:
            raise Crash

    @property
    def service(self) -> Service:
        return self.registry.service(NAME)

    def served_as(self, volume: str) -> Served:
        served = self.registry.find(volume)
        if served is None:
            raise Failed("volume_stopped", f"{volume} is not served")
        return served

    # Operations

    async def step(self) -> None:
        unit = self.registry.units.get(NAME)
        if unit is None or unit.service is None:
            return
        operation = choose(self.rng, self.schedule.profile)
        self.schedule.count(operation)
        self.must_be_well()
        shared.must_fit(self)
        work = OPERATIONS[operation]
        if operation == "lie":  # nothing else happens meanwhile
            await work(self)
            return
        if self.mortal and operation in CHANGES and self.rng.random() < self.schedule.profile.eager:
            self.system.crash_at = self.system.steps + self.rng.randint(1, 16)
        if operation in APPLICATION or self.rng.random() < 0.5:
            self.spawn(operation, work)
        else:
            await work(self)

    def must_be_well(self) -> None:
        """Broken where a plex left by an error, and no disk had one."""
        left = [p for p in self.service.volume.plexes if p.state is PlexState.IOFAIL]
        if left and not self.schedule.faulted:
            raise Broken(f"plex {left[0].name} left, and no disk failed: {left[0].failure}")

    def spawn(self, operation: str, work: "Script") -> None:
        async def run() -> None:
            try:
                if self.registry.find(NAME) is not None:  # it may have been stopped meanwhile
                    await work(self)
            finally:
                self.under_way -= 1

        if self.under_way < 6:
            self.under_way += 1
            self.nursery.start_soon(run)

    async def read_all(self, volume: str = NAME) -> None:
        if self.registry.find(volume) is None:
            return
        geometry = self.registry.service(volume).volume.geometry
        order = list(range(geometry.regions))
        self.rng.shuffle(order)
        for region in order:
            offset, length = geometry.bytes_of(range(region, region + 1))
            await self.read(offset, length, volume)

    async def read(self, offset: int, length: int, volume: str = NAME) -> None:
        if self.quiet:
            return
        oracle, machine = self.schedule.oracle_of(volume), self.schedule.machine
        self.busy += 1
        read = oracle.begin_read(range(offset // GRANULE, (offset + length) // GRANULE))
        try:
            data = await self.read_as_a_door(self.served_as(volume), offset, length)
        except FmrdError as error:
            self.excuse("read", error, volume)
            oracle.end_read(read, None)
            return
        finally:
            self.busy -= 1
        machine.alive()
        tracked.turned(self, heard=False)
        oracle.end_read(read, labels_of(data))

    async def write(self, offset: int, length: int, volume: str = NAME, *, zeros: bool = False) -> None:
        """``zeros``: they are made, as a discard makes them, not written."""
        if self.quiet:
            return
        oracle, machine = self.schedule.oracle_of(volume), self.schedule.machine
        self.busy += 1
        write = oracle.begin_write(range(offset // GRANULE, (offset + length) // GRANULE), zeros=zeros)
        try:
            if zeros:
                await Door(self.served_as(volume)).make_zero(offset, length, punch=self.rng.random() < 0.5)
            else:
                data = data_of([write.label] * (length // GRANULE))
                await self.write_as_a_door(self.served_as(volume), offset, data)
        except FmrdError as error:
            self.excuse("write", error, volume)
            oracle.end_write(write, acknowledged=False)
            return
        finally:
            self.busy -= 1
        machine.alive()
        oracle.end_write(write, acknowledged=True)

    async def read_as_a_door(self, served: Served, offset: int, length: int) -> bytes:
        buffer = memoryview(bytearray(length))
        return bytes(await self._as_a_door("read", served, partial(served.read_now, offset, buffer)))

    async def write_as_a_door(self, served: Served, offset: int, data: bytes) -> None:
        await self._as_a_door("write", served, partial(served.write_now, offset, data))

    async def _as_a_door(self, what: str, served: Served, begin: Callable[[Callable[[Any], None]], object]) -> Any:
        """What has to be waited for is done by the task that asks, but for what follows on calls that were begun."""
        results: list[Any] = []
        answered = trio.Event()

        def done(result: Any) -> None:
            results.append(result)
            answered.set()

        left: list[Callable[[], Awaitable[None]]] = []
        served.start = left.append  # type: ignore[assignment]  # a door's own way to have it done
        with self.schedule.machine.quickly(self.system.step):
            begin(done)
        served.start = self.nursery.start_soon
        self.schedule.count(f"{what} at once" if results else f"{what} later" if left else f"{what} begun")
        for work in left:
            await work()
        await answered.wait()
        [result] = results
        if isinstance(result, Exception):
            raise result
        return result

    async def flush(self, volume: str = NAME) -> None:
        if self.quiet:
            return
        oracle, machine = self.schedule.oracle_of(volume), self.schedule.machine
        self.busy += 1
        flush = oracle.begin_flush()
        try:
            await Door(self.served_as(volume)).flush()
        except FmrdError as error:
            self.excuse("flush", error, volume)
            oracle.end_flush(flush, acknowledged=False)
            return
        finally:
            self.busy -= 1
        machine.alive()
        oracle.end_flush(flush, acknowledged=not tracked.is_of_a_stream(self, volume))

    def excuse(self, what: str, error: FmrdError, volume: str) -> None:
        self.schedule.count(f"{what} {error.code}")
        self.schedule.note(f"{what}: {error}")
        invalid = error.code == "snap_invalid" and volume in self.schedule.snaps.stopped
        invalid = invalid or shared.is_in_order(self, error, volume)
        if error.code != "volume_stopped" and not self.schedule.faulted and not invalid:
            raise Broken(f"a {what} failed, and no disk did: {error}")


Script = Callable[[Life], Awaitable[None]]
