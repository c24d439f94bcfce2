"""`snapback`, `refresh` and `snapclear` let a snapshot return to its original, restore it, or go.

Each is one commit (PROTOCOLS, "Snapshots: each verb is one commit"). Both sides settle first, so that only what really
changed is copied, and the snapshot's requests are answered; then the step, and its record.
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from fmrd.core.decisions import snapback
from fmrd.core.reasons import Reason
from fmrd.core.states import TaskType
from fmrd.core.volume.plex import Plex
from fmrd.dco.ledger import change
from fmrd.engine.resync.copy_tasks import Then
from fmrd.engine.service import Service
from fmrd.engine.serving.copy_on_write import CopyOnWrite
from fmrd.engine.snapshots import undos
from fmrd.engine.snapshots.pairs import Pair, both
from fmrd.engine.tasks import Task
from fmrd.errors import Failed, FmrdError, Refused

log = logging.getLogger(__name__)
RETRY_SECONDS = 1.0
"""So often a home copy that did not take a restore is asked again."""


async def back(pair: Pair, plexes: Sequence[Plex], rate: int = 0, then: Then | None = None) -> list[Task]:
    """Give the plexes back: the original's data wins, and they copy the union of what changed on either side. Return
    the tasks; ``then`` is what each of them does besides, when its plex has arrived. Refused as by snapback.go_back, or
    'volume_open'.
    """
    origin = pair.origin
    snapback.check_length(origin.volume, pair.volume, replica=False)
    returned: list[Plex] = []

    def step() -> None:
        returned.extend(snapback.go_back(origin.mirror.store.family, origin.volume, pair.volume, plexes))

    async with both(pair) as service:
        _must_be_there(pair, plexes)
        await _take_plexes(pair, service, plexes, step)
    tasks = []
    for plex in returned:
        task, _ = await origin.attacher.attach(plex, rate=rate, kind=TaskType.SNAPBACK, then=then)
        tasks.append(task)
    return tasks


async def restore(
    pair: Pair, plexes: Sequence[Plex], rate: int = 0, *, force: bool = False, keep_undo: bool = False,
    kind: TaskType = TaskType.SNAPBACK, then: Then | None = None,
) -> list[Task]:  # fmt: skip
    """Restore from the replica: the snapshot's data goes onto all plexes of the original; return the tasks that copy
    it. ``keep_undo``: what the original was is kept beside it. Refused as by snapback.from_replica, ('volume_open')
    unless ``force``, or ('undo_impossible').
    """
    origin = pair.origin
    snapback.check_length(origin.volume, pair.volume, replica=True)
    if origin.running.open_count and not force:
        raise Refused(
            "volume_open",
            f"volume {origin.volume.name} is open ({origin.running.open_count} time(s)), and its data would change "
            "under that",
            "unmount it first, or --force",
        )
    async with both(pair) as service:
        _must_be_there(pair, plexes)
        if service is None:
            raise Failed("volume_stopped", f"snapshot {pair.unit.name} is stopped", f"fmrctl start {pair.unit.name}")
        for plex in origin.volume.open_plexes():
            await origin.copying.halt(plex)
        # The snapshot first: what it is still asked for may need bytes of its original.
        async with (
            _withdrawn(pair, service, ends=len(plexes) == len(pair.volume.plexes)),
            origin.running.at_rest(), origin.mirror.reads_held(),
        ):  # fmt: skip
            if origin.running.open_count and not force:
                raise Refused("volume_open", f"volume {origin.volume.name} was opened meanwhile", "unmount it first")
            await _keep_for_others(pair)
            kept = await undos.keep(pair.registry, origin.running) if keep_undo else None
            try:
                async with service.running.at_rest():
                    await _replace(pair, service, plexes, kept)
            except BaseException:
                if kept is not None and kept.opening is None:
                    await kept.give_up()
                raise
            pair.registry.changed(origin.volume.name)  # before it is read again: caches hold other data
        if kept is not None:
            await kept.serve()
    tasks = []
    for plex in origin.volume.open_plexes():
        if plex.map.any():
            message = f"plex {plex.name} copies {plex.map.count()} region(s) from snapshot {pair.unit.name}"
            tasks.append(origin.copying.start(plex, (Reason.FAST, message), rate, kind, then))
    if not tasks:
        await origin.copying.returned()
    return tasks


async def _keep_for_others(pair: Pair) -> None:
    """Instant snapshots of the same original still read from it what will be other data."""
    snapback.check_length(pair.origin.volume, pair.volume, replica=True)
    mirror, own = pair.origin.mirror, pair.volume.settings.uuid
    changed = snapback.difference(mirror.volume, pair.volume) | mirror.volume.drl.regions() | pair.volume.drl.regions()
    for uuid in [uuid for uuid in mirror.volume.unkept if uuid != own]:
        await CopyOnWrite(mirror, uuid).keep(changed.search(1))


async def _replace(pair: Pair, service: Service, plexes: Sequence[Plex], kept: undos.Kept | None) -> None:
    origin = pair.origin
    store = origin.mirror.store

    def step() -> None:
        snapback.check_restore(origin.volume, pair.volume, plexes)
        if kept is not None:
            kept.step()
        snapback.from_replica(store.family, origin.volume, pair.volume, plexes)
        for plex in plexes:  # they serve the original from now on
            origin.mirror.opened[plex.uuid] = service.mirror.opened.pop(plex.uuid)
            plex.stamp = None

    async with origin.checksums.becoming_other():
        try:
            await change([store, service.mirror.store], _and_gone(pair, step), whole=True)
        except FmrdError as error:
            if not any(plex in origin.volume.plexes for plex in plexes):
                raise  # refused, and nothing was changed
            await _until_recorded(pair, error)
    try:
        await origin.running.renew_copies()  # of a plex that kept none, as an instant snapshot's
    except FmrdError as error:
        log.warning("volume %s: %s", origin.volume.name, error)


async def _take_plexes(pair: Pair, service: Service | None, plexes: Sequence[Plex], step: Callable[[], None]) -> None:
    """Settle both sides, take the plexes' stamps, and let go of what the snapshot has open of them."""
    origin = pair.origin
    stores = [origin.mirror.store]
    await _settle(origin)
    if service is None:
        await change(stores, _and_gone(pair, step))
        return
    stores.append(service.mirror.store)
    ends = len(plexes) == len(pair.volume.plexes)
    async with _withdrawn(pair, service, ends=ends), service.running.at_rest():
        for plex in plexes:
            if plex.is_open:
                plex.stamp = await service.releaser.stamp(service.mirror.opened[plex.uuid])
            else:  # it left the snapshot before, by an error or by hand
                await service.releaser.complete(plex)

        def taken() -> None:
            step()
            for plex in plexes:
                service.running.give_up(plex.uuid)

        await change(stores, _and_gone(pair, taken))


@asynccontextmanager
async def _withdrawn(pair: Pair, service: Service, *, ends: bool) -> AsyncIterator[None]:
    """The snapshot serves nobody any more, if it ``ends``, and is closed afterwards, unless the step was refused."""
    if not ends:
        yield
        return
    pair.registry.withdraw(pair.unit)
    try:
        await service.checksums.close()
        await service.copying.halt_all()
        await service.mirror.quiesce()
        yield
    finally:
        if pair.volume not in pair.origin.mirror.store.family.volumes:
            service.end()
            pair.registry.units.pop(pair.unit.name, None)
        else:
            service.resume()
            pair.unit.service = service
            pair.registry.serve(pair.unit)


def _and_gone(pair: Pair, step: Callable[[], None]) -> Callable[[], None]:
    """The store of a snapshot that went takes part in no commit any more."""

    def run() -> None:
        step()
        ledger = pair.origin.mirror.store.ledger
        if pair.volume not in ledger.family.volumes:
            ledger.stores.pop(pair.volume.settings.uuid, None)

    return run


async def _until_recorded(pair: Pair, error: FmrdError) -> None:
    """The original is other data in memory already: nobody reads it before the record says so too."""
    while not pair.registry.closing:
        log.error("volume %s waits for its home copy: %s", pair.origin.volume.name, error)
        await trio.sleep(RETRY_SECONDS)
        try:
            await pair.origin.mirror.store.commit(everything=True)
        except FmrdError as again:
            error = again
        else:
            return
    raise error


async def _settle(service: Service) -> None:
    """As far as it can be while it is in use."""
    try:
        await service.mirror.clean()
    except FmrdError as error:
        log.warning("volume %s: not settled before a snapback: %s", service.volume.name, error)


def _must_be_there(pair: Pair, plexes: Sequence[Plex]) -> None:
    gone = pair.volume not in pair.origin.mirror.store.family.volumes or pair.volume.settings.link is None
    if gone or any(plex not in pair.volume.plexes for plex in plexes):
        raise Failed("snap_unknown", f"snapshot {pair.unit.name} went back or was cleared meanwhile")


async def clear(pair: Pair) -> None:
    """Forget what ties the two: the snapshot is a volume like any other from now on. Refused('snap_instant')."""
    origin = pair.origin
    async with pair.unit.busy, origin.running.verb():
        _must_be_there(pair, [])
        service = pair.unit.service
        stores = [origin.mirror.store, *([service.mirror.store] if service is not None else [])]
        await change(stores, lambda: snapback.clear(origin.mirror.store.family, origin.volume, pair.volume))
