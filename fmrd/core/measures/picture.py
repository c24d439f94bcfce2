"""Maps as pictures: a set of any size becomes a bounded row of cells, each with how much of it is in the set.

A look at 2^28 bits takes some milliseconds and no memory to speak of, so it is one step.
"""

from collections.abc import Collection
from itertools import pairwise

from bitarray import bitarray

from fmrd.core.geometry import Geometry
from fmrd.core.maps.regionmap import RegionMap

WHOLE = 1000
"""What a cell is told as that is in the set with all it has. One that has anything of it is at least 1."""
MOST_CELLS = 4096


def edges(size: int, cells: int) -> list[int]:
    """Return the first member of each cell, and the end of the last: ``size`` members, as even as can be."""
    return [size * cell // cells for cell in range(cells + 1)]


def of_map(found: RegionMap, other: RegionMap | None, cells: int) -> list[int]:
    """Return how much of each cell is in a set of regions, or in either of two, of which the other may be shorter."""
    size = len(found)
    maps = [each for each in (found, other) if each is not None and not each.blank]
    if not maps:
        return [0] * cells
    if len(maps) == 1:
        return _parts(maps[0].bits, size, cells)
    limits, first, second = edges(size, cells), maps[0].bits, maps[1].bits
    row = []
    for start, stop in pairwise(limits):
        both = first[start:stop]
        more = second[start:stop]
        both[: len(more)] |= more
        row.append(_part(both.count(), stop - start))
    return row


def of_extents(marked: bitarray, geometry: Geometry, cells: int) -> list[int]:
    """Return how much of each cell lies in an extent of the set: cells are those of the regions."""
    limits, many = edges(geometry.regions, cells), geometry.extent_regions
    row = []
    for start, stop in pairwise(limits):
        first, last = start // many, (stop - 1) // many + 1
        row.append(_part(marked.count(1, first, last), last - first))
    return row


def of_few(extents: Collection[int], geometry: Geometry, cells: int) -> list[int]:
    """The same of a few extents, each by its number."""
    bits = bitarray(geometry.extents)
    bits.setall(0)
    for extent in extents:
        bits[extent] = 1
    return of_extents(bits, geometry, cells)


def _parts(bits: bitarray, size: int, cells: int) -> list[int]:
    limits = edges(size, cells)
    return [_part(bits.count(1, a, b), b - a) for a, b in pairwise(limits)]


def _part(count: int, size: int) -> int:
    return max(1, WHOLE * count // size) if count else 0
