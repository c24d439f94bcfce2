"""A session with an image: what an NBD server would be asked for, librbd is (its calls end by a callback).

It is as nbd/session.py is: nothing is sent again, a call that takes too long ends the session, and what was under way
then nobody knows, until the image is opened anew and its lock taken. It lives on trio's thread; where no trio runs, on
that of whoever asks, and on librbd's.
"""

import contextlib
import errno
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence

import trio

from fmrd.backing.nbd.speaking import abi
from fmrd.backing.nbd.speaking.negotiation import Export
from fmrd.backing.nbd.speaking.replies import Request
from fmrd.backing.nbd.users import Users
from fmrd.backing.nbd.waiting import Waiting
from fmrd.backing.rbd import owning
from fmrd.backing.rbd.calling import Calling
from fmrd.backing.rbd.image import Opened
from fmrd.backing.rbd.owning import CLOSE_SECONDS, Owners
from fmrd.core.far.images import ImageUri
from fmrd.errors import Answered, Failed

log = logging.getLogger(__name__)

MOST_BYTES = 4 << 20
"""No call is longer."""
HEARTBEATS, LOOKS = 3, 12
OWN_SECONDS = 10.0  # the exclusive lock is had, or refused
SAMPLES, SHORT_BYTES = 256, 64 << 10
ANSWERS = frozenset({errno.EIO, errno.EINVAL, errno.ENOSPC, errno.EDQUOT, errno.EPERM, errno.EACCES, errno.ENOENT})
"""The cluster's own word on a call, which is over by that. Any other error ends the session."""

WHY = {
    errno.ESHUTDOWN: "its lock was broken", errno.EROFS: "its lock is another one's",
    errno.ESTALE: "its image was made smaller", errno.ENOLCK: "its exclusive lock was disabled",
}  # fmt: skip


class Lost(ConnectionError):
    """The session is over, and nobody knows what became of the call."""


class RbdSession:
    """This is nbd.line.Line for an image. ``token``: of the trio that it lives in; None: of nobody."""

    def __init__(
        self, uri: ImageUri, opened: Opened, owners: Owners, token: trio.lowlevel.TrioToken | None,
        patience_seconds: float,
    ) -> None:  # fmt: skip
        self.uri = uri
        flags = abi.SEND_FLUSH | abi.SEND_FUA  # without a cache a write that has ended is durable
        flags |= abi.SEND_WRITE_ZEROES if hasattr(opened.image, "aio_write_zeroes") else 0
        self.export = Export(opened.size, flags, structured=False, context=None, most=MOST_BYTES)
        self.users = Users()
        self.begins = token is not None
        self.peer: object = opened.place
        self.patience_seconds = patience_seconds
        self.round_trips: deque[float] = deque(maxlen=SAMPLES)
        self.lost: Lost | None = None
        self._opened = opened
        self._owners = owners
        self.owner: str | None = None
        self._owning = threading.Lock()
        self._token = token
        self._lock = threading.RLock()  # where no trio runs
        self._now = time.monotonic if token is None else trio.current_time
        self._heard = 0.0
        self._requests: dict[int, Request] = {}
        self._cookie = 0
        self._calling = Calling(opened, lambda: self.lost is not None, self._ended)
        self.gone = self._calling.gone
        owners.add(self)
        if token is not None:
            token.run_sync_soon(self._start)

    def own(self) -> None:
        """Take the exclusive lock, once. Failed('plex_busy'). On a worker thread."""
        with self._owning:
            if self.owner is not None:
                return
            try:
                self._calling.ask(self._take, OWN_SECONDS)
            except TimeoutError as error:
                why = f"its exclusive lock was not had within {OWN_SECONDS:g} s"
                self._give_up(errno.ETIMEDOUT, why)
                raise Failed("plex_missing", f"{self.uri}: {why}", "see 'ceph -s' and 'rbd lock ls'") from error
            except OSError as error:
                raise Failed("plex_missing", f"{self.uri}: {error.strerror}", "see 'rbd lock ls'") from error

    def _take(self) -> None:
        """On the thread that closes the image, so that this is not done under its feet."""
        if self.lost is not None:
            raise Lost(*self.lost.args)
        owning.take_lock(self.uri, self._opened, self._owners, self)

    def _give_up(self, number: int, why: str) -> None:
        if self._token is None:
            with self._lock:
                self._end(number, why)
        else:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._end, number, why)

    def be_patient(self, seconds: float) -> None:
        self.patience_seconds = seconds

    def carry_out(self, requests: Sequence[Request]) -> None:
        waiting = Waiting(requests)
        if not requests:
            return
        if self._token is None:
            with self._lock:
                self.begin_all(requests)
            if not waiting.wait_for(self.patience_seconds):
                self._give_up(errno.ETIMEDOUT, f"no answer within {self.patience_seconds:g} s")
        else:
            try:
                self._token.run_sync_soon(self.begin_all, requests)
            except trio.RunFinishedError:
                raise Lost(errno.ECONNABORTED, f"{self.uri}: fmrd ends") from None
        waiting.wait()

    def begin(self, request: Request) -> None:
        if self.lost is not None:
            request.ended(Lost(*self.lost.args))
            return
        if request.offset + request.length > self.export.size:  # of a read librbd gives what is there
            request.ended(Answered(errno.EINVAL, f"{self.uri} ends at byte {self.export.size}"))
            return
        self._cookie += 1
        request.cookie = self._cookie
        request.begun = self._now()
        self._requests[self._cookie] = request
        self._calling.begin(request)

    def hang_up(self) -> None:
        if self.lost is None:
            self._end(errno.ECONNABORTED, "it was given up")

    def let_go(self, *, plex: bool = False, parks: bool = False) -> None:
        if not self.users.leave(plex=plex) or (parks and self._token is not None):
            return
        with contextlib.suppress(trio.RunFinishedError):
            if self._token is None:
                with self._lock:
                    self._part_if_unused()
            else:
                self._token.run_sync_soon(self._part_if_unused)
            self.gone.wait(CLOSE_SECONDS)

    def _start(self) -> None:
        self._heard = trio.current_time()
        trio.lowlevel.spawn_system_task(self._watch)

    def begin_all(self, requests: Sequence[Request]) -> None:
        for request in requests:
            self.begin(request)

    def _ended(self) -> None:
        """On a thread of librbd's."""
        if self._token is None:
            with self._lock:
                self._tell()
        else:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._tell, idempotent=True)

    def _tell(self) -> None:
        self._heard = now = self._now()
        for cookie, value, data in self._calling.ends():
            if (request := self._requests.get(cookie)) is None or self.lost is not None:
                continue  # it was given up
            error = self._error_of(request, value, data)
            if isinstance(error, Lost):
                continue  # all of them are told, this one among them
            del self._requests[cookie]
            if error is None and request.buffer is not None and data is not None:
                request.buffer[:] = data
            if error is None and request.length <= SHORT_BYTES:
                self.round_trips.append(now - request.begun)
            request.ended(error)

    def _error_of(self, request: Request, value: int, data: bytes | None) -> OSError | None:
        if value < 0 and -value in ANSWERS:
            what = abi.COMMANDS[request.command]
            return Answered(-value, f"{self.uri}: the cluster refused a {what} at byte {request.offset}")
        if value < 0:
            return self._end(-value, WHY.get(-value, f"librbd gave up a call, error {-value}"))
        if request.buffer is not None and (data is None or len(data) != request.length):
            return self._end(errno.EPROTO, "librbd gave less than it was asked for")
        return None

    async def _watch(self) -> None:
        try:
            while self.lost is None:
                await trio.sleep(self.patience_seconds / LOOKS)
                now = trio.current_time()
                if self.lost is not None:
                    break
                if self.users.is_unused_again():
                    self._part_if_unused()
                elif self._requests:
                    oldest = next(iter(self._requests.values()))
                    if now - oldest.begun >= self.patience_seconds:
                        self._end(errno.ETIMEDOUT, f"no answer within {self.patience_seconds:g} s")
                elif now - self._heard >= self.patience_seconds / HEARTBEATS and self.export.size:
                    self.begin(Request(abi.READ, 0, 1, _nobody, buffer=memoryview(bytearray(1))))
        finally:
            if self.lost is None:
                self._end(errno.ECONNABORTED, "fmrd ends")
                self._fail_all()

    def _end(self, number: int, why: str) -> Lost:
        """It is lost; those who wait are told in a later step."""
        if self.lost is None:
            self.lost = Lost(number, f"{self.uri}: the session with {self.uri.server} is lost: {why}")
            log.warning("%s", self.lost.strerror)
            self._calling.stop()
            if self._token is None:
                self._fail_all()
            else:
                with contextlib.suppress(trio.RunFinishedError):
                    self._token.run_sync_soon(self._fail_all)
        return self.lost

    def _fail_all(self) -> None:
        assert self.lost is not None, "it is over"
        while self._requests:
            _, request = self._requests.popitem()
            request.ended(Lost(*self.lost.args))

    def _part_if_unused(self) -> None:
        if self.lost is not None or not self.users.end():
            return
        if self._requests:
            self._end(errno.ECONNABORTED, "it was closed with requests under way")
        else:
            self.lost = Lost(errno.ESHUTDOWN, f"{self.uri}: this session was closed")
            self._calling.stop()


def _nobody(error: Exception | None) -> None:
    """A heartbeat asks for itself."""
