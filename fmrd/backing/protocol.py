"""What the rest of fmrd asks of storage: three small protocols, and nothing about how they are met.

``Backing`` is the data of one plex, ``DcoFile`` one copy of the DCO, ``Host`` the machine they lie on. All methods
block and may be called from any thread; failures of a device are ``OSError``, failures of a request ``FmrdError``.
The real ones live beside this module; the simulation brings its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fmrd.backing.looking.findings import Finding, Kind, Place, Seen, printable
from fmrd.core.record import Stamp

__all__ = [
    "DCO_BLOCK_BYTES", "LOCATOR_BYTES", "Backing", "DcoFile", "Finding", "Host", "Kind", "Notes", "Place", "Probe",
    "Seen", "SourceError", "Stamp", "printable",
]  # fmt: skip

DCO_BLOCK_BYTES = 4096
"""The unit of every DCO write: offset and length are multiples of it."""

LOCATOR_BYTES = 4096
"""A block device's last block says where its DCO area begins: its tail is the area and this block."""


@dataclass(frozen=True)
class Probe:
    """What lies at a path, without opening it for writing. ``size`` in bytes; of a block device its whole size."""

    exists: bool
    is_block: bool = False
    size: int = 0


class Backing(Protocol):
    """The raw data of one plex, from byte 0."""

    path: str
    is_block: bool
    length: int
    """Usable bytes: a file's size; a block device's size without the DCO area at its tail."""
    disk: str
    """The disk it lies on, as far as the system tells; copies to one disk take turns."""
    inline: bool
    """It lies in memory (tmpfs) and never blocks, so a thread hop would only cost."""

    def pread(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes; a short read is OSError(EIO)."""

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        """The same, all of ``buffer``."""

    def pread_now(self, offset: int, buffer: memoryview) -> bool:
        """The same, if no disk has to be waited for: False where it would be, and for any failure."""

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """All of ``data``, or OSError; after an error any part of it may have been written."""

    def make_zero(self, offset: int, length: int, *, punch: bool) -> None:
        """Zeros, as pwrite would write them; with ``punch`` the blocks are given back where that can be."""

    def data_until(self, offset: int, stop: int) -> tuple[bool, int]:
        """Is there data at ``offset``, or a hole, and up to where (at most ``stop``)? All of a device is data."""

    def is_known_data(self, offset: int, stop: int) -> bool:
        """Is all of it data, as far as is known without asking the file system?"""

    def fdatasync(self) -> None:
        """Make durable whatever pwrite and copy_from wrote before this call began."""

    def copy_from(self, source: Backing, offset: int, length: int) -> int:
        """Make [offset, offset+length) equal to ``source``'s; returns the bytes really written (holes cost none).

        Never shares blocks with the source. An error of the source is ``SourceError``, one of this backing OSError.
        """

    def copy_spans(self, source: Backing, spans: Sequence[tuple[int, int]]) -> int:
        """The same for each [start, stop) in bytes, in order; after an error any part of them may have been copied."""

    def extend(self, length: int) -> None:
        """Grow to ``length`` usable bytes (a file: sparse zeros). A block device that is too short: OSError(ENOSPC)."""

    def stamp(self) -> Stamp | None:
        """How the file looks now; None for a block device, which has no such mark."""

    def close(self) -> None:
        """Give up the descriptors and the lock."""


class DcoFile(Protocol):
    """One copy of the DCO. A write is durable when it returns, and whole blocks are written in one call."""

    path: str
    length: int

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes; beyond the end they read as zeros."""

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Durable when it returns. ``offset`` and ``len(data)`` are multiples of DCO_BLOCK_BYTES."""

    def extend(self, length: int) -> None:
        """Preallocate up to ``length`` bytes, zeros; the area at a device's tail cannot grow: ENOSPC."""

    def close(self) -> None:
        """Give up the descriptor."""


class Notes(Protocol):
    """A file for what may be lost; what lies beyond its end reads as zeros. Nothing is durable before ``sync``."""

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes."""

    def write(self, offset: int, data: bytes) -> None:
        """Wherever it lies; the file becomes longer."""

    def sync(self) -> None:
        """What was written is durable."""

    def close(self) -> None:
        """Give up the descriptor."""


class SourceError(Exception):
    """A copy failed on its reading side; ``error`` is the OSError of the source."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class Freezer(Protocol):
    """One freeze of a mounted file system; both calls block."""

    def freeze(self) -> None:
        """OSError says why it cannot be frozen."""

    def thaw(self) -> None:
        """Also when it was never frozen. OSError where it may still be."""


class Host(Protocol):
    """Opens, makes and removes plexes and copies of the DCO. Expected failures are FmrdError with these codes:
    ``plex_missing``, ``plex_busy`` (locked by another owner), ``plex_exists``, ``not_a_plex`` (a directory, a
    socket...), ``plex_too_short``; everything else is OSError.
    """

    def probe(self, path: str) -> Probe:
        """Look without touching. OSError where even that fails."""

    def look(self, path: str, mount: str | None, *, sidecar: bool = True) -> Seen:
        """What lies at a path before it is taken: who has it, what is on it, whether it leads back to ``mount``, fmrd's
        own (nothing there is opened). ``sidecar``: also what lies where its copy of the DCO would be made. OSError
        where it cannot be looked at.
        """

    def create_plex(self, path: str, length: int) -> Backing:
        """A new sparse file of ``length`` zero bytes, mode 0600, locked; ``plex_exists`` if something is there."""

    def open_plex(self, path: str, tail_bytes: int) -> Backing:
        """Open and lock an existing file or block device. ``tail_bytes`` is what a device keeps for its DCO: the
        usable length of a device is its size less ``tail_bytes``; it means nothing for a file.
        """

    def take_plex(self, path: str, tail_bytes: int, seen: Seen) -> Backing:
        """open_plex of what a look has seen there, to be a plex from now on: it must be that still
        (Refused('refused_in_use')), and a file becomes the daemon's own, mode 0600 (or Refused('refused_unsafe')).
        """

    def is_at(self, path: str, seen: Seen) -> bool:
        """Does ``path`` lead to that file or device? False where nobody can tell."""

    def tail_bytes(self, path: str) -> int | None:
        """The size of the DCO area that a block device carries already (from the locator in its last block); None
        for a file, or where there is none.
        """

    def create_dco(self, plex_path: str, dco_path: str | None, length: int, *, replace: bool = False) -> DcoFile:
        """A new, zeroed copy of the DCO for a plex: a file at ``dco_path``, or ``plex_path + ".dco"``. What is there
        and not empty is Refused('refused_has_data'), unless ``replace``: it is that plex's, or it was asked for. For a
        block device without ``dco_path`` the ``length`` bytes before the device's last block, which becomes the locator
        (so its tail takes ``length + LOCATOR_BYTES``).
        """

    def open_dco(self, plex_path: str, dco_path: str | None) -> DcoFile | None:
        """The travelling copy that is there; None where there is none."""

    def clone_plex(self, source: str, target: str) -> None:
        """A new file that shares the blocks of a plex file. OSError where the file system cannot do that."""

    def rename_home(self, name: str, new: str) -> None:
        """The home copy of a family whose original went."""

    def freezer(self, mountpoint: str) -> Freezer:
        """For a mounted file system; nothing is frozen yet."""

    def homes(self) -> list[str]:
        """Names of the home copies in the state directory, sorted."""

    def open_home(self, name: str) -> DcoFile:
        """The home copy of that name; ``home_missing`` if there is none."""

    def create_home(self, name: str, length: int) -> DcoFile:
        """A new, zeroed home copy, not yet under its name: it counts for nothing until publish_home."""

    def publish_home(self, name: str) -> None:
        """Give the home copy made by create_home its name, durably: rename, then fsync of the directory."""

    def remove_home(self, name: str) -> None:
        """Forget it, durably."""

    def open_checksums(self, volume: str, *, make: bool) -> Notes | None:
        """What verify knows of a volume (NAME.sums in the state directory); None where there is none to be opened."""

    def remove_checksums(self, volume: str) -> None:
        """Durably, if they are there."""

    def remove_dco(self, plex_path: str, dco_path: str | None) -> None:
        """Remove a sidecar, or wipe the area at a device's tail (its locator), durably. Missing: nothing to do."""

    def remove_plex(self, path: str) -> None:
        """Remove a plex file; a block device is left as it is."""
