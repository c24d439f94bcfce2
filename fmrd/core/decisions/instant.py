"""Instant snapshots are decided here: which regions are owed, kept and lost (PROTOCOLS, "Instant snapshots").

The map of the snapshot's only plex says what is still the original's; the original keeps a map of what was lost. A
region is *owed* while it is in neither for certain: before it is written, the original has it copied, or loses it.
"""

from collections.abc import Iterable
from dataclasses import replace

from bitarray import bitarray
from bitarray.util import zeros

from fmrd.core.maps.bitmap import Bitmap
from fmrd.core.volume import faults
from fmrd.core.volume.volume import Volume
from fmrd.errors import Refused


def owed(origin: Volume, snapshot: Volume, regions: range) -> list[int]:
    """Return what the original must not write before its old data is on the snapshot's plex, and known to be."""
    if snapshot.settings.uuid not in origin.unkept:
        return []  # it went back, or holds everything by now
    plex = snapshot.plexes[0]
    unkept = origin.unkept[snapshot.settings.uuid].map
    within = range(regions.start, min(regions.stop, snapshot.geometry.regions))
    return [region for region in within if region not in unkept and not plex.is_kept(region)]


def must_wait(origin: Volume, snapshot: Volume, regions: range) -> bool:
    """Tell whether the original must not write these yet: some are owed, or lost and maybe unknown to home."""
    return bool(owed(origin, snapshot, regions) or untold(origin, snapshot.settings.uuid, regions))


def untold(origin: Volume, uuid: str, regions: Iterable[int]) -> set[int]:
    """Return the pages in which the home copy must be told that some of these regions are lost to that snapshot."""
    unkept = origin.unkept.get(uuid)
    return set() if unkept is None else _untold(unkept, regions)


def _untold(unkept: Bitmap, regions: Iterable[int]) -> set[int]:
    width, due = unkept.geometry.page_regions, unkept.due_pages
    return {region // width for region in regions if region in unkept.map and region // width in due} if due else set()


def lose(origin: Volume, snapshot: Volume, regions: Iterable[int]) -> None:
    """Note that the old data of these regions will be gone; that must be durable before the original writes there."""
    for region in regions:
        origin.unkept[snapshot.settings.uuid].map.mark(range(region, region + 1))


def lose_the_rest(origin: Volume, snapshot: Volume) -> None:
    """Lose all that is not kept for certain: the plex does not answer, and nobody shall wait for it again."""
    unkept = origin.unkept[snapshot.settings.uuid].map
    doubt = snapshot.plexes[0].in_doubt(range(snapshot.geometry.regions))
    unkept.union(fitted(doubt, len(unkept)))


def give_up(origin: Volume, snapshot: Volume) -> None:
    """Lose all of an instant snapshot, in one step: also what its plex has, which is to be given back. That nobody
    reads it there is a matter of the snapshot's map, too: its original may be stopped.
    """
    plex, unkept = snapshot.plexes[0], origin.unkept[snapshot.settings.uuid].map
    unkept.mark(_shared(origin, snapshot))
    faults.give_back(plex)
    plex.map.mark(range(len(plex.map)))
    plex.dropped += 1  # what is on its way there does not count


def is_given_up(origin: Volume, snapshot: Volume) -> bool:
    """Tell whether nothing of it can be read."""
    unkept = origin.unkept.get(snapshot.settings.uuid)
    return unkept is not None and unkept.map.these(_shared(origin, snapshot)).all()


def _shared(origin: Volume, snapshot: Volume) -> range:
    """The regions of both: an original may have grown."""
    return range(min(origin.geometry.regions, snapshot.geometry.regions))


def complete(origin: Volume, snapshot: Volume) -> bool:
    """Make an instant snapshot that holds everything one like the others. Return whether it is one now; the record that
    says so is the caller's next step.
    """
    link, unkept = snapshot.settings.link, origin.unkept.get(snapshot.settings.uuid)
    if link is None or unkept is None or unkept.map.any() or not snapshot.plexes[0].settled:
        return False
    snapshot.settings = replace(snapshot.settings, link=replace(link, unkept=None))
    del origin.unkept[snapshot.settings.uuid]
    return True


def check_lost(origin: Volume, snapshot: Volume) -> None:
    """Raise Refused('snap_invalid') where the snapshot has lost regions, so that nothing is restored from it."""
    count = origin.unkept[snapshot.settings.uuid].map.count()
    if count:
        raise Refused("snap_invalid", f"snapshot {snapshot.name} has lost {count} region(s)")


def fitted(bits: bitarray, size: int) -> bitarray:
    """Return bits fitted to a volume of another length: what lies beyond its end is not in its map. To be read only:
    where they fit they are the same.
    """
    if len(bits) == size:
        return bits
    return bits[:size] + zeros(max(0, size - len(bits)))
