"""Attach is decided by lineage and position (RULES, "Join"): nothing missed, fast, full, or refused, with a reason."""

from dataclasses import dataclass

from bitarray import bitarray
from bitarray.util import zeros

from fmrd.core.images import CopyImage, own_bitmap
from fmrd.core.plex import Plex
from fmrd.core.record import Record, Stamp
from fmrd.core.volume import Volume
from fmrd.errors import Refused


@dataclass(frozen=True)
class Decision:
    """Why what is copied: reason code, sentence, and whether the whole map becomes dirty."""

    code: str
    message: str
    full: bool
    regions: int
    bytes: int


def decide(
    volume: Volume,
    record: Record,
    plex: Plex,
    image: CopyImage | None,
    stamp: Stamp | None,
    *,
    is_block: bool,
    full: bool = False,
    discard: bool = False,
) -> Decision:
    """``record``: the family as it stands; ``image``: the plex's own copy, None where there is none. Refused with
    'refused_split_brain' or 'refused_unknown_plex' where only the administrator can decide.
    """
    if full:
        return _full(volume, "full_forced", f"plex {plex.name} is copied in full, as asked for")
    theirs = image.record if image is not None else None
    if theirs is None:
        code = plex.reason if plex.reason.startswith("full_") else "full_map_lost"
        return _full(volume, code, f"plex {plex.name} has no readable copy of the DCO: {_why(code)}")
    assert image is not None
    if theirs.family != record.family or image.owner != plex.uuid:
        raise Refused(
            "refused_unknown_plex",
            f"plex {plex.name} carries the DCO of another plex "
            f"(volume {theirs.volume.name}, family {theirs.family[:8]})",
            "att --full overwrites it",
        )
    if not theirs.knows(plex.has) and plex.has is not None:
        return _full(volume, "full_backing_changed", f"an old image of plex {plex.name} was restored")
    if theirs.position != plex.has and not record.knows(theirs.position):
        if discard:
            return _full(volume, "full_forced", f"the changes made on plex {plex.name} elsewhere are given up")
        raise _diverged(volume, record, plex, theirs)
    if plex.reason.startswith("full_") and plex.map.count() == len(plex.map):
        why = f"plex {plex.name} is copied in full: {_why(plex.reason)}"
        return Decision(plex.reason, why, False, len(plex.map), volume.geometry.length_bytes)
    if not is_block and (plex.stamp is None or not plex.stamp.fits(stamp)):
        known = "differs from how fmrd left it" if plex.stamp else "was not stamped when fmrd let go of it"
        return _full(volume, "full_backing_changed", f"the file of plex {plex.name} {known}")
    missed = plex.map.bits | _own_dirt(volume, image)
    regions = missed.count()
    size = volume.geometry.bytes_in(regions, bool(missed[-1]))
    if not regions:
        return Decision("nothing_missed", f"plex {plex.name} missed nothing", False, 0, 0)
    message = f"plex {plex.name} missed writes to {regions} of {len(missed)} regions; only those are copied"
    return Decision("fast", message, False, regions, size)


def inherit(volume: Volume, plex: Plex, image: CopyImage | None, decision: Decision) -> None:
    """Join, step 1: the map gains the DRL in the plex's own copy, or everything."""
    if decision.full:
        plex.map.fill()
    elif image is not None:
        plex.map.union(_own_dirt(volume, image))
    plex.reason = decision.code if decision.code.startswith("full_") else ""


def _own_dirt(volume: Volume, image: CopyImage) -> bitarray:
    """The DRL in the plex's own copy, bits by region."""
    geometry = volume.geometry
    theirs = image.record
    dirt = zeros(geometry.regions)
    mine = theirs.holder(image.owner) if theirs is not None else None
    if mine is None:
        return dirt
    extents = own_bitmap(mine.drl, geometry.extents, geometry.page_extents, image)
    for extent in extents.search(1):
        span = geometry.regions_of_extent(extent)
        dirt[span.start : span.stop] = 1
    return dirt


def _diverged(volume: Volume, record: Record, plex: Plex, theirs: Record) -> Refused:
    sides = (
        f"volume {volume.name} is at {record.sequence} of lineage {record.lineage[:8]}, plex {plex.name} at "
        f"{theirs.sequence} of {theirs.lineage[:8]}"
    )
    if plex.has is not None and theirs.knows(plex.has):
        return Refused(
            "refused_split_brain",
            f"plex {plex.name} was written elsewhere since it left: {sides}",
            "att --discard gives up the plex's changes",
        )
    return Refused(
        "refused_unknown_plex", f"nobody remembers that past of plex {plex.name}: {sides}", "att --full overwrites it"
    )


def _full(volume: Volume, code: str, message: str) -> Decision:
    geometry = volume.geometry
    return Decision(code, message, True, geometry.regions, geometry.length_bytes)


def _why(code: str) -> str:
    return {
        "full_new_plex": "it is new",
        "full_fmr_off": "FastResync was off while it was away",
        "full_backing_changed": "its file was changed",
        "full_forced": "that was asked for",
    }.get(code, "its map is lost")
