"""Numbers, names, lists and stamps in the JSON of a record: anything odd is TypeError or ValueError."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from fmrd.core.json_object import Json
from fmrd.core.names import is_name
from fmrd.core.record import Column
from fmrd.core.stamps import MOST_PIECES, PIECE_BYTES, Stamp, Sum

MOST = (1 << 63) - 1
"""No count is larger: sequences and epochs fill 64 bits of a header."""


def items(value: object) -> Sequence[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list")
    return value


def whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -MOST <= value <= MOST:
        raise TypeError("not a whole number of 64 bits")
    return value


def count(value: object) -> int:
    if whole(value) < 0:
        raise TypeError(f"{value!r} is not a count")
    return whole(value)


def text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def name(value: object, most: int) -> str:
    if not is_name(text(value), most):
        raise TypeError(f"{value!r} is not a name")
    return text(value)


def uuid(value: object) -> str:
    if str(UUID(text(value))) != value:
        raise TypeError(f"{value!r} is not a UUID")
    return text(value)


def flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is not a flag")
    return value


def column(value: object, columns: int) -> Column:
    index, epoch = items(value)
    if count(index) >= columns:
        raise TypeError(f"column {index} of {columns}")
    return Column(index, count(epoch))


def stamp_fields(stamp: Stamp | None, *, content: bool) -> Json:
    """Return what a plex's fields say of its stamp. What an older program does not know it does without."""
    if stamp is None:
        return {"stamp": None}
    found: Json = {"stamp": [stamp.inode, stamp.size, stamp.mtime_ns]}
    if stamp.since_ns is not None:
        found["since"] = [stamp.since_ns, stamp.ctime_ns]
    if stamp.content and content:
        found["content"] = [[each.offset, each.length, each.crc] for each in stamp.content]
    return found


def read_stamp(data: Json) -> Stamp | None:
    """Return the stamp that a plex's fields tell."""
    if data["stamp"] is None:
        return None
    inode, size, mtime_ns = map(whole, items(data["stamp"]))
    since_ns, ctime_ns = map(whole, items(data["since"])) if "since" in data else (None, 0)
    content = items(data.get("content", []))
    if len(content) > MOST_PIECES:
        raise TypeError(f"no stamp has {len(content)} pieces: all of them are read")
    return Stamp(inode, size, mtime_ns, ctime_ns, since_ns, tuple(_sum(each) for each in content))


def _sum(value: object) -> Sum:
    offset, length, crc = items(value)
    if not 0 < count(length) <= PIECE_BYTES:
        raise TypeError(f"no stamp has pieces of {length} bytes")
    return Sum(count(offset), length, count(crc))
