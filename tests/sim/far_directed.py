"""Schedules written by hand about plexes behind servers (directed.py says how they end). /b is behind one."""

from contextlib import suppress
from functools import partial

from fmrd.errors import Refused
from tests.sim.directed import until
from tests.sim.disks import GRANULE
from tests.sim.life import NAME, REGION, Life
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
    machine.sessions.late.append(("/b", partial(machine.plexes["/b"].put, 0, first)))
    life.system.crash("kill")


async def attached_and_written(life: Life) -> None:
    """What hung is carried out now, wherever the plex is."""
    sessions = life.schedule.machine.sessions
    sessions.tick = lambda: None  # type: ignore[method-assign]  # not before
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


DIRECTED = {
    "far: killed while a plex that failed hangs": (killed_while_a_plex_that_failed_hangs, OPEN, attached_and_written),
}
"""What happens -> the script, the kind of machine, the script of the next life."""
