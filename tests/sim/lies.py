"""Verifies, and disks that lie: a region of one plex becomes what all of them held at an earlier verify, or zeros, as
if writes had been lost. A verify that repairs must find it, and never believe it.
"""

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from fmrd.core.states import IN_SYNC
from fmrd.errors import FmrdError
from tests.sim.disks import GRANULE, PlexDisk
from tests.sim.oracle import Broken

if TYPE_CHECKING:
    from tests.sim.life import Life


@dataclass
class Lie:
    """While it lasts nobody reads."""

    disk: PlexDisk
    first: int
    truth: list[int]

    def put(self, labels: list[int]) -> None:
        for at, label in enumerate(labels, self.first):
            self.disk.unsynced.pop(at, None)
            self.disk.cache[at] = self.disk.disk[at] = label

    @property
    def holds(self) -> list[int]:
        return self.disk.cache[self.first : self.first + len(self.truth)]


async def verify(life: "Life") -> None:
    """Beside whatever goes on: no false alarm."""
    schedule = life.schedule
    if schedule.lie is not None:
        return
    before = list(next(iter(schedule.machine.plexes.values())).cache)
    try:
        task = (await life.verbs.verify(volume="v", repair=life.rng.random() < 0.5))["task"]
        await life.verbs.task_wait(id=task["id"])
        report = (await life.verbs.verify_report(id=task["id"]))["mismatches"]
    except FmrdError as error:
        schedule.note(f"verify: {error}")
        return
    goes_on = "cut it off" in task["reason"]["message"]  # and it may have found what was mended since
    if report and schedule.lie is None and not goes_on:
        raise Broken(f"a false alarm: {report}")
    schedule.seen = life.rng.choice([before, list(next(iter(schedule.machine.plexes.values())).cache)])


async def lie(life: "Life") -> None:
    """At a moment when nothing else goes on, and until the verify has ended."""
    schedule, machine = life.schedule, life.schedule.machine
    await trio.sleep(30)  # of simulated time, after which nothing that began before is under way
    await life.settle_tasks()
    if life.registry.find("v") is None:
        return
    volume = life.service.volume
    region = life.rng.choice(_changed(life) or range(volume.geometry.regions))
    offset, length = volume.geometry.bytes_of(range(region, region + 1))
    for what in life.rng.choices(["verify", "write", "clean", "flush"], k=life.rng.choice([0, 0, 2, 4])):
        if what == "verify":
            await verify(life)
        elif what == "write":
            await life.write(offset, GRANULE)
        elif what == "flush":
            await life.flush()
        else:
            with contextlib.suppress(FmrdError):
                await life.service.mirror.clean()
    opened = volume.open_plexes()
    whole = [p for p in opened if p.state in IN_SYNC and p.settled]
    if life.under_way or life.registry.context.tasks.running() or len(whole) < 2 or whole != opened:
        return
    first, count = offset // GRANULE, length // GRANULE
    disks = [machine.plexes[plex.path] for plex in whole]
    if any(granule in disk.unsynced for disk in disks for granule in range(first, first + count)):
        return
    told = Lie(life.rng.choice(disks), first, disks[0].cache[first : first + count])
    old = schedule.seen[first : first + count]
    if old == told.truth or len(old) < count:
        old = [0] * count
    if old == told.truth:
        return
    schedule.lie = told
    told.put(old)
    schedule.note(f"lie {told.disk.path} {first}")
    task = (await life.verbs.verify(volume="v", repair=True))["task"]
    await life.verbs.task_wait(id=task["id"])
    machine.alive()
    others = [disk.cache[first : first + count] for disk in disks if disk is not told.disk]
    if any(labels != told.truth for labels in others):
        raise Broken(f"verify believed a liar: {others} instead of {told.truth}")
    schedule.count("lie proven" if told.holds == told.truth else "lie not proven")
    if told.holds != told.truth:
        told.put(told.truth)
    schedule.lie = None


def _changed(life: "Life") -> list[int]:
    """Regions that are something else since the last verify: there a disk may lie best."""
    geometry, seen = life.service.volume.geometry, life.schedule.seen
    now = life.schedule.machine.plexes[life.service.volume.plexes[0].path].cache
    size = geometry.region_bytes // GRANULE
    return [r for r in range(geometry.regions) if seen[r * size : (r + 1) * size] != now[r * size : (r + 1) * size]]
