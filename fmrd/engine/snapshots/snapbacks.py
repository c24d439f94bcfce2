"""`snapback`, `refresh` and `snapclear`: a snapshot returns to its original, or is let go.

Each is one commit (PROTOCOLS, "Snapshots: each verb is one commit"). Both sides settle first, so that only what really
changed is copied, and the snapshot's requests are answered; then the step, and its record.
"""

import logging
from collections.abc import Callable, Sequence

from fmrd.core.decisions import snapback
from fmrd.core.states import TaskType
from fmrd.core.volume.plex import Plex
from fmrd.dco.ledger import change
from fmrd.engine.resync.copy_tasks import Then
from fmrd.engine.service import Service
from fmrd.engine.snapshots.foretold import check_back
from fmrd.engine.snapshots.pairs import Pair, and_gone, both, drop_if_gone, pair_of, withdrawn
from fmrd.engine.tasks import Task
from fmrd.errors import FmrdError

log = logging.getLogger(__name__)


async def back(asked: Pair, chosen: Sequence[Plex], rate: int = 0, then: Then | None = None) -> list[Task]:
    """The original's data wins: the plexes return, and copy the union of what changed on either side. ``then``: what
    each task does besides when its plex has arrived.
    """
    await check_back(asked, chosen)
    returned: list[Plex] = []
    async with both(asked) as (pair, service):
        origin, plexes = pair.origin, pair.still(chosen)
        await check_back(pair, plexes)

        def step() -> None:
            returned.extend(snapback.go_back(origin.mirror.store.family, origin.volume, pair.volume, plexes))

        await _take_plexes(pair, service, plexes, step)
        # Before anybody else attaches them: the task would be another, without what comes afterwards.
        attached = [
            await origin.attacher.attach_held(plex, rate=rate, kind=TaskType.SNAPBACK, then=then) for plex in returned
        ]
    return [task for task, _ in attached]


async def _take_plexes(pair: Pair, service: Service | None, plexes: Sequence[Plex], step: Callable[[], None]) -> None:
    """Settle both sides, take the plexes' stamps, and let go of what the snapshot has open of them."""
    origin = pair.origin
    stores = [origin.mirror.store]
    await _settle(origin)
    if service is None:
        try:
            await change(stores, and_gone(pair, step))
        finally:
            drop_if_gone(pair)
        return
    stores.append(service.mirror.store)
    ends = len(plexes) == len(pair.volume.plexes)
    async with withdrawn(pair, service, ends=ends), service.running.at_rest():
        for plex in plexes:
            if plex.is_open:
                plex.stamp = await service.releaser.stamp(plex)
            else:  # it left the snapshot before, by an error or by hand
                await service.releaser.complete(plex)

        def taken() -> None:
            step()
            for plex in plexes:
                service.running.give_up(plex.uuid)

        await change(stores, and_gone(pair, taken))


async def _settle(service: Service) -> None:
    """As far as it can be while it is in use."""
    try:
        await service.mirror.clean()
    except FmrdError as error:
        log.warning("volume %s: not settled before a snapback: %s", service.volume.name, error)


async def clear(asked: Pair) -> None:
    """Strangers from now on; the snapshot is a volume like any other."""
    origin = asked.origin
    async with asked.registry.units.held(asked.unit), origin.running.verb():
        pair = pair_of(asked.registry, asked.unit.name)
        service = pair.service
        stores = [origin.mirror.store, *([service.mirror.store] if service is not None else [])]

        def step() -> None:
            snapback.clear(origin.mirror.store.family, origin.volume, pair.volume)

        await change(stores, step)
