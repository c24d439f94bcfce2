"""What verify knows of a volume is kept in notes: a file in the state directory for what may be lost."""

from typing import Protocol


class Notes(Protocol):
    """Notes are a file for what may be lost: whoever reads it checks what it says. It is durable after ``sync``."""

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes; what lies beyond the end reads as zeros."""

    def write(self, offset: int, data: bytes) -> None:
        """Write all of ``data``; a file that ends before ``offset`` becomes longer."""

    def sync(self) -> None:
        """Make durable what was written before this call."""

    def close(self) -> None:
        """Give up the descriptor."""
