"""A plex's data as a mirror sees it: the open backing, its lane, and a write on its way."""

from collections.abc import Sequence
from dataclasses import dataclass

from fmrd.backing.hops import Lane
from fmrd.backing.protocol import Backing


@dataclass
class Disk:
    """A plex's open backing and its lane."""

    backing: Backing
    lane: Lane

    @property
    def inline(self) -> bool:
        return self.backing.inline


@dataclass(frozen=True)
class Writer:
    """The writes of one request on one plex; it keeps the buffer alive until the call has landed."""

    backing: Backing
    parts: Sequence[tuple[int, memoryview]]

    def __call__(self) -> None:
        for offset, data in self.parts:
            self.backing.pwrite(offset, data)
