"""The rest of fmrd asks these of storage: a few small protocols, and nothing about how they are met.

``Backing`` is the data of one plex, ``DcoFile`` one copy of the DCO, ``Host`` the machine they lie on. All methods
block and may be called from any thread, so the engine calls them off trio's thread (calls/system_calls.py), or where it
knows that they cannot block. Failures of a device are ``OSError``, failures of a request ``FmrdError``. The real ones
live beside this module; the simulation brings its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fmrd.backing.calls.reach import Reach, Reached
from fmrd.backing.looking.findings import Finding, Kind, Place, Seen
from fmrd.backing.looking.trying import Room
from fmrd.backing.owning.notes import Notes
from fmrd.backing.owning.store_files import StoreFiles
from fmrd.core.stamps import Piece, Stamp
from fmrd.errors import SourceError

if TYPE_CHECKING:  # fmrctl knows this module, and has no use for trio, which takes a fifth of its start
    from fmrd.backing.calls.system_calls import Began

__all__ = [
    "DCO_BLOCK_BYTES", "LOCATOR_BYTES", "Backing", "DcoFile", "Finding", "Host", "Kind", "Notes", "Place", "Probe",
    "Reach", "Room", "Seen", "SourceError", "Stamp",
]  # fmt: skip

DCO_BLOCK_BYTES = 4096
"""The unit of every DCO write: offset and length are multiples of it."""

LOCATOR_BYTES = 4096
"""A block device's last block says where its DCO area begins: its tail is the area and this block."""


@dataclass(frozen=True)
class Probe:
    """This is what lies at a path, seen without opening it to write. ``size`` is bytes, of a device all it has."""

    exists: bool
    is_block: bool = False
    size: int = 0


class Backing(Reached, Protocol):
    """A backing is the raw data of one plex, open and locked. Offsets and lengths are bytes, from byte 0 of it."""

    path: str
    is_block: bool
    length: int
    """How many bytes are usable: a file's size; a block device's size without the DCO area at its tail."""
    disk: str
    """The disk it lies on, as far as the system tells; copies to one disk take turns."""
    inline: bool
    """It lies in memory (tmpfs) and never blocks, so a thread hop would only cost."""

    def pread(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes; a short read is OSError(EIO)."""

    def pread_there(self, offset: int, length: int) -> bytes:
        """Read as pread does, but past a page cache, which may show what the far side does not have."""

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        """Fill all of ``buffer``; a short read is OSError(EIO)."""

    def pread_now(self, offset: int, buffer: memoryview) -> bool:
        """Fill all of ``buffer`` if no disk has to be waited for. Return False where one would be, and for any failure:
        what is in ``buffer`` then counts for nothing. It never blocks, so it is called on trio's thread.
        """

    def pwrite_now(self, offset: int, data: bytes | memoryview) -> bool | None:
        """The same of a pwrite; after False any part of it may be there. None: that cannot be told of this backing."""

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write all of ``data``, or raise OSError; after an error any part of it may have been written."""

    @property
    def begins(self) -> bool:
        """Tell whether these can be begun on trio's thread, so that no other waits for them (SystemCalls.begin)."""

    def begin_pwrite(self, offset: int, data: bytes | memoryview, ended: Began) -> None:
        """Begin a pwrite; ``ended`` is told of its end on that thread. ``data`` stays as it is until then."""

    def begin_pwrites(self, parts: Sequence[tuple[int, bytes | memoryview]], ended: Began) -> None:
        """The same of several, each (offset, data), told when all have ended."""

    def begin_fdatasync(self, ended: Began) -> None:
        """The same of an fdatasync, which covers what has ended by now."""

    def begin_pread_into(self, offset: int, buffer: memoryview, ended: Began) -> None:
        """The same of a pread_into. After a read that was given up, ``buffer`` may be filled yet."""

    def make_zero(self, offset: int, length: int, *, punch: bool) -> None:
        """Make zeros as pwrite would; with ``punch`` the blocks are given back where that can be."""

    def data_until(self, offset: int, stop: int) -> tuple[bool, int]:
        """Return whether there is data at ``offset`` or a hole, and up to where (``stop`` at most). All of a device is
        data, and all of a file whose file system cannot tell.
        """

    def is_known_data(self, offset: int, stop: int) -> bool:
        """Tell whether all of it is data, as far as is known without asking the file system; it never blocks."""

    def fdatasync(self) -> None:
        """Make durable what was written before this call began. After OSError some of it may be lost: told once."""

    def copy_from(self, source: Backing, offset: int, length: int) -> int:
        """Make [offset, offset + length) equal to ``source``'s; return the bytes really written (holes cost none).
        It shares no blocks with the source. An error of the source is ``SourceError``, one of this backing OSError.
        """

    def copy_spans(self, source: Backing, spans: Sequence[tuple[int, int]]) -> int:
        """Copy each [start, stop) in bytes, in order, as copy_from does. After an error any part may be copied."""

    def extend(self, length: int) -> None:
        """Grow to ``length`` usable bytes (a file, by sparse zeros). OSError(ENOSPC) for a device that is too short."""

    def fsync(self) -> None:
        """As fdatasync, and the time of change is durable, too."""

    def stamp(self, pieces: Sequence[Piece] = ()) -> Stamp:
        """How it looks now, with checksums of these pieces, read from the disk, up to one that cannot be read."""

    def close(self) -> None:
        """Give up the descriptors and the lock. It must not be called while a call is under way on another thread."""


class DcoFile(Reach, Protocol):
    """A DCO file is one copy of the DCO. Writes are of whole blocks, and durable at once."""

    path: str
    length: int
    tail: int | None
    """Of a device's area: where the locator lies by which it was found."""

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes; beyond the end they read as zeros."""

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write durably; ``offset`` and ``len(data)`` are multiples of DCO_BLOCK_BYTES. Beyond the end: ENOSPC."""

    def extend(self, length: int) -> None:
        """Preallocate zeros up to ``length`` bytes. A device's area cannot (ENOSPC); its locator follows a new end."""

    def reserve(self, length: int, spans: Sequence[tuple[int, int]]) -> None:
        """Become so long, and preallocate only these (offset, length); what was written there stays. ENOSPC."""

    def close(self) -> None:
        """Give up the descriptor."""


class Freezer(Protocol):
    """A freezer is one freeze of a mounted file system; both calls block."""

    def freeze(self) -> None:
        """Freeze it. OSError where it cannot be frozen, Refused('refused_freeze') where fmrd itself lies on it."""

    def thaw(self) -> None:
        """Thaw it; it is called also when nothing was frozen. OSError where it may still be frozen."""


class Host(StoreFiles, Protocol):
    """A host opens, makes and removes plexes and copies of the DCO. Expected failures are FmrdError with these codes:
    ``plex_missing``, ``plex_busy`` (locked by another owner), ``plex_exists``, ``not_a_plex`` (a directory, a
    socket...), ``plex_too_short``; everything else is OSError.
    """

    def probe(self, path: str) -> Probe:
        """Look at a path without touching it. OSError where even that fails; ``not_a_plex`` where it cannot be one."""

    def room(self, path: str) -> Room | None:
        """Of a plex's file; None of a device, or untold."""

    def look(self, path: str, mount: str | None, *, sidecar: bool = True) -> Seen:
        """What lies at a path before it is taken: who has it, what is on it, whether it leads back to ``mount``, fmrd's
        own (nothing there is opened); with ``sidecar`` also what lies where its copy of the DCO would be made. OSError.
        """

    def try_out(self, path: str, length: int, *, allocated: bool = False) -> None:
        """OSError where no file of so many bytes could be made, ``allocated`` or sparse, or what is there written."""

    def try_home(self, name: str, length: int) -> None:
        """The same of a home copy that would be made."""

    def try_clone(self, source: str, target: str) -> None:
        """OSError where ``clone_plex`` would fail; nothing is changed."""

    def create_plex(self, path: str, length: int) -> Backing:
        """Make a sparse file of ``length`` zero bytes, mode 0600, open and locked; ``plex_exists`` if it exists."""

    def open_plex(self, path: str, tail_bytes: int) -> Backing:
        """Open and lock a file or a block device, whose last ``tail_bytes`` (no file's) are its DCO's, not usable."""

    def take_plex(self, path: str, tail_bytes: int, seen: Seen) -> Backing:
        """open_plex of what a look has seen there, to be a plex from now on: it must be that still
        (Refused('refused_in_use')), and a file becomes the daemon's own, mode 0600 (or Refused('refused_unsafe')).
        """

    def is_at(self, path: str, seen: Seen) -> bool:
        """Does ``path`` lead to that file or device? False where nobody can tell."""

    def tail_bytes(self, path: str, known: int | None = None) -> int | None:
        """How far from a device's end the DCO area begins that it carries (locator.locate); None: it has none."""

    def create_dco(self, plex_path: str, dco_path: str | None, length: int, *, replace: bool = False) -> DcoFile:
        """A new, zeroed copy of the DCO for a plex: a file at ``dco_path``, or ``plex_path + ".dco"``. What is there
        and not empty is Refused('refused_has_data'), unless ``replace``: it is that plex's, or it was asked for. For a
        block device without ``dco_path`` the ``length`` bytes before the device's last block, which becomes the locator
        (so its tail takes ``length + LOCATOR_BYTES``).
        """

    def open_dco(self, plex_path: str, dco_path: str | None, known: int | None = None) -> DcoFile | None:
        """Return the travelling copy that is there (``known`` as above); None where there is none."""

    def clone_plex(self, source: str, target: str) -> None:
        """Make a new file that shares the blocks of a plex file. OSError where the file system cannot do that."""

    def rename_home(self, name: str, new: str) -> None:
        """Give the home copy of a family whose original went the name of another of its volumes, durably."""

    def freezer(self, mountpoint: str, needed: Mapping[str, str]) -> Freezer:
        """Return one for what may be frozen (else OSError, Refused). ``needed``: path -> what it is, of all plexes."""

    def homes(self) -> list[str]:
        """Return the names of the home copies in the state directory, sorted."""

    def open_home(self, name: str) -> DcoFile:
        """Return the home copy of that name; ``home_missing`` if there is none."""

    def create_home(self, name: str, length: int) -> DcoFile:
        """Return a new, zeroed home copy, not yet under its name: it counts for nothing until publish_home."""

    def publish_home(self, name: str) -> None:
        """Give the home copy made by create_home its name, durably: rename, then fsync of the directory."""

    def remove_home(self, name: str) -> None:
        """Forget a home copy, durably; one that is missing is no error."""

    def open_checksums(self, volume: str, *, make: bool) -> Notes | None:
        """Open what verify knows of a volume, NAME.sums in the state directory; None unless it is there, or made."""

    def remove_checksums(self, volume: str) -> None:
        """Remove what verify knows of a volume, durably, if it is there."""

    def remove_dco(self, plex_path: str, dco_path: str | None) -> None:
        """Remove a sidecar, or wipe the locator at a device's tail, durably; where nothing is, nothing is done."""

    def remove_plex(self, path: str) -> None:
        """Remove a plex file; a block device is left as it is, and one that is missing is no error."""
