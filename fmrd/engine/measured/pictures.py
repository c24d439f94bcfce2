"""The picture of a started volume: what its plexes miss, where its snapshots differ, where the DRL is hot.

However long the volume is, the answer has as many cells as were asked for, and the work is done row by row, others
between them.
"""

from collections.abc import Callable, Iterator
from functools import partial

import trio

from fmrd.core.decisions.snapback import how_much_differs
from fmrd.core.json_object import Json
from fmrd.core.measures import picture
from fmrd.core.volume.volume import Volume
from fmrd.engine.running import Running
from fmrd.errors import Failed

Row = tuple[str, str, Callable[[int], list[int]], int]
"""Its kind, its name, what makes it, and how many bytes of the volume are in the set."""


async def picture_of(running: Running, name: str | None, cells: int) -> Json:
    """Return it (docs/JSON.md has the fields), with the row of one plex or snapshot alone where a ``name`` is given.
    Failed('plex_unknown').
    """
    volume = running.volume
    geometry = volume.geometry
    cells = max(1, min(cells, picture.MOST_CELLS, geometry.regions))
    rows = []
    for kind, called, make, size in _rows(running):
        if name is None or name in (called, _path_of(volume, called)) or kind in ("drl", "hot"):
            rows.append({"kind": kind, "name": called, "bytes": size, "parts": make(cells)})
            await trio.lowlevel.checkpoint()
    if name is not None and len(rows) <= 2:
        raise Failed("plex_unknown", f"volume {volume.name} has no plex and no snapshot {name}")
    return {"volume": volume.name, "length_bytes": geometry.length_bytes, "cells": cells, "rows": rows}


def _path_of(volume: Volume, plex: str) -> str | None:
    return next((each.path for each in volume.plexes if each.name == plex), None)


def _rows(running: Running) -> Iterator[Row]:
    """Each is made when it is asked for, of what is there by then."""
    volume = running.volume
    geometry = volume.geometry
    for plex in list(volume.plexes):
        size = geometry.bytes_in(plex.map.count(), plex.map.has_last)
        yield "plex", plex.name, partial(picture.of_map, plex.map, None), size
    family = running.mirror.store.family
    for snap in family.snapshots_of(volume):
        yield _beside("snapshot", volume, snap, *how_much_differs(volume, snap))
    original = family.original_of(volume)
    if original is not None and volume.settings.uuid in original.tracks:
        yield _beside("original", volume, original, *how_much_differs(original, volume))
    drl, length = volume.drl, geometry.length_bytes
    make = partial(picture.of_extents, drl.marked.bits, geometry)
    yield "drl", "", make, min(length, drl.count * geometry.extent_bytes)
    yield "hot", "", partial(picture.of_few, drl.hot, geometry), min(length, len(drl.hot) * geometry.extent_bytes)


def _beside(kind: str, volume: Volume, other: Volume, regions: int, last: bool) -> Row:
    """What this volume and the other may differ in, by the maps of both sides."""
    key = (volume if kind == "original" else other).settings.uuid
    make = partial(picture.of_map, volume.tracks[key].map, other.tracks[key].map)
    origin = other if kind == "original" else volume
    return kind, other.name, make, origin.geometry.bytes_in(regions, last)
