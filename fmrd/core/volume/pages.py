"""This module sees a volume as columns of pages: what the DCO is given, and what it is known to hold.

Its functions are the bodies of ``Volume.page``, ``page_written``, ``page_failed`` and ``page_on_home``, which say what
each means, and nobody else calls them.
"""

from bitarray import frozenbitarray
from bitarray.util import ones

from fmrd.core.maps.bitmap import Bitmap
from fmrd.core.maps.regionmap import no_bits
from fmrd.core.volume.facts import VolumeFacts


def content(volume: VolumeFacts, column: int, page: int) -> frozenbitarray:
    if column == volume.settings.drl.index:
        return volume.drl.marked.page(page)
    bitmap = _owner(volume, column)
    bits = bitmap.page(page)
    bitmap.page_begins(page, bits)
    return bits


def written(volume: VolumeFacts, column: int, page: int, bits: frozenbitarray) -> None:
    if column == volume.settings.drl.index:
        volume.drl.page_written(page, bits)
        volume.drl_on_home[page] = bits
    elif (bitmap := _by_column(volume, column)) is not None:
        bitmap.page_written(page, bits)


def failed(volume: VolumeFacts, column: int, page: int) -> None:
    if column == volume.settings.drl.index:
        volume.drl.marked.touched.add(page)
    elif (bitmap := _by_column(volume, column)) is not None:
        bitmap.page_failed(page)


def on_home(volume: VolumeFacts, column: int, page: int) -> frozenbitarray:
    geometry = volume.geometry
    if column == volume.settings.drl.index:
        known = volume.drl_on_home.get(page)
        width = min(geometry.page_extents, geometry.extents - page * geometry.page_extents)
        return known if known is not None else frozenbitarray(ones(width))
    bitmap = _owner(volume, column)
    start, stop = page * geometry.page_regions, min((page + 1) * geometry.page_regions, geometry.regions)
    return no_bits(stop - start) if bitmap.home_blank else frozenbitarray(bitmap.on_home[start:stop])


def _by_column(volume: VolumeFacts, column: int) -> Bitmap | None:
    """None for one that went out of use while its page was under way."""
    return next((b for b in volume.bitmaps() if b.column.index == column), None)


def _owner(volume: VolumeFacts, column: int) -> Bitmap:
    bitmap = _by_column(volume, column)
    assert bitmap is not None, f"column {column} holds no map of volume {volume.name}"
    return bitmap
