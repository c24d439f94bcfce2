"""Replies of a server become the ends of requests. No I/O: whoever receives asks ``room`` where bytes go, and says
``took`` how many came.

Data of a read goes to where the request wants it, without a copy where it is long. Everything is checked against the
request that it claims to answer; what fits none is Malformed, and the session is over.
"""

import errno
import os
from collections.abc import Callable, Generator

from fmrd.backing.nbd.speaking import abi
from fmrd.backing.nbd.speaking.negotiation import Malformed
from fmrd.core.printable import printable
from fmrd.errors import Answered

STAGE_BYTES = 64 << 10
DIRECT_BYTES = 4096
"""From here on a rest of data is received in place."""
MOST_MESSAGE_BYTES = 4096
MOST_STATUS_BYTES = 2 << 20

Ended = Callable[[Exception | None], None]


class Request:
    """A request of that ``command`` on [offset, offset + length) in bytes; ``ended`` is told once. ``data``: what a
    write carries, ``buffer``: where a read goes. Both stay as they are until then.
    """

    __slots__ = ("begun", "buffer", "chunks", "command", "cookie", "covered", "data", "ended", "error", "extents",
                 "flags", "length", "mark", "offset")  # fmt: skip

    def __init__(
        self, command: int, offset: int, length: int, ended: Ended, *, flags: int = 0,
        data: bytes | bytearray | memoryview | None = None, buffer: memoryview | None = None,
    ) -> None:  # fmt: skip
        self.command = command
        self.flags = flags
        self.offset = offset
        self.length = length
        self.data = data
        self.buffer = buffer
        self.ended = ended
        self.cookie = 0
        self.begun = 0.0
        self.mark = 0
        """How many bytes the session had taken to be sent when this request was among them."""
        self.chunks = 0
        self.covered: list[tuple[int, int]] = []
        self.extents: list[tuple[int, bool]] = []
        """(length, whether it reads as zeros), as a question for holes is answered."""
        self.error: Exception | None = None


Over = tuple[Request, Exception | None]


class Replies:
    """Replies to ``requests``, by cookie: those under way. ``structured`` and ``context`` were negotiated."""

    def __init__(self, requests: dict[int, Request], *, structured: bool, context: int | None) -> None:
        self._requests = requests
        self._structured = structured
        self._context = context
        self._stage = memoryview(bytearray(STAGE_BYTES))
        self._from = self._to = 0
        self._over: list[Over] = []
        self._parser = self._parse()
        self._want: int | memoryview = next(self._parser)

    def room(self) -> memoryview:
        """Return where the next bytes go."""
        want = self._want
        if self._from == self._to and isinstance(want, memoryview) and len(want) >= DIRECT_BYTES:
            return want
        if self._from == self._to:
            self._from = self._to = 0
        elif STAGE_BYTES - self._to < DIRECT_BYTES:
            left = self._to - self._from
            self._stage[:left] = bytes(self._stage[self._from : self._to])
            self._from, self._to = 0, left
        return self._stage[self._to :]

    def took(self, count: int) -> None:
        """So many bytes came there; ``over`` tells which requests have ended by them. Malformed."""
        want = self._want
        if self._from == self._to and isinstance(want, memoryview) and len(want) >= DIRECT_BYTES:
            self._filled(want, count)
        else:
            self._to += count
        while True:
            want = self._want
            have = self._to - self._from
            if isinstance(want, int):
                if have < want:
                    break
                piece = bytes(self._stage[self._from : self._from + want])
                self._from += want
                self._want = self._parser.send(piece)
            else:
                if not have:
                    break
                size = min(have, len(want))
                want[:size] = self._stage[self._from : self._from + size]
                self._from += size
                self._filled(want, size)

    def over(self) -> list[Over]:
        """Return the requests that have ended since this was asked last, whatever came after them."""
        over, self._over = self._over, []
        return over

    def _filled(self, want: memoryview, count: int) -> None:
        self._want = want[count:] if count < len(want) else self._parser.send(b"")

    def _parse(self) -> Generator[int | memoryview, bytes, None]:
        while True:
            head = yield abi.SIMPLE.size
            magic, error, cookie = abi.SIMPLE.unpack(head)
            if magic == abi.SIMPLE_MAGIC:
                request = self._of(cookie)
                if error:
                    self._end(request, answered(request, error, b""))
                elif request.command == abi.BLOCK_STATUS or (self._structured and request.command == abi.READ):
                    raise Malformed(f"a simple answer to a {abi.COMMANDS[request.command]}")
                else:
                    if request.command == abi.READ and request.buffer is not None:
                        yield request.buffer
                    self._end(request, None)
            elif magic == abi.CHUNK_MAGIC and self._structured:
                head += yield abi.CHUNK.size - abi.SIMPLE.size
                _, flags, kind, cookie, length = abi.CHUNK.unpack(head)
                request = self._of(cookie)
                request.chunks += 1
                if request.chunks > request.length // 512 + 64:
                    raise Malformed("an answer in far too many pieces")
                yield from self._chunk(request, kind, length)
                if flags & abi.DONE:
                    self._finish(request)
                elif kind == abi.NONE:
                    raise Malformed("an empty piece that is not the last one")
            else:
                raise Malformed("what came is the beginning of no answer")

    def _of(self, cookie: int) -> Request:
        request = self._requests.get(cookie)
        if request is None:
            raise Malformed("an answer to nothing that was asked")
        return request

    def _end(self, request: Request, error: Exception | None) -> None:
        del self._requests[request.cookie]
        self._over.append((request, error))

    def _finish(self, request: Request) -> None:
        if request.error is None and request.command == abi.READ:
            at = request.offset
            for start, stop in sorted(request.covered):
                if start != at:
                    raise Malformed("pieces of a read that overlap, or leave something out")
                at = stop
            if at != request.offset + request.length:
                raise Malformed("a read that ends too early")
        if request.error is None and request.command == abi.BLOCK_STATUS and not request.extents:
            raise Malformed("no answer to a question for holes")
        self._end(request, request.error)

    def _chunk(self, request: Request, kind: int, length: int) -> Generator[int | memoryview, bytes, None]:
        if kind == abi.NONE:
            if length:
                raise Malformed("an empty piece of some length")
        elif kind == abi.OFFSET_DATA:
            if length <= 8:
                raise Malformed("a piece of data without data")
            offset = int.from_bytes((yield 8), "big")
            view = self._place(request, offset, length - 8)
            yield view
        elif kind == abi.OFFSET_HOLE:
            if length != abi.HOLE.size:
                raise Malformed("a hole of another form")
            offset, size = abi.HOLE.unpack((yield abi.HOLE.size))
            view = self._place(request, offset, size)
            view[:] = bytes(size)
        elif kind == abi.STATUS:
            yield from self._status(request, length)
        elif kind & abi.IS_ERROR:
            yield from self._failure(request, kind, length)
        else:
            raise Malformed(f"a piece of kind {kind}")

    def _place(self, request: Request, offset: int, size: int) -> memoryview:
        """Where these bytes of a read belong."""
        at = offset - request.offset
        if request.command != abi.READ or request.buffer is None or not size or at < 0 or at + size > request.length:
            raise Malformed("data that nobody asked for")
        request.covered.append((offset, offset + size))
        return request.buffer[at : at + size]

    def _status(self, request: Request, length: int) -> Generator[int | memoryview, bytes, None]:
        count, rest = divmod(length - 4, abi.EXTENT.size)
        if request.command != abi.BLOCK_STATUS or request.extents or rest or not 0 < length <= MOST_STATUS_BYTES:
            raise Malformed("holes that nobody asked for")
        if count < 1:
            raise Malformed("no answer to a question for holes")
        if int.from_bytes((yield 4), "big") != self._context:
            raise Malformed("holes of something that was not asked for")
        body = bytearray(count * abi.EXTENT.size)
        yield memoryview(body)
        for size, flags in abi.EXTENT.iter_unpack(body):
            if not size:
                raise Malformed("a hole of no length")
            request.extents.append((size, bool(flags & abi.EXTENT_ZERO)))

    def _failure(self, request: Request, kind: int, length: int) -> Generator[int | memoryview, bytes, None]:
        if length < abi.FAILURE.size or length > MOST_MESSAGE_BYTES + 64:
            raise Malformed("an error of another form")
        error, size = abi.FAILURE.unpack((yield abi.FAILURE.size))
        behind = length - abi.FAILURE.size - size
        if not error or behind < 0 or behind != {abi.ERROR: 0, abi.ERROR_OFFSET: 8}.get(kind, behind):
            raise Malformed("an error of another form")
        message = (yield size) if size else b""
        if behind:
            yield behind
        request.error = request.error or answered(request, error, message)


def answered(request: Request, error: int, message: bytes) -> Answered:
    """What the server said of a request that failed there."""
    number = abi.ERRORS.get(error, errno.EIO)
    words = f": {printable(message.decode('utf-8', 'replace'))}" if message else ""
    what = f"{abi.COMMANDS[request.command]} at {request.offset}"
    return Answered(number, f"{os.strerror(number)}, says the server of a {what}{words}")
