"""A stamp tells how fmrd left a plex when it let go of it; what lies there now is compared (PROTOCOLS, "Stamps").

It is made of what a file system tells of a file, and of checksums of some of what the plex holds: its beginning, which
every mount that may write changes, and pieces chosen anew each time. A device has only these.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fmrd.core.geometry import Geometry

HEAD_BYTES = 1 << 20
"""Of this much, from byte 0, everything is looked at that the plex does not miss."""
PIECE_BYTES = 64 << 10
"""At most so many bytes share a checksum: one region that is missed costs no more than that."""
CHOSEN = 16
"""How many pieces are chosen from all of it."""
FEWEST = 32
"""A small volume has no fewer pieces than this, as far as its regions allow."""
MOST_PIECES = 128
"""No stamp has more; what a record says beyond that was not written by fmrd."""

Piece = tuple[int, int]
"""(offset, length) in bytes."""


@dataclass(frozen=True)
class Sum:
    """A sum is the CRC-32 of one piece."""

    offset: int
    length: int
    crc: int


@dataclass(frozen=True)
class Stamp:
    """A stamp is how a plex was left, or how it looks now. Of a device only ``content`` says anything."""

    inode: int
    size: int
    mtime_ns: int
    """0: not known, since it is about to be written."""
    ctime_ns: int = 0
    """Recorded only beside ``since_ns``."""
    since_ns: int | None = None
    """The last fdatasync failed, so the time of change may not have reached the disk: what it was when the plex was
    opened. None: it is on the disk.
    """
    content: tuple[Sum, ...] = ()
    invented: bool = False
    """Its file system makes up inode numbers at each mount. Never recorded."""


def changed(left: Stamp | None, now: Stamp | None, *, is_block: bool) -> str:
    """Return how a plex that looks like ``now`` differs from how it was left, as part of a sentence; '' if it does not.
    A device that was not stamped tells nothing, and counts as it was left.
    """
    if left is None or now is None:
        return "" if is_block else "was not stamped when fmrd let go of it"
    found = {(each.offset, each.length): each.crc for each in now.content}
    for each in left.content:
        if found.get((each.offset, each.length), each.crc) != each.crc:
            return f"differs from how fmrd left it: other bytes lie at {each.offset}, so it was written elsewhere"
    if is_block:
        return ""
    if left.size != now.size:
        return f"differs from how fmrd left it: it has {now.size} bytes, and had {left.size}"
    proven = bool(left.content) and all((each.offset, each.length) in found for each in left.content)
    if left.inode != now.inode and not (now.invented and proven):
        return "differs from how fmrd left it: it is another file"
    return "" if _same_time(left, now) else "differs from how fmrd left it: its time of change is another"


def _same_time(left: Stamp, now: Stamp) -> bool:
    """Whoever writes later leaves later times, and nobody can set back ctime: where the last times may not have reached
    the disk, an earlier one that the file had in use here is fmrd's own.
    """
    if left.mtime_ns in (0, now.mtime_ns):
        return True
    return left.since_ns is not None and left.since_ns <= now.mtime_ns < left.mtime_ns and now.ctime_ns <= left.ctime_ns


def pieces_of(stamps: Iterable[Stamp | None]) -> list[Piece]:
    """Return what must be read to compare with these stamps."""
    return sorted({(each.offset, each.length) for stamp in stamps if stamp is not None for each in stamp.content})


def choose(geometry: Geometry, missed: Callable[[range], bool], draw: Callable[[int], int]) -> list[Piece]:
    """Return the pieces of a stamp that is about to be taken, none of regions of which some are ``missed``, since they
    are copied anyway, and may not be on the disk. ``draw(n)`` gives a number below n.
    """
    size = _piece_bytes(geometry)
    count = -(-geometry.length_bytes // size)

    def piece(number: int) -> Piece:
        return number * size, min(size, geometry.length_bytes - number * size)

    def clean(number: int) -> bool:
        return not missed(geometry.regions_of(*piece(number)))

    head = min(count, HEAD_BYTES // size)
    found = {number for number in range(head) if clean(number)}
    if count > head:
        others = dict.fromkeys(head + draw(count - head) for _ in range(4 * CHOSEN))
        found.update([number for number in others if clean(number)][:CHOSEN])
    return [piece(number) for number in sorted(found)]


def _piece_bytes(geometry: Geometry) -> int:
    even = 1 << max(0, (geometry.length_bytes // FEWEST).bit_length() - 1)
    return min(PIECE_BYTES, max(even, geometry.region_bytes), geometry.length_bytes)
