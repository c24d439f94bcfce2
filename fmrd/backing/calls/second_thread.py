"""Large writes are shared out here: a second thread takes some of the calls, the caller the others.

This is for disks that do not block: the kernel copies 1 MiB in a tenth of a millisecond, which is longer than it takes
to wake a thread up; and while one share follows the other, the second thread does not even sleep.
"""

import _thread
import itertools
from collections.abc import Callable, Sequence
from queue import SimpleQueue

Work = Callable[[], object]
Errors = Sequence[BaseException | None]
"""What each of the calls raised."""


class Share:
    """A share is calls that belong together. ``errors``, once it has ended, is what each of them raised."""

    def __init__(self, calls: Sequence[Work]) -> None:
        self.errors: list[BaseException | None] = [None] * len(calls)
        self._calls = calls
        self._left = list(range(len(calls)))
        self._ended = itertools.count(1)
        self._all = _thread.allocate_lock()
        self._all.acquire()

    def run_one(self) -> bool:
        """Run one call, on either thread; return False if none is left to be taken. To pop from a list, and to count,
        are one step each, so neither takes a lock.
        """
        try:
            index = self._left.pop()
        except IndexError:
            return False
        try:
            self._calls[index]()
        except BaseException as error:  # whatever it is, all must end before anybody goes on
            self.errors[index] = error
        if next(self._ended) == len(self._calls):
            self._all.release()
        return True

    def finish(self) -> None:
        """Lend a hand, and return when all have ended."""
        while self.run_one():
            pass
        with self._all:  # free from then on
            pass


class SecondThread:
    """A second thread is used from one thread, and started when it is needed, for the life of the process.

    One share is under way at a time: it ends before ``begin`` returns, or, in a step of somebody who may begin the next
    one first (``overlaps``), when that was begun, or when it is ``finished``: in that same step.
    """

    def __init__(self) -> None:
        self.overlaps = False
        """Whoever has the step sees to it that what is under way is finished in it."""
        self._shares: SimpleQueue[Share] = SimpleQueue()
        self._started = False
        self._under_way: tuple[Share, Callable[[Errors], None]] | None = None

    def begin(self, calls: Sequence[Work], ended: Callable[[Errors], None]) -> bool:
        """Have these calls run; ``ended`` is called on this thread when all have. True: they are still under way."""
        share = self._start(calls)
        self.finish()
        self._under_way = share, ended
        if not self.overlaps:
            self.finish()
        return self._under_way is not None

    def finish(self) -> bool:
        """End what is under way; return False if nothing was. What ``ended`` raises flies on."""
        if self._under_way is None:
            return False
        (share, ended), self._under_way = self._under_way, None
        share.finish()
        ended(share.errors)
        return True

    def _start(self, calls: Sequence[Work]) -> Share:
        share = Share(calls)
        if not self._started:
            try:
                _thread.start_new_thread(self._stand_by, ())
            except RuntimeError:  # no thread can be had now: this one does it all
                return share
            self._started = True
        self._shares.put(share)
        return share

    def _stand_by(self) -> None:
        while True:
            share = self._shares.get()
            while share.run_one():
                pass
            del share  # not kept until the next one comes, and with it a buffer
