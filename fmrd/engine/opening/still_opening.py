"""What a daemon still opens at its start: who is asked for a volume meanwhile can tell "not yet" from "never"."""

from collections.abc import Iterable, Mapping

import trio


class Arriving:
    """``arrived`` is set, and replaced, whenever a volume is served, or is known to stay away."""

    def __init__(self) -> None:
        self.unread: set[str] | None = None
        """Home copies that were found and are not read yet; None before it was looked for them."""
        self._numbers: dict[str, int] = {}
        self.arrived = trio.Event()

    def found(self, homes: Iterable[str]) -> None:
        self.unread = set(homes)
        self._tell()

    def read(self, home: str, numbers: Mapping[str, int]) -> None:
        """What it says is to be opened: the numbers by the names of the volumes."""
        assert self.unread is not None, "found before it is read"
        self.unread.discard(home)
        self._numbers |= numbers
        self._tell()

    def ended(self, name: str) -> None:
        """It is served, or failed."""
        if self._numbers.pop(name, None) is not None:
            self._tell()

    def may_come(self, *, name: str | None = None, number: int | None = None) -> bool:
        """May this volume (or any) yet be served?"""
        if self.unread is None or self.unread:
            return True
        if name is None and number is None:
            return bool(self._numbers)
        return name in self._numbers or number in self._numbers.values()

    def names(self) -> list[str]:
        """Of volumes, and of home copies that nobody knows the volumes of yet."""
        return sorted({*(self.unread or ()), *self._numbers})

    def _tell(self) -> None:
        self.arrived.set()
        self.arrived = trio.Event()
