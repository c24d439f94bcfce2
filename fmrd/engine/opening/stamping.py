"""How a plex is left is noted here: at an orderly stop, at a parting, at its making (PROTOCOLS, "Stamps")."""

import logging
from dataclasses import replace

from bitarray import bitarray

from fmrd.backing.calls.system_calls import ask
from fmrd.core.stamps import Stamp, choose
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.engine.context import Context
from fmrd.engine.serving.open_plex import OpenPlex
from fmrd.errors import PlexChanged

log = logging.getLogger(__name__)


async def stamp_of(
    context: Context, volume: Volume, plex: Plex, opened: OpenPlex, timeout_seconds: float
) -> Stamp | None:
    """Return how fmrd leaves a plex on which nothing is under way, after an fsync; None where that does not answer, or
    where others changed the file.
    """
    pieces = choose(volume.geometry, _unsure(volume, plex), context.draw)
    backing = opened.backing

    def run() -> Stamp | None:
        since_ns = None
        try:
            backing.fsync()
        except PlexChanged as error:
            log.warning("%s: it gets no stamp: %s", backing.path, error)
            return None
        except OSError as error:
            log.info("%s: the last fsync before its stamp failed: %s", backing.path, error)
            since_ns = opened.since_ns
        found = backing.stamp(pieces)
        return replace(found, since_ns=since_ns, ctime_ns=found.ctime_ns if since_ns is not None else 0)

    try:
        return await ask(context.system, opened.lanes.data, run, timeout_seconds)
    except OSError:
        return None


def _unsure(volume: Volume, plex: Plex) -> bitarray:
    """Where the plex is copied to anyhow, or may have what never reached its disk."""
    found = plex.map.bits | volume.drl.regions()
    return found | plex.in_doubt() if plex.is_open else found
