"""What the rest asks of the machine about stores: their directories, and the file that remembers them."""

from typing import Protocol


class StoreFiles(Protocol):
    """This is a part of protocol.Host; all of it blocks, as there."""

    def read_stores(self) -> bytes | None:
        """Return the file that remembers stores; None where there is none. OSError where it cannot be read."""

    def write_stores(self, data: bytes) -> None:
        """Put another one in its place, durably: a crash leaves the one or the other, whole."""

    def prepare_store(self, directory: str, *, make: bool = True) -> None:
        """Make that directory, unless it is there, with mode 0700. OSError where files cannot be made in it, or room
        cannot be given back; Refused('refused_unsafe') where others may put something in their place. With ``make``
        False nothing is made, and only what is there is looked at.
        """

    def store_files(self, directory: str) -> dict[str, int]:
        """Return the bytes allocated to each file in it, by path. OSError where that cannot be told."""
