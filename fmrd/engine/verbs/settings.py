"""The settings of a volume are read here: KEY=VALUE as a user types them becomes fields of its record."""

from typing import Any

from fmrd.core.maps.drl import LEAST_EXTENTS, MOST_EXTENTS
from fmrd.core.records.parts import MOST_TOLD
from fmrd.core.sizes import read_size
from fmrd.core.volume.readpolicy import check_policy
from fmrd.errors import BadRequest

MOST_RATE = 1 << 60


def parse_settings(settings: dict[str, str]) -> dict[str, Any]:
    """Return the fields that are set; BadRequest('bad_setting') for a key or a value that cannot be."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if key in ("fmr", "auto_attach"):
            if value not in ("on", "off"):
                raise BadRequest("bad_setting", f"{key}={value}: on or off")
            found[key] = value == "on"
        elif key == "rdpol":
            found[key] = check_policy(value)
        elif key == "io_timeout":
            found["io_timeout_seconds"] = _seconds(value)
        elif key == "rate":
            found[key] = _rate(value)
        elif key == "comment":
            found[key] = _comment(value)
        elif key == "write_behind":
            found[key] = value
        elif key == "drl_extents":
            found["hot_extents"] = _extents(value)
        else:
            raise BadRequest("bad_setting", f"there is no setting {key}")
    return found


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0.1 <= seconds <= 86400:
        raise BadRequest("bad_setting", f"io_timeout={value}: seconds, 0.1 to 86400")
    return seconds


def _comment(value: str) -> str:
    if len(value) > MOST_TOLD or not value.isprintable():
        raise BadRequest("bad_setting", f"comment=...: one line that can be printed, of {MOST_TOLD} characters at most")
    return value


def _extents(value: str) -> int:
    if not (value.isascii() and value.isdecimal() and len(value) < 10 and LEAST_EXTENTS <= int(value) <= MOST_EXTENTS):
        raise BadRequest("bad_setting", f"drl_extents={value}: a number, {LEAST_EXTENTS} to {MOST_EXTENTS}")
    return int(value)


def _rate(value: str) -> int:
    rate = read_size(value)
    if rate is None:
        raise BadRequest("bad_setting", f"rate={value}: bytes a second, as 10M or 10MB; 0 is unlimited")
    if rate > MOST_RATE:
        raise BadRequest("bad_setting", f"rate={value}: no disk is so fast; 0 is unlimited")
    return rate
