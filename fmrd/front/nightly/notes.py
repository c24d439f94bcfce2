"""What is remembered of the nights of volumes, in a file of the state directory: when the last good one began, what
went wrong since, and whether that was told. It may be lost: then a night is missed later than it was.
"""

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from fmrd.backing.clients.volume_file import sync
from fmrd.core.json_object import Json
from fmrd.core.names import VOLUME_LENGTH, is_name
from fmrd.front.nightly.plan import MOST_PLANS

NAME = "nights"
LIMIT_BYTES = 4 << 20
MOST_TIME = 1 << 40
MOST_CHARACTERS = 500
AHEAD_SECONDS = 3600.0
"""A time so far ahead of the clock was noted by a clock that was wrong."""


@dataclass(frozen=True)
class Night:
    """Times are seconds since 1970, 0 for never. ``known``: since when there is a plan; ``begun``: the last night;
    ``good``: the last one without a problem; ``told``: when it was told last that one is missing.
    """

    known: float
    begun: float = 0.0
    good: float = 0.0
    told: float = 0.0
    problem: str = ""
    """Of the last night: which step failed, and why."""
    snapshot: str = ""
    sent: str = ""
    """The snapshot that the far side holds."""

    def since(self, now: float) -> float:
        """From when on the next one is waited for."""
        return max((at for at in (self.known, self.good) if at <= now + AHEAD_SECONDS), default=now)


def load(state: Path) -> dict[str, Night]:
    """Return what the file says, by volume; what cannot be in it is left out. OSError."""
    try:
        with open(state / NAME, "rb") as file:
            found = json.loads(file.read(LIMIT_BYTES))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    nights = {name: _night(told) for name, told in list(found.items())[:MOST_PLANS] if is_name(name, VOLUME_LENGTH)}
    return {name: night for name, night in nights.items() if night is not None}


def _night(told: object) -> Night | None:
    if not isinstance(told, dict):
        return None
    values: Json = {}
    for each in fields(Night):
        value = told.get(each.name, each.default)
        if isinstance(each.default, str):
            sound = isinstance(value, str) and len(value) <= MOST_CHARACTERS and value.isprintable()
        else:
            sound = type(value) in (int, float) and 0 <= value < MOST_TIME
        if not sound:
            return None
        values[each.name] = value
    return Night(**values)


def save(state: Path, nights: dict[str, Night]) -> None:
    """Write all of it under its name, durable, or nothing. OSError."""
    new = state / f"{NAME}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with open(os.open(new, flags, 0o600), "wb") as file:
        file.write(json.dumps({name: asdict(night) for name, night in nights.items()}).encode())
        file.flush()
        sync(file.fileno())
    os.rename(new, state / NAME)
