"""A fan is the calls of one write of which several disks take all: most writes are that.

Each call is made when somebody asks for it. Where the ring carries the write out and all goes well nobody does
(batches.py): what a call, its run, its beginning and its end take in Python is half of what such a write costs.
"""

from collections.abc import Sequence
from typing import Protocol, overload

from fmrd.backing.calls.system_calls import Call, Lane
from fmrd.backing.protocol import Backing


class Disk(Protocol):
    """What is written to: a plex's data, and the calls under way there."""

    backing: Backing
    lane: Lane

    def writing_parts(self, parts: Sequence[tuple[int, bytes | memoryview]], weight: int) -> Call:
        """Return the call of a write of these (offset, data), which whoever asks holds; for ``weight`` see Fan."""

    def landed(self, call: Call, error: Exception | None) -> None:
        """One that was made so, and given up, has ended."""


class Fan(Sequence[Call]):
    """``data`` is for byte ``offset`` on, and stays as it is until the last has ended. ``weight`` is how many of their
    kind these stand for in the times of each disk; 0: no time is taken.
    """

    __slots__ = ("_calls", "data", "disks", "offset", "weight")

    def __init__(self, disks: Sequence[Disk], offset: int, data: bytes | memoryview, weight: int) -> None:
        self.disks = disks
        self.offset = offset
        self.data = data
        self.weight = weight
        self._calls: dict[int, Call] | None = None

    def __len__(self) -> int:
        return len(self.disks)

    @overload
    def __getitem__(self, index: int) -> Call: ...
    @overload
    def __getitem__(self, index: slice) -> list[Call]: ...
    def __getitem__(self, index: int | slice) -> Call | list[Call]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if self._calls is None:
            self._calls = {}
        if index not in self._calls:
            self._calls[index] = self.disks[index].writing_parts([(self.offset, self.data)], self.weight)
        return self._calls[index]
