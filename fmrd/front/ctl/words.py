"""What a user types becomes what the daemon wants: sizes in bytes, absolute paths, settings."""

import os
import re
import time

from fmrd.core.far.uris import is_uri, read_uri
from fmrd.core.sizes import UNITS, read_length, read_size
from fmrd.errors import BadRequest

MOST_SECONDS = 86400
SIZES = "bytes, or a number with K, M, G, T (powers of 1024; KB, MB, GB, TB of 1000), as 64K, 1.5G, 1GB"
_PLEX_NAME = re.compile(r".+-[0-9]{2,}", re.ASCII)


def parse_size(text: str) -> int:
    """Return the bytes; BadRequest('bad_size')."""
    found = read_size(text.strip())
    if found is None:
        raise BadRequest("bad_size", f"{text!r} is not a size", SIZES)
    return found


def parse_length(text: str) -> int:
    """The same of a volume's length, or of what is added to it."""
    found = read_length(text.strip())
    if found is None:
        raise BadRequest("bad_size", f"{text!r} is not a size", SIZES)
    return found


def format_size(size: int) -> str:
    """Return the size in the largest unit that leaves at least 1, with one decimal only where the unit is not exact."""
    for unit, factor in reversed(UNITS.items()):
        if size >= factor:
            return f"{size // factor}{unit}" if size % factor == 0 else f"{size / factor:.1f}{unit}"
    return "0"


# Types of click's arguments: it shows their names in capitals.


def size(text: str) -> int:
    return parse_size(text)


def seconds(text: str) -> float:
    """Return a time to wait; BadRequest('bad_request') for what is none."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= MOST_SECONDS:
        raise BadRequest("bad_request", f"{text!r} is no time in seconds, above 0 and up to {MOST_SECONDS}")
    return found


def path(text: str) -> str:
    """Make a path absolute here: the daemon has another working directory. Links are kept as they were named. Of a URI
    the paths in it are. BadRequest('bad_request') for an empty one, which would be the directory itself; ('bad_uri').
    """
    if not text:
        raise BadRequest("bad_request", "an empty word is no path")
    if is_uri(text):
        return str(read_uri(text).with_paths(os.path.abspath))
    return os.path.abspath(text)


def plex(text: str) -> str:
    """Return a plex by its name (VOL-01) or its path: whatever has a '/', or is a file here not named like that."""
    is_path = "/" in text or (not _PLEX_NAME.fullmatch(text) and os.path.exists(text))
    return path(text) if is_path else text


def dated(pattern: str, now: float | None = None) -> str:
    """Put the time, in local time, in the place of %Y, %m, %d, %H, %M and %S; %v, the volume's name, stays."""
    at = time.localtime(now)
    for letter in "YmdHMS":
        pattern = pattern.replace(f"%{letter}", time.strftime(f"%{letter}", at))
    return pattern


def span(text: str) -> tuple[int, int]:
    """Read OFFSET:LENGTH, both as sizes; BadRequest('bad_size')."""
    offset, mark, length = text.partition(":")
    if not mark or not length:
        raise BadRequest("bad_size", f"{text!r} is no range", "OFFSET:LENGTH, such as 0:1M")
    found = parse_size(offset or "0"), parse_size(length)
    if not found[1]:
        raise BadRequest("bad_size", f"{text!r} is a range without a byte")
    return found


def wish(text: str) -> dict[str, str]:
    """Read PATH or PATH,dco=PATH; BadRequest('bad_request')."""
    data, mark, dco = text.rpartition(",dco=")
    if not mark:
        return {"path": path(text)}
    if not data or not dco:
        raise BadRequest("bad_request", f"{text!r} is neither PATH nor PATH,dco=PATH")
    return {"path": path(data), "dco": path(dco)}


def parse_pairs(pairs: tuple[str, ...]) -> dict[str, str]:
    """Read KEY=VALUE..., BadRequest('bad_setting') for anything else."""
    found = {}
    for pair in pairs:
        key, mark, value = pair.partition("=")
        if not mark or not key or not (value or key == "comment"):
            raise BadRequest("bad_setting", f"{pair!r} is not KEY=VALUE")
        found[key] = value
    return found
