"""A plex on which data came that was received goes when the others hold everything themselves, with its file: also
where the daemon ended before that, since the record names it.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from fmrd.core.volume import faults
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.dco.ledger import change
from fmrd.engine.opening.giving_up import give_up
from fmrd.engine.running import Running
from fmrd.errors import FmrdError

log = logging.getLogger(__name__)


async def let_go(running: Running, dissociate: Callable[[Plex], Awaitable[None]]) -> None:
    """Let each go, if the others do without it by now. What fails is logged, and tried again after the next copy."""
    volume = running.volume
    for uuid in volume.settings.carriers:
        plex = next((each for each in volume.plexes if each.uuid == uuid), None)
        others = [each for each in volume.plexes if each.uuid not in volume.settings.carriers]
        if plex is not None and not (others and faults.may_close(plex, others)):
            return
        if any(each.is_open and not each.lags and each.map.any() for each in others):  # who lags always lacks something
            return
        try:
            if plex is not None:
                await dissociate(plex)
                last = running.mirror.store.ledger.last_record
                for sentence in await give_up(running.context, last, [plex], erase=True) if last is not None else ():
                    log.warning("volume %s: %s", volume.name, sentence)
            async with running.verb():
                await change([running.mirror.store], partial(_forget, volume, uuid))
        except (FmrdError, OSError) as error:
            log.warning("volume %s: the plex on which data came stays for now: %s", volume.name, error)
            return


def _forget(volume: Volume, uuid: str) -> None:
    left = tuple(each for each in volume.settings.carriers if each != uuid)
    volume.settings = replace(volume.settings, carriers=left)
