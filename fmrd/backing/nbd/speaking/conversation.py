"""A conversation is what is under way on one connection to an export: requests are begun, what comes is received, ends
are told. It is one thread's at a time, and never blocks.
"""

import contextlib
import errno
import logging
from collections import deque
from collections.abc import Callable, Sequence

from fmrd.backing.nbd.speaking import abi, opening
from fmrd.backing.nbd.speaking.opening import Opened
from fmrd.backing.nbd.speaking.replies import Replies, Request
from fmrd.core.far.uris import NbdUri

log = logging.getLogger(__name__)

ROUNDS = 16
"""So often it is received from before others have their turn."""
SAMPLES = 256
SHORT_BYTES = 64 << 10
"""Requests up to this tell how long a round trip takes."""


class Lost(ConnectionError):
    """The session is over, and its server did not answer."""


class Conversation:
    """A conversation on ``uri``; ``now`` gives seconds."""

    def __init__(self, uri: NbdUri, opened: Opened, now: Callable[[], float]) -> None:
        self.uri = uri
        self.export = opened.export
        self.opening_seconds = opened.seconds
        self.round_trips: deque[float] = deque(maxlen=SAMPLES)
        """In seconds, the latest of short requests."""
        self.lost: Lost | None = None
        """Why it is over, once it is."""
        self.peer: object = None
        """The address of the server, however it was named; by TCP alone, for a socket's path is the server's own."""
        self.heard = 0.0
        """When something came last."""
        self._now = now
        self._channel = opened.channel
        if uri.host and not uri.path:
            with contextlib.suppress(OSError):  # it is lost, which is told later
                self.peer = opened.channel.socket.getpeername()
        self._requests: dict[int, Request] = {}
        export = opened.export
        self._replies = Replies(self._requests, structured=export.structured, context=export.context)
        self._cookie = 0

    def begin(self, request: Request) -> None:
        """Send it; its end is told later, or in this step. Raises nothing."""
        self.begin_all((request,))

    def begin_all(self, requests: Sequence[Request]) -> None:
        """The same of several, which go out together."""
        for request in requests:
            if self.lost is not None:
                request.ended(Lost(*self.lost.args))
                continue
            try:
                self._push(request)
            except OSError as error:
                self.lose(error)
        try:
            if self.lost is None and not self._channel.flush():
                self.must_send()
        except OSError as error:
            self.lose(error)

    def _push(self, request: Request) -> None:
        self._cookie += 1
        request.cookie = self._cookie
        request.begun = self._now()
        self._requests[self._cookie] = request
        channel = self._channel
        head = abi.REQUEST.pack(
            abi.REQUEST_MAGIC, request.flags, request.command, self._cookie, request.offset, request.length
        )
        if request.data is None:
            channel.push(head)
        else:
            channel.push(head, request.data)
        request.mark = channel.taken

    def must_send(self) -> None:
        """The socket did not take all of it."""

    def take(self) -> bool:
        """Receive what is there, and tell of what has ended; return whether there may be more. OSError where all is
        lost by that.
        """
        for _ in range(ROUNDS):
            if self.lost is not None:
                return False
            room = self._replies.room()
            try:
                count = self._channel.receive(room)
            except BlockingIOError:
                return False
            if not count:
                raise ConnectionResetError(errno.ECONNRESET, "the server ended the connection")
            try:
                self._replies.took(count)
            finally:
                self._tell()
            if count < len(room) and self._channel.drains:
                return False
        return True

    def _tell(self) -> None:
        self.heard = now = self._now()
        for request, error in self._replies.over():
            told = error
            if self._channel.sent < request.mark and self.lost is None:
                self.end(errno.EPROTO, "a request was answered that was not sent yet")
                told = self.lost
            elif request.length <= SHORT_BYTES and error is None:
                self.round_trips.append(now - request.begun)
            request.ended(told)

    def lose(self, error: OSError) -> None:
        """That happened to it."""
        if self.lost is None:
            self.end(error.errno or errno.ECONNRESET, error.strerror or str(error))

    def end(self, number: int, why: str) -> None:
        """With a reset: what this kernel has not sent yet is dropped. ``fail_all`` tells those who wait."""
        self.lost = Lost(number, f"{self.uri}: the session with {self.uri.server} is lost: {why}")
        log.warning("%s", self.lost.strerror)
        self._channel.drop()
        self._channel.reset_on_close(reset=True)
        self.leaving()
        self._channel.close()

    def part(self) -> None:
        """In order: say that nobody asks for more; the server ends the connection then."""
        if self._requests:
            self.end(errno.ECONNABORTED, "it was closed with requests under way")
            return
        self.lost = Lost(errno.ESHUTDOWN, f"{self.uri}: this session was closed")
        self.leaving()
        opening.close(self._channel)

    def leaving(self) -> None:
        """The socket is about to be closed."""

    def fail_all(self) -> None:
        """What was under way ends, and nobody knows how."""
        assert self.lost is not None, "it is over"
        while self._requests:
            _, request = self._requests.popitem()
            request.ended(Lost(*self.lost.args))
