"""How a plex is left is noted here: at an orderly stop, at a parting, at its making (PROTOCOLS, "Stamps")."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from fmrd.backing.calls.system_calls import ask
from fmrd.core.stamps import Piece, Stamp, Sum, choose
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.engine.context import Context
from fmrd.engine.serving.open_plex import OpenPlex
from fmrd.errors import PlexChanged

log = logging.getLogger(__name__)


Opened = Mapping[str, OpenPlex]
"""The open plexes of a volume, by uuid."""


async def stamp_of(
    context: Context, volume: Volume, plex: Plex, opened: Opened, timeout_seconds: float
) -> Stamp | None:
    """Return how fmrd leaves a plex on which nothing is under way, after an fsync; None where that does not answer, or
    where others changed the file.
    """
    pieces = choose(volume.geometry, partial(_is_unsure, volume, plex), context.draw)
    mine = opened[plex.uuid]
    backing = mine.backing

    def run() -> Stamp | None:
        try:
            backing.fsync()
        except PlexChanged as error:
            log.warning("%s: it gets no stamp: %s", backing.path, error)
            return None
        except OSError as error:
            log.info("%s: the last fsync before its stamp failed: %s", backing.path, error)
            return _unsynced(context, mine, pieces)
        return replace(backing.stamp(pieces), ctime_ns=0)

    try:
        found = await ask(context.system, mine.lanes.data, run, timeout_seconds)
    except OSError:
        return None
    if found is not None and (unread := pieces[len(found.content) :]):
        more = await _held_by_another(context, volume, plex, opened, unread, timeout_seconds)
        found = replace(found, content=found.content + more)
    return found


def _unsynced(context: Context, mine: OpenPlex, pieces: Sequence[Piece]) -> Stamp:
    """Its last times may not be on the disk. Where the file system gave up altogether, as XFS does, and tells nothing
    of its files any more, what fmrd wrote is no later than now.
    """
    before = mine.opened_as
    try:
        found = mine.backing.stamp(pieces)
    except OSError:
        if before is None:
            raise
        now_ns = int(context.now() * 1e9)
        found = Stamp(before.inode, mine.backing.length, now_ns, now_ns)
    return replace(found, ctime_ns=0) if before is None else replace(found, since_ns=before.mtime_ns)


async def _held_by_another(
    context: Context, volume: Volume, plex: Plex, opened: Opened, pieces: Sequence[Piece], timeout_seconds: float
) -> tuple[Sum, ...]:
    """Its disk was pulled, or died, and cannot be asked: what it does not miss it holds as the others do. What is
    written to these while they are read enters its map first, and counts for nothing.
    """
    if volume.settings.is_instant:
        return ()
    for other in volume.open_plexes():
        theirs = opened.get(other.uuid)
        if other is plex or theirs is None or theirs.hangs or other.map.any():
            continue
        try:
            read = partial(theirs.backing.stamp, pieces)
            content = (await ask(context.system, theirs.lanes.data, read, timeout_seconds)).content
        except OSError:
            return ()
        regions = volume.geometry.regions_of
        return tuple(each for each in content if not _is_unsure(volume, plex, regions(each.offset, each.length)))
    return ()


def _is_unsure(volume: Volume, plex: Plex, regions: range) -> bool:
    """Is the plex copied to there anyhow, or may it have what never reached its disk? What entered the DRL after its
    gate closed was not written to it.
    """
    if not plex.is_open:
        return plex.map.touches(regions)
    extents = volume.geometry.extents_of(*volume.geometry.bytes_of(regions))
    return plex.doubts(regions) or volume.drl.marked.touches(extents)
