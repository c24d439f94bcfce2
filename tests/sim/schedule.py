"""One schedule: a few lives of a daemon on one simulated machine, all of it drawn from one seed.

Each life opens the volume with the real registry, runs operations against the real verbs and mirror, and ends in a
stop, a kill or a power loss. Between lives plexes go away and come back, and the home copy may be lost or rolled back.
At the end everything is healed and attached; then every plex must be equal, and every granule hold what the oracle
allows.
"""

import copy
import functools
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

import trio
import trio.testing

from fmrd.core.record import geometry_of
from fmrd.core.states import PlexState
from fmrd.dco import layout
from fmrd.dco.copy import load
from fmrd.engine import resync
from fmrd.engine.context import Context
from fmrd.engine.registry import Registry, Served
from fmrd.engine.service import Service
from fmrd.engine.verbs import Verbs
from fmrd.errors import FmrdError
from tests.sim.hops import SimHops
from tests.sim.machine import GRANULE, Crash, Machine, SimDco, data_of, labels_of
from tests.sim.operations import CHANGES, OPERATIONS, choose
from tests.sim.oracle import Broken, Oracle

REGION = 8192
EXTENT = 16384
IO_TIMEOUT = 30.0
LONGEST_LIFE = 2_000.0
"""Seconds of simulated time after which a life is stuck."""
NAME = "v"


@dataclass(frozen=True)
class Profile:
    """What a kind of schedule may contain; weights of operations are in ``Life``."""

    plexes: int = 3
    regions: int = 6
    steps: int = 24
    crashes: int = 2
    faults: tuple[str, ...] = ()
    """Kinds of faults, of operations.BREAKS."""
    hangs: bool = False
    absences: bool = False
    homes: bool = False
    """The home copy is lost or rolled back between lives."""
    rot: bool = False
    """Pages of the DCO rot between lives."""
    eager: float = 0.0
    """How often a crash follows soon upon an operation that changes states, where the windows are narrow."""
    power: float = 0.5
    """How many of the crashes are power losses."""
    weights: tuple[tuple[str, int], ...] = ()
    """Changes to operations.WEIGHTS."""


@dataclass
class Schedule:
    """``run`` raises Broken (or whatever the code raised) with nothing swallowed."""

    seed: int
    profile: Profile
    rng: random.Random = field(init=False)
    machine: Machine = field(init=False)
    oracle: Oracle = field(init=False)
    counts: dict[str, int] = field(default_factory=dict)
    trace: list[str] = field(default_factory=list)
    faulted: bool = False
    """A fault fired, or a plex was away: errors and full copies are in order from here on."""
    hurt: bool = False
    """A disk failed. A last plex whose own copy of the DCO failed stays, so the home copy alone knows the latest:
    losing it too is a second fault, and nobody can tell.
    """
    old_homes: list[SimDco] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.machine = Machine(random.Random(self.rng.random()))
        short = self.rng.choice([0, 4096])
        self.length = self.profile.regions * REGION - short
        self.oracle = Oracle(self.length // GRANULE)

    def note(self, event: str) -> None:
        self.trace.append(event)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def new_uuid(self) -> str:
        return str(UUID(int=self.rng.getrandbits(128), version=4))

    def run(self) -> None:
        crashes = self.rng.randrange(self.profile.crashes + 1)
        self.life(Life.first)
        for _ in range(crashes):
            self.life(Life.work, crash=True)
            self.between()
        self.life(Life.work)
        self.between()
        self.put_back()
        self.life(Life.last)

    def between(self) -> None:
        """The machine is off, or at least the daemon is."""
        profile, rng, machine = self.profile, self.rng, self.machine
        if profile.absences:
            for disk in machine.plexes.values():
                disk.present = rng.random() < 0.75
                if not disk.present:
                    self.note(f"away {disk.path}")
                    self.faulted = True
        if rng.random() < 0.5:
            machine.heal()
        whole = not self.hurt and all(d.present for d in machine.plexes.values())
        if profile.homes and rng.random() < 0.4 and whole:
            if self.old_homes and rng.random() < 0.5:
                self.note("home rolled back")
                old = rng.choice(self.old_homes)
                machine.homes_[NAME].blocks = dict(old.blocks)
            else:
                self.note("home lost")
                machine.homes_.clear()
            self.faulted = True
        if profile.rot and NAME in machine.homes_ and rng.random() < 0.6:
            self.rot()
        if profile.homes and NAME in machine.homes_:
            self.old_homes.append(copy.copy(machine.homes_[NAME]))
            self.old_homes[-1].blocks = dict(machine.homes_[NAME].blocks)

    def rot(self) -> None:
        """A page rots: on the home copy alone, or, of a plex that is out, on every copy."""
        home = self.machine.homes_[NAME]
        record = load(home).image.record
        if record is None:
            return
        volume = record.volume
        out = [p.map for p in volume.plexes if not p.is_open]
        if out and self.rng.random() < 0.6:
            column, copies = self.rng.choice(out), [home, *self.machine.dcos.values()]
        else:
            column, copies = self.rng.choice([volume.drl, *(p.map for p in volume.plexes)]), [home]
        page = self.rng.randrange(geometry_of(volume).pages)
        self.note(f"rot column {column.index} page {page} of {len(copies)} copies")
        self.faulted = True
        for copy_ in copies:
            for slot in (0, 1):
                block = layout.page_offset(column.index, page, slot, record.columns) // layout.DCO_BLOCK_BYTES
                if block in copy_.blocks:
                    copy_.blocks[block] = b"rot" + copy_.blocks[block][3:]

    def put_back(self) -> None:
        self.machine.heal()
        for disk in self.machine.plexes.values():
            disk.present = True

    def life(self, script: "Script", *, crash: bool = False) -> None:
        rng = self.rng
        hops = SimHops(self.machine, random.Random(rng.random()), laziness=rng.choice([0, 1, 1, 3]))
        power = rng.random() < self.profile.power
        if crash:
            hops.crash_at = 1 + int(rng.expovariate(1 / rng.choice([10, 60, 250])))
            hops.crash_kind = "power" if power else "kill"
        life = Life(self, hops, mortal=crash)
        crashed = False
        with _deterministic(rng.getrandbits(32)):
            try:
                resync.WINDOW_BYTES = rng.choice([1, 2, 8]) * REGION
                resync.CHECKPOINT_BYTES = rng.choice([1, 2, 8]) * REGION
                trio.run(life.run, script, clock=trio.testing.MockClock(autojump_threshold=0))
            except BaseException as error:
                if not (self.machine.dead and _is_aftermath(error)):
                    raise
                crashed = True
        if crashed:
            self.note(f"CRASH {hops.crash_kind} at call {hops.steps}")
            self.count(hops.crash_kind)
            self.machine.reboot(power=power)
            self.oracle.crash(power=power)


@dataclass
class Life:
    """One daemon, from its start to its end."""

    schedule: Schedule
    hops: SimHops
    mortal: bool
    rng: random.Random = field(init=False)
    registry: Registry = field(init=False)
    verbs: Verbs = field(init=False)
    nursery: trio.Nursery = field(init=False)
    under_way: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.schedule.rng.random())

    async def run(self, script: "Script") -> None:
        context = Context(self.schedule.machine, self.hops, now=trio.current_time, new_uuid=self.schedule.new_uuid)
        context.io_timeout_seconds = IO_TIMEOUT
        self.registry = Registry(context, "")
        self.verbs = Verbs(self.registry)
        with trio.move_on_after(LONGEST_LIFE):
            async with trio.open_nursery() as nursery:
                self.nursery = nursery
                await nursery.start(self.registry.run)
                await script(self)
                while self.under_way:
                    await trio.testing.wait_all_tasks_blocked()
                    self.hops.release()
                    await trio.sleep(IO_TIMEOUT)
                await self.registry.close()
                self.check_stopped()
            return
        raise Broken("something waits for ever")

    # The scripts of a life

    async def first(self) -> None:
        schedule, rng = self.schedule, self.rng
        await self.verbs.make(
            volume=NAME,
            size_bytes=schedule.length,
            plexes=[{"path": f"/{letter}"} for letter in "abcdefgh"[: schedule.profile.plexes]],
            region_size_bytes=REGION,
            drl_extent_bytes=EXTENT,
            hot_extents=rng.choice([1, 2, 3]),
            page_regions=rng.choice([2, 4, 8]),
            rdpol=rng.choice(["select", "round"]),
        )

    async def work(self) -> None:
        if not await self.open():
            return
        await self.read_all()
        for _ in range(self.rng.randint(4, self.schedule.profile.steps)):
            await self.step()
            for _ in range(self.rng.choice([0, 0, 1, 5, 20])):
                await trio.lowlevel.checkpoint()

    async def last(self) -> None:
        """Everything is well again: all of it must come back, and agree."""
        self.hops.laziness = 0
        if not await self.open(must=True):
            raise Broken("the volume did not come back")
        await self.read_all()
        service = self.service
        for plex in list(service.volume.plexes):
            if plex.state is PlexState.OFFLINE:
                await self.verbs.plex_on(volume=NAME, plex=plex.name)
        await self.settle_tasks()
        for plex in list(service.volume.plexes):
            if not plex.is_open:
                await self.attach_at_last(plex.name)
        await self.settle_tasks()
        await self.flush_at_last()
        await trio.sleep(6)  # of simulated time: the service looks after what is left
        await self.settle_tasks()
        await self.read_all()
        states = {p.name: p.state.value for p in service.volume.plexes}
        if set(states.values()) != {"ACTIVE"} or any(p.map.any() for p in service.volume.plexes):
            tasks = [(t.state, t.error) for t in self.registry.context.tasks.all()]
            raise Broken(f"not in sync at last: {states} {tasks}")
        await self.verbs.stop(volume=NAME)
        disks = [self.schedule.machine.plexes[p.path] for p in service.volume.plexes]
        for granule in range(len(self.schedule.oracle.now)):
            found = {disk.disk[granule] for disk in disks}
            if len(found) > 1:
                raise Broken(f"plexes differ in granule {granule}: {[d.disk[granule] for d in disks]}")
            self.schedule.oracle.check(granule, found.pop(), "at last")

    async def attach_at_last(self, plex: str) -> None:
        try:
            answer = await self.verbs.plex_att(volume=NAME, plex=plex)
        except FmrdError as error:
            if not (self.schedule.faulted and error.code.startswith("refused_")):
                raise
            self.schedule.count(error.code)
            answer = await self.verbs.plex_att(volume=NAME, plex=plex, full=True)
        code = answer["task"]["reason"]["code"]
        self.schedule.count(code)
        if code.startswith("full_") and code != "full_new_plex" and not self.schedule.faulted:
            raise Broken(f"plex {plex} was copied in full without need: {answer['task']['reason']}")

    async def flush_at_last(self) -> None:
        """A flush that failed on a last copy leaves regions suspect until they are written anew: so they are."""
        try:
            await self.served.flush()
        except FmrdError as error:
            if error.code != "suspect" or not self.schedule.faulted:
                raise
            await self.write(0, self.service.volume.geometry.length_bytes)
            await self.served.flush()

    async def settle_tasks(self) -> None:
        while running := self.registry.context.tasks.running():
            await running[0].finished.wait()
        await trio.testing.wait_all_tasks_blocked()

    # Opening

    async def open(self, *, must: bool = False) -> bool:
        """The volume serves, or what kept it is in order; then the administrator helps (import, bring plexes back)."""
        machine = self.schedule.machine
        for _ in range(3):
            unit = self.registry.units.get(NAME)
            if unit is not None and unit.service is not None:
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
            if not self.schedule.faulted:
                raise Broken(f"the start was refused without need: {failure}")
            if not must and code != "home_missing" and self.rng.random() < 0.3:
                return False
            try:
                if code in ("home_missing", "foreign_plex", "home_damaged"):
                    self.schedule.put_back()
                    await self.verbs.import_volume(paths=[p for p in sorted(machine.plexes) if self.has_dco(p)])
                else:
                    self.schedule.put_back()
                    await self.verbs.start(volume=NAME)
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

    @property
    def served(self) -> Served:
        served = self.registry.find(NAME)
        assert served is not None
        return served

    # Operations

    async def step(self) -> None:
        unit = self.registry.units.get(NAME)
        if unit is None or unit.service is None:
            return
        operation = choose(self.rng, self.schedule.profile)
        self.schedule.count(operation)
        work = OPERATIONS[operation]
        if self.mortal and operation in CHANGES and self.rng.random() < self.schedule.profile.eager:
            self.hops.crash_at = self.hops.steps + self.rng.randint(1, 16)
        if operation in ("write", "read", "flush", "hang") or self.rng.random() < 0.5:
            self.spawn(operation, work)
        else:
            await work(self)

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

    async def read_all(self) -> None:
        geometry = self.service.volume.geometry
        order = list(range(geometry.regions))
        self.rng.shuffle(order)
        for region in order:
            offset, length = geometry.bytes_of(range(region, region + 1))
            await self.read(offset, length)

    async def read(self, offset: int, length: int) -> None:
        oracle, machine = self.schedule.oracle, self.schedule.machine
        read = oracle.begin_read(range(offset // GRANULE, (offset + length) // GRANULE))
        try:
            data = await self.served.read(offset, length)
        except FmrdError as error:
            self.excuse("read", error)
            oracle.end_read(read, None)
            return
        machine.alive()
        oracle.end_read(read, labels_of(data))

    async def write(self, offset: int, length: int) -> None:
        oracle, machine = self.schedule.oracle, self.schedule.machine
        write = oracle.begin_write(range(offset // GRANULE, (offset + length) // GRANULE))
        try:
            await self.served.write(offset, data_of([write.label] * (length // GRANULE)))
        except FmrdError as error:
            self.excuse("write", error)
            oracle.end_write(write, acknowledged=False)
            return
        machine.alive()
        oracle.end_write(write, acknowledged=True)

    async def flush(self) -> None:
        oracle, machine = self.schedule.oracle, self.schedule.machine
        flush = oracle.begin_flush()
        try:
            await self.served.flush()
        except FmrdError as error:
            self.excuse("flush", error)
            oracle.end_flush(flush, acknowledged=False)
            return
        machine.alive()
        oracle.end_flush(flush, acknowledged=True)

    def excuse(self, what: str, error: FmrdError) -> None:
        self.schedule.count(f"{what} {error.code}")
        self.schedule.note(f"{what}: {error}")
        if error.code != "volume_stopped" and not self.schedule.faulted:
            raise Broken(f"a {what} failed, and no disk did: {error}")


Script = Callable[[Life], Awaitable[None]]


def _is_aftermath(error: BaseException) -> bool:
    """A crash, or what tasks of a dead daemon stumble over while trio takes them down."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_aftermath(e) for e in error.exceptions)
    return isinstance(error, Crash | FmrdError) or "Nursery is closed" in str(error)


# Both are pure, and most of what a start reads was read by an earlier one.
layout.decode_record = functools.lru_cache(1024)(layout.decode_record)
layout.decode_page = functools.lru_cache(8192)(layout.decode_page)


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """trio draws the order of runnable tasks from a generator of its own; hypothesis's hook makes it ours."""
    from trio._core import _run

    before = _run._ALLOW_DETERMINISTIC_SCHEDULING
    _run._ALLOW_DETERMINISTIC_SCHEDULING = True
    _run._r.seed(seed)
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        _run._ALLOW_DETERMINISTIC_SCHEDULING = before
        logging.disable(level)
