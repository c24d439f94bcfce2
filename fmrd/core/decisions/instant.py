"""Instant snapshots as decisions: which regions are owed, kept and lost (PROTOCOLS, "Instant snapshots").

The map of the snapshot's only plex says what is still the original's; the original keeps a map of what was lost. A
region is *owed* while it is in neither for certain: before it is written, the original has it copied, or loses it.
"""

from collections.abc import Iterable
from dataclasses import replace

from bitarray import bitarray
from bitarray.util import zeros

from fmrd.core.volume.volume import Volume
from fmrd.errors import Refused


def owed(origin: Volume, snapshot: Volume, regions: range) -> list[int]:
    """Regions that the original must not write before their old data is on the snapshot's plex and known to be."""
    if snapshot.settings.uuid not in origin.unkept:
        return []  # it went back, or holds everything by now
    plex = snapshot.plexes[0]
    unkept = origin.unkept[snapshot.settings.uuid].map
    within = range(regions.start, min(regions.stop, snapshot.geometry.regions))
    return [region for region in within if region not in unkept and not plex.is_kept(region)]


def lose(origin: Volume, snapshot: Volume, regions: Iterable[int]) -> None:
    """Their old data will be gone: to be durable before the original writes there."""
    for region in regions:
        origin.unkept[snapshot.settings.uuid].map.mark(range(region, region + 1))


def lose_the_rest(origin: Volume, snapshot: Volume) -> None:
    """All that is not kept for certain: its plex does not answer, and nobody shall wait for it again."""
    unkept = origin.unkept[snapshot.settings.uuid].map
    unkept.union(fitted(snapshot.plexes[0].in_doubt(), len(unkept)))


def complete(origin: Volume, snapshot: Volume) -> bool:
    """An instant snapshot that holds everything is one like the others. True if it is now."""
    link, unkept = snapshot.settings.link, origin.unkept.get(snapshot.settings.uuid)
    if link is None or unkept is None or unkept.map.any() or not snapshot.plexes[0].settled:
        return False
    snapshot.settings = replace(snapshot.settings, link=replace(link, unkept=None))
    del origin.unkept[snapshot.settings.uuid]
    return True


def check_lost(origin: Volume, snapshot: Volume) -> None:
    count = origin.unkept[snapshot.settings.uuid].map.count()
    if count:
        raise Refused("snap_invalid", f"snapshot {snapshot.name} has lost {count} region(s)")


def fitted(bits: bitarray, size: int) -> bitarray:
    """Of a volume that has another length: what is beyond its end is not in its map."""
    return bits[:size] + zeros(max(0, size - len(bits)))
