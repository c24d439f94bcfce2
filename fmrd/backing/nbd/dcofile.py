"""A copy of the DCO on an NBD server: an export of its own, or the area at the tail of its plex's, as on a device. A
write is durable by FUA where the server has that, else by a flush behind it.
"""

import errno
from collections.abc import Sequence

from fmrd.backing import locator
from fmrd.backing.nbd.copying import in_flight
from fmrd.backing.nbd.line import Line
from fmrd.backing.nbd.requests import Asked
from fmrd.backing.protocol import DCO_BLOCK_BYTES, LOCATOR_BYTES
from fmrd.errors import Failed, Refused

CHUNK_BYTES = 1 << 20


class NbdDco(Asked):
    """This is protocol.DcoFile on a session. ``base`` is where it begins, ``tail`` where the locator lies that told."""

    def __init__(self, path: str, session: Line, base: int, length: int, tail: int | None = None) -> None:
        super().__init__(session)
        self.path = path
        self.length = length
        self.tail = tail
        self._base = base
        self._closed = False

    def read(self, offset: int, length: int) -> bytes:
        first = offset // DCO_BLOCK_BYTES * DCO_BLOCK_BYTES
        stop = min(-(-(offset + length) // DCO_BLOCK_BYTES) * DCO_BLOCK_BYTES, self.length)
        found = bytearray(max(0, stop - first))
        self.session.carry_out(self.reads(self._base + first, memoryview(found)))
        data = bytes(found[offset - first : offset - first + length])
        return data + bytes(length - len(data))

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        assert offset % DCO_BLOCK_BYTES == 0 and len(data) % DCO_BLOCK_BYTES == 0, "whole blocks"
        if offset + len(data) > self.length:
            raise OSError(errno.ENOSPC, f"{self.path} has no room at byte {offset} of its DCO")
        write_durably(self, self._base + offset, data)

    def extend(self, length: int) -> None:
        if self.tail is not None:
            self._follow()
        if length > self.length:
            raise OSError(errno.ENOSPC, f"the DCO on {self.path} has {self.length} bytes and cannot grow to {length}")

    def reserve(self, length: int, spans: Sequence[tuple[int, int]]) -> None:
        self.extend(length)

    def _follow(self) -> None:
        """The export became longer: its last block says where the area is, as everybody expects."""
        size = self.session.export.size
        if self.tail != locator.place(size):
            write_durably(self, locator.place(size), _block(locator.pack(self._base, self.length)))
            self.tail = locator.place(size)

    def hang_up(self) -> None:
        self.session.hang_up()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.session.let_go()


def write_durably(export: Asked, offset: int, data: bytes | bytearray | memoryview) -> None:
    """OSError where it may not be there."""
    export.session.carry_out(export.writes(offset, data, durably=export.has_fua))
    if not export.has_fua:
        export.session.carry_out([export.flush()])


def find_tail(session: Line, known: int | None = None) -> tuple[int, int, int] | None:
    """Return offset and length of the area, and where its locator lies (locator.locate)."""
    export = Asked(session)

    def read(offset: int, length: int) -> bytes:
        data = bytearray(length)
        session.carry_out(export.reads(offset, memoryview(data)))
        return bytes(data)

    return locator.find(read, session.export.size, known)


def create_tail(path: str, session: Line, length: int) -> NbdDco:
    """Zero the area before the last block, and write the locator into that. Failed('plex_too_short')."""
    size = session.export.size
    base = (size - LOCATOR_BYTES - length) // DCO_BLOCK_BYTES * DCO_BLOCK_BYTES
    if base < 0:
        raise Failed("plex_too_short", f"{path} has {size} bytes, less than a DCO of {length}")
    dco = NbdDco(path, session, base, length, locator.place(size))
    _zero(dco, base, length)
    write_durably(dco, locator.place(size), _block(locator.pack(base, length)))
    return dco


def create_whole(path: str, session: Line, length: int, *, replace: bool) -> NbdDco:
    """Take all of an export. What is there and not zeros is Refused('refused_has_data') unless ``replace``."""
    must_have(path, session, length)
    size = session.export.size // DCO_BLOCK_BYTES * DCO_BLOCK_BYTES
    dco = NbdDco(path, session, 0, size)
    if not replace and not _is_blank(dco, length):
        raise Refused("refused_has_data", f"the copy of the DCO would be {path}, which is not empty")
    _zero(dco, 0, length)
    return dco


def must_have(path: str, session: Line, length: int) -> None:
    """Failed('plex_too_short') where it has not so many bytes."""
    if session.export.size // DCO_BLOCK_BYTES * DCO_BLOCK_BYTES < length:
        raise Failed("plex_too_short", f"{path} has {session.export.size} bytes, the copy of the DCO needs {length}")


def wipe(session: Line, *, whole: bool) -> None:
    """Nobody takes it for a copy of the DCO any more: the locator goes, or what records begin with."""
    export = Asked(session)
    if not whole:
        if find_tail(session) is not None:
            write_durably(export, locator.place(session.export.size), bytes(LOCATOR_BYTES))
        return
    _zero(export, 0, min(CHUNK_BYTES, session.export.size // DCO_BLOCK_BYTES * DCO_BLOCK_BYTES))


def _is_blank(dco: NbdDco, length: int) -> bool:
    for start, stop, is_data in dco.all_segments(0, length):
        for at in range(start, stop if is_data else start, CHUNK_BYTES):
            if any(dco.read(at, min(CHUNK_BYTES, stop - at))):
                return False
    return True


def _zero(export: Asked, offset: int, length: int) -> None:
    for batch in in_flight(export.zeros(offset, length, punch=False)):
        export.session.carry_out(batch)
    export.session.carry_out([export.flush()])


def _block(content: bytes) -> bytes:
    return content + bytes(LOCATOR_BYTES - len(content))
