"""`snapback --from-replica`: a snapshot's data becomes its original's, on all plexes of it. One commit, too."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import trio

from fmrd.core.decisions import snapback
from fmrd.core.decisions.snapshot import CLONE_BITMAPS
from fmrd.core.reasons import Reason
from fmrd.core.states import TaskType
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.dco.ledger import change
from fmrd.dco.rows.widening import make_room
from fmrd.engine.resync.copy_tasks import Then
from fmrd.engine.service import Service
from fmrd.engine.serving.keeping import Keeper
from fmrd.engine.snapshots import undos
from fmrd.engine.snapshots.foretold import check_restore
from fmrd.engine.snapshots.pairs import Pair, and_gone, both, withdrawn
from fmrd.engine.tasks import Task
from fmrd.errors import FmrdError, Refused

log = logging.getLogger(__name__)
RETRY_SECONDS = 1.0
Around = tuple[Callable[[], None], Callable[[], None]]


async def restore(
    asked: Pair, chosen: Sequence[Plex], rate: int = 0, *, force: bool = False, keep_undo: bool = False,
    kind: TaskType = TaskType.SNAPBACK, then: Then | None = None, check: Callable[[], None] = lambda: None,
    also: Callable[[], None] = lambda: None, carrier: str | None = None,
) -> list[Task]:  # fmt: skip
    """From the replica: the snapshot's data goes onto all plexes of the original. ``keep_undo``: what the original was
    is kept beside it. ``kind`` and ``then``: of the tasks. ``check`` may refuse it in the step, ``also`` is
    done in the same and must not fail. Nothing is copied to the plex of the uuid ``carrier``, which only brings data.
    """
    if carrier is None and asked.volume.settings.receiving is not None:
        raise Refused(
            "receive_present", f"{asked.unit.name} is what a stream is received into, and not all of that has come",
            f"fmrctl receive {asked.origin.volume.name} goes on with it, or with --abort gives it up",
        )  # fmt: skip
    await check_restore(asked, chosen, force=force, keep_undo=keep_undo)
    if keep_undo:
        await make_room(asked.origin.mirror.store.ledger, CLONE_BITMAPS, asked.origin.volume)
    async with both(asked) as (pair, service):
        origin, plexes = pair.origin, pair.still(chosen)
        await check_restore(pair, plexes, force=force, keep_undo=keep_undo)
        assert service is not None, "asked just now"
        try:
            await _restore(pair, service, plexes, (check, also), force=force, keep_undo=keep_undo)
        except (FmrdError, OSError):
            origin.copying.go_on()  # what was halted for it, and it was refused
            raise
        await origin.copying.returned()
    tasks = []
    for plex in origin.volume.open_plexes():
        if plex.map.any() and plex.uuid != carrier:
            message = f"plex {plex.name} copies {plex.map.count()} region(s) from snapshot {pair.unit.name}"
            tasks.append(origin.copying.start(plex, (Reason.FAST, message), rate, kind, then))
    return tasks


async def _restore(
    pair: Pair, service: Service, plexes: Sequence[Plex], around: Around, *, force: bool, keep_undo: bool
) -> None:
    origin = pair.origin
    for plex in origin.volume.open_plexes():
        await origin.copying.halt(plex)
    with ExitStack() as stack:
        # The snapshot first: what it is still asked for may need bytes of its original.
        async with (
            withdrawn(pair, service, ends=len(plexes) == len(pair.volume.plexes)),
            origin.running.at_rest(), origin.mirror.reads_held(),
        ):  # fmt: skip
            if origin.running.open_count and not force:
                raise Refused("volume_open", f"volume {origin.volume.name} was opened meanwhile", "unmount it first")
            await _keep_for_others(pair)
            kept = await undos.keep(pair.registry, origin.running) if keep_undo else None
            if kept is not None:
                stack.callback(kept.let_go)
            try:
                async with service.running.at_rest():
                    await _replace(pair, service, plexes, kept, around)
            except BaseException:
                if kept is not None and kept.opening is None:
                    await kept.give_up()
                raise
            pair.registry.changed(origin.volume.name)  # before it is read again: caches hold other data
        if kept is not None:
            await kept.serve()


async def _keep_for_others(pair: Pair) -> None:
    """Instant snapshots of the same original still read from it what will be other data."""
    snapback.check_length(pair.origin.volume, pair.volume, replica=True)
    mirror, own = pair.origin.mirror, pair.volume.settings.uuid
    changed = snapback.difference(mirror.volume, pair.volume)
    for volume in (mirror.volume, pair.volume):
        volume.drl.add_to(changed)
    if pair.volume.settings.is_instant:
        # What it has not copied stays as it is, whatever its coarse marks say: all of that would fill the others.
        pair.volume.plexes[0].map.take_from(changed)
    for uuid in [uuid for uuid in mirror.volume.unkept if uuid != own]:
        await Keeper(mirror, uuid).keep(changed.search(1))


async def _replace(
    pair: Pair, service: Service, plexes: Sequence[Plex], kept: undos.Kept | None, around: Around
) -> None:
    origin = pair.origin
    check, also = around
    store = origin.mirror.store

    def step() -> None:
        snapback.check_restore(origin.volume, pair.volume, plexes)
        check()
        if kept is not None:
            kept.step()
        snapback.from_replica(store.family, origin.volume, pair.volume, plexes)
        for plex in plexes:  # they serve the original from now on
            origin.mirror.opened[plex.uuid] = service.mirror.opened.pop(plex.uuid)
            plex.stamp = None
        also()

    async with origin.checksums.becoming_other():
        try:
            await _reserve(origin.volume)
            await change([store, service.mirror.store], and_gone(pair, step), whole=True)
        except FmrdError as error:
            if not any(plex in origin.volume.plexes for plex in plexes):
                raise  # refused, and nothing was changed
            await _until_recorded(pair, error)
    try:
        await origin.running.renew_copies()  # of a plex that kept none, as an instant snapshot's
    except FmrdError as error:
        log.warning("volume %s: %s", origin.volume.name, error)


async def _reserve(volume: Volume) -> None:
    """What was changed goes into all of these maps in one step: of large ones most of that would be new memory."""
    for bitmap in volume.bitmaps():
        bitmap.map.reserve()
        await trio.lowlevel.checkpoint()


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
