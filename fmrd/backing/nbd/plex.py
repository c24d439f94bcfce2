"""A plex is an export of an NBD server, raw from byte 0. It has no page cache, no stamp of time, and no lock but what
the server's own limit is.
"""

import contextlib
import errno
import zlib
from collections.abc import Sequence
from functools import partial

from fmrd.backing.calls.reach import Standing
from fmrd.backing.calls.system_calls import Began
from fmrd.backing.nbd import copying
from fmrd.backing.nbd.line import Line
from fmrd.backing.nbd.requests import Asked
from fmrd.backing.nbd.speaking.replies import Request
from fmrd.backing.nbd.waiting import worst_of
from fmrd.backing.protocol import Backing
from fmrd.core.stamps import Piece, Stamp, Sum


class NbdPlex(Asked):
    """This is protocol.Backing for an export, or an image (backing/rbd). Blocking methods are for worker threads,
    ``begin_...`` for trio's. The last ``tail_bytes`` are its DCO's.
    """

    is_block = True
    inline = False

    def __init__(self, path: str, session: Line, tail_bytes: int) -> None:
        super().__init__(session)
        self.path = path
        self.length = max(0, session.export.size - tail_bytes)
        self.disk = session.uri.disk
        self._closed = False

    @property
    def begins(self) -> bool:
        return self.session.begins

    @property
    def standing(self) -> Standing:
        """Return how the session stands; from any thread."""
        lost, trips = self.session.lost, sorted(self.session.round_trips.copy())
        why = "" if lost is None else lost.strerror or str(lost)
        if not trips:
            return Standing(why, None, None)
        return Standing(why, trips[len(trips) // 2], trips[len(trips) * 99 // 100])

    @property
    def patience_seconds(self) -> float:
        return self.session.patience_seconds

    @patience_seconds.setter
    def patience_seconds(self, seconds: float) -> None:
        self.session.be_patient(seconds)

    def pread(self, offset: int, length: int) -> bytes:
        buffer = bytearray(length)
        self.pread_into(offset, memoryview(buffer))
        return bytes(buffer)

    def pread_there(self, offset: int, length: int) -> bytes:
        return self.pread(offset, length)

    def pread_into(self, offset: int, buffer: memoryview) -> None:
        self.session.carry_out(self.reads(offset, buffer))

    def pwrite_now(self, offset: int, data: bytes | memoryview) -> bool | None:
        return None

    def pread_now(self, offset: int, buffer: memoryview) -> bool:
        return False

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        self.session.carry_out(self.writes(offset, data))

    def begin_pwrite(self, offset: int, data: bytes | memoryview, ended: Began) -> None:
        """Write as pwrite does."""
        self._begin(self.writes(offset, data), ended)

    def begin_pwrites(self, parts: Sequence[tuple[int, bytes | memoryview]], ended: Began) -> None:
        """As begin_pwrite, of several: they go out together."""
        self._begin([request for offset, data in parts for request in self.writes(offset, data)], ended)

    def begin_pread_into(self, offset: int, buffer: memoryview, ended: Began) -> None:
        """As pread_into."""
        self._begin(self.reads(offset, buffer), ended)

    def begin_fdatasync(self, ended: Began) -> None:
        """As fdatasync."""
        self._begin([self.flush()], ended)

    def make_zero(self, offset: int, length: int, *, punch: bool) -> None:
        for requests in copying.in_flight(self.zeros(offset, length, punch=punch)):
            self.session.carry_out(requests)

    def data_until(self, offset: int, stop: int) -> tuple[bool, int]:
        start, end, is_data = self.segments(offset, stop)[0]
        assert start == offset
        return is_data, end

    def is_known_data(self, offset: int, stop: int) -> bool:
        return False

    def fdatasync(self) -> None:
        self.session.carry_out([self.flush()])

    def fsync(self) -> None:
        self.fdatasync()

    def copy_from(self, source: Backing, offset: int, length: int) -> int:
        return self.copy_spans(source, [(offset, offset + length)])

    def copy_spans(self, source: Backing, spans: Sequence[tuple[int, int]]) -> int:
        return copying.send(source, self, spans)

    def extend(self, length: int) -> None:
        if self.length < length:
            raise OSError(errno.ENOSPC, f"{self.path} has {self.length} usable bytes, {length} are needed")

    def stamp(self, pieces: Sequence[Piece] = ()) -> Stamp:
        content: list[Sum] = []
        with contextlib.suppress(OSError):
            for offset, length in pieces:
                content.append(Sum(offset, length, zlib.crc32(self.pread(offset, length))))
        return Stamp(0, 0, 0, content=tuple(content))

    def hang_up(self) -> None:
        self.session.hang_up()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.session.let_go(plex=True)

    def _begin(self, requests: Sequence[Request], ended: Began) -> None:
        """``ended`` hears of all of them at once."""
        if not requests:
            ended(None)
        elif len(requests) == 1:
            requests[0].ended = ended
        else:
            errors: list[Exception | None] = []
            for request in requests:
                request.ended = partial(_one, errors, len(requests), ended)
        self.session.begin_all(requests)


def _one(errors: list[Exception | None], count: int, ended: Began, error: Exception | None) -> None:
    errors.append(error)
    if len(errors) == count:
        ended(worst_of(errors))
