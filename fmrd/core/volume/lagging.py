"""A plex that may lag (write-behind): a writer does not wait for it, and its map tells what it has not taken yet.

A region is left behind in the step in which a write chooses its targets: it enters the map of a plex whose gate is
open, as it would that of a closed one (rule 3), though only where another plex, none that may lag, holds it durably.
It is a hole that is made by choice, and needs no record of its own: what was written since the map was last on disk is
in the DRL, and a start gives such a plex the DRL, as if it had been away. So it is never a source for what it may lack.

What is on its way there is in ``Plex.sent``, and still in the map. A write that comes meanwhile takes it out of
``sent``, and what arrives then is not what the region holds. Nothing else writes to such a region of that plex.
"""

from collections.abc import Sequence

from bitarray import bitarray
from bitarray.util import zeros

from fmrd.core.volume import faults
from fmrd.core.volume.plex import Plex

LAG_BYTES = 256 << 20
"""So far a plex may lag where nobody says otherwise."""


def leave_behind(plex: Plex, regions: range, plexes: Sequence[Plex]) -> None:
    """Leave behind what may be of these regions, which a write is about to change. Where there is no room for more the
    plex takes the write like any other, and the writer waits for it.
    """
    if not plex.sent.blank:
        plex.sent.clear(regions)
    for region in regions:
        if plex.room <= 0:
            return
        if region not in plex.map and faults.held_elsewhere(plex, region, plexes, ()):
            plex.map.mark(range(region, region + 1))
            plex.room -= 1


def may_lack(plex: Plex, plexes: Sequence[Plex], dirty: bitarray) -> bitarray:
    """Return what such a plex may lack after a crash, by the maps as they are on disk: of the regions of the DRL those
    that another one held, for only these were ever left behind.
    """
    held = zeros(len(dirty))
    for other in plexes:
        if other is not plex and other.is_open and not other.behind:
            held |= ~other.map.bits
    return held & dirty


def send(plex: Plex, regions: range) -> None:
    """These are read for it, with their bytes held, and on their way from now on."""
    plex.sent.mark(regions)


def arrived(plex: Plex, regions: range) -> bitarray:
    """They are there, or failed: return those that are as they were read, as bits counted from the first."""
    valid = plex.sent.these(regions) & plex.map.these(regions)
    plex.sent.clear(regions)
    return valid


def give_room(plex: Plex) -> None:
    """Count anew how much more may be left behind; it is asked with every write, which no count is cheap enough for."""
    plex.room = plex.behind // plex.geometry.region_bytes - plex.map.count()
