"""Both sides of a mirror go on: some plexes stay at home, others travel and are imported on another host, each side
is written to and dies as it may; then they meet at home, and what was written elsewhere is given up.
"""

from functools import partial
from typing import TYPE_CHECKING

from fmrd.errors import FmrdError
from tests.sim.life import NAME, Life
from tests.sim.oracle import Oracle, Read

if TYPE_CHECKING:
    from tests.sim.schedule import Schedule


class Blind(Oracle):
    """Of the side that is given up. It began with whatever its plexes held: nothing was promised of that."""

    def end_read(self, read: Read, labels: object) -> None:
        self._reads.discard(read)


def run(schedule: "Schedule") -> None:
    rng, machine = schedule.rng, schedule.machine
    schedule.life(Life.first)
    for _ in range(rng.randrange(2)):
        schedule.life(Life.work, crash=True)
    paths = sorted(machine.plexes)
    travelling = set(rng.sample(paths, rng.randrange(1, len(paths)))) if len(paths) > 1 else set()
    schedule.note(f"{', '.join(sorted(travelling))} travel")
    schedule.faulted = True
    disks, homes, dcos, ours = machine.plexes, machine.homes_, machine.dcos, schedule.oracle

    def only(these: set[str]) -> None:
        machine.plexes = {path: disk for path, disk in disks.items() if path in these}
        machine.dcos = {path: dco for path, dco in dcos.items() if path in these}

    for path in travelling:  # nobody carries a disk away before it is written
        disks[path].settle(disks[path].mark())
    machine.homes_, schedule.oracle = {}, Blind(len(ours.now), ours.labels)
    only(travelling)
    for _ in range(rng.choice([1, 1, 2])):
        schedule.life(_elsewhere, crash=rng.random() < 0.4)
    abroad, made_there = machine.plexes, machine.dcos
    machine.homes_, schedule.oracle = homes, ours
    only(set(disks) - travelling)
    schedule.life(partial(_at_home, travelling), crash=rng.random() < 0.4)
    back = travelling - machine.plexes.keys()  # a file of that name may have been made at home meanwhile
    machine.plexes |= {path: disk for path, disk in abroad.items() if path in back}
    machine.dcos |= {path: dco for path, dco in made_there.items() if path in back}
    machine.heal()
    schedule.life(partial(_at_last, travelling))


async def _elsewhere(life: Life) -> None:
    """By whatever travelled; where that is not enough, nothing happens there."""
    unit = life.registry.units.get(NAME)
    life.schedule.machine.heal()
    paths = [path for path in sorted(life.schedule.machine.plexes) if life.has_dco(path)]
    try:
        if unit is None and paths:
            await life.verbs.import_volume(paths=paths, force=True)
        elif unit is not None and unit.service is None:
            await life.verbs.start(volume=NAME)
    except FmrdError as error:
        life.schedule.machine.alive()
        life.schedule.count(f"elsewhere: {error.code}")
        return
    life.schedule.count("elsewhere: in use")
    await life.work()


async def _at_home(travelled: set[str], life: Life) -> None:
    if await _opened(life, travelled):
        await life.work()


async def _at_last(travelled: set[str], life: Life) -> None:
    if await _opened(life, travelled):
        await life.last()


async def _opened(life: Life, travelled: set[str]) -> bool:
    """If need be without those that travelled. Where nobody else has all of it, their side cannot be given up."""
    unit = life.registry.units[NAME]
    life.schedule.machine.alive()
    if unit.service is None:
        known = [plex.path for plex in unit.settings.plexes] if unit.settings is not None else []
        try:
            await life.verbs.start(volume=NAME, without=[path for path in known if path in travelled])
        except FmrdError as error:
            life.schedule.machine.alive()
            life.schedule.note(f"not open: {error}")
            life.schedule.count(f"at home: {error.code}")
            return False
    return True
