"""The plex on which a stream came goes when the others hold everything themselves, with its file: also where the daemon
ended before that, since the mark of what was received names it.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from fmrd.core.marks import RECEIVED
from fmrd.core.volume import faults
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.dco.ledger import change
from fmrd.engine.opening.giving_up import give_up
from fmrd.engine.running import Running
from fmrd.errors import FmrdError

log = logging.getLogger(__name__)


def carrier_of(volume: Volume) -> str | None:
    """Return the plex on which the last stream came, by uuid, until it has gone."""
    return next((mark.plex for mark in volume.settings.marks if mark.name == RECEIVED), None)


async def let_go(running: Running, dissociate: Callable[[Plex], Awaitable[None]]) -> None:
    """Let it go, if the others do without it by now. What fails is logged, and tried again after the next copy."""
    volume = running.volume
    uuid = carrier_of(volume)
    if uuid is None:
        return
    plex = next((each for each in volume.plexes if each.uuid == uuid), None)
    others = [each for each in volume.plexes if each.uuid != uuid]
    if plex is not None and not (others and faults.may_close(plex, others)):
        return
    if any(each.is_open and each.map.any() for each in others):
        return
    try:
        if plex is not None:
            await dissociate(plex)
            last = running.mirror.store.ledger.last_record
            for sentence in await give_up(running.context, last, [plex], erase=True) if last is not None else ():
                log.warning("volume %s: %s", volume.name, sentence)
        async with running.verb():
            await change([running.mirror.store], lambda: _forget(volume, uuid))
    except (FmrdError, OSError) as error:
        log.warning("volume %s: the plex on which a stream came stays for now: %s", volume.name, error)


def _forget(volume: Volume, uuid: str) -> None:
    marks = tuple(replace(mark, plex=None) if mark.plex == uuid else mark for mark in volume.settings.marks)
    volume.settings = replace(volume.settings, marks=marks)
