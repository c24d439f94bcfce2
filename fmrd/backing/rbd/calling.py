"""Calls of librbd: begun by a thread of their own, since nobody promises that beginning one never waits, and ended on
librbd's threads, from where somebody is told that there are ends to be looked at. Few of them are under way at a time.
"""

import errno
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from fmrd.backing.nbd.speaking import abi
from fmrd.backing.nbd.speaking.replies import Request
from fmrd.backing.rbd.image import Opened
from fmrd.backing.rbd.library import on_a_thread

MOST_UNDER_WAY = 128
"""So many calls librbd has at a time; what is begun beyond that waits here."""

End = tuple[int, int, bytes | None]
"""Which call (its request's cookie), what it returned (below 0: an error), and what was read."""
Asked = tuple[Request, bytes | None]
T = TypeVar("T")


class _Job:
    """Something that blocks, done with the image by the thread that begins calls, and that closes it."""

    def __init__(self, run: Callable[[], object]) -> None:
        self._run = run
        self.over = threading.Event()
        self.value: Any = None
        self.error: Exception | None = None

    def work(self) -> None:
        try:
            self.value = self._run()
        except Exception as error:  # whatever it is, it is told to who asked
            self.error = error
        self.over.set()


class Calling:
    """``is_over``: no more is to be begun; ``tell`` is called on whatever thread when there is an end."""

    def __init__(self, opened: Opened, is_over: Callable[[], bool], tell: Callable[[], None]) -> None:
        self.gone = threading.Event()
        """The image is closed."""
        self._opened = opened
        self._is_over = is_over
        self._tell = tell
        self._busy = 0
        self._waiting: deque[Asked] = deque()
        self._asked: queue.SimpleQueue[Asked | _Job | None] = queue.SimpleQueue()
        self._ends: deque[End] = deque()
        on_a_thread(self._work, "fmrd rbd")

    def begin(self, request: Request) -> None:
        """Begin it, or have it wait. One thread at a time calls this, and ``ends``."""
        # Who is told that the session is lost may use his memory again, while librbd still reads from it.
        data = request.data if request.data is None or isinstance(request.data, bytes) else bytes(request.data)
        if self._busy < MOST_UNDER_WAY:
            self._busy += 1
            self._asked.put((request, data))
        else:
            self._waiting.append((request, data))

    def ends(self) -> Iterator[End]:
        """Yield what has ended, once; others are begun in their place."""
        while self._ends:
            end = self._ends.popleft()
            self._busy -= 1
            if self._waiting:
                self._busy += 1
                self._asked.put(self._waiting.popleft())
            yield end

    def ask(self, run: Callable[[], T], seconds: float) -> T:
        """Have it done behind what was begun before. TimeoutError: not within that time, and it may be done yet. On a
        worker thread.
        """
        self._asked.put(job := _Job(run))
        if not job.over.wait(seconds):
            raise TimeoutError(errno.ETIMEDOUT, f"no answer within {seconds:g} s")
        if job.error is not None:
            raise job.error
        value: T = job.value
        return value

    def stop(self) -> None:
        """Close the image when what is under way has ended, however long that takes."""
        self._asked.put(None)

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            if isinstance(asked, _Job):
                asked.work()
                continue
            request, data = asked
            if not self._is_over():
                try:
                    self._call(request, data, request.cookie)
                except Exception as error:  # of librbd's module, which has errors of its own
                    self._ended(request.cookie, -abs(getattr(error, "errno", 0) or errno.ENOTCONN), None)
        self._opened.close()
        self.gone.set()

    def _call(self, request: Request, data: bytes | None, cookie: int) -> None:
        def ended(completion: Any, held: bytes | None = data) -> None:
            """librbd reads from ``held`` until then, and nobody else may refer to it any more."""
            self._ended(cookie, completion.get_return_value(), None)

        def read(completion: Any, found: bytes | None) -> None:
            self._ended(cookie, completion.get_return_value(), found)

        to = self._opened.image
        if to.size() < self._opened.size:  # of a write it would drop what lies behind the new end, and say nothing
            raise OSError(errno.ESTALE, "the image was made smaller")
        if not to.features() & self._opened.rbd.RBD_FEATURE_EXCLUSIVE_LOCK:  # it would write without
            raise OSError(errno.ENOLCK, "the image has no lock any more")
        if request.command == abi.WRITE:
            to.aio_write(data, request.offset, ended)
        elif request.command == abi.READ:
            to.aio_read(request.offset, request.length, read)
        elif request.command == abi.FLUSH:
            to.aio_flush(ended)
        else:
            assert request.command == abi.WRITE_ZEROES, "nothing else is offered"
            keeps = self._opened.rbd.RBD_WRITE_ZEROES_FLAG_THICK_PROVISION if request.flags & abi.NO_HOLE else 0
            to.aio_write_zeroes(request.offset, request.length, ended, keeps)

    def _ended(self, cookie: int, value: int, data: bytes | None) -> None:
        self._ends.append((cookie, value, data))
        self._tell()
