"""A worker thread waits here for requests that are carried out on another one."""

import threading
from collections.abc import Sequence

from fmrd.backing.nbd.speaking.replies import Request


class Waiting:
    """Who waits on a worker thread for requests that others carry out."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._left = len(requests)
        self._over = threading.Event()
        self._error: Exception | None = None
        for request in requests:
            request.ended = self._ended

    def _ended(self, error: Exception | None) -> None:
        """Always on the same thread."""
        self._error = self._error or error
        self._left -= 1
        if not self._left:
            self._over.set()

    def is_over(self) -> bool:
        return self._over.is_set()

    def wait(self) -> None:
        """Return when all have ended; the first error of them is raised."""
        self._over.wait()
        if self._error is not None:
            raise self._error
