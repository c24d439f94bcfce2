"""Two verbs at once on one family, over the simulated machine: whatever they meet, nobody else's data goes.

The family: ``v`` on /a and /b, with /c detached and /r SNAPDONE; SNAP started, AWAY stopped, INST instant, and what an
undo puts back. Each of them holds other data, so that it is seen where one took the other's place.
"""

import copy
import functools
import random
from collections.abc import Awaitable, Callable

import trio

from fmrd.dco.loading import load
from fmrd.errors import FmrdError
from tests.sim.disks import GRANULE, data_of, labels_of
from tests.sim.life import NAME, REGION, Life
from tests.sim.machine import Machine
from tests.sim.oracle import Broken
from tests.sim.profiles import Profile
from tests.sim.schedule import Schedule

PROFILE = Profile(plexes=2, regions=6, snaps=True)
Verb = Callable[[Life], Awaitable[object]]
Contents = dict[str, list[int]]


def _verb(what: str, **arguments: object) -> Verb:
    return lambda life: getattr(life.verbs, what)(**arguments)


async def _abort(life: Life) -> object:
    """Of whatever the other one began."""
    for _ in range(200):
        if tasks := life.registry.context.tasks.running():
            return await life.verbs.task_abort(id=tasks[0].id)
        await trio.lowlevel.checkpoint()
    return None


VERBS: dict[str, Verb] = {
    "make": _verb("make", volume="NEW", size_bytes=6 * REGION, plexes=[{"path": "/n"}], region_size_bytes=REGION),
    "start": _verb("start", volume="AWAY"),
    "stop": _verb("stop", volume="SNAP"),
    "stop v": _verb("stop", volume=NAME),
    "remove SNAP": _verb("remove", volume="SNAP"),
    "remove AWAY": _verb("remove", volume="AWAY"),
    "remove INST": _verb("remove", volume="INST"),
    "remove v": _verb("remove", volume=NAME),
    "grow": _verb("grow", volume=NAME, size_bytes=7 * REGION),
    "grow SNAP": _verb("grow", volume="SNAP", size_bytes=7 * REGION),
    "set": _verb("set", volume=NAME, settings={"rdpol": "prefer:v-02", "rate": "1G"}),
    "add": _verb("plex_add", volume=NAME, path="/n"),
    "det": _verb("plex_det", volume=NAME, plex="/b"),
    "att": _verb("plex_att", volume=NAME, plex="/c"),
    "dis": _verb("plex_dis", volume=NAME, plex="/c"),
    "dis b": _verb("plex_dis", volume=NAME, plex="/b"),
    "off": _verb("plex_off", volume=NAME, plex="/c"),
    "on": _verb("plex_on", volume=NAME, plex="/c"),
    "convert": _verb("plex_convert", volume=NAME, plex="/b"),
    "recover": _verb("recover"),
    "snapstart": _verb("snapstart", volume=NAME, path="/n"),
    "snapabort": _verb("snapabort", volume=NAME),
    "snapshot": _verb("snapshot", volumes=[NAME], name="NEW"),
    "snapshot of both": _verb("snapshot", volumes=["SNAP", NAME], name="%v-NEW"),
    "instant": _verb("snapshot", volumes=[NAME], name="NEW", instant="/n", sync=True),
    "snapsync": _verb("snapsync", snapshot="INST"),
    "snapback": _verb("snapback", snapshot="SNAP"),
    "snapback AWAY": _verb("snapback", snapshot="AWAY"),
    "snapback INST": _verb("snapback", snapshot="INST"),
    "restore": _verb("snapback", snapshot="SNAP", from_replica=True),
    "restore INST": _verb("snapback", snapshot="INST", from_replica=True),
    "refresh": _verb("refresh", snapshot="SNAP"),
    "refresh AWAY": _verb("refresh", snapshot="AWAY"),
    "undo": _verb("undo", volume=NAME),
    "snapclear": _verb("snapclear", snapshot="SNAP"),
    "snapclear AWAY": _verb("snapclear", snapshot="AWAY"),
    "verify": _verb("verify", volume=NAME),
    "abort": _abort,
    "rename AWAY": _verb("rename", volume="AWAY", name="NEW"),
    "rename SNAP": _verb("rename", volume="SNAP", name="NEW"),
    "replace b": _verb("plex_replace", volume=NAME, plex="/b", path="/n"),
    "replace c": _verb("plex_replace", volume=NAME, plex="/c", path="/n"),
    "start all": _verb("start_all"),
    "stop all": _verb("stop_all"),
}  # fmt: skip
RESTORES = {"restore": "SNAP", "restore INST": "INST", "undo": "UNDO-v"}
"""Verbs after which the original may hold what that snapshot held."""
ANEW = {"refresh": "SNAP", "refresh AWAY": "AWAY"}
"""Verbs after which that snapshot may hold what the original holds."""
RENAMES = {"rename AWAY": "AWAY", "rename SNAP": "SNAP"}
"""Verbs after which NEW may hold what that snapshot held, or what a refresh made of it."""
REMOVES = {"remove v"}


async def _write(life: Life, volume: str, region: int, label: int) -> None:
    data = data_of([label] * (REGION // GRANULE))
    await life.write_as_a_door(life.served_as(volume), region * REGION, data)


async def _read(life: Life, volume: str) -> list[int]:
    served = life.served_as(volume)
    return labels_of(await life.read_as_a_door(served, 0, served.length_bytes))


async def _make(life: Life, found: Contents) -> None:
    """The family, and what each of it holds."""
    verbs = life.verbs
    await life.verbs.make(
        volume=NAME, size_bytes=6 * REGION, plexes=[{"path": "/a"}, {"path": "/b"}], region_size_bytes=REGION
    )
    await verbs.plex_add(volume=NAME, path="/c")
    await life.settle_tasks()
    await verbs.plex_det(volume=NAME, plex="/c")
    await _snapshot(life, "/r", "OLD")
    await _write(life, NAME, 0, 1)
    found["UNDO-v"] = await _read(life, NAME)
    await verbs.snapback(snapshot="OLD", from_replica=True, keep_undo=True)
    await life.settle_tasks()
    for number, name in enumerate(("SNAP", "AWAY"), 1):
        await _snapshot(life, f"/{name.lower()}", name)
        await _write(life, NAME, number, 10 * number)
        await _write(life, name, number, 10 * number + 1)
        found[name] = await _read(life, name)
    await verbs.snapshot(volumes=[NAME], name="INST", instant="/inst")
    await _write(life, NAME, 3, 30)
    await _write(life, "INST", 4, 31)
    found["INST"] = await _read(life, "INST")
    found[NAME] = await _read(life, NAME)
    await verbs.stop(volume="AWAY")


async def _snapshot(life: Life, path: str, name: str) -> None:
    await life.verbs.snapstart(volume=NAME, path=path)
    await life.settle_tasks()
    await life.verbs.snapshot(volumes=[NAME], name=name)


@functools.cache
def _template() -> tuple[Machine, Contents]:
    """The machine on which the family lies, at rest."""
    schedule, found = Schedule(0, PROFILE), Contents()

    async def script(life: Life) -> None:
        await _make(life, found)

    schedule.life(script)
    return schedule.machine, found


def run(first: str, second: str, seed: int) -> None:
    """Raises Broken, or what flew out of the daemon."""
    machine, contents = _template()
    schedule = Schedule(seed, PROFILE)
    schedule.machine = copy.deepcopy(machine)
    schedule.machine.rng = random.Random(seed)
    pair = _Pair(schedule, (first, second), contents)
    schedule.life(pair.meet)


class _Pair:
    """Two verbs that meet, and what is to be true afterwards."""

    def __init__(self, schedule: Schedule, names: tuple[str, str], contents: Contents) -> None:
        self._schedule = schedule
        self._names = names
        self._before = contents

    async def meet(self, life: Life) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._one, life, self._names[0])
            for _ in range(life.rng.choice([0, 1, 3, 10, 30, 60])):
                await trio.lowlevel.checkpoint()
            nursery.start_soon(self._one, life, self._names[1])
        await life.settle_tasks()
        for task in life.registry.context.tasks.all():
            self._must(task.error is None or task.error[0] != "failed", f"{task.type}: {task.error}")
        await self._look(life)
        await self._stop_all(life)
        for name in sorted(life.registry.units, key=lambda name: name != NAME):
            await life.verbs.start(volume=name)
        await self._look(life)
        for name in list(life.registry.units):
            self._check(name, await _read(life, name))

    async def _one(self, life: Life, name: str) -> None:
        try:
            await VERBS[name](life)
        except FmrdError as error:
            self._schedule.note(f"{name}: {error}")
            self._must(error.code != "failed", str(error))
        else:
            self._schedule.note(f"{name}: done")

    async def _look(self, life: Life) -> None:
        """What is shown is what the home copies name, and each is a volume with plexes."""
        homes = {name: load(home).image.record for name, home in self._schedule.machine.homes_.items()}
        named = {volume.name: home for home, record in homes.items() if record for volume in record.volumes}
        shown = {each["name"]: each for each in (await life.verbs.print())["volumes"]}
        self._must(named.keys() == shown.keys(), f"shown {sorted(shown)}, on disk {sorted(named)}")
        for name, home in named.items():
            self._must(life.registry.units[name].home.name == home, f"{name} lies in {home}")
            self._must(shown[name]["plexes"] and shown[name]["length_bytes"], f"{name} is a ghost")
        gone = "remove v" in self._names and NAME not in named
        self._must(NAME in named or gone, "the original is gone")

    async def _stop_all(self, life: Life) -> None:
        for name in list(life.registry.units):
            await life.verbs.stop(volume=name)
        held = [path for path, disk in self._schedule.machine.plexes.items() if disk.locked]
        self._must(not held, f"still open: {held}")

    def _check(self, name: str, found: list[int]) -> None:
        original = [self._before[NAME], *(self._before[RESTORES[each]] for each in self._names if each in RESTORES)]
        if name in self._before:
            allowed = [self._before[name], *(original if name == NAME else [])]
            allowed += original if any(ANEW.get(each) == name for each in self._names) else []
        else:
            allowed = [*original, [0] * len(self._before[NAME])]
            allowed += [self._before[RENAMES[each]] for each in self._names if each in RENAMES]
        length = len(self._before[NAME])
        self._must(found[:length] in allowed and not any(found[length:]), f"{name} holds {found}, not one of {allowed}")

    def _must(self, true: object, sentence: str) -> None:
        if not true:
            raise Broken(f"{' and '.join(self._names)}: {sentence}")
