"""Which snapshot of a store is given up where there is no room: never an original, and as little as will do."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """A started instant snapshot in a store. ``held_bytes`` are allocated to its file."""

    uuid: str
    name: str
    taken_at: float
    """In seconds since the epoch, 0 where nobody noted it."""
    held_bytes: int
    lost_some: bool = False
    """It is invalid already: what it could not keep is gone."""
    lost_all: bool = False
    """Nothing of it can be read: giving its room back costs nothing."""
    pinned: bool = False
    """It is something else, too: a stream is received into it."""


def to_free(members: Iterable[Member]) -> Member | None:
    """Return whose room is to be given back next: of one that is lost already; else of one that is invalid already, the
    oldest; else the oldest. None where nobody has any that can be.
    """
    able = [each for each in members if each.held_bytes > 0 and (each.lost_all or not each.pinned)]
    return min(able, key=lambda m: (not m.lost_all, not m.lost_some, m.taken_at, m.name), default=None)
