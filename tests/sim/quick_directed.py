"""Schedules about requests that end in the step in which they begin, written by hand as those of directed.py."""

from dataclasses import replace

import trio

from fmrd.backing.calls.system_calls import Call
from fmrd.engine.serving.writes_under_way import Landing
from tests.sim.directed import KILL, POWER, until
from tests.sim.disks import GRANULE
from tests.sim.life import EXTENT, NAME, REGION, Life
from tests.sim.system_calls import PATIENCE


async def written_at_once_beside_a_repair(life: Life) -> None:
    """A read repair has read on /b what it writes on /a: what is written in between would be overwritten there."""
    life.system.laziness = 0
    await life.verbs.set(volume=NAME, settings={"rdpol": "prefer:v-01"})
    await life.write(0, REGION)
    life.schedule.machine.plexes["/a"].faults.bad_reads = {0}
    written = trio.Event()
    source: list[Call] = []

    def read(call: Call) -> bool:
        if life.service.mirror.ranges.holders and call.lane.name == "v-02":
            source.append(call)
        return call in source and not written.is_set()

    life.system.linger = read
    async with trio.open_nursery() as nursery:
        nursery.start_soon(life.read, 0, GRANULE)
        await until(lambda: source)
        await life.write(0, GRANULE)
        written.set()
    life.system.crash("kill")


async def written_at_once_while_the_log_is_cleaned(life: Life) -> None:
    """What no fdatasync of the cleaning covered stays in the log."""
    life.system.laziness = 0
    await life.write(0, REGION)
    written = trio.Event()
    cleaned = trio.Event()
    syncing: list[Call] = []

    def synced(call: Call) -> bool:
        if getattr(call.run, "__name__", "") == "fdatasync":
            syncing.append(call)
        return call in syncing and not written.is_set()

    async def clean() -> None:
        await life.service.mirror.clean()
        cleaned.set()

    life.system.linger = synced
    life.nursery.start_soon(clean)
    await until(lambda: syncing)
    await life.write(0, GRANULE)
    written.set()
    await cleaned.wait()
    life.schedule.machine.plexes["/a"].worst = False  # /b loses what /a keeps
    life.schedule.machine.rng.choice = lambda labels: labels[-1]  # type: ignore[method-assign]  # the last label stays
    life.system.crash("power")


async def written_at_once_before_a_demotion_is_recorded(life: Life) -> None:
    """After a crash /a is current by the record, and does not hold it."""
    life.system.laziness = 0
    await life.write(0, 2 * REGION)
    life.schedule.machine.plexes["/a"].faults.fail_writes = 1
    life.system.stick = lambda call: call.lane.name.endswith(("home", "dco"))
    life.nursery.start_soon(life.write, 0, REGION)
    await until(lambda: not life.service.volume.plex("v-01").is_open and not life.service.mirror.ranges.holders)
    life.nursery.start_soon(life.write, REGION, GRANULE)
    for _ in range(PATIENCE):
        await trio.lowlevel.checkpoint()
    life.system.rng.randrange = lambda *limits: 0  # type: ignore[method-assign]  # nothing in flight lands
    life.system.crash("kill")


async def read_while_a_write_that_was_given_up_may_land(life: Life) -> None:
    """On the last copy: what a reader saw is not changed by a write that failed before it read."""
    life.system.laziness = 0
    await life.write(0, EXTENT)
    await life.verbs.plex_det(volume=NAME, plex="v-02")
    life.system.hung = {"v-01"}
    await life.write(0, GRANULE)
    life.system.hung = set()
    await life.read(0, REGION)
    await life.read(REGION, REGION)
    life.system.release()
    await life.read(0, REGION)
    life.system.crash("kill")


async def under_way_while_the_log_is_cleaned(life: Life) -> None:
    """/a has it, /b never gets it, and the cleaning saw neither."""
    life.system.laziness = 0
    await life.write(0, REGION)
    before = life.schedule.machine.plexes["/a"].cache[0]
    life.system.rng.shuffle = lambda calls: None  # type: ignore[method-assign]  # /a first
    life.system.delay = lambda call: call.lane.name == "v-02" and isinstance(call.run, Landing)
    life.nursery.start_soon(life.write, 0, GRANULE)
    await until(lambda: life.schedule.machine.plexes["/a"].cache[0] != before)
    await life.service.mirror.clean()
    life.system.rng.randrange = lambda *limits: 0  # type: ignore[method-assign]  # nothing in flight lands
    life.system.crash("kill")


DIRECTED = {
    "begun: under way while the log is cleaned": (under_way_while_the_log_is_cleaned, replace(KILL, begins=True)),
    "quick: read while a write that was given up may land": (
        read_while_a_write_that_was_given_up_may_land, replace(KILL, quick=True),
    ),
    "read while a write that was given up may land": (read_while_a_write_that_was_given_up_may_land, KILL),
    "quick: written at once before a demotion is recorded": (
        written_at_once_before_a_demotion_is_recorded, replace(KILL, quick=True),
    ),
    "quick: written at once beside a repair": (written_at_once_beside_a_repair, replace(KILL, quick=True)),
    "quick: written at once while the log is cleaned": (
        written_at_once_while_the_log_is_cleaned, replace(POWER, quick=True),
    ),
}  # fmt: skip
