"""A snapshot that was broken off appears here: once its record has landed, and its original reads its plex no more."""

import logging
from collections.abc import Sequence

import trio

from fmrd.engine.opening.closing import close_all
from fmrd.engine.opening.start import Opening
from fmrd.engine.registry import Registry
from fmrd.engine.running import Running
from fmrd.engine.units import Unit
from fmrd.errors import FmrdError

log = logging.getLogger(__name__)


RETRY_SECONDS = 1.0
"""So often a home copy that did not take the record is asked again."""


async def appear(registry: Registry, unit: Unit, opening: Opening) -> None:
    """The record of the break-off landed, and the unit is held. Not before reads of the original that are still under
    way on the plex have ended: they would see what is written to the snapshot.
    """
    service = registry.adopt(unit, opening, served=False)
    done = trio.Event()

    async def when_idle() -> None:
        for plex in list(service.volume.plexes):
            await service.running.home.lanes[plex.uuid].data.idle()
        if unit.service is service:
            registry.serve(unit)
        done.set()

    registry.context.nursery.start_soon(when_idle)
    with trio.move_on_after(service.running.timeout_seconds):
        await done.wait()
        return
    log.warning("snapshot %s is not to be seen yet: a call on its plex has not returned", unit.name)


def land_later(
    registry: Registry, originals: Sequence[Running], units: Sequence[Unit], openings: Sequence[Opening],
    error: FmrdError,
) -> None:  # fmt: skip
    """The home copy did not take the record. The originals go on, their verdicts wait for it; the snapshots appear when
    it has landed, and are nobody's before, since until then the plexes are still their original's for a start.
    """

    async def land(running: Running, unit: Unit, opening: Opening) -> None:
        try:
            while not running.life.gone.is_set():
                with trio.move_on_after(RETRY_SECONDS):
                    await running.life.gone.wait()
                try:
                    await running.mirror.until_recorded()
                except FmrdError as again:
                    log.error("snapshot %s is not recorded yet: %s", unit.name, again)
                    continue
                async with unit.busy:
                    family, volume = opening.mirror.store.family, opening.mirror.volume
                    there = registry.units.knows(unit) and volume in family.volumes
                    if there and unit.service is None and not running.life.gone.is_set():
                        await appear(registry, unit, opening)
                return
        finally:
            if unit.service is None:
                opening.mirror.store.ledger.stores.pop(opening.mirror.volume.settings.uuid, None)
                opening.home.mirrors.pop(opening.mirror.volume.settings.uuid, None)
                await close_all(registry.context, opening.mirror.opened)
                await opening.home.close_if_idle()

    for running, unit, opening in zip(originals, units, openings, strict=True):
        unit.failure = error
        registry.context.nursery.start_soon(land, running, unit, opening)
