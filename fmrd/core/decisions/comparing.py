"""Copies of the same bytes are compared here: where they differ, and which of them is the odd one out."""

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SECTOR_BYTES = 512
"""What a disk writes whole: the copies are judged by sectors, and the ends of a range are told to the byte."""
_BLOCK_BYTES = 64 << 10


@dataclass(frozen=True)
class Mismatch:
    """A mismatch is ``length`` bytes from ``offset`` at which copies differ. ``odd`` names the plexes that are wrong
    there, and ``right`` one that holds what is proven; where nothing is, ``odd`` names all that were compared,
    ``right`` is "".
    """

    offset: int
    length: int
    odd: tuple[str, ...]
    right: str = ""


def mismatches(offset: int, contents: Mapping[str, bytes], trusted: str = "") -> list[Mismatch]:
    """Return where copies differ, in order and apart from each other. ``contents`` is what each plex holds from
    ``offset`` on, all of one length. By sectors, more than half of them decide; or ``trusted`` does, whatever others
    hold.
    """
    first, *others = contents.values()
    if all(other == first for other in others):
        return []
    found: list[Mismatch] = []
    for block in range(0, len(first), _BLOCK_BYTES):
        here = {name: data[block : block + _BLOCK_BYTES] for name, data in contents.items()}
        if len(set(here.values())) > 1:
            for at in range(0, len(here[next(iter(here))]), SECTOR_BYTES):
                sector = {name: data[at : at + SECTOR_BYTES] for name, data in here.items()}
                if len(set(sector.values())) > 1:
                    _append(found, _judged(offset + block + at, sector, trusted))
    return found


def mismatches_in(
    offset: int, contents: Mapping[str, bytes], trusted: str, pieces: Sequence[tuple[int, int | None]]
) -> list[Mismatch]:
    """Return what ``mismatches`` does, and where that proves nothing let ``pieces`` prove it: the length in bytes of
    each, and the CRC-32 of what was there when all copies agreed, None where nobody knows it.
    """
    found: list[Mismatch] = []
    at = 0
    for length, crc in pieces:
        here = {name: data[at : at + length] for name, data in contents.items()}
        part = mismatches(offset + at, here, trusted)
        if crc is not None and any(not mismatch.right for mismatch in part):
            part = mismatches(offset + at, here, next((n for n, data in here.items() if zlib.crc32(data) == crc), ""))
        for mismatch in part:
            _append(found, mismatch)
        at += length
    return found


def _judged(offset: int, sector: Mapping[str, bytes], trusted: str) -> Mismatch:
    content, votes = Counter(sector.values()).most_common(1)[0]
    right = next(name for name, data in sector.items() if data == content) if 2 * votes > len(sector) else ""
    if trusted in sector:
        right, content = trusted, sector[trusted]
    odd = tuple(name for name, data in sector.items() if not right or data != content)
    columns = list(zip(*sector.values(), strict=True))
    first = next(at for at, column in enumerate(columns) if len(set(column)) > 1)
    behind = next(at for at in range(len(columns), first, -1) if len(set(columns[at - 1])) > 1)
    return Mismatch(offset + first, behind - first, odd, right)


def _append(found: list[Mismatch], new: Mismatch) -> None:
    """Sectors side by side with the same verdict are one range, with what lies between their ends."""
    if found:
        last = found[-1]
        end = last.offset + last.length
        neighbours = (end - 1) // SECTOR_BYTES + 1 == new.offset // SECTOR_BYTES
        if neighbours and (last.odd, last.right) == (new.odd, new.right):
            found[-1] = Mismatch(last.offset, new.offset + new.length - last.offset, last.odd, last.right)
            return
    found.append(new)
