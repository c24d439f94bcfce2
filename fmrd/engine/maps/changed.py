"""What changed between two states of a volume, taken in one step, and which of it is surely nothing but zeros.

The answer is bits, one a region, packed: of a tebibyte 2 MiB before packing, whatever the number of ranges. Whoever
asks turns them into ranges, one after the other.
"""

from dataclasses import dataclass, replace

from bitarray import bitarray

from fmrd.core.decisions import changes, instant
from fmrd.core.json_object import Json
from fmrd.core.volume.volume import Volume
from fmrd.engine.maps.holes import packed, zeros_in
from fmrd.engine.registry import Registry
from fmrd.engine.snapshots.pairs import Pair, pair_of
from fmrd.errors import BadRequest, Refused


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
    # In the step in which it was taken: whoever writes while holes are looked for makes another version of it.
    served = registry.find(settings.name)
    version = served.changed_ns if served is not None and registry.unit(settings.name).service is not None else None
    content = changes.content_of(found.volume) if settings.link is not None else None
    behind = [plex.path for plex in found.volume.plexes] if settings.snapshot_of is not None else []
    count = found.bits.count()
    last = bool(found.bits[-1])
    blank = await zeros_in(registry, found.volume, found.bits)
    return {
        "volume": settings.name,
        "uuid": settings.uuid,
        "side": found.side,
        "length_bytes": found.volume.geometry.length_bytes,
        "region_size_bytes": settings.region_bytes,
        "regions": count,
        "bytes": found.volume.geometry.bytes_in(count, last),
        "changed": await packed(context, found.bits),
        "zero": await packed(context, blank),
        "bases": list(found.bases),
        "base": found.base,
        "original": settings.snapshot_of or settings.name,
        "pristine_only": found.pristine_only,
        "pristine": content is not None and content.pristine,
        "version": version,
        "path": f"{registry.mount_path}/{settings.name}",
        "behind": behind,
    }
