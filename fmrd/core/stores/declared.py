"""A store as it was declared: where it lies, how large it is, how it grows."""

from dataclasses import dataclass

from fmrd.core.json_object import Json

MOST_STORES = 64
MOST_PATH_BYTES = 4095
MOST_BYTES = 1 << 62
HIGH_WATER = 90
"""Percent of its size: from there on it grows, or says that it cannot."""
SUFFIX = ".plex"
"""Of the file of a snapshot in it. Its copy of the DCO lies beside it."""


@dataclass(frozen=True)
class Declared:
    """A store: a directory, and how many bytes may be allocated in it, in all of its files together. At ``high_water``
    percent of that it grows by ``step_bytes``, to ``most_bytes`` at most; 0: it does not.
    """

    name: str
    directory: str
    size_bytes: int
    step_bytes: int = 0
    most_bytes: int = 0
    high_water: int = HIGH_WATER

    @property
    def threshold_bytes(self) -> int:
        return self.size_bytes * self.high_water // 100

    @property
    def can_grow(self) -> bool:
        return self.step_bytes > 0 and self.size_bytes < self.most_bytes

    def path_of(self, snapshot: str) -> str:
        """Where a snapshot of that name keeps what it has."""
        return f"{self.directory}/{snapshot}{SUFFIX}"

    def holds(self, path: str) -> bool:
        """Tell whether a file lies in it: not what lies in directories below."""
        return path.rpartition("/")[0] == self.directory

    def grown_for(self, need_bytes: int) -> int:
        """Return the size that it should have with so many bytes in it: as it is, or some steps more."""
        if not self.can_grow or need_bytes <= self.threshold_bytes:
            return self.size_bytes
        wanted = -(-need_bytes * 100 // self.high_water)
        steps = -(-(wanted - self.size_bytes) // self.step_bytes)
        return min(self.size_bytes + max(1, steps) * self.step_bytes, self.most_bytes)

    def json(self) -> Json:
        """Return it as the file has it."""
        return {
            "name": self.name, "directory": self.directory, "size_bytes": self.size_bytes,
            "step_bytes": self.step_bytes, "most_bytes": self.most_bytes, "high_water": self.high_water,
        }  # fmt: skip


def is_directory(path: str) -> bool:
    """Tell whether it is the one way to write the absolute path of a directory, below the root."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return False
    first, *parts = path.split("/")
    plain = not first and bool(parts) and not any(part in ("", ".", "..") for part in parts)
    return plain and path.isprintable() and size <= MOST_PATH_BYTES


def what_is_wrong(store: Declared) -> str | None:
    """Return a sentence on measures that make no sense together; None where they do."""
    if not 0 < store.size_bytes <= MOST_BYTES:
        return "its size is not a number of bytes"
    if not 1 <= store.high_water <= 100:
        return "its high-water mark is not 1 to 100 percent"
    if store.step_bytes and store.most_bytes < store.size_bytes:
        return "it may grow to less than it has"
    if bool(store.step_bytes) != bool(store.most_bytes):
        return "it grows by a step and up to a size: both, or none"
    return None
