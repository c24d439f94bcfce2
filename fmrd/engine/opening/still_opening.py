"""This is what a daemon still opens at its start: who is asked for a volume can tell "not yet" from "never"."""

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
        """These home copies were found; what they say is not known yet."""
        self.unread = set(homes)
        self._tell()

    def read(self, home: str, numbers: Mapping[str, int]) -> None:
        """This home copy says what is to be opened: the numbers of volumes by their names."""
        assert self.unread is not None, "found before it is read"
        self.unread.discard(home)
        self._numbers |= numbers
        self._tell()

    def ended(self, name: str) -> None:
        """This volume is served, or has failed."""
        if self._numbers.pop(name, None) is not None:
            self._tell()

    def may_come(self, *, name: str | None = None, number: int | None = None) -> bool:
        """Tell whether this volume (or any) may yet be served."""
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
