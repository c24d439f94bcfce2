"""How fast a stream goes, and how far it is: a limit in bytes a second, and progress on standard error."""

import time
from collections.abc import Callable
from functools import partial
from types import TracebackType

from fmrd.front.ctl.app import App


class Pace:
    """Waits as long as ``rate`` bytes a second want it; 0 is no limit."""

    def __init__(
        self, rate: int, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._due = clock()

    def passed(self, size: int) -> None:
        """So many bytes were sent: return when more may be."""
        if self._rate:
            self._due = max(self._due, self._clock() - 1) + size / self._rate
            left = self._due - self._clock()
            if left > 0:
                self._sleep(left)


class Meter:
    """A bar on a terminal, and nothing elsewhere."""

    def __init__(self, app: App, what: str, total: int, done: int = 0) -> None:
        self._advance: Callable[[int], None] = lambda size: None
        self._begin: Callable[[], None] = lambda: None
        self._end: Callable[[], None] = lambda: None
        if app.is_watched:
            from fmrd.front.ctl.glance.bars import columns_of_bytes

            progress = columns_of_bytes()
            task = progress.add_task(what, total=total or None, completed=done)
            self._advance = partial(progress.advance, task)
            self._begin, self._end = progress.start, progress.stop

    def __enter__(self) -> "Meter":
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self._end()

    def advance(self, size: int) -> None:
        """So many bytes more."""
        self._advance(size)
