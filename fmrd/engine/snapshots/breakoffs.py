"""`snapshot` lets SNAPDONE plexes leave their volumes at one instant, to be served as volumes of their own.

All volumes are held together: requests in flight are answered first, later ones wait until the plexes have left. The
step that takes them out is one, over all volumes; each family's record is its commit point (PROTOCOLS, "Break-off").
"""

import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import count

import trio

from fmrd.core.decisions import snapshot
from fmrd.core.names import derived, is_name
from fmrd.core.records.parts import Kind, Taken
from fmrd.core.states import PlexState
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.dco.ledger import change
from fmrd.dco.rows.widening import make_room
from fmrd.dco.store import Store
from fmrd.engine.opening.start import Opening, report
from fmrd.engine.registry import Registry
from fmrd.engine.running import Running
from fmrd.engine.serving.mirror import Mirror
from fmrd.engine.snapshots.appearing import appear, land_later
from fmrd.engine.snapshots.frozen import frozen
from fmrd.engine.units import Unit
from fmrd.errors import BadRequest, Failed, FmrdError, Refused

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wish:
    """A wish is a snapshot to be taken: of which volume, under which name, with how many of its SNAPDONE plexes."""

    volume: str
    name: str
    plexes: int = 1


def names_for(registry: Registry, volumes: Sequence[str], pattern: str | None) -> list[str]:
    """Return a free name for each volume's snapshot. In ``pattern`` %v stands for the volume's name; without one it is
    SNAP-VOL, or SNAP1-VOL if that is taken. BadRequest('bad_name'), Failed('volume_exists').
    """
    if pattern is not None and len(volumes) > 1 and "%v" not in pattern:
        raise BadRequest("bad_name", f"--name {pattern}: %v must stand for the volume where there are several")
    found = []
    for volume in volumes:
        if pattern is not None:
            name = pattern.replace("%v", volume)
        else:
            choices = (derived(f"SNAP{number or ''}", volume) for number in count())
            name = next(choice for choice in choices if choice not in registry.units and choice not in found)
        if not is_name(name):
            raise BadRequest("bad_name", f"{name!r} cannot name a snapshot", "fmrctl explain bad_name")
        if name in registry.units or name in found:
            raise Failed("volume_exists", f"volume {name} exists already")
        found.append(name)
    return found


def check(registry: Registry, wishes: Sequence[Wish]) -> None:
    """Raise what ``break_off`` would refuse now, without changing anything."""
    originals = [registry.service(wish.volume).running for wish in wishes]
    for running, plexes in zip(originals, _Instant(registry, originals, wishes).choose(), strict=True):
        running.mirror.store.family.runs_for(snapshot.BROKEN_OFF_BITMAPS, running.volume)
        snapshot.check_leaving(running.volume, plexes)


async def break_off(registry: Registry, wishes: Sequence[Wish], freeze: Sequence[str] = ()) -> tuple[list[Unit], float]:
    """Take all of these snapshots at one instant, or none. Return their units, and how long the volumes were held, in
    seconds. Refused('snap_missing'), ('last_plex') or ('snap_of_snap'), Failed('freeze_failed') where nothing was
    changed; Failed('home_failed') where a record did not land, and is tried again (``land_later``).
    """
    originals = [registry.service(wish.volume).running for wish in wishes]
    order = sorted(range(len(wishes)), key=lambda at: wishes[at].volume)
    instant = _Instant(registry, originals, wishes)
    for running in originals:  # before the locks: that of a snapshot comes after its original's, not by name
        must_be_original(running.volume)
    async with AsyncExitStack() as locks:
        locks.callback(instant.let_go)
        for at in order:
            await locks.enter_async_context(originals[at].verb())
        for running in originals:
            await make_room(running.mirror.store.ledger, snapshot.BROKEN_OFF_BITMAPS, running.volume)
            await _settle(running)
        async with AsyncExitStack() as thaws:
            for mountpoint in freeze:
                await thaws.enter_async_context(frozen(registry, mountpoint))
            await _break_off_held(instant, [originals[at] for at in order])
        for unit, opening in zip(instant.units, instant.openings, strict=True):
            await appear(registry, unit, opening)
    names = ", ".join(f"{wish.name} of {wish.volume}" for wish in wishes)
    log.info("snapshot %s: writes were held for %.1f ms", names, instant.seconds * 1000)
    return instant.units, instant.seconds


async def _break_off_held(instant: "_Instant", in_order: Sequence[Running]) -> None:
    try:
        for running in in_order:
            await instant.hold(running)
        instant.durable = instant.choose()
        await _make_durable(instant.originals, instant.durable)
        await change([running.mirror.store for running in instant.originals], instant.step)
    except FmrdError as error:
        if instant.openings:  # broken off, and not recorded yet
            land_later(instant.registry, instant.originals, instant.units, instant.openings, error)
        raise
    finally:
        instant.release()


async def _settle(running: Running) -> None:
    """Clean the volume beforehand, so that the instant itself has little to wait for."""
    try:
        await running.mirror.clean()
    except FmrdError as error:
        log.warning("volume %s: not settled before a snapshot: %s", running.volume.name, error)


async def _make_durable(originals: Sequence[Running], chosen: Sequence[Sequence[Plex]]) -> None:
    """Fdatasync the plexes that leave: from now on nobody else can say what they held."""
    async with trio.open_nursery() as nursery:
        for running, plexes in zip(originals, chosen, strict=True):
            for plex in plexes:
                nursery.start_soon(running.mirror.sync, plex)


class _Instant:
    """Holds every volume, and breaks off in one step."""

    def __init__(self, registry: Registry, originals: Sequence[Running], wishes: Sequence[Wish]) -> None:
        self.registry = registry
        self.originals = originals
        self.openings: list[Opening] = []
        self.units: list[Unit] = []
        self.seconds = 0.0
        self.durable: list[list[Plex]] = []
        """Those that were fdatasync'ed since the volumes are held."""
        self._wishes = wishes
        self._held: list[tuple[Running, tuple[tuple[int, int], ...]]] = []
        self._began = 0.0

    async def hold(self, running: Running) -> None:
        claim = ((0, running.volume.geometry.length_bytes),)
        self._began = self._began or trio.current_time()
        await running.mirror.ranges.acquire(claim)
        self._held.append((running, claim))

    def release(self) -> None:
        if self._held:
            self.seconds = trio.current_time() - self._began
        for running, claim in self._held:
            running.mirror.ranges.release(claim)
        self._held = []

    def choose(self, durable: Sequence[Plex] | None = None) -> list[list[Plex]]:
        """The plexes that leave, of those that are durable: another one may have become SNAPDONE meanwhile.
        Refused('snap_missing') where one volume has too few.
        """
        chosen = []
        for running, wish in zip(self.originals, self._wishes, strict=True):
            volume = running.volume
            must_be_original(volume)
            ready = [p for p in snapshot.ready(volume) if durable is None or p in durable]
            plexes = ready[: wish.plexes]
            if len(plexes) < wish.plexes:
                raise _too_few(volume, len(plexes), wish.plexes)
            chosen.append(plexes)
        return chosen

    def step(self) -> None:
        chosen = self.choose([plex for plexes in self.durable for plex in plexes])
        for wish in self._wishes:
            self.registry.units.must_be_free(wish.name)
        families = [running.mirror.store.family for running in self.originals]
        for family, running, plexes in zip(families, self.originals, chosen, strict=True):
            snapshot.check_break_off(family, running.volume, plexes)
        for family, running, plexes, wish in zip(families, self.originals, chosen, self._wishes, strict=True):
            uuid = self.registry.context.new_uuid()
            volume = snapshot.break_off(family, running.volume, plexes, wish.name, uuid)
            volume.settings = replace(volume.settings, taken=Taken(self.registry.context.now(), Kind.BREAK_OFF))
            self.openings.append(_moved(running, volume))
            self.units.append(self.registry.units.add(wish.name, running.home))
            self.units[-1].busy.acquire_nowait()  # nobody starts or removes it before it is adopted
        self.release()

    def let_go(self) -> None:
        for unit in self.units:
            unit.busy.release()


def must_be_original(volume: Volume) -> None:
    """Refused('snap_of_snap')."""
    if volume.settings.snapshot_of is not None:
        raise Refused("snap_of_snap", f"volume {volume.name} is a snapshot of {volume.settings.snapshot_of} itself")


def _too_few(volume: Volume, ready: int, wanted: int) -> Refused:
    copied_to = [p.name for p in volume.plexes if p.state is PlexState.SNAPDONE and not p.settled]
    if ready + len(copied_to) < wanted:
        message = f"volume {volume.name} has {ready} SNAPDONE plex(es), {wanted} wanted"
        return Refused(
            "snap_missing", message, f"fmrctl snapstart {volume.name} PATH, then fmrctl snapwait {volume.name}"
        )
    message = f"volume {volume.name}: {', '.join(copied_to)} is SNAPDONE, but misses something that is copied to it"
    return Refused("snap_missing", message, f"fmrctl snapwait {volume.name}")


def _moved(running: Running, volume: Volume) -> Opening:
    """The plexes, open as they are, in a mirror of their own."""
    origin = running.mirror
    timeout = volume.settings.io_timeout_seconds
    opened = {plex.uuid: origin.opened.pop(plex.uuid) for plex in volume.plexes}
    store = Store(origin.store.ledger, volume, opened, timeout_seconds=timeout, failed=report)
    return Opening(Mirror(store, origin.system, opened, running.home.mirrors), running.home, [])
