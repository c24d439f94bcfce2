"""Plexes, records and copies of the DCO, as a start may find them."""

from dataclasses import replace

from bitarray import frozenbitarray

from fmrd.core.decisions.standing import Found
from fmrd.core.images import CopyImage, PageSlot
from fmrd.core.record import PlexRecord, Position, Record
from fmrd.core.stamps import Stamp
from fmrd.core.states import PlexState
from tests.core.making import FAMILY, PAGE_REGIONS, UUID, bits, family_record, plex_record

ACTIVE, TEMP, STALE, IOFAIL, OFFLINE = (
    PlexState.ACTIVE, PlexState.TEMP, PlexState.STALE, PlexState.IOFAIL, PlexState.OFFLINE
)  # fmt: skip
HAS = Position("now", 9)
STAMP = Stamp(1, 2, 3)
HISTORY = (Position("before", 5),)


def plex(number: int, state: PlexState = ACTIVE, **fields: object) -> PlexRecord:
    return plex_record(number, state, **{"has": HAS, "stamp": STAMP, **fields})


def home_record(*plexes: PlexRecord, **fields: object) -> Record:
    return family_record(*plexes, **{"history": HISTORY, **fields})  # type: ignore[arg-type]  # checked by the dataclass


def travelling(
    record: Record,
    number: int,
    *,
    sequence: int = 10,
    lineage: str = "now",
    dirty: set[int] = frozenset(),  # type: ignore[assignment]  # a frozen set is a set to read
) -> CopyImage:
    """The copy beside plex ``number``, with these extents in its DRL."""
    theirs = replace(record, sequence=sequence, lineage=lineage)
    drl = [PageSlot(0, 5, frozenbitarray(bits(dirty, 4)[at : at + 2])) for at in (0, 2)]
    return CopyImage((theirs, theirs), {(0, p): (drl[p], drl[p]) for p in (0, 1)}, owner=UUID.format(number))


def here(record: Record, number: int, **fields: object) -> Found:
    return Found(True, travelling(record, number, **fields), STAMP)  # type: ignore[arg-type]  # of travelling


def damaged(number: int) -> Found:
    """Neither record can be read; a header names plex ``number``."""
    return Found(True, CopyImage((None, None), claims=frozenset({(FAMILY, UUID.format(number))})), STAMP)


def home_copy(record: Record, maps: dict[int, set[int]], dirty: set[int] = frozenset()) -> CopyImage:  # type: ignore[assignment]  # a frozen set is a set to read
    """Maps by plex, in regions; the DRL in extents. Both slots of each page are good."""
    pages = {}
    for p in record.volume.plexes:
        missing = bits(maps.get(int(p.name[-2:]), ()))
        for page in (0, 1):
            part = PageSlot(p.map.epoch, 5, frozenbitarray(missing[page * PAGE_REGIONS : (page + 1) * PAGE_REGIONS]))
            pages[p.map.index, page] = (part, part)
    for page in (0, 1):
        part = PageSlot(0, 5, frozenbitarray(bits(dirty, 4)[page * 2 : page * 2 + 2]))
        pages[0, page] = (part, part)
    return CopyImage((record, record), pages)


KNOWN = home_record(plex(1), plex(2))
