"""Schedules about stores, written by hand, as those of snap_directed.py."""

from dataclasses import replace

import trio

from fmrd.backing.calls.system_calls import Call
from fmrd.engine.serving.writes_under_way import Landing, Zeroer
from tests.sim import shared, snaps
from tests.sim.directed import KILL, until
from tests.sim.life import REGION, Life
from tests.sim.snap_directed import pages_of
from tests.sim.system_calls import PATIENCE


async def read_while_it_is_given_up(life: Life) -> None:
    """What a snapshot's plex showed counts only if it holds that still: its room may have been given back."""
    life.system.laziness = 0
    await life.verbs.store_add(name="s", directory=shared.STORE, size_bytes=2 * REGION)
    await life.write(0, 2 * REGION)
    for _ in range(2):
        await snaps.instant(life)
    await life.write(0, REGION)  # both have kept it: there is no room left
    held: list[Call] = []
    written = trio.Event()

    def late(call: Call) -> bool:
        if not held and call.lane.name == "SNAP0-v-01":
            held.append(call)
        return call in held and not written.is_set()

    life.system.delay = late
    async with trio.open_nursery() as nursery:
        nursery.start_soon(life.read, 0, REGION, "SNAP0-v")
        await until(lambda: held)
        await life.write(REGION, REGION)
        assert life.schedule.counts["snapshot_given_up"] == 1, "the moment that it is about"
        written.set()


async def killed_when_its_room_was_given_back(life: Life) -> None:
    """By then it is lost for whoever starts next."""
    life.system.laziness = 0
    await life.verbs.store_add(name="s", directory=shared.STORE, size_bytes=REGION)
    await life.write(0, 2 * REGION)
    await snaps.instant(life)
    await life.write(0, REGION)  # kept: there is no room left
    punched: list[Call] = []

    def crash(call: Call) -> bool:
        if isinstance(call.run, Landing) and isinstance(call.run.run, Zeroer):
            punched.append(call)
        elif punched:
            life.system.rng.randrange = lambda *limits: 0  # type: ignore[method-assign]  # nothing in flight lands
            life.system.crash("kill")
        return False

    life.system.delay = crash
    await life.write(REGION, REGION)


async def killed_before_what_is_lost_is_known(life: Life) -> None:
    """Another write of its original finds it lost, in memory, and waits for the page that says so."""
    life.system.laziness = 0
    await life.verbs.store_add(name="s", directory=shared.STORE, size_bytes=REGION)
    await life.write(0, 6 * REGION)
    await snaps.instant(life)
    await life.write(0, REGION)
    [unkept] = life.service.volume.unkept.values()
    life.system.stick = pages_of(unkept, everywhere=True)
    life.nursery.start_soon(life.write, REGION, REGION)
    await until(lambda: 5 in unkept.map)
    life.nursery.start_soon(life.write, 5 * REGION, REGION)
    for _ in range(PATIENCE):
        await trio.lowlevel.checkpoint()
    life.system.rng.randrange = lambda *limits: 0  # type: ignore[method-assign]  # nothing in flight lands
    life.system.crash("kill")


_STORE = replace(KILL, store=True)
DIRECTED = {
    "store: read while it is given up": (read_while_it_is_given_up, _STORE),
    "store: killed when its room was given back": (killed_when_its_room_was_given_back, _STORE),
    "store: killed before what is lost is known": (killed_before_what_is_lost_is_known, _STORE),
}
