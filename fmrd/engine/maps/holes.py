"""Which regions are surely nothing but zeros, as the holes of a plex tell; and how such bits go over the socket."""

import base64
import zlib
from functools import partial

from bitarray import bitarray
from bitarray.util import ones, zeros

from fmrd.backing.calls.system_calls import Lane, ask
from fmrd.backing.protocol import Backing
from fmrd.core.decisions import instant
from fmrd.core.geometry import Geometry
from fmrd.core.maps.regionmap import runs_of
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.engine.context import Context
from fmrd.engine.registry import Registry
from fmrd.engine.running import Running
from fmrd.errors import FmrdError

LOOK_BYTES = 64 << 30
"""So much is looked at for holes in one call."""
STRETCH_BYTES = 64 << 20
"""And so much by one question: a file may have many holes."""


async def packed(context: Context, bits: bitarray) -> str:
    """Little endian, a bit a region, by zlib and base64."""

    def pack() -> str:
        return base64.b64encode(zlib.compress(bitarray(bits, endian="little").tobytes(), 1)).decode()

    return await ask(context.system, Lane("maps"), pack, context.io_timeout_seconds)


async def zeros_in(registry: Registry, volume: Volume, wanted: bitarray) -> bitarray:
    """Return which of these regions are holes on a plex that has them: as far as that can be seen at a look. Bytes that
    are written meanwhile may be found as they were.
    """
    running = _running(registry, volume.settings.name)
    if running is None or running.volume is not volume:
        return zeros(len(wanted))
    if not volume.settings.is_instant:
        return await _holes(running, wanted)
    lacks = volume.plexes[0].map
    own = bitarray(wanted)
    lacks.take_from(own)
    blank = await _holes(running, own)
    origin = _running(registry, volume.settings.snapshot_of or "")
    if origin is not None:
        size = origin.volume.geometry.regions
        theirs = instant.fitted(await _holes(origin, instant.fitted(wanted & ~own, size)), len(own))
        blank |= theirs & lacks.these(range(len(own)))  # the original's still, after the look
        lost = origin.volume.unkept.get(volume.settings.uuid)
        if lost is not None:  # or the original's no more, and nobody's
            blank &= ~instant.fitted(lost.map.these(range(size)), len(own))
    return blank


async def blank_in(registry: Registry, origin: Running, snapshot: Volume) -> str:
    """Return, packed, the regions of an instant snapshot that are surely holes of its original's, and were when it was
    taken: neither side wrote there since. Zeros need not be written there.
    """
    size = origin.volume.geometry.regions
    found = await _holes(origin, ones(size))
    origin.volume.tracks[snapshot.settings.uuid].map.take_from(found)
    found = instant.fitted(found, snapshot.geometry.regions)
    blank = bitarray(found)
    snapshot.tracks[snapshot.settings.uuid].map.take_from(blank)
    return await packed(registry.context, blank)


def _running(registry: Registry, name: str) -> Running | None:
    unit = registry.units.get(name)
    return unit.service.running if unit is not None and unit.service is not None else None


async def _holes(running: Running, wanted: bitarray) -> bitarray:
    """Of these regions those that are all hole, on one plex that holds them all and lies in a file."""
    volume = running.volume
    found = zeros(len(wanted))
    plex = _holder(volume, wanted)
    opened = running.mirror.opened.get(plex.uuid) if plex is not None else None
    if plex is None or opened is None or opened.backing.is_block or opened.lane.hung or not wanted.any():
        return found
    per_call = max(1, LOOK_BYTES // volume.geometry.region_bytes)
    for start in range(0, len(wanted), per_call):
        part = wanted[start : start + per_call]
        if part.any():
            look = partial(holes_in, opened.backing, volume.geometry, start, part)
            try:
                seen = await ask(running.context.system, opened.lane, look, running.timeout_seconds)
            except (FmrdError, OSError):  # what cannot be looked at is read, and that will tell
                return zeros(len(wanted))
            found[start : start + len(seen)] = seen
    return found if plex is _holder(volume, wanted) else zeros(len(wanted))


def _holder(volume: Volume, wanted: bitarray) -> Plex | None:
    """The first plex that holds all of these regions for certain."""
    for plex in volume.open_plexes():
        if plex.suspect is None and (plex.map.blank or not (plex.map.bits & wanted).any()):
            return plex
    return None


def holes_in(backing: Backing, geometry: Geometry, start: int, wanted: bitarray) -> bitarray:
    """Return which of the regions that ``wanted`` names, counted from ``start``, are all hole. It blocks."""
    found = zeros(len(wanted))

    def blank(begin: int, end: int) -> None:
        if begin < end:
            whole = geometry.whole_regions_of(begin, end - begin)
            found[whole.start - start : whole.stop - start] = 1

    for run in runs_of(wanted):
        at, size = geometry.bytes_of(range(start + run.start, start + run.stop))
        stop, begin = at + size, at
        while at < stop:
            is_data, end = backing.data_until(at, min(stop, at + STRETCH_BYTES))
            if is_data:
                blank(begin, at)
                begin = end
            at = end
        blank(begin, stop)
    return found
