"""`snapback --from-replica --keep-undo` keeps the original as it was, as a snapshot of its own; `undo` puts it back.

One plex of the original is cloned where the file system can share blocks, which takes no time and no room; in the very
commit of the restore the clone becomes a snapshot, so that the same maps say what an undo has to copy.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from fmrd.backing.calls.system_calls import Lane, ask
from fmrd.core.decisions import snapshot
from fmrd.core.names import derived
from fmrd.core.record import PlexRecord
from fmrd.core.records.parts import Column
from fmrd.core.states import PlexState
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.dco.store import Store
from fmrd.engine.copies.carried import copy_of, name_owner
from fmrd.engine.opening.closing import close
from fmrd.engine.opening.files import PlexFiles
from fmrd.engine.opening.giving_up import give_up
from fmrd.engine.opening.start import Opening, report
from fmrd.engine.registry import Registry
from fmrd.engine.resync.copy_tasks import Then
from fmrd.engine.running import Running
from fmrd.engine.service import Service
from fmrd.engine.serving.mirror import Mirror
from fmrd.engine.serving.open_plex import Lanes, OpenPlex
from fmrd.engine.units import Unit
from fmrd.errors import Failed, FmrdError, Refused

log = logging.getLogger(__name__)
SUFFIX = ".undo"
"""This is added to the path of the plex that is cloned."""


def undo_name(volume: str) -> str:
    """Return the name of the snapshot that an undo restores from."""
    return derived("UNDO", volume)


@dataclass
class Kept:
    """What is kept is a clone, ready to become a snapshot of ``running``'s volume in a step of somebody else's."""

    registry: Registry
    running: Running
    record: PlexRecord
    opened: OpenPlex
    opening: Opening | None = None
    unit: Unit | None = None

    def step(self) -> None:
        """Make it a snapshot in the step of the restore, before that: the clone's map gains what the others gain."""
        mirror = self.running.mirror
        store = mirror.store
        check(self.registry, self.running)  # the name may have been taken meanwhile
        taken = snapshot.kept(
            store.family, self.running.volume, self.record, undo_name(self.running.volume.name),
            self.registry.context.new_uuid(),
        )  # fmt: skip
        opened = {self.record.uuid: self.opened}
        own = Store(store.ledger, taken, opened, timeout_seconds=store.timeout_seconds, failed=report)
        self.running.home.lanes[self.record.uuid] = self.opened.lanes
        kin = self.running.home.mirrors
        self.opening = Opening(Mirror(own, mirror.system, opened, kin), self.running.home, [])
        self.unit = self.registry.units.add(taken.name, self.running.home)
        self.unit.busy.acquire_nowait()  # nobody starts or removes it before it is adopted

    async def serve(self) -> None:
        """After the record: a snapshot like any other."""
        assert self.opening is not None and self.unit is not None
        service = self.registry.adopt(self.unit, self.opening)
        try:
            await service.running.renew_copies()
        except FmrdError as error:
            log.warning("volume %s: %s", self.unit.name, error)

    def let_go(self) -> None:
        """Of the unit, if there is one."""
        if self.unit is not None:
            self.unit.busy.release()

    async def give_up(self) -> None:
        """Remove the clone: the restore was refused."""
        await close(self.running.context, self.opened.lanes, self.opened)
        await _erase(self.running, self.record.path, dco=True)


def check(registry: Registry, running: Running) -> None:
    """Raise Refused('undo_present') where there is something to undo already."""
    name = undo_name(running.volume.name)
    if name in registry.units:
        raise Refused(
            "undo_present", f"volume {running.volume.name} keeps what it was before an earlier restore",
            f"fmrctl undo {running.volume.name}, or fmrctl remove {name} --erase",
        )  # fmt: skip


async def must_be_possible(registry: Registry, running: Running) -> None:
    """What ``keep`` needs: Refused('undo_present') or ('undo_impossible'), Failed('plex_too_many')."""
    check(registry, running)
    running.mirror.store.family.runs_for(snapshot.CLONE_BITMAPS, running.volume)
    problem = "no plex holds all of it"
    for plex in _candidates(running.volume):
        try:
            await _ask(running, partial(running.context.host.try_clone, plex.path, plex.path + SUFFIX))
        except OSError as error:
            problem = f"{plex.path}: {error.strerror or error}"
        else:
            return
    raise _impossible(running.volume, problem)


def _candidates(volume: Volume) -> list[Plex]:
    return [p for p in volume.plexes if p.state is PlexState.ACTIVE and p.settled]


def _impossible(volume: Volume, problem: str) -> Refused:
    return Refused(
        "undo_impossible", f"volume {volume.name}: no plex can be cloned without copying it ({problem})",
        "without --keep-undo; or plexes as files on XFS or btrfs",
    )  # fmt: skip


async def keep(registry: Registry, running: Running) -> Kept:
    """Clone a plex of a volume that is at rest. Refused('undo_impossible') where none can be, ('undo_present')."""
    check(registry, running)
    host, volume = running.context.host, running.volume
    problem = "no plex holds all of it"
    for plex in _candidates(volume):
        path = plex.path + SUFFIX
        try:
            await _ask(running, partial(host.clone_plex, plex.path, path))
        except OSError as error:
            problem = f"{plex.path}: {error.strerror or error}"
            continue
        return await _opened(registry, running, path)
    raise _impossible(volume, problem)


async def _opened(registry: Registry, running: Running, path: str) -> Kept:
    """The clone, which is removed again where it cannot be had."""
    lanes = Lanes(path)
    host, volume, family = running.context.host, running.volume, running.mirror.store.family
    open_clone = partial(host.open_plex, path, 0)
    try:
        backing = await ask(running.context.system, lanes.data, open_clone, running.timeout_seconds)
    except BaseException:
        await _erase(running, path, dco=False)
        raise
    files = PlexFiles(backing, lanes, None, None, None)
    record = PlexRecord("", registry.context.new_uuid(), path, None, PlexState.ACTIVE, Column(0, 0))
    try:
        copy = await copy_of(
            running.context, files, path, record.uuid, family.uuid, volume.geometry, family.rows, path, None,
            running.timeout_seconds,
        )  # fmt: skip
        await name_owner(running.context, copy, running.mirror.store.ledger.last_record, running.timeout_seconds)
    except BaseException:
        await close(running.context, lanes, files)
        await _erase(running, path, dco=files.dco is not None)
        raise
    copy.broken = True  # it is written when the snapshot is there
    return Kept(registry, running, record, files.with_dco(copy))


def clean_up(service: Service, uuid: str) -> Then:
    """After an undo: once every plex has its data again, the clone goes."""

    going = False

    async def then(_: Plex) -> None:
        nonlocal going
        regular = [p for p in service.volume.plexes if p.uuid != uuid]
        clone = next((p for p in service.volume.plexes if p.uuid == uuid), None)
        if clone is not None and not going and not any(p.is_open and p.map.any() for p in regular):
            going = True
            await service.dissociate(clone)
            last = service.mirror.store.ledger.last_record
            for sentence in await give_up(service.context, last, [clone], erase=True) if last is not None else ():
                log.warning("volume %s: %s", service.volume.name, sentence)

    return then


async def _erase(running: Running, path: str, *, dco: bool) -> None:
    """What was just made there; ``dco``: its copy of the DCO, too."""
    host = running.context.host

    def run() -> None:
        if dco:
            host.remove_dco(path, None)
        host.remove_plex(path)

    try:
        await _ask(running, run)
    except OSError as error:
        log.warning("left behind: %s (%s)", os.path.basename(path), error)


async def _ask(running: Running, run: Callable[[], None]) -> None:
    await ask(running.context.system, Lane("undo"), run, running.timeout_seconds)


def pair_name(registry: Registry, volume: str) -> str:
    """Return the name of what an undo restores from; Failed('undo_missing') where nothing was kept."""
    name = undo_name(volume)
    if name not in registry.units:
        raise Failed("undo_missing", f"volume {volume} has nothing to undo")
    return name


def clone_of(volume: Volume) -> Plex:
    """Failed('undo_missing') for a snapshot that somebody gave that name, and that an undo must not erase."""
    if len(volume.plexes) != 1 or not volume.plexes[0].path.endswith(SUFFIX):
        raise Failed("undo_missing", f"{volume.name} is a snapshot, and not what --keep-undo kept")
    return volume.plexes[0]
