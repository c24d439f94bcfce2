"""What a life does: one function an operation, and how often each is drawn."""

import random
from collections.abc import Container
from typing import TYPE_CHECKING

import trio

from fmrd.core.states import PlexState
from fmrd.core.volume.plex import Plex
from fmrd.dco.loading import load
from fmrd.engine.far.redialing import is_lost
from fmrd.errors import FmrdError
from tests.sim import lies, pauses, snaps, tracked
from tests.sim.disks import GRANULE
from tests.sim.machine import STRANGE

if TYPE_CHECKING:
    from tests.sim.life import Life
    from tests.sim.profiles import Profile

WEIGHTS = {
    "write": 40, "read": 12, "flush": 8, "clean": 6, "detach": 6, "attach": 10, "abort": 2, "off": 1, "on": 2,
    "stop": 1, "add": 1, "wait": 3,
}  # fmt: skip
_OF_PLEXES = frozenset({"detach", "attach", "off", "break", "lose", "behind", "stop", "add", "grow", "clean"})
CHANGES = _OF_PLEXES | snaps.CHANGES | tracked.CHANGES
"""Operations after which a crash is most telling."""
APPLICATION = frozenset(
    {"write", "zero", "read", "flush", "hang", "pause", "snap_write", "snap_zero", "snap_read", "snap_flush"}
)
"""Operations that always run beside others."""
FAULTS = {"break": 5, "heal": 2, "recover": 2}


def choose(rng: random.Random, profile: "Profile") -> str:
    weights = WEIGHTS | dict(profile.weights)
    if profile.faults:
        weights = FAULTS | weights
    if profile.snaps:
        weights = snaps.WEIGHTS | weights
    if profile.maps:
        weights = tracked.WEIGHTS | weights
    if profile.verify:
        weights = {"verify": 8, "lie": 10} | weights
    if profile.behind:
        weights = {"behind": 6} | weights
    if profile.sessions:
        weights = {"lose": 6, "recover": 2} | weights
    if profile.hangs:
        weights.setdefault("hang", 2)
    if profile.pauses:
        weights.setdefault("pause", 8)
    [operation] = rng.choices(list(weights), list(weights.values()))
    return operation


def _span(life: "Life") -> tuple[int, int]:
    """A few granules, mostly within a region or two, sometimes whole regions."""
    granules = life.service.volume.geometry.length_bytes // GRANULE
    length = life.rng.choice([1, 1, 2, 4, 5, 8])
    first = life.rng.randrange(granules)
    if length in (4, 8):
        first -= first % 4
    length = min(length, granules - first)
    return first * GRANULE, length * GRANULE


def _plex(life: "Life", *, opened: bool) -> Plex | None:
    plexes = [p for p in life.service.volume.plexes if p.is_open is opened]
    return life.rng.choice(plexes) if plexes else None


async def write(life: "Life") -> None:
    await life.write(*_span(life))


async def zero(life: "Life") -> None:
    await life.write(*_span(life), zeros=True)


async def read(life: "Life") -> None:
    await life.read(*_span(life))


async def flush(life: "Life") -> None:
    await life.flush()


async def clean(life: "Life") -> None:
    try:
        await life.service.mirror.clean()
    except FmrdError as error:
        life.schedule.note(f"clean: {error}")


async def set_extents(life: "Life") -> None:
    """The log becomes larger or smaller: without the verb's bounds, which are beyond so small a volume."""
    try:
        await life.service.configure(hot_extents=life.rng.choice([2, 3, 4, 6, 8]))
    except FmrdError as error:
        life.schedule.note(f"set: {error}")


async def wait(life: "Life") -> None:
    await trio.sleep(life.rng.choice([1, 6, 12]))


async def _try(life: "Life", verb: str, **arguments: object) -> None:
    life.schedule.note(f"{verb} {arguments.get('plex', '')}")
    try:
        await getattr(life.verbs, verb)(volume="v", **arguments)
    except FmrdError as error:
        life.schedule.count(f"{verb} {error.code}")
        life.schedule.note(f"{verb}: {error}")


async def detach(life: "Life") -> None:
    plex = _plex(life, opened=True)
    if plex is not None:
        await _try(life, "plex_det", plex=plex.name)


async def attach(life: "Life") -> None:
    plex, running = _plex(life, opened=False), life.service.running
    cut_off = [each for each in running.volume.open_plexes() if is_lost(running, each)]
    if cut_off and life.rng.random() < 0.5:
        plex = life.rng.choice(cut_off)
        life.schedule.count("asked for a new session")
    if plex is not None:
        over = life.schedule.far and life.rng.random() < 0.5
        if over:
            life.schedule.machine.end_sessions(plex.path)
        await _try(life, "plex_att", plex=plex.name, settled=over)
        if plex in cut_off and plex.is_open and not is_lost(running, plex):
            life.schedule.count("... and it has one")


async def off(life: "Life") -> None:
    plex = life.rng.choice(life.service.volume.plexes)
    await _try(life, "plex_off", plex=plex.name)


async def on(life: "Life") -> None:
    plex = _plex(life, opened=False)
    if plex is not None:
        await _try(life, "plex_on", plex=plex.name)


async def abort(life: "Life") -> None:
    tasks = life.registry.context.tasks.running()
    if tasks:
        try:
            await life.verbs.task_abort(id=life.rng.choice(tasks).id)
        except FmrdError as error:
            life.schedule.note(f"abort: {error}")


async def stop(life: "Life") -> None:
    """And start again."""
    complete = {p.uuid for p in life.service.volume.open_plexes() if not p.map.any()}
    await _try(life, "stop")
    if life.schedule.profile.elsewhere and len(complete) > 1 and life.rng.random() < 0.3:
        await elsewhere(life, complete)
    await _try(life, "start")


async def elsewhere(life: "Life", complete: Container[str] = ()) -> None:
    """A plex that fmrd has let go of, and stamped, is written by others; of those in use one at most, while another
    one that was ``complete`` still is in use: a detach may have been under way.
    """
    machine = life.schedule.machine
    home = load(machine.homes_["v"]).image.record
    assert home is not None
    plexes = home.volume.plexes
    away = [p for p in plexes if p.stamp is not None and not machine.plexes[p.path].locked]
    sound = [
        p for p in plexes
        if p.state is PlexState.ACTIVE and p.uuid in complete and not machine.plexes[p.path].elsewhere
    ]  # fmt: skip
    if not home.volume.settled or len(sound) < 2:
        away = [p for p in away if not p.is_open]
    stamped = [p for p in away if not machine.devices or (p.stamp is not None and p.stamp.content)]
    if not stamped:
        return
    plex = life.rng.choice(stamped)
    disk, number = machine.plexes[plex.path], len(machine.plexes[plex.path].cache)
    granules = [g for g in range(number) if life.rng.random() < 1 / number] or [life.rng.randrange(number)]
    life.schedule.note(f"elsewhere {plex.name} {granules}")
    disk.write_elsewhere(granules, STRANGE)


async def add(life: "Life") -> None:
    volume = life.service.volume
    if len(volume.plexes) <= life.schedule.profile.plexes:
        await _try(life, "plex_add", path=f"/new{volume.settings.next_plex}")
        return
    plex = _plex(life, opened=False)
    if plex is not None:
        await _try(life, "plex_dis", plex=plex.name)


async def grow(life: "Life") -> None:
    """By some regions, to a whole or a short last one. What is new reads as zeros; a crash may undo the growth."""
    length = life.service.volume.geometry.length_bytes + life.rng.choice([4096, 8192, 20480])
    if length <= 2 * life.schedule.length:
        life.schedule.oracle.grow(length // GRANULE)
        await _try(life, "grow", size_bytes=length)


async def break_(life: "Life") -> None:
    """Something on one plex, or on the home copy, fails."""
    machine, rng = life.schedule.machine, life.rng
    disk = machine.plexes[rng.choice(sorted(machine.plexes))]
    kind = rng.choice(life.schedule.profile.faults)
    life.schedule.faulted = life.schedule.hurt = True
    life.schedule.note(f"break {kind} {disk.path}")
    granule = rng.randrange(len(disk.cache))
    if kind == "read":
        disk.faults.bad_reads.update(range(granule, min(granule + rng.choice([1, 4]), len(disk.cache))))
    elif kind == "write":
        disk.faults.fail_writes += rng.choice([1, 2])
    elif kind == "writes":
        disk.faults.bad_writes.add(granule)
    elif kind == "sync":
        disk.faults.fail_syncs += 1
    elif kind == "cut":
        plexes = life.service.volume.plexes
        whole = all(p.state is PlexState.ACTIVE and not p.map.any() for p in plexes) and len(plexes) > 1
        if whole and all(each.cut is None for each in machine.plexes.values()):  # or data would be lost with reason
            life.schedule.count("cut")
            disk.cut_at(granule)
    elif kind == "dead":
        disk.faults.dead = True
        if disk.path in machine.dcos:
            machine.dcos[disk.path].faults.dead = True
    elif kind == "dco" and disk.path in machine.dcos:
        machine.dcos[disk.path].faults.fail_writes += rng.choice([1, 2])
    elif kind == "home":
        machine.homes_["v"].faults.fail_writes += 1


async def heal(life: "Life") -> None:
    life.schedule.machine.heal()


async def recover(life: "Life") -> None:
    await _try(life, "recover")


async def hang(life: "Life") -> None:
    """A plex stops answering for longer than io_timeout, then all of it lands late."""
    plex = _plex(life, opened=True)
    if plex is None or life.system.hung:
        return
    life.schedule.faulted = life.schedule.hurt = True
    life.schedule.note(f"hang {plex.name}")
    life.system.hung.update(life.rng.choice([{plex.name}, {plex.name, f"{plex.name} dco"}, {f"{plex.name} dco"}]))
    await trio.sleep(life.rng.choice([20.0, 45.0, 70.0]))
    life.system.release()


async def behind(life: "Life") -> None:
    """One plex may lag by so many regions, or none may any more."""
    plex = life.rng.choice(life.service.volume.plexes)
    value = life.rng.choice([f"{plex.name}:{8192 * life.rng.choice([1, 8, 8])}"] * 5 + ["off"])
    life.schedule.note(f"write_behind={value}")
    try:
        await life.verbs.set(volume="v", settings={"write_behind": value})
    except FmrdError as error:
        life.schedule.count(f"behind {error.code}")
        life.schedule.note(f"write_behind: {error}")


async def lose(life: "Life") -> None:
    """The session with the server of a plex is lost."""
    path = life.rng.choice(sorted(life.schedule.machine.plexes))
    life.schedule.faulted = life.schedule.hurt = True
    life.schedule.note(f"lose {path}")
    life.schedule.machine.sessions.lose(path)


OPERATIONS = {
    "write": write, "zero": zero, "read": read, "flush": flush, "clean": clean, "detach": detach, "attach": attach,
    "abort": abort, "off": off, "on": on, "stop": stop, "add": add, "grow": grow, "wait": wait,
    "break": break_, "heal": heal, "recover": recover, "hang": hang, "verify": lies.verify, "lie": lies.lie,
    "elsewhere": elsewhere, "pause": pauses.pause, "set": set_extents,
    "lose": lose, "behind": behind,
    **snaps.OPERATIONS, **tracked.OPERATIONS,
}  # fmt: skip
