"""A worker thread waits here for requests that are carried out on another one."""

import threading
from collections.abc import Sequence

from fmrd.backing.nbd.speaking.replies import Request
from fmrd.errors import Answered


class Waiting:
    """Who waits on a worker thread for requests that others carry out."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._left = len(requests)
        self._over = threading.Event()
        self._errors: list[Exception | None] = []
        for request in requests:
            request.ended = self._ended

    def _ended(self, error: Exception | None) -> None:
        """Always on the same thread."""
        self._errors.append(error)
        self._left -= 1
        if not self._left:
            self._over.set()

    def is_over(self) -> bool:
        return self._over.is_set()

    def wait_for(self, seconds: float) -> bool:
        """Return whether all have ended, after that time at the latest."""
        return self._over.wait(seconds)

    def wait(self) -> None:
        """Return when all have ended; ``worst_of`` their errors is raised."""
        self._over.wait()
        if (error := worst_of(self._errors)) is not None:
            raise error


def worst_of(errors: Sequence[Exception | None]) -> Exception | None:
    """Return the first error that is no answer, for what met it may be carried out yet; else the first that is one."""
    met = [each for each in errors if each is not None]
    return next((each for each in met if not isinstance(each, Answered)), met[0] if met else None)
