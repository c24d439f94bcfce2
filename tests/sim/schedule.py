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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

import trio
from trio.testing import MockClock

from fmrd.core.maps import partly
from fmrd.core.record import geometry_of
from fmrd.dco import layout
from fmrd.dco.loading import load
from fmrd.engine.far import cargo, pace, trailing
from fmrd.engine.resync import resync, transfers, windows
from fmrd.engine.serving import quick
from fmrd.engine.verify import sums_file
from fmrd.errors import FmrdError
from tests.sim import parted, pauses
from tests.sim.dcos import SimDco
from tests.sim.disks import GRANULE, Crash
from tests.sim.lies import Lie
from tests.sim.life import NAME, REGION, Life, Script
from tests.sim.machine import Machine
from tests.sim.oracle import Oracle
from tests.sim.profiles import Profile
from tests.sim.snaps import Snaps
from tests.sim.system_calls import SimCalls
from tests.sim.tracked import Marks


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
    losing it too, or a page of it, is a second fault: nobody can tell, and a start may be refused.
    """
    put_back_in_time: bool = False
    """The home copy is an older one, and no life has been told so. That the plex that knows better is away as well is a
    second fault: nobody can tell.
    """
    old_homes: list[SimDco] = field(default_factory=list)
    photo: dict[int, bytes] | None = None
    """The blocks of the home copy at some moment of the life before."""
    snaps: Snaps = field(default_factory=Snaps)
    marks: Marks = field(default_factory=Marks)
    seen: list[int] = field(default_factory=list)
    """What a plex held at the last verify."""
    lie: Lie | None = None

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.machine = Machine(random.Random(self.rng.random()))
        short = self.rng.choice([0, 4096])
        self.length = self.profile.regions * REGION - short
        self.oracle = Oracle(self.length // GRANULE)
        self.machine.blocking = not self.profile.quick
        self.machine.begins = self.profile.begins
        self.machine.now = random.Random(self.seed) if self.profile.now else None
        self.machine.devices = self.profile.devices
        self.machine.far = self.profile.far
        self.machine.caches = self.profile.behind
        if self.profile.sessions:
            self.machine.sessions.rng = random.Random(self.seed)
            self.machine.sessions.fences = self.profile.sessions
            self.machine.sessions.refused = self.refused

    @property
    def far(self) -> bool:
        """Is there a plex on which something may be under way that only an administrator knows to be over?"""
        return self.profile.far or bool(self.profile.sessions)

    def refused(self) -> None:
        """A server let nobody in, so that a plex is away, as it may be."""
        self.faulted = True
        self.count("a server is busy")

    def oracle_of(self, volume: str) -> Oracle:
        return self.oracle if volume == NAME else self.snaps.oracles[volume]

    def note(self, event: str) -> None:
        self.trace.append(event)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def new_uuid(self) -> str:
        return str(UUID(int=self.rng.getrandbits(128), version=4))

    def run(self) -> None:
        if self.profile.parted:
            parted.run(self)
            return
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
        machine.take_strangers_away()
        if profile.strangers and not self.put_back_in_time:
            for path in sorted(machine.plexes):
                if rng.random() < 0.25:
                    self.note(f"a stranger at {path}")
                    self.count("a stranger at a path")
                    self.faulted = True
                    machine.put_stranger(path)
        if profile.absences and not self.put_back_in_time:
            for disk in machine.plexes.values():
                disk.present = rng.random() < 0.75
                if not disk.present:
                    self.note(f"away {disk.path}")
                    self.faulted = True
        if rng.random() < 0.5:
            machine.heal()
        whole = not self.hurt and not machine.strangers and all(d.present for d in machine.plexes.values())
        tampered = profile.homes and rng.random() < 0.4 and whole
        if tampered:
            if self.photo is not None and NAME in machine.homes_:
                self.put_back_in_time = True
                self.note("home as it was")
                self.count("home as it was")
                machine.homes_[NAME].blocks = self.photo
            elif self.old_homes and rng.random() < 0.5 and NAME in machine.homes_:
                self.put_back_in_time = True
                self.note("home rolled back")
                old = rng.choice(self.old_homes)
                machine.homes_[NAME].blocks = dict(old.blocks)
            else:
                self.note("home lost")
                machine.homes_.clear()
            self.faulted = True
        if profile.rot and not self.hurt and not tampered and NAME in machine.homes_ and rng.random() < 0.6:
            self.rot()
        if profile.homes and NAME in machine.homes_:
            self.old_homes.append(copy.copy(machine.homes_[NAME]))
            self.old_homes[-1].blocks = dict(machine.homes_[NAME].blocks)

    def take_photo(self) -> None:
        home = self.machine.homes_.get(NAME)
        self.photo = dict(home.blocks) if home is not None else None

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
        self.machine.take_strangers_away()
        self.machine.end_sessions()
        self.machine.heal()
        for disk in self.machine.plexes.values():
            disk.present = True

    def life(self, script: Script, *, crash: bool = False) -> None:
        rng = self.rng
        if self.profile.far:  # nothing there tells a new daemon what its predecessor had under way
            self.machine.end_sessions()
        system = SimCalls(self.machine, random.Random(rng.random()), laziness=rng.choice([0, 1, 1, 3]))
        power = rng.random() < self.profile.power
        if crash:
            system.crash_at = 1 + int(rng.expovariate(1 / rng.choice([10, 60, 250])))
            system.crash_kind = "power" if power else "kill"
        self.photo = None
        if self.profile.photos:
            last = system.crash_at or rng.randrange(1, 300)
            system.moment = max(1, last - rng.choice([0, 3, 10, 30, 100, 300]))
            system.at_that_moment = self.take_photo
        life = Life(self, system, mortal=crash)
        for disk in self.machine.plexes.values():
            disk.extended = False
        crashed = False
        with _deterministic(rng.getrandbits(32)):
            try:
                size = rng.choice([1, 2, 8]) * REGION
                windows.WINDOW_BYTES = windows.LONG_WINDOW_BYTES = size
                transfers.PIECE_BYTES = transfers.SHORT_PIECE_BYTES = REGION
                transfers.LONGEST_PAUSE_SECONDS = 0.0
                windows.LEAST_FAR_BYTES = windows.MOST_FAR_BYTES
                sums_file.HEADER_BYTES = 1 << 16
                quick.LARGE_BYTES = 2 * GRANULE
                resync.CHECKPOINT_BYTES = rng.choice([1, 2, 8]) * REGION
                cargo.FLIGHT_BYTES, cargo.FLIGHT_PIECES = 2 * REGION, 3
                partly.BLOCK_BYTES, partly.GAP_BYTES = GRANULE, 0
                trailing.GATHER_SECONDS, pace.SHARE = 0.0, 1.0
                clock = pauses.watched_clock() if self.profile.pauses else MockClock(autojump_threshold=0)
                trio.run(life.run, script, clock=clock)
            except BaseException as error:
                if not (self.machine.dead and _is_aftermath(error)):
                    raise
                crashed = True
        if crashed:
            self.note(f"CRASH {system.crash_kind} at call {system.steps}")
            self.count(system.crash_kind)
            self.machine.reboot(power=power)
            if self.lie is not None:
                self.lie.put(self.lie.truth)
                self.lie = None
            self.oracle.crash(power=power)
            self.snaps.crash(power=power)
            self.marks.crash(self)


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
