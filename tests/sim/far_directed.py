"""Schedules written by hand about plexes behind servers (directed.py says how they end). /b is behind one."""

from contextlib import suppress
from functools import partial

from fmrd.core.volume.plex import Plex
from fmrd.engine.serving.writes_under_way import Landing, Writer
from fmrd.errors import Refused
from tests.sim.directed import KILL, POWER, until
from tests.sim.disks import GRANULE
from tests.sim.life import NAME, REGION, Life
from tests.sim.oracle import Broken
from tests.sim.profiles import Profile
from tests.sim.sessions import Server

OPEN = Profile(plexes=2, power=0.0, sessions=("",))


async def killed_while_a_plex_that_failed_hangs(life: Life) -> None:
    """Its record is one of any plex that failed: no error told that the call may be carried out yet."""
    machine = life.schedule.machine
    assert machine.sessions.server("/b") == Server("NBD"), "the seed decides that"
    plex = life.service.volume.plex("v-02")
    life.system.hung.add("v-02")
    await life.write(0, GRANULE)
    await until(lambda: not plex.is_open and life.service.volume.demotions_recorded == life.service.volume.demotions)
    first = machine.plexes["/a"].cache[0]
    life.system.hung.clear()
    life.system._stuck.clear()
    machine.sessions.tick = lambda: None  # type: ignore[method-assign]  # not before the next life asks for it
    machine.sessions.late.append(("/b", partial(machine.plexes["/b"].put, 0, first)))
    life.system.crash("kill")


async def attached_and_written(life: Life) -> None:
    """What hung is carried out now, wherever the plex is."""
    sessions = life.schedule.machine.sessions
    await life.open()
    await life.write(0, REGION)
    with suppress(Refused):
        await life.verbs.plex_att(volume=NAME, plex="v-02")
    await life.settle_tasks()
    await life.flush()
    await life.service.mirror.clean()
    for _, late in sessions.late:
        late()
    sessions.late.clear()


async def a_last_copy_gets_a_new_session(life: Life) -> None:
    """What was under way on the old one is carried out when the new one was written to."""
    sessions = life.schedule.machine.sessions
    sessions.cut_off = lambda path, late: sessions.late.append((path, late))  # type: ignore[method-assign]  # none is lost
    sessions.tick = lambda: None  # type: ignore[method-assign]  # not by itself
    await life.verbs.plex_det(volume=NAME, plex="v-01")
    sessions.lose("/b")
    await life.write(0, GRANULE)
    assert sessions.late, "it was sent"
    with suppress(Refused):
        await life.verbs.plex_att(volume=NAME, plex="v-02")
    await life.write(0, GRANULE)
    for _, late in sessions.late:
        late()
    sessions.late.clear()
    await life.read(0, GRANULE)
    life.system.crash("kill")


async def _lags(life: Life, bound: int = 8) -> Plex:
    """/a may lag by so many regions."""
    life.system.laziness = 0
    plex = life.service.volume.plex("v-01")
    await life.verbs.set(volume=NAME, settings={"write_behind": f"v-01:{bound * REGION}"})
    await until(lambda: plex.room == bound)
    return plex


async def killed_while_a_plex_lags(life: Life) -> None:
    """The map of what it lacks is in memory, and it is the first of the plexes."""
    await _lags(life)
    life.system.hung.add("v-01")
    await life.write(0, REGION)
    life.system._stuck.clear()
    life.system.crash("kill")


async def written_while_it_is_on_its_way(life: Life) -> None:
    """The same region, twice: what arrives is the older one."""
    plex = await _lags(life)
    life.system.linger = lambda call: call.lane.name == "v-01" and 0 in plex.sent
    life.system.delay = life.system.linger
    await life.write(0, REGION)
    await until(lambda: 0 in plex.sent)
    await life.write(0, REGION)
    await until(lambda: not plex.map.any())
    await life.flush()
    await life.service.mirror.clean()
    life.system.crash("kill")


async def stopped_while_something_is_on_its_way(life: Life) -> None:
    """How the plex is left is noted when all has arrived, or somebody else would seem to have written to it."""
    plex = await _lags(life)
    running = life.service.running
    life.system.delay = lambda call: isinstance(call.run, Landing) and 0 in plex.sent and not running.life.ended
    await life.write(0, REGION)
    await until(lambda: 0 in plex.sent)
    await life.verbs.stop(volume=NAME)
    await life.verbs.start(volume=NAME)
    plex = life.service.volume.plex("v-01")
    if not plex.is_open or plex.map.count() == len(plex.map):
        raise Broken(f"it is to be copied in full: {plex.state} {plex.reason}")
    life.system.crash("kill")


async def power_fails_after_it_took_a_write_directly(life: Life) -> None:
    """Beyond its bound it took the write; then the log was cleaned."""
    plex = await _lags(life, 1)
    life.system.hung.add("v-01")
    await life.write(0, GRANULE)
    life.system.hung.clear()
    assert plex.room == 0
    await life.write(4 * REGION, GRANULE)
    assert life.schedule.machine.plexes["/a"].cache[4 * REGION // GRANULE], "it waited for it"
    life.system.stick = lambda call: call.lane.name == "v-01" and isinstance(getattr(call.run, "run", None), Writer)
    while await life.service.mirror.clean():
        pass
    life.system.crash("power")


async def power_fails_after_a_flush_of_the_only_one(life: Life) -> None:
    """It may lag, and nobody else has what it took."""
    await life.verbs.plex_det(volume=NAME, plex="v-02")
    await _lags(life)
    await life.write(0, GRANULE)
    await life.flush()
    life.system.crash("power")


async def power_fails_when_it_lags_no_more(life: Life) -> None:
    """Beyond its bound it took a write, which was flushed elsewhere alone."""
    plex, flushed = await _lags(life, 1), False
    life.system.delay = lambda call: (
        not flushed and call.lane.name == "v-01" and isinstance(call.run, Landing) and call.run.spans[0][0] < REGION
    )
    await life.write(0, GRANULE)
    await until(lambda: 0 in plex.sent)
    await life.write(4 * REGION, GRANULE)
    assert life.schedule.machine.plexes["/a"].cache[4 * REGION // GRANULE], "it waited for it"
    await life.flush()
    flushed = True
    await life.verbs.set(volume=NAME, settings={"write_behind": "off"})
    life.system.crash("power")


DIRECTED = {
    "far: killed while a plex that failed hangs": (killed_while_a_plex_that_failed_hangs, OPEN, attached_and_written),
    "far: a last copy gets a new session": (a_last_copy_gets_a_new_session, OPEN),
    "behind: killed while a plex lags": (killed_while_a_plex_lags, KILL),
    "behind: written while it is on its way": (written_while_it_is_on_its_way, KILL),
    "behind: stopped while something is on its way": (stopped_while_something_is_on_its_way, KILL),
    "behind: power fails after a flush of the only one": (power_fails_after_a_flush_of_the_only_one, POWER),
    "behind: power fails when it lags no more": (power_fails_when_it_lags_no_more, POWER),
    "behind: power fails after it took a write directly": (power_fails_after_it_took_a_write_directly, POWER),
}
"""What happens -> the script, the kind of machine, the script of the next life."""
