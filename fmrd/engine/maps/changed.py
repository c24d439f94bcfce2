"""What changed between two states of a volume, taken in one step, and which of it is surely nothing but zeros.

The answer is bits, one a region, packed: of a tebibyte 2 MiB before packing, whatever the number of ranges. Whoever
asks turns them into ranges, one after the other.
"""

import base64
import zlib
from dataclasses import dataclass, replace
from functools import partial

from bitarray import bitarray
from bitarray.util import ones, zeros

from fmrd.backing.calls.system_calls import Lane, ask
from fmrd.backing.protocol import Backing
from fmrd.core.decisions import changes, instant
from fmrd.core.geometry import Geometry
from fmrd.core.json_object import Json
from fmrd.core.maps.regionmap import runs_of
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.engine.context import Context
from fmrd.engine.registry import Registry
from fmrd.engine.running import Running
from fmrd.engine.snapshots.pairs import Pair, pair_of
from fmrd.errors import BadRequest, FmrdError, Refused

LOOK_BYTES, STRETCH_BYTES = 64 << 30, 64 << 20
"""So much is looked at for holes in one call, and by one question: a file may have many."""


@dataclass(frozen=True)
class Asked:
    """What is asked for: since another snapshot (or a mark of that name), since a mark, beside the original (none of
    both), or all of it.
    """

    volume: str
    since: str | None = None
    mark: str | None = None
    everything: bool = False


@dataclass(frozen=True)
class Difference:
    """``side`` is what the volume is compared with, None for nothing; ``bases`` are the contents, by uuid of their
    snapshot, from which these regions lead to what the volume holds.
    """

    volume: Volume
    side: str | None
    bits: bitarray
    bases: tuple[str, ...] = ()
    base: str = ""
    """The uuid of that side."""
    pristine_only: bool = False
    """Only from a base that nobody had written to: what was written there is in none of the maps."""


def difference(registry: Registry, asked: Asked) -> Difference:
    """Return it, as it is in this step. Failed('snap_unknown'), ('mark_missing') or ('volume_stopped'), Refused
    ('mark_unfit').
    """
    if asked.since is not None and asked.mark is not None:
        raise BadRequest("bad_request", "--since names a snapshot, --mark a mark: give one of both")
    unit = registry.unit(asked.volume)
    if unit.settings is None or unit.settings.snapshot_of is None:
        return _of_original(registry, asked)
    pair = pair_of(registry, asked.volume)
    origin, snapshot = pair.origin.volume, pair.volume
    if asked.everything:
        return Difference(snapshot, None, changes.everything(snapshot))
    if asked.mark is not None:
        mark = changes.find_mark(origin, asked.mark)
        return Difference(snapshot, mark.name, changes.since_mark(origin, snapshot, mark), mark.covers, mark.uuid, True)
    if asked.since is not None and asked.since not in registry.units:
        return difference(registry, replace(asked, since=None, mark=asked.since))
    if asked.since is not None:
        other = _other(registry, pair, asked.since)
        found = changes.since_snapshot(origin, snapshot, other)
        return Difference(snapshot, other.name, found, (other.settings.uuid,), other.settings.uuid)
    return Difference(snapshot, origin.name, changes.since_original(origin, snapshot))


def _of_original(registry: Registry, asked: Asked) -> Difference:
    volume = registry.service(asked.volume).volume
    if asked.mark is None or asked.since is not None or asked.everything:
        raise BadRequest(
            "bad_request",
            f"volume {asked.volume} is no snapshot: it can be asked for what was written since a mark",
            f"fmrctl changed {asked.volume} --mark NAME; or name a snapshot of it",
        )
    mark = changes.find_mark(volume, asked.mark)
    return Difference(volume, mark.name, changes.written_since(volume, mark), mark.covers, mark.uuid)


def _other(registry: Registry, pair: Pair, name: str) -> Volume:
    other = pair_of(registry, name)
    if other.origin is not pair.origin:
        raise Refused(
            "snap_unrelated",
            f"snapshots {pair.unit.name} and {name} are of two volumes, {pair.origin.volume.name} and "
            f"{other.origin.volume.name}: no map tells what differs between them",
        )
    if other.volume is pair.volume:
        raise BadRequest("bad_request", f"snapshot {name} is compared with itself")
    return other.volume


def must_be_whole(registry: Registry, name: str) -> None:
    """Refused('snap_invalid') for an instant snapshot that has lost regions, ('receive_present') for one that is being
    received.
    """
    pair = pair_of(registry, name)
    if pair.volume.settings.receiving is not None:
        raise Refused("receive_present", f"{name} is what a stream is received into, and not all of that has come")
    if pair.volume.settings.is_instant:
        instant.check_lost(pair.origin.volume, pair.volume)


async def told(registry: Registry, found: Difference) -> Json:
    """Return it as it goes over the socket."""
    context, settings = registry.context, found.volume.settings
    unit = registry.unit(settings.name)
    count = found.bits.count()
    last = bool(found.bits[-1])
    blank = await _zeros(registry, found)
    served = registry.find(settings.name)
    content = changes.content_of(found.volume) if settings.link is not None else None
    return {
        "volume": settings.name,
        "uuid": settings.uuid,
        "side": found.side,
        "length_bytes": found.volume.geometry.length_bytes,
        "region_size_bytes": settings.region_bytes,
        "regions": count,
        "bytes": found.volume.geometry.bytes_in(count, last),
        "changed": await _packed(context, found.bits),
        "zero": await _packed(context, blank),
        "bases": list(found.bases),
        "base": found.base,
        "original": settings.snapshot_of or settings.name,
        "pristine_only": found.pristine_only,
        "pristine": content is not None and content.pristine,
        "version": served.changed_ns if served is not None and unit.service is not None else None,
        "path": f"{registry.mount_path}/{settings.name}",
        "behind": [plex.path for plex in found.volume.plexes] if settings.snapshot_of is not None else [],
    }


async def _packed(context: Context, bits: bitarray) -> str:
    """Little endian, a bit a region, by zlib and base64."""

    def pack() -> str:
        return base64.b64encode(zlib.compress(bitarray(bits, endian="little").tobytes(), 1)).decode()

    return await ask(context.system, Lane("maps"), pack, context.io_timeout_seconds)


async def _zeros(registry: Registry, found: Difference) -> bitarray:
    """Which of these regions are holes on a plex that has them: as far as that can be seen at a look. Bytes that are
    written meanwhile may be found as they were.
    """
    volume = found.volume
    running = _running(registry, volume.settings.name)
    if running is None or running.volume is not volume:
        return zeros(len(found.bits))
    if not volume.settings.is_instant:
        return await _holes(running, found.bits)
    lacks = volume.plexes[0].map
    own = bitarray(found.bits)
    lacks.take_from(own)
    blank = await _holes(running, own)
    origin = _running(registry, volume.settings.snapshot_of or "")
    if origin is not None:
        size = origin.volume.geometry.regions
        theirs = instant.fitted(await _holes(origin, instant.fitted(found.bits & ~own, size)), len(own))
        blank |= theirs & lacks.these(range(len(own)))  # the original's still, after the look
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
    return await _packed(registry.context, blank)


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
