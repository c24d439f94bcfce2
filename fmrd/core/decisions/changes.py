"""What changed between two states of a volume is decided here, for those who copy it elsewhere.

A snapshot and its original are tied by two maps; two snapshots of one original by four, and a mark stands for a
snapshot that is gone. The union of them names every region that may differ, and is taken in one step.
"""

from bitarray import bitarray
from bitarray.util import ones, zeros

from fmrd.core.decisions.instant import fitted
from fmrd.core.decisions.snapback import difference
from fmrd.core.records.parts import Content, Mark
from fmrd.core.volume.volume import Volume
from fmrd.errors import Failed, Refused


def since_original(origin: Volume, snapshot: Volume) -> bitarray:
    """Return the regions in which a snapshot may differ from its original now, bits by region of the snapshot."""
    return _of(snapshot, difference(origin, snapshot))


def since_snapshot(origin: Volume, snapshot: Volume, other: Volume) -> bitarray:
    """Return the regions in which two snapshots of one original may differ: what either side wrote since either was
    taken. What the original wrote after both is among it.
    """
    found = difference(origin, snapshot)
    found |= difference(origin, other)
    return _of(snapshot, found)


def since_mark(origin: Volume, snapshot: Volume, mark: Mark) -> bitarray:
    """Return the regions in which a snapshot may differ from what its original held when the mark was set. Refused
    ('mark_unfit') where the snapshot was not taken since.
    """
    if snapshot.settings.uuid not in mark.covers:
        raise Refused(
            "mark_unfit",
            f"mark {mark.name} of volume {origin.name} was set after snapshot {snapshot.name} was taken",
            f"fmrctl changed {snapshot.name} --since another snapshot",
        )
    found = _of(snapshot, written_since(origin, mark))
    snapshot.tracks[snapshot.settings.uuid].map.add_to(found)
    return found


def written_since(volume: Volume, mark: Mark) -> bitarray:
    """Return the regions of a volume that were written since a mark was set."""
    found = zeros(volume.geometry.regions)
    volume.tracks[mark.uuid].map.add_to(found)
    return found


def everything(volume: Volume) -> bitarray:
    """Return all regions."""
    return ones(volume.geometry.regions)


def find_mark(volume: Volume, name: str) -> Mark:
    """Failed('mark_missing')."""
    for mark in volume.settings.marks:
        if mark.name == name:
            return mark
    raise Failed("mark_missing", f"volume {volume.name} has no mark {name}", f"fmrctl mark {volume.name} lists them")


def content_of(snapshot: Volume) -> Content:
    """Return what a snapshot holds, by name."""
    own = snapshot.tracks[snapshot.settings.uuid].map
    return Content(snapshot.settings.uuid, snapshot.name, snapshot.geometry.length_bytes, pristine=not own.any())


def _of(snapshot: Volume, found: bitarray) -> bitarray:
    """Fitted to the snapshot: what its original gained since lies beyond its end."""
    return fitted(found, snapshot.geometry.regions)
