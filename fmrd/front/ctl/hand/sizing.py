"""How long a volume is to be, where people do not say it in bytes: as long as a file, as a device, by so much more."""

import os
import stat
from collections.abc import Sequence

from fmrd.backing.protocol import LOCATOR_BYTES
from fmrd.core.geometry import EXTENT_BYTES, Geometry
from fmrd.core.json_object import Json
from fmrd.core.sizes import ROUND_BYTES, read_length
from fmrd.dco import layout
from fmrd.errors import BadRequest, Failed
from fmrd.front.ctl import words

MOST = "max"


def size_and_plexes(
    given: Sequence[str], from_path: str | None, region_bytes: int, extent_bytes: int | None
) -> tuple[int, list[Json]]:
    """Read ``[SIZE] PATH...`` of make: a size, or ``max``, or nothing with --from. BadRequest('bad_size')."""
    first, rest = given[0], given[1:]
    if first == MOST or read_length(first.strip()) is not None:
        plexes = [words.wish(path) for path in rest]
        if not plexes:
            raise BadRequest("bad_request", "a volume has at least one plex", "fmrctl make VOL SIZE PATH...")
        if first != MOST:
            return words.parse_length(first), list(plexes)
        return _most(plexes, region_bytes, extent_bytes), list(plexes)
    if from_path is None:
        words.parse_length(first)  # which says what is wrong with it
    plexes = [words.wish(path) for path in given]
    return _as_long_as(str(from_path), plexes, region_bytes, extent_bytes), list(plexes)


def growth(text: str) -> Json:
    """Read what grow takes: a length, ``+`` and what is added, or ``max``. BadRequest('bad_size')."""
    if text == MOST:
        return {"most": True}
    if text.startswith("+"):
        return {"more_bytes": words.parse_length(text[1:])}
    return {"size_bytes": words.parse_length(text)}


def _as_long_as(path: str, plexes: Sequence[Json], region_bytes: int, extent_bytes: int | None) -> int:
    size, is_device = _measured(path)
    if is_device and not any(plex["path"] == path and plex.get("dco") for plex in plexes):
        return _without_tail(size, region_bytes, extent_bytes)
    return -(-size // ROUND_BYTES) * ROUND_BYTES


def _most(plexes: Sequence[Json], region_bytes: int, extent_bytes: int | None) -> int:
    """As long as the shortest device among them allows; files are as long as they must be."""
    found = []
    for plex in plexes:
        if not os.path.exists(plex["path"]):
            continue
        size, is_device = _measured(plex["path"])
        if is_device:
            found.append(size if plex.get("dco") else _without_tail(size, region_bytes, extent_bytes))
    if not found:
        raise BadRequest("bad_size", "none of the plexes is a device, so 'max' is no size", words.SIZES)
    return min(found) // ROUND_BYTES * ROUND_BYTES


def _measured(path: str) -> tuple[int, bool]:
    """Return (bytes, whether it is a device)."""
    try:
        status = os.stat(path)
        if not stat.S_ISBLK(status.st_mode):
            return status.st_size, False
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.lseek(descriptor, 0, os.SEEK_END), True
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Failed("plex_missing", f"{path} cannot be measured: {error.strerror}") from error


def _without_tail(size: int, region_bytes: int, extent_bytes: int | None) -> int:
    """What a device holds beside its copy of the DCO, whose size depends on that in turn."""

    def tail(length: int) -> int:
        extent = max(EXTENT_BYTES, region_bytes) if extent_bytes is None else extent_bytes
        return layout.copy_bytes(Geometry(length, region_bytes, extent).pages) + LOCATOR_BYTES

    least = (size - tail(max(size, 1))) // ROUND_BYTES * ROUND_BYTES
    if least <= 0:
        raise BadRequest("bad_size", f"a device of {size} bytes is too short for a plex and its DCO")
    more = (size - tail(least)) // ROUND_BYTES * ROUND_BYTES
    return more if more + tail(more) <= size else least
