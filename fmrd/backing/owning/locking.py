"""Locks are held here so that a kill frees them, though a call of the same process hangs on some disk.

The kernel frees a lock (a flock, or O_EXCL of a device) with the last descriptor of the file that was locked. A process
that is killed while one of its threads sleeps uninterruptibly keeps all its descriptors until that thread wakes up: the
thread shares them. So each lock is held by a thread of its own, whose table of descriptors has nothing else in it. It
sleeps where a signal reaches it, so it ends with the process, and the lock with it. All threads have one each because
closing a file may hang, too (FUSE is told of it), and then holds up nobody else's lock.

What such a process may still write is asked of ``under_way``.
"""

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

from fmrd.backing import libc

LOCK_THREAD = "fmrd lock"
"""The name of each thread that holds a lock."""


class Lock:
    """A lock on an open file, or device, for itself: ``descriptor`` may be closed meanwhile. OSError where it cannot be
    had: BlockingIOError for a file that another one has locked, EBUSY for a device. It is held until ``release``.
    """

    def __init__(self, descriptor: int, *, device: bool = False) -> None:
        self._problem: BaseException | None = None
        self._ready = threading.Event()
        self._errands: SimpleQueue[_Errand | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._hold, args=(descriptor, device), name=LOCK_THREAD, daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, f"no thread can be started to hold a lock: {error}") from error
        self._ready.wait()
        if self._problem is not None:
            raise self._problem

    def release(self) -> None:
        """Free it; when this returns it is free. It may hang where closing the file does."""
        self._errands.put(None)
        self._thread.join()

    def run(self, call: Callable[[int], None]) -> None:
        """Make a call with the descriptor that is locked: one that only the owner of a device may make. What it raises
        is raised here.
        """
        errand = _Errand(call)
        self._errands.put(errand)
        errand.done.wait()
        if errand.problem is not None:
            raise errand.problem

    def _hold(self, descriptor: int, device: bool) -> None:
        """The file is opened anew: a lock belongs to an opening, and who has that shares it."""
        try:
            libc.part_with_descriptors()
            flags = os.O_RDWR | os.O_CLOEXEC | (os.O_EXCL if device else 0)
            mine = os.open(f"/proc/self/fd/{descriptor}", flags)
        except BaseException as error:  # whatever it is, it is the caller's
            self._refuse(error)
            return
        try:
            if not device:
                fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException as error:  # as above
            os.close(mine)
            self._refuse(error)
            return
        self._ready.set()
        while (errand := self._errands.get()) is not None:
            errand.run(mine)
        with contextlib.suppress(OSError):
            os.close(mine)

    def _refuse(self, error: BaseException) -> None:
        self._problem = error
        self._ready.set()


class _Errand:
    def __init__(self, call: Callable[[int], None]) -> None:
        self._call = call
        self.problem: BaseException | None = None
        self.done = threading.Event()

    def run(self, descriptor: int) -> None:
        try:
            self._call(descriptor)
        except BaseException as error:  # whatever it is, it is the caller's
            self.problem = error
        self.done.set()
