"""Numbers, names, lists and stamps in the JSON of a record: anything odd is TypeError or ValueError."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from fmrd.core.json_object import Json
from fmrd.core.names import is_name
from fmrd.core.records.parts import MOST_TOLD, Column, Failure, Kind, Taken
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


def failure_fields(failure: Failure | None, *, content: bool) -> Json:
    """Return what a plex's fields say of why it is out; nothing where it is not, or where there is no room."""
    if failure is None or not content:
        return {}
    return {"failure": [failure.code, failure.message, failure.errno, failure.since]}


def read_failure(data: Json) -> Failure | None:
    """Return why a plex is out, as its fields tell: an older program tells nothing."""
    if "failure" not in data:
        return None
    code, message, errno, since = items(data["failure"])
    if not isinstance(code, str) or not isinstance(message, str) or len(code) + len(message) > 2 * MOST_TOLD:
        raise TypeError("a failure is a code and a sentence")
    if not (since is None or is_time(since)) or not message.isprintable():
        raise TypeError("a failure has a time in seconds, and its sentence can be printed")
    return Failure(code, message, None if errno is None else count(errno), since)


def read_taken(data: Json) -> Taken | None:
    """Return when and how a snapshot was taken: an older program has nothing."""
    if "taken" not in data:
        return None
    at, kind = items(data["taken"])
    if not is_time(at):
        raise TypeError("a snapshot is taken at a time in seconds")
    return Taken(at, Kind(kind))


def is_time(value: object) -> bool:
    """Seconds since the epoch."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < MOST


def read_comment(data: Json) -> str:
    """Return what somebody noted of a volume: an older program has nothing."""
    comment = data.get("comment", "")
    if not isinstance(comment, str) or len(comment) > MOST_TOLD or not comment.isprintable():
        raise TypeError("a comment is a line that can be printed")
    return comment


def _sum(value: object) -> Sum:
    offset, length, crc = items(value)
    if not 0 < count(length) <= PIECE_BYTES:
        raise TypeError(f"no stamp has pieces of {length} bytes")
    return Sum(count(offset), length, count(crc))
