"""What the own copy of a plex tells of its regions, for the decision over an attach.

Which maps are to be read is said at once; they are read by whoever calls ``Telling.told``, from the copy alone, which
nobody changes: of a large volume a worker thread does that, while trio's goes on to mark the volume's own maps.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bitarray import bitarray
from bitarray.util import zeros

from fmrd.core.geometry import Geometry
from fmrd.core.images import CopyImage, own_bitmap, read_bitmap
from fmrd.core.record import Record
from fmrd.core.records.parts import Column
from fmrd.core.volume.volume import Volume


@dataclass(frozen=True)
class Elsewhere:
    """What was written on the other side of a split, bits by region."""

    by: bitarray
    """What the plex itself missed there, or wrote there since it was marked."""
    away: Mapping[str, bitarray]
    """What plexes that are open here missed there, by uuid: of those that were away there at a position of our past."""


@dataclass(frozen=True)
class Told:
    """All that the copy tells: the regions of its DRL, and what was written elsewhere; None where it cannot tell."""

    dirt: bitarray
    elsewhere: Elsewhere | None


@dataclass(frozen=True)
class Telling:
    """These maps are to be read from a copy."""

    geometry: Geometry
    image: CopyImage
    mine: Column | None = None
    away: tuple[tuple[str, Column], ...] = ()

    def told(self) -> Told:
        """Read them."""
        dirt = _own_dirt(self.geometry, self.image)
        if self.mine is None or not self.away:
            return Told(dirt, None)
        by = _map_there(self.geometry, self.mine, self.image)
        by |= dirt
        return Told(dirt, Elsewhere(by, {uuid: _map_there(self.geometry, c, self.image) for uuid, c in self.away}))


def telling_of(volume: Volume, record: Record, image: CopyImage) -> Telling:
    """Return what is to be read: after a split, by which the position that the copy has is none of our past, also what
    was written elsewhere. The copy cannot tell that where it knows no plex that is current here, which was away there,
    at a position of our past. And the plex must have left there in order: a last plex stays though its copy fails,
    which then misses marks.
    """
    geometry, theirs = volume.geometry, image.record
    blind = Telling(geometry, image)
    if theirs is None or record.knows(theirs.position):
        return blind
    there = theirs.volume
    mine = there.plex(image.owner)
    same = (there.uuid, there.length_bytes, there.region_bytes, there.fmr)
    if mine is None or same != (volume.settings.uuid, geometry.length_bytes, geometry.region_bytes, True):
        return blind
    if mine.is_open and not there.settled:
        return blind
    pairs = [(ours, there.plex(ours.uuid)) for ours in volume.open_plexes()]
    away = [(p.uuid, a.map) for p, a in pairs if a is not None and not a.is_open and record.knows(a.has)]
    return Telling(geometry, image, mine.map, tuple(away))


def _own_dirt(geometry: Geometry, image: CopyImage) -> bitarray:
    """The DRL in the plex's own copy, bits by region. One that comes from a snapshot also tells what that wrote: a home
    copy that was put back may not.
    """
    theirs = image.record
    dirt = zeros(geometry.regions)
    mine = theirs.holder(image.owner) if theirs is not None else None
    if mine is None:
        return dirt
    extents = own_bitmap(mine.drl, geometry.extents, geometry.page_extents, image)
    for extent in extents.search(1):
        span = geometry.regions_of_extent(extent)
        dirt[span.start : span.stop] = 1
    if mine.link is not None and not mine.is_instant:
        dirt |= own_bitmap(mine.link.own, geometry.regions, geometry.page_regions, image)
    return dirt


def _map_there(geometry: Geometry, column: Column, image: CopyImage) -> bitarray:
    """Nobody else tells it: a page with a slot that cannot be read is all ones."""
    bits, _ = read_bitmap(column, geometry.regions, geometry.page_regions, image, [], settled=True)
    return bits
