"""The real host with trouble on order: files that fail, hang or are watched, by path.

Every operation on a plex or a copy of the DCO is shown to the hooks before it is done. A hook may raise, which is the
operation's error, or block, which is a disk that hangs. Nothing is faked: what no hook stops reaches the real file.
"""

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fmrd.backing.calls.reach import Standing
from fmrd.backing.calls.system_calls import Began
from fmrd.backing.host import LinuxHost
from fmrd.backing.protocol import Backing, DcoFile, Seen, SourceError
from fmrd.core.stamps import Piece, Stamp


@dataclass(frozen=True)
class Operation:
    """``name``: pread, pwrite, fdatasync, copy_from, stamp, look (at its content), close, dco_read, dco_write,
    dco_close, open, remove, hang_up, store_files. Offset and length in bytes.
    """

    path: str
    name: str
    offset: int = 0
    length: int = 0


Hook = Callable[[Operation], None]
FENCES: dict[str, str] = {}
"""Paths that prove, by being opened anew, that an earlier session is over (Reach.fence)."""


@dataclass
class Watch:
    """The hooks, and what has been done so far."""

    hooks: list[Hook] = field(default_factory=list)
    log: list[Operation] = field(default_factory=list)
    caches: bool = False
    """What is in the page cache is read from there, which nothing meets."""

    def __call__(self, operation: Operation) -> None:
        self.log.append(operation)
        for hook in list(self.hooks):
            hook(operation)

    def seen(self, name: str, path: object = None) -> list[Operation]:
        return [o for o in self.log if o.name == name and path in (None, o.path)]


class FaultyBacking:
    inline = False
    begins = False

    def __init__(self, inner: Backing, watch: Watch) -> None:
        self.inner = inner
        self.path = inner.path
        self.is_block = inner.is_block
        self.disk = inner.disk
        self.far = inner.far
        self.fence = FENCES.get(self.path, inner.fence)
        self.patience_seconds = inner.patience_seconds
        self._watch = watch

    @property
    def length(self) -> int:
        return self.inner.length

    def pread(self, offset: int, length: int) -> bytes:
        self._watch(Operation(self.path, "pread", offset, length))
        return self.inner.pread(offset, length)

    def pread_there(self, offset: int, length: int) -> bytes:
        return self.pread(offset, length)

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._watch(Operation(self.path, "pwrite", offset, len(data)))
        self.inner.pwrite(offset, data)

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        buffer[:] = self.pread(offset, len(buffer))

    def pwrite_now(self, offset: int, data: bytes | memoryview) -> bool | None:
        return None

    def pread_now(self, offset: int, buffer: memoryview) -> bool:
        return self._watch.caches and self.inner.pread_now(offset, buffer)

    def begin_pwrite(self, offset: int, data: bytes | memoryview, ended: Began) -> None:
        raise AssertionError("calls are run here, by whatever runs calls")

    def begin_pwrites(self, parts: Sequence[tuple[int, bytes | memoryview]], ended: Began) -> None:
        raise AssertionError("calls are run here, by whatever runs calls")

    def begin_fdatasync(self, ended: Began) -> None:
        raise AssertionError("calls are run here, by whatever runs calls")

    def begin_pread_into(self, offset: int, buffer: memoryview, ended: Began) -> None:
        raise AssertionError("calls are run here, by whatever runs calls")

    def make_zero(self, offset: int, length: int, *, punch: bool) -> None:
        self._watch(Operation(self.path, "make_zero", offset, length))
        self.inner.make_zero(offset, length, punch=punch)

    def data_until(self, offset: int, stop: int) -> tuple[bool, int]:
        return self.inner.data_until(offset, stop)

    def is_known_data(self, offset: int, stop: int) -> bool:
        return self.inner.is_known_data(offset, stop)

    def fdatasync(self) -> None:
        self._watch(Operation(self.path, "fdatasync"))
        self.inner.fdatasync()

    def fsync(self) -> None:
        self._watch(Operation(self.path, "fdatasync"))
        self.inner.fsync()

    def copy_from(self, source: Backing, offset: int, length: int) -> int:
        assert isinstance(source, FaultyBacking)
        try:
            self._watch(Operation(source.path, "pread", offset, length))
        except OSError as error:
            raise SourceError(error) from error
        self._watch(Operation(self.path, "copy_from", offset, length))
        return self.inner.copy_from(source.inner, offset, length)

    def copy_spans(self, source: Backing, spans: Sequence[tuple[int, int]]) -> int:
        return sum(self.copy_from(source, start, stop - start) for start, stop in spans)

    def extend(self, length: int) -> None:
        self.inner.extend(length)

    def stamp(self, pieces: Sequence[Piece] = ()) -> Stamp:
        self._watch(Operation(self.path, "stamp"))
        try:
            self._watch(Operation(self.path, "look"))
        except OSError:
            pieces = ()
        return self.inner.stamp(pieces)

    @property
    def standing(self) -> Standing | None:
        return self.inner.standing

    def hang_up(self) -> None:
        self._watch(Operation(self.path, "hang_up"))
        self.inner.hang_up()

    def close(self) -> None:
        self._watch(Operation(self.path, "close"))
        self.inner.close()


class FaultyDco:
    def __init__(self, inner: DcoFile, watch: Watch) -> None:
        self.inner = inner
        self.path = inner.path
        self.far = inner.far
        self.fence = FENCES.get(self.path, inner.fence)
        self._watch = watch

    @property
    def length(self) -> int:
        return self.inner.length

    @property
    def tail(self) -> int | None:
        return self.inner.tail

    def read(self, offset: int, length: int) -> bytes:
        self._watch(Operation(self.path, "dco_read", offset, length))
        return self.inner.read(offset, length)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self._watch(Operation(self.path, "dco_write", offset, len(data)))
        self.inner.write(offset, data)

    def extend(self, length: int) -> None:
        self.inner.extend(length)

    def reserve(self, length: int, spans: Sequence[tuple[int, int]]) -> None:
        self.inner.reserve(length, spans)

    def hang_up(self) -> None:
        self.inner.hang_up()

    def close(self) -> None:
        self._watch(Operation(self.path, "dco_close"))
        self.inner.close()


class FaultyHost(LinuxHost):
    """``power_off`` closes whatever is open, as the end of a process would."""

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self.watch = Watch()
        self._open: list[FaultyBacking | FaultyDco] = []

    def power_off(self) -> None:
        for each in self._open:
            each.inner.close()
        self._open.clear()

    def _backing(self, inner: Backing) -> FaultyBacking:
        self._open.append(FaultyBacking(inner, self.watch))
        return self._open[-1]  # type: ignore[return-value]  # it was just put there

    def _dco(self, inner: DcoFile) -> FaultyDco:
        self._open.append(FaultyDco(inner, self.watch))
        return self._open[-1]  # type: ignore[return-value]  # it was just put there

    def create_plex(self, path: str, length: int) -> FaultyBacking:  # type: ignore[override]  # wraps what it returns
        return self._backing(super().create_plex(path, length))

    def open_plex(self, path: str, tail_bytes: int) -> FaultyBacking:  # type: ignore[override]  # as above
        self.watch(Operation(path, "open"))
        return self._backing(super().open_plex(path, tail_bytes))

    def remove_plex(self, path: str) -> None:
        self.watch(Operation(path, "remove"))
        super().remove_plex(path)

    def store_files(self, directory: str) -> dict[str, int]:
        self.watch(Operation(directory, "store_files"))
        return super().store_files(directory)

    def take_plex(self, path: str, tail_bytes: int, seen: Seen) -> FaultyBacking:  # type: ignore[override]  # as above
        return self._backing(super().take_plex(path, tail_bytes, seen))

    def create_dco(  # type: ignore[override]  # as above
        self, plex_path: str, dco_path: str | None, length: int, *, replace: bool = False
    ) -> FaultyDco:
        return self._dco(super().create_dco(plex_path, dco_path, length, replace=replace))

    def open_dco(self, plex_path: str, dco_path: str | None, known: int | None = None) -> FaultyDco | None:  # type: ignore[override]  # as above
        found = super().open_dco(plex_path, dco_path, known)
        return None if found is None else self._dco(found)

    def open_home(self, name: str) -> FaultyDco:  # type: ignore[override]  # as above
        return self._dco(super().open_home(name))

    def create_home(self, name: str, length: int) -> FaultyDco:  # type: ignore[override]  # as above
        return self._dco(super().create_home(name, length))

    # Trouble

    @contextmanager
    def failing(self, path: object, *names: str, code: int = errno.EIO, within: range | None = None) -> Iterator[None]:
        """These operations fail on this path, where they touch the bytes ``within``."""

        def hook(o: Operation) -> None:
            if o.path == str(path) and o.name in names and (within is None or _meets(o, within)):
                raise OSError(code, os.strerror(code), o.path)

        self.watch.hooks.append(hook)
        try:
            yield
        finally:
            self.watch.hooks.remove(hook)

    @contextmanager
    def hanging(
        self, path: object, *names: str, within: range | None = None, first_only: bool = False
    ) -> Iterator["Hang"]:
        """These operations do not return before the block ends, or ``let_go`` is called."""
        hang = Hang()

        def hook(o: Operation) -> None:
            if first_only and hang.waiting:
                return
            if o.path == str(path) and o.name in names and (within is None or _meets(o, within)):
                hang.wait()

        self.watch.hooks.append(hook)
        try:
            yield hang
        finally:
            self.watch.hooks.remove(hook)
            hang.let_go()


class Hang:
    """A disk that does not answer. ``waiting`` counts the calls that it holds."""

    def __init__(self) -> None:
        self.waiting = 0
        self._let_go = threading.Event()

    def wait(self) -> None:
        self.waiting += 1
        assert self._let_go.wait(60), "nobody let go of the disk"

    def let_go(self) -> None:
        self._let_go.set()


def _meets(o: Operation, within: range) -> bool:
    return o.offset < within.stop and within.start < o.offset + o.length
