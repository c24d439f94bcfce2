"""A session is one connection to one export, from the agreement on it to its end, with many requests under way.

It lives on trio's thread: there requests are begun, what comes is received by a task of its own, and ends are told. A
worker thread hands its requests over to it and waits. Where no trio runs (fmrctl dump) whoever asks does it all.

Nothing is ever sent again. A session that is lost, given up, or silent for too long, is closed with a reset, so that
what this kernel still holds is dropped; all that was under way ends with an error that is no answer, and what the
server does with what it has nobody knows.
"""

import contextlib
import errno
import select
import threading
import time
from collections.abc import Sequence

import trio

from fmrd.backing.nbd.speaking import abi, dialing, opening
from fmrd.backing.nbd.speaking.conversation import Conversation, Lost
from fmrd.backing.nbd.speaking.opening import Opened
from fmrd.backing.nbd.speaking.replies import Request
from fmrd.backing.nbd.users import Users
from fmrd.backing.nbd.waiting import Waiting
from fmrd.core.far.uris import NbdUri

PATIENCE_SECONDS = 30.0
"""A request that is not answered for so long ends the session."""
HEARTBEATS = 3
"""So many in that time, where nothing else is asked."""
LOOKS = 12
"""So often in that time it is looked whether somebody waits too long."""
CLOSE_SECONDS = 2.0


class Session(Conversation):
    """A session on ``uri``. ``token``: of the trio that it lives in; None: of nobody. Requests may be handed to it on
    any thread by ``carry_out``, and on trio's by ``begin``.
    """

    def __init__(
        self, uri: NbdUri, opened: Opened, token: trio.lowlevel.TrioToken | None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:  # fmt: skip
        super().__init__(uri, opened, time.monotonic if token is None else trio.current_time)
        self.begins = token is not None
        self.users = Users()
        self.is_single = False
        """It was seen that a second client is kept out."""
        self.patience_seconds = patience_seconds
        self._token = token
        self._lock = threading.RLock()
        """Where no trio runs."""
        self._gone = threading.Event()
        self._scope = trio.CancelScope()
        self._more = trio.Event()
        """There is more to be sent than the socket took."""
        if token is not None:
            token.run_sync_soon(self._start)

    def own(self) -> None:
        """See that a server of which that is said keeps a second client out, once. Refused('not_fenced')."""
        if self.uri.fence == "single" and not self.is_single:
            opening.must_be_single(self.uri, self.opening_seconds)
            self.is_single = True

    def be_patient(self, seconds: float) -> None:
        """So long an answer may take; from any thread."""
        self.patience_seconds = seconds
        if self.uri.host and not self.uri.path:
            with contextlib.suppress(OSError):  # it is lost
                dialing.keep_alive(self._channel.socket, seconds)

    def carry_out(self, requests: Sequence[Request]) -> None:
        """Have them begun together, and return when all have ended; an error of them is raised (``worst_of``). On a
        worker thread.
        """
        if not requests:
            return
        waiting = Waiting(requests)
        if self._token is None:
            self._drive(requests, waiting)
        else:
            try:
                self._token.run_sync_soon(self.begin_all, requests)
            except trio.RunFinishedError:
                raise Lost(errno.ECONNABORTED, f"{self.uri}: fmrd ends") from None
        waiting.wait()

    def hang_up(self, why: str = "it was given up") -> None:
        """End it at once, on trio's thread. What was under way is told of it a little later."""
        if self.lost is None:
            self.end(errno.ECONNABORTED, why)

    def let_go(self, *, plex: bool = False, parks: bool = False) -> None:
        """One user less; the last one closes it, and returns when it is closed, on a worker thread. ``parks``: somebody
        will ask for it in a moment, or it closes by itself.
        """
        if not self.users.leave(plex=plex) or (parks and self._token is not None):
            return
        if self._token is None:
            with self._lock:
                self._part_if_unused()
            return
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._part_if_unused)
            self._gone.wait(CLOSE_SECONDS)

    def must_send(self) -> None:
        self._more.set()

    def leaving(self) -> None:
        if self._token is not None:
            trio.lowlevel.notify_closing(self._channel.socket)
            self._scope.cancel()

    def _start(self) -> None:
        self.heard = trio.current_time()
        trio.lowlevel.spawn_system_task(self._run)

    async def _run(self) -> None:
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._receive)
                    nursery.start_soon(self._send)
                    nursery.start_soon(self._watch)
        finally:
            if self.lost is None:
                self.end(errno.ECONNABORTED, "fmrd ends")
            self._gone.set()
            self.fail_all()

    async def _receive(self) -> None:
        more = False  # of what TLS has taken from the socket already, nobody is told
        while self.lost is None:
            with contextlib.suppress(trio.ClosedResourceError):
                if more:
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.lowlevel.wait_readable(self._channel.socket)
            try:
                more = self.take()
            except OSError as error:
                self.lose(error)

    async def _send(self) -> None:
        while self.lost is None:
            await self._more.wait()
            self._more = trio.Event()
            try:
                while self.lost is None and not self._channel.flush():
                    with contextlib.suppress(trio.ClosedResourceError):
                        await trio.lowlevel.wait_writable(self._channel.socket)
            except OSError as error:
                self.lose(error)

    async def _watch(self) -> None:
        """The clock is the daemon's, which stops while the daemon does."""
        while self.lost is None:
            await trio.sleep(self.patience_seconds / LOOKS)
            now = trio.current_time()
            if self.users.is_unused_again():
                self._part_if_unused()
            elif self._requests:
                oldest = next(iter(self._requests.values()))
                if now - oldest.begun >= self.patience_seconds:
                    self.end(errno.ETIMEDOUT, f"no answer within {self.patience_seconds:g} s")
            elif now - self.heard >= self.patience_seconds / HEARTBEATS and self.export.size:
                least = self.export.least
                self.begin(Request(abi.READ, 0, least, _nobody, buffer=memoryview(bytearray(least))))

    def _drive(self, requests: Sequence[Request], waiting: Waiting) -> None:
        with self._lock:
            self.begin_all(requests)
            poll = select.poll()
            more = False
            while not waiting.is_over():
                if self.lost is not None:
                    self.fail_all()
                    return
                try:
                    sends = not self._channel.flush()
                    poll.register(self._channel.socket, select.POLLIN | (select.POLLOUT if sends else 0))
                    if not more and not poll.poll(1000 * self.patience_seconds):
                        raise TimeoutError(errno.ETIMEDOUT, f"no answer within {self.patience_seconds:g} s")
                    more = self.take()
                except OSError as error:
                    self.lose(error)

    def _part_if_unused(self) -> None:
        if self.lost is None and self.users.end():
            self.part()


def _nobody(error: Exception | None) -> None:
    """A heartbeat asks for itself."""
