"""This module says which plexes serve a read. Only Volume.plan_read calls it, so inside one synchronous step."""

from dataclasses import replace

from fmrd.core.plans import ReadPart
from fmrd.core.volume.facts import VolumeFacts
from fmrd.core.volume.plex import Plex
from fmrd.errors import Failed


def parts_of(volume: VolumeFacts, offset: int, length: int, candidates: list[Plex]) -> list[ReadPart]:
    """Return the parts of a read: one plex for all of it where there is one, else region by region, changing plexes as
    seldom as that allows. Failed('io_error') where none of the candidates holds a region.
    """
    geometry, policy = volume.geometry, volume.policy
    regions = geometry.regions_of(offset, length)
    whole = [p for p in candidates if not p.map.touches(regions)]
    if whole:
        return [ReadPart(policy.choose(whole, offset, length), offset, length)]
    parts: list[ReadPart] = []
    for region in regions:
        start, size = geometry.bytes_of(range(region, region + 1))
        start, stop = max(start, offset), min(start + size, offset + length)
        current = [p for p in candidates if region not in p.map]
        if not current:
            raise Failed("io_error", f"volume {volume.name}: no plex that answers holds the bytes at {start}")
        stays = parts[-1].plex if parts else None
        if stays is not None and stays in current and not policy.leaves(stays, current):
            parts[-1] = replace(parts[-1], length=stop - parts[-1].offset)
        else:
            parts.append(ReadPart(policy.choose(current, start, stop - start), start, stop - start))
    return parts
