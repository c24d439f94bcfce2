"""A plex that may lag (write-behind): a writer does not wait for it, and its map tells what it has not taken yet.

A region is left behind in the step in which a write chooses its targets: it enters the map of a plex whose gate is
open, as it would that of a closed one (rule 3), though only where another plex, none that may lag, holds it durably.
It is a hole that is made by choice, and needs no record of its own: what was written since the map was last on disk is
in the DRL, and a start gives such a plex the DRL, as if it had been away. So it is never a source for what it may lack.

Of such a region it lacks only what was written since, which is kept beside the map for as long as nothing is in doubt
(core/maps/partly.py): after an error of any plex, a start, or a time in which it did not lag, it lacks all of it.

What is on its way there is in ``Plex.sent``, and still in the map. A write that comes meanwhile takes it out of
``sent``, and what arrives then is not what the region holds; nor is it where it turned out meanwhile that more was
lacked than was sent. Nothing else writes to such a region of that plex.
"""

from collections.abc import Iterable, Mapping, Sequence

from bitarray import bitarray
from bitarray.util import zeros

from fmrd.core.volume import faults
from fmrd.core.volume.plex import Plex

LAG_BYTES = 256 << 20
"""So far a plex may lag where nobody says otherwise."""
Sent = Mapping[int, int | None]
"""By region: which of its blocks were read to be sent; None: all of it."""


def leave_behind(plex: Plex, offset: int, length: int, plexes: Sequence[Plex]) -> None:
    """Leave behind what may be of these bytes, which a write is about to change. Where there is no room for more the
    plex takes the write like any other, and the writer waits for it.
    """
    size, missing, stop = plex.geometry.region_bytes, plex.map, offset + length
    first, last = offset // size, (stop - 1) // size
    if first == last and first in missing.blocks:  # as for most of a load of small ones; nothing is suspect then
        plex.sent.discard(first)
        missing.mark_bytes(first, offset - first * size, stop - first * size)
        return
    regions: Sequence[int] = range(first, last + 1)
    inner = range(regions[0] + 1, regions[-1])
    if (
        inner and missing.bits.find(0, inner.start, inner.stop) == -1
    ):  # as while much is written, and for much at a time
        missing.forget_blocks(inner)
        plex.sent.difference_update(inner)
        regions = (regions[0], regions[-1])
    for region in regions:
        if region in plex.sent:
            plex.sent.discard(region)
        if region not in missing.blocks and region not in missing:
            if plex.room <= 0 or not faults.held_elsewhere(plex, region, plexes, ()):
                continue
            plex.room -= 1
        start = region * size
        missing.mark_bytes(region, max(0, offset - start), min(size, stop - start))
        if plex.suspect is not None:
            missing.forget_blocks(range(region, region + 1))


def lags_no_more(plex: Plex) -> None:
    """Writers wait for it from now on, where its map does not keep them from it."""
    plex.trails, plex.room = False, 0
    plex.map.forget_blocks()


def doubt(plexes: Sequence[Plex], regions: range | None = None) -> None:
    """Something failed: take it that plexes that lag lack all of the regions in their maps. Or others are about to be
    changed in these ``regions``, and by no write: what is on its way is not what they will hold.
    """
    for plex in plexes:
        plex.map.forget_blocks(regions)
        plex.sent.difference_update(regions or ())


def may_lack(plex: Plex, plexes: Sequence[Plex], dirty: bitarray) -> bitarray:
    """Return what such a plex may lack after a crash, by the maps as they are on disk: of the regions of the DRL those
    that another one held, for only these were ever left behind.
    """
    held = zeros(len(dirty))
    for other in plexes:
        if other is not plex and other.is_open and not other.behind:
            held |= ~other.map.bits
    return held & dirty


def lacked(plex: Plex, regions: Iterable[int]) -> Sent:
    """What it lacks of these, which is about to be read for it."""
    return {region: plex.map.blocks.get(region) for region in regions}


def send(plex: Plex, sent: Sent) -> None:
    """That was read for it, and nobody wrote there since; it is on its way from now on."""
    plex.sent.update(sent)


def arrived(plex: Plex, sent: Sent) -> list[int]:
    """That is there, or failed: return the regions of which nothing is lacked if it is there."""
    valid = [region for region, blocks in sent.items() if _is_all(plex, region, blocks)]
    plex.sent.difference_update(sent)
    return valid


def _is_all(plex: Plex, region: int, blocks: int | None) -> bool:
    return region in plex.sent and region in plex.map and plex.map.blocks.get(region) == blocks


def give_room(plex: Plex) -> None:
    """Count anew how much more may be left behind; it is asked with every write, which no count is cheap enough for."""
    plex.room = plex.behind // plex.geometry.region_bytes - plex.map.count()
