"""Snapshots in a schedule: what may be done with them, and what each of them may hold.

A snapshot has an oracle of its own. What it holds is what the original held at one moment between the call of the verb
and its answer, so a *watch* on the original's oracle collects what may be meant. After a crash the volumes that are
there say whether a verb happened; either is right, half of it is not.
"""

import functools
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from fmrd.engine.units import Unit
from fmrd.errors import FmrdError
from tests.sim import shared
from tests.sim.disks import GRANULE
from tests.sim.oracle import Oracle

if TYPE_CHECKING:
    from tests.sim.life import Life

NAME = "v"
UNDO = "UNDO-v"
MOST = 2
"""Snapshot plexes of a schedule, beside its others."""


@dataclass
class Snaps:
    """By the name of a snapshot: ``oracles``, ``watches`` of those that are being taken, ``olds`` of those that are
    being refreshed, ``restores`` under way.
    """

    oracles: dict[str, Oracle] = field(default_factory=dict)
    watches: dict[str, list[set[int]]] = field(default_factory=dict)
    olds: dict[str, Oracle] = field(default_factory=dict)
    taken: int = 0
    stopped: set[str] = field(default_factory=set)
    """Stopped at some time: an instant one may have lost something. By hand, or since its server proves nothing."""
    restores: dict[str, tuple[list[set[int]], list[set[int]]]] = field(default_factory=dict)
    """What the original holds then, and what it held."""

    def crash(self, *, power: bool) -> None:
        for oracle in (*self.oracles.values(), *self.olds.values()):
            oracle.crash(power=power)


def look(life: "Life") -> None:
    """Verbs that did not tell how they ended have ended by now: what is there decides."""
    schedule = life.schedule
    snaps, units = schedule.snaps, life.registry.units
    for name, (held, before) in list(snaps.restores.items()):
        del snaps.restores[name]
        if name not in units:
            schedule.oracle.becomes(held)
            if UNDO in units and UNDO not in snaps.oracles:
                _appeared(life, UNDO, before)
    for name in list(snaps.oracles):
        if name not in units and name not in snaps.watches:
            del snaps.oracles[name]
    for name, watch in list(snaps.watches.items()):
        if name in units:
            _appeared(life, name, watch, snaps.olds.pop(name, None))
        schedule.oracle.end_flush(watch, acknowledged=False)
        del snaps.watches[name]
    snaps.olds.clear()
    snaps.stopped.update(name for name in snaps.oracles if name in units and _stays_away(life, name))


def _stays_away(life: "Life", name: str) -> bool:
    """A daemon died in a session that nobody proves to be over: its snapshot is not started before somebody says so."""
    unit = life.registry.units[name]
    if unit.service is not None or unit.settings is None or "session_open" not in str(unit.failure):
        return False
    servers = life.schedule.machine.sessions
    return any(plex.session and not servers.server(plex.path).fence for plex in unit.settings.plexes)


def _appeared(life: "Life", name: str, watch: list[set[int]], old: Oracle | None = None) -> None:
    """``old``: what it held before a refresh that did not tell how it ended: it holds the one or the other."""
    oracle = Oracle(len(life.schedule.oracle.now), life.schedule.oracle.labels)
    oracle.becomes(watch)
    if old is not None:
        oracle.now = [a | b for a, b in itertools.zip_longest(oracle.now, old.now, fillvalue={0})]
        oracle.stable = [a | b for a, b in itertools.zip_longest(oracle.stable, old.stable, fillvalue={0})]
    life.schedule.snaps.oracles[name] = oracle


def snapshots(life: "Life") -> list[Unit]:
    """Those that are served."""
    found = [u for u in life.registry.units.values() if u.name != NAME and life.registry.find(u.name) is not None]
    return sorted(found, key=lambda u: u.name)


def some(life: "Life") -> str | None:
    units = [u.name for u in snapshots(life) if u.name in life.schedule.snaps.oracles]
    return life.rng.choice(units) if units else None


async def verb(life: "Life", what: str, **arguments: object) -> bool:
    life.schedule.note(f"{what} {arguments.get('snapshot', arguments.get('path', ''))}")
    try:
        await getattr(life.verbs, what)(**arguments)
    except FmrdError as error:
        life.schedule.count(f"{what} {error.code}")
        life.schedule.note(f"{what}: {error}")
        return False
    return True


async def snapstart(life: "Life") -> None:
    volume = life.service.volume
    held = sum(u.service is not None for u in life.registry.units.values()) - 1
    if sum(p.snap for p in volume.plexes) + held < MOST:
        await verb(life, "snapstart", volume=NAME, path=f"/snap{volume.settings.next_plex}")


async def snapabort(life: "Life") -> None:
    await verb(life, "snapabort", volume=NAME)


def one_at_a_time(work: Callable[["Life"], Awaitable[None]]) -> Callable[["Life"], Awaitable[None]]:
    """What makes snapshots come and go: the oracle could not tell which of two it was."""

    @functools.wraps(work)
    async def alone(life: "Life") -> None:
        if not life.changing:
            life.changing = True
            try:
                await work(life)
            finally:
                life.changing = False

    return alone


@one_at_a_time
async def snapshot(life: "Life") -> None:
    schedule = life.schedule
    name = f"SNAP{schedule.snaps.taken}-v"  # never the same again: after a crash nobody could tell which it is
    schedule.snaps.taken += 1
    watch = schedule.snaps.watches[name] = schedule.oracle.begin_flush()
    if await verb(life, "snapshot", volumes=[NAME], name=name, nmirror=mirrors(life)):
        life.schedule.machine.alive()
    if name in schedule.snaps.watches:
        if name in life.registry.units:
            _appeared(life, name, watch)
        schedule.oracle.end_flush(watch, acknowledged=False)
        del schedule.snaps.watches[name]


@one_at_a_time
async def instant(life: "Life") -> None:
    schedule = life.schedule
    if sum(u.settings is not None and u.settings.link is not None for u in life.registry.units.values()) >= (
        shared.MOST if schedule.profile.store else MOST
    ):
        return
    number = schedule.snaps.taken
    schedule.snaps.taken += 1
    name, path = f"SNAP{number}-v", f"{shared.STORE if schedule.profile.store else ''}/inst{number}"
    watch = schedule.snaps.watches[name] = schedule.oracle.begin_flush()
    if await verb(
        life,
        "snapshot",
        volumes=[NAME],
        name=name,
        instant=path,
        sync=not schedule.profile.store and life.rng.random() < 0.3,
    ):
        schedule.machine.alive()
    if name in schedule.snaps.watches:
        if name in life.registry.units:
            _appeared(life, name, watch)
        schedule.oracle.end_flush(watch, acknowledged=False)
        del schedule.snaps.watches[name]


async def snapsync(life: "Life") -> None:
    name = some(life)
    if name is not None:
        await verb(life, "snapsync", snapshot=name)


def mirrors(life: "Life") -> int:
    """With how many plexes a snapshot is taken: sometimes with all that are ready."""
    ready = sum(p.snap for p in life.service.volume.plexes)
    return life.rng.choice([1, max(1, ready)]) if life.schedule.profile.mirrors else 1


@one_at_a_time
async def snapback(life: "Life") -> None:
    name = some(life)
    every = life.schedule.profile.mirrors and life.rng.random() < 0.5
    if name is not None and await verb(life, "snapback", snapshot=name, all_plexes=every):
        life.schedule.machine.alive()
        if name not in life.registry.units:
            life.schedule.snaps.oracles.pop(name, None)


@one_at_a_time
async def snapclear(life: "Life") -> None:
    """And removed, file and all: the schedule does not look after strangers."""
    name = some(life)
    if name is not None and await verb(life, "snapclear", snapshot=name):
        life.schedule.machine.alive()
        life.schedule.snaps.oracles.pop(name, None)
        await verb(life, "remove", volume=name, erase=True)


@one_at_a_time
async def refresh(life: "Life") -> None:
    name = some(life)
    schedule = life.schedule
    if name is None:
        return
    watch = schedule.snaps.watches[name] = schedule.oracle.begin_flush()
    old = schedule.snaps.olds[name] = schedule.snaps.oracles.pop(name)
    gone = await verb(life, "refresh", snapshot=name)
    if gone:
        await life.settle_tasks()
        schedule.machine.alive()
    if name in schedule.snaps.watches:  # no crash came between
        if name in life.registry.units and not gone:
            schedule.snaps.oracles[name] = old
        elif name in life.registry.units:
            _appeared(life, name, watch)
            schedule.snaps.stopped.discard(name)  # it is another one
        schedule.oracle.end_flush(watch, acknowledged=False)
        del schedule.snaps.watches[name], schedule.snaps.olds[name]


@one_at_a_time
async def restore(life: "Life") -> None:
    name = some(life)
    if name is not None:
        keep = life.schedule.profile.mirrors and name != UNDO and life.rng.random() < 0.4
        await _becomes(life, name, "snapback", snapshot=name, from_replica=True, keep_undo=keep)


@one_at_a_time
async def undo(life: "Life") -> None:
    if UNDO in life.schedule.snaps.oracles and life.registry.find(UNDO) is not None:
        await _becomes(life, UNDO, "undo", volume=NAME)


async def _becomes(life: "Life", name: str, what: str, **arguments: object) -> None:
    """Nobody has the volume open while it becomes other data."""
    snaps, original = life.schedule.snaps, life.schedule.oracle
    life.quiet = True
    try:
        for _ in range(2000):
            if not life.busy:
                break
            await trio.lowlevel.checkpoint()
        else:
            return
        held, before = ([set(s) for s in oracle.now] for oracle in (snaps.oracles[name], original))
        snaps.restores[name] = held, before
        await verb(life, what, **arguments)
        life.schedule.machine.alive()
        if name in snaps.restores:
            del snaps.restores[name]
            if name not in life.registry.units:
                original.becomes(held)
                snaps.oracles.pop(name, None)
                if UNDO in life.registry.units and UNDO not in snaps.oracles:
                    _appeared(life, UNDO, before)
    finally:
        life.quiet = False


def span(life: "Life", name: str) -> tuple[int, int]:
    granules = life.registry.service(name).volume.geometry.length_bytes // GRANULE
    length = min(life.rng.choice([1, 1, 4, 8]), granules)
    return life.rng.randrange(granules - length + 1) * GRANULE, length * GRANULE


async def snap_write(life: "Life") -> None:
    name = some(life)
    if name is not None:
        await life.write(*span(life, name), volume=name)


async def snap_zero(life: "Life") -> None:
    name = some(life)
    if name is not None:
        await life.write(*span(life, name), volume=name, zeros=True)


async def snap_read(life: "Life") -> None:
    name = some(life)
    if name is not None:
        await life.read(*span(life, name), volume=name)


async def snap_flush(life: "Life") -> None:
    name = some(life)
    if name is not None:
        await life.flush(volume=name)


async def snap_clean(life: "Life") -> None:
    name = some(life)
    if name is not None:
        try:
            await life.registry.service(name).mirror.clean()
        except FmrdError as error:
            life.schedule.note(f"clean {name}: {error}")


async def snap_stop(life: "Life") -> None:
    name = some(life)
    if name is not None:
        life.schedule.snaps.stopped.add(name)
        await verb(life, "stop", volume=name)
        await verb(life, "start", volume=name)


OPERATIONS = {
    "snapstart": snapstart, "snapabort": snapabort, "snapshot": snapshot, "snapback": snapback, "refresh": refresh,
    "restore": restore, "snap_write": snap_write, "snap_zero": snap_zero, "snap_read": snap_read,
    "snap_flush": snap_flush, "snap_clean": snap_clean, "snap_stop": snap_stop, "instant": instant,
    "snapsync": snapsync, "snapclear": snapclear, "undo": undo,
}  # fmt: skip
WEIGHTS = {
    "snapstart": 8, "snapabort": 1, "snapshot": 12, "snapback": 6, "refresh": 3, "restore": 4, "snap_write": 20,
    "snap_read": 6, "snap_flush": 4, "snap_clean": 3, "snap_stop": 1, "instant": 4, "snapsync": 1,
    "snapclear": 0, "undo": 0,
}  # fmt: skip
CHANGES = frozenset({"snapstart", "snapshot", "snapback", "refresh", "restore", "instant", "snapsync", "undo"})


async def at_last(life: "Life") -> None:
    """Every snapshot is there and holds what it may; then it goes back, one of them as the replica."""
    for name, oracle in sorted(life.schedule.snaps.oracles.items()):
        if life.registry.find(name) is None and not await started(life, name):
            continue
        await life.read_all(name)
        await life.flush_at_last(name)
        await life.settle_tasks()
        if life.schedule.profile.store and life.registry.service(name).volume.settings.is_instant:
            await life.verbs.stop(volume=name)  # it cannot go back
            await life.verbs.remove(volume=name, erase=True)
            continue
        if life.registry.service(name).volume.settings.link is None:
            continue  # a stranger: a snapclear that told of a failure happened
        for plex in [p.name for p in life.registry.service(name).volume.plexes if not p.is_open]:
            await life.verbs.plex_att(volume=name, plex=plex, settled=life.schedule.far)
        await life.settle_tasks()
        [shown] = (await life.verbs.print(volume=name))["volumes"]
        if not await same_length(life, name):
            assert shown["lost"], f"{name} has lost nothing, and cannot be copied"
            await life.verbs.stop(volume=name)
            await life.verbs.remove(volume=name, erase=True)
            continue
        replica = life.rng.random() < 0.4 and not shown["lost"]
        if replica:
            life.schedule.oracle.becomes(content(life, name, oracle))
        answer = await life.verbs.snapback(snapshot=name, from_replica=replica, all_plexes=True)
        for task in answer["tasks"]:
            life.must_not_be_full(task)
        await life.settle_tasks()
        await life.read_all()
    life.schedule.snaps.oracles.clear()


async def started(life: "Life", name: str) -> bool:
    """An instant one whose home copy was lost is nothing any more, says so, and can be removed."""
    try:
        await life.verbs.start(volume=name, settled=life.schedule.far)
    except FmrdError as error:
        if error.code != "snap_invalid" or not life.schedule.faulted:
            raise
        life.schedule.count("start snap_invalid")
        await life.verbs.remove(volume=name, erase=True)
        return False
    return True


async def same_length(life: "Life", name: str) -> bool:
    """False of an instant snapshot that is too short to go back, and can never hold all it should."""
    if life.registry.service(name).volume.settings.is_instant:
        if life.registry.service(name).volume.geometry == life.service.volume.geometry:
            return True
        task = (await life.verbs.snapsync(snapshot=name))["task"]
        await life.verbs.task_wait(id=task["id"])
        if life.registry.service(name).volume.settings.is_instant:
            return False
    longest = max(life.registry.service(v).volume.geometry.length_bytes for v in (name, NAME))
    for volume in (name, NAME):
        if life.registry.service(volume).volume.geometry.length_bytes < longest:
            life.schedule.oracle_of(volume).grow(longest // GRANULE)
            await life.verbs.grow(volume=volume, size_bytes=longest)
    return True


def content(life: "Life", name: str, oracle: Oracle) -> list[set[int]]:
    """What the snapshot holds, by what lies on its plex; the rest of an instant one is the original's."""
    volume = life.registry.service(name).volume
    plex = volume.plexes[0]
    found = []
    for granule in range(volume.geometry.length_bytes // GRANULE):
        [region] = volume.geometry.regions_of(granule * GRANULE, GRANULE)
        if region in plex.map:
            found.append(set(life.schedule.oracle.now[granule]))
        else:
            label = life.schedule.machine.plexes[plex.path].cache[granule]
            oracle.check(granule, label, f"{name} at last")
            found.append({label})
    return found
