"""`snapshot --instant` is readable at once, on a sparse file that gets old data before the original writes over it.

`--sync` (and `snapsync`) lets the rest be copied in the background, after which it is a snapshot like the others.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial

import trio

from fmrd.backing.calls.system_calls import ask
from fmrd.core.decisions import instant, snapshot
from fmrd.core.reasons import Reason
from fmrd.core.record import PlexRecord
from fmrd.core.records.parts import Column, Kind, Receiving, Taken
from fmrd.core.states import PlexState, TaskState, TaskType
from fmrd.core.volume.volume import Volume
from fmrd.dco.copy import DcoCopy
from fmrd.dco.ledger import change
from fmrd.dco.rows.widening import make_room
from fmrd.dco.store import Store
from fmrd.engine.copies.carried import copy_of, name_owner
from fmrd.engine.events.telling import copy_began
from fmrd.engine.opening.files import PlexFiles
from fmrd.engine.opening.start import Opening, report
from fmrd.engine.registry import Registry
from fmrd.engine.running import Running
from fmrd.engine.serving import copy_on_write, keeping
from fmrd.engine.serving.mirror import Mirror
from fmrd.engine.snapshots.appearing import land_later
from fmrd.engine.snapshots.breakoffs import must_be_original
from fmrd.engine.snapshots.frozen import frozen
from fmrd.engine.tasks import Task
from fmrd.engine.units import Unit
from fmrd.errors import Failed, FmrdError

log = logging.getLogger(__name__)
WINDOW_BYTES = 4 << 20
"""So much is taken over at a time: the original holds these bytes meanwhile."""


async def take_instant(
    registry: Registry, volume: str, name: str, path: str, dco: str | None, files: PlexFiles, freeze: Sequence[str],
    receiving: Receiving | None = None, check: Callable[[Volume], None] = lambda volume: None,
) -> tuple[Unit, float]:  # fmt: skip
    """Take an instant snapshot on files just made, which are the snapshot's then. Return its unit, and how long writes
    were held, in seconds. ``receiving``: the stream that is to be received into it; ``check`` may refuse it in its
    step. If it is refused, or its record does not land, the caller asks whether a volume has the files by now.
    """
    running = registry.service(volume).running
    mirror = running.mirror
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running.verb())
        must_be_original(running.volume)
        await make_room(mirror.store.ledger, snapshot.INSTANT_BITMAPS, running.volume)  # others may have taken some
        record = PlexRecord("", registry.context.new_uuid(), path, dco, PlexState.ACTIVE, Column(0, 0))
        length = running.volume.geometry.length_bytes
        if files.backing.length < length:  # the volume grew meanwhile
            extend = partial(files.backing.extend, length)
            await ask(registry.context.system, files.lanes.data, extend, running.timeout_seconds)
        copy = await _recognisable(running, record, files)
        await mirror.clean()
        for mountpoint in freeze:
            await stack.enter_async_context(frozen(registry, mountpoint))
        claim = ((0, running.volume.geometry.length_bytes),)
        began = trio.current_time()
        await mirror.ranges.acquire(claim)
        opening: list[Opening] = []
        units: list[Unit] = []
        seconds = 0.0

        def step() -> None:
            nonlocal seconds
            registry.units.must_be_free(name)
            check(running.volume)
            uuid = registry.context.new_uuid()
            taken = snapshot.taken_at_once(mirror.store.family, running.volume, record, name, uuid)
            patience, when = keeping.LIMIT_SECONDS, Taken(registry.context.now(), Kind.INSTANT)
            taken.settings = replace(taken.settings, io_timeout_seconds=patience, receiving=receiving, taken=when)
            ledger = mirror.store.ledger
            opened = {record.uuid: files.with_dco(copy)}
            store = Store(ledger, taken, opened, timeout_seconds=ledger.timeout_seconds, failed=report)
            own = Mirror(store, mirror.system, opened, running.home.mirrors)
            running.home.mirrors[uuid] = own
            registry.context.stores.enter(own)
            running.home.lanes[record.uuid] = files.lanes
            opening.append(Opening(own, running.home, []))
            units.append(registry.units.add(name, running.home))
            units[0].busy.acquire_nowait()  # nobody starts or removes it before it is adopted
            stack.callback(units[0].busy.release)
            seconds = trio.current_time() - began

        try:
            error = (await mirror.sync()).error
            if error is not None:
                raise error
            await change([mirror.store], step)
        except FmrdError as error:
            if opening:
                land_later(registry, [running], units, opening, error)
            raise
        finally:
            mirror.ranges.release(claim)
        registry.adopt(units[0], opening[0])
    log.info("snapshot %s of %s: writes were held for %.1f ms", name, volume, seconds * 1000)
    return units[0], seconds


async def _recognisable(running: Running, plex: PlexRecord, files: PlexFiles) -> DcoCopy:
    """A copy of the DCO that says whose plex this is. It is not kept up to date: without its original the snapshot is
    nothing, and the home copy knows all of it.
    """
    store, volume = running.mirror.store, running.volume
    copy = await copy_of(
        running.context, files, plex.path, plex.uuid, store.family.uuid, volume.geometry, store.family.rows,
        plex.path, plex.dco_path, running.timeout_seconds,
    )  # fmt: skip
    await name_owner(running.context, copy, store.ledger.last_record, running.timeout_seconds)
    copy.broken = True
    return copy


def begin_sync(registry: Registry, unit: Unit, rate: int = 0) -> Task:
    """Copy all that the snapshot still reads from its original, in the background; return the task, or the one that
    does it already. Failed('volume_stopped').
    """
    service = unit.service
    if service is None:
        raise Failed("volume_stopped", f"snapshot {unit.name} is stopped", f"fmrctl start {unit.name}")
    plex = service.volume.plexes[0]
    tasks = registry.context.tasks.running(unit.name, plex.name)
    if tasks:
        return tasks[0]
    regions = plex.map.count()
    message = f"snapshot {unit.name} copies the {regions} region(s) that it reads from its original"
    reason = (
        (Reason.FULL_NEW_PLEX, message)
        if regions
        else (Reason.NOTHING_MISSED, f"snapshot {unit.name} holds everything")
    )
    task = registry.context.tasks.new(TaskType.SNAPSYNC, unit.name, plex.name, reason, rate)
    task.total_regions = regions
    task.total_bytes = service.volume.geometry.bytes_in(regions, plex.map.has_last)
    registry.context.nursery.start_soon(_sync, registry, service.running, task)
    return task


async def _sync(registry: Registry, running: Running, task: Task) -> None:
    copy_began(registry.context.events, task)
    try:
        await _fill_all(running, task)
        task.halted.set()  # whoever waits for that has the locks that come now
        if not task.aborting and not running.life.ended:
            await _complete(registry, running, task)
        if task.aborting or running.life.ended:
            task.end(TaskState.ABORTED)
    except (FmrdError, OSError) as error:
        log.warning("snapshot %s: task %d failed: %s", task.volume, task.id, error)
        task.end(TaskState.FAILED, (getattr(error, "code", "io_error"), str(error)))
    else:
        task.end(TaskState.DONE)


async def _fill_all(running: Running, task: Task) -> None:
    plex, geometry = running.volume.plexes[0], running.volume.geometry
    while not (task.aborting or running.life.ended):
        await task.while_paused()
        run = plex.map.next_run(0, max(1, WINDOW_BYTES // geometry.region_bytes))
        if run is None:
            return
        began = trio.current_time()
        await copy_on_write.fill(running.mirror, run)
        size = geometry.bytes_of(run)[1]
        task.progressed(len(run), size, size)
        await task.give_way(size, trio.current_time() - began, running.volume.settings.rate)


async def _complete(registry: Registry, running: Running, task: Task) -> None:
    """One commit: from now on its plex is all that it needs, and carries the DCO again."""
    origin = registry.service(running.volume.settings.snapshot_of or "").running
    async with origin.verb():
        if task.aborting or running.life.ended:
            return  # it went back, was stopped or removed, or is about to be
        async with running.verb():
            await _completed(origin.mirror, running)


async def _completed(origin: Mirror, running: Running) -> None:
    original = origin.volume
    done: list[bool] = []

    def step() -> None:
        done.append(instant.complete(original, running.volume))
        if done[0]:  # its original waits for it no more
            patience = original.settings.io_timeout_seconds
            running.volume.configure(replace(running.volume.settings, io_timeout_seconds=patience))

    # The commit is also on the copies of the original's plexes: who imports from them needs these pages beside its own.
    await running.mirror.store.renew_copies()
    await change([origin.store, running.mirror.store], step)
    if not done[0]:
        for opened in running.mirror.opened.values():
            opened.dco_copy.broken = True
        raise Failed("snap_invalid", f"snapshot {running.volume.name} has lost regions and cannot be completed")
    await running.renew_copies()
