"""The settings of a volume: KEY=VALUE as a user types them -> fields of its record."""

from typing import Any

from fmrd.core.volume.readpolicy import check_policy
from fmrd.errors import BadRequest

MOST_RATE = 1 << 60
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_settings(settings: dict[str, str]) -> dict[str, Any]:
    """BadRequest('bad_setting') for a key or a value that cannot be."""
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


def _rate(value: str) -> int:
    number, unit = (value[:-1], value[-1].upper()) if value[-1:].upper() in UNITS and value[-1:] else (value, "")
    if not (number.isascii() and number.isdigit()):
        raise BadRequest("bad_setting", f"rate={value}: bytes a second, with K, M, G or T; 0 is unlimited")
    rate = int(number[:20]) * UNITS[unit]
    if rate > MOST_RATE or len(number) > 20:
        raise BadRequest("bad_setting", f"rate={value}: no disk is so fast; 0 is unlimited")
    return rate
