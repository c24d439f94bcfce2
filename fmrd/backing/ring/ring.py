"""A ring: requests are pushed into memory, handed over in one system call, and their ends are read from memory.

One thread has it: the one that made it. ``write``, ``read`` and ``fdatasync`` push a request; ``submit`` hands over all
that were pushed; ``reap`` calls ``ended`` of those that have ended. Many end within ``submit`` itself, so who submits
reaps in the same step; ``fileno`` tells of those that end later.

What is under way keeps its buffer, and the ring, alive: the kernel still reads from there, though nobody here should
remember. This holds also while the interpreter ends.
"""

import contextlib
import ctypes
import errno
import mmap
import os
from collections import deque
from collections.abc import Callable

from fmrd.backing.ring import abi
from fmrd.backing.ring.ordering import barrier

Ended = Callable[[int], None]
"""Told of the end of a request: how many bytes, or -errno."""

WORKERS = 256
"""Threads of the kernel's for fdatasync, and for what was tried in vain, on files and devices. Each request that hangs
keeps one; the kernel's own limit is four times the number of processors.
"""
_32_BITS = 0xFFFFFFFF
_NEEDED = abi.FEAT_SINGLE_MMAP | abi.FEAT_NODROP | abi.FEAT_EXT_ARG | abi.FEAT_NATIVE_WORKERS
_WANTED = (
    abi.SETUP_SUBMIT_ALL,  # 5.18: a request that is refused ends with an error, and those behind it go on
    abi.SETUP_COOP_TASKRUN,  # 5.19: no interrupt of this thread for each end
    abi.SETUP_SINGLE_ISSUER,  # 6.0: what another thread hands over is refused
)
"""Flags of the set-up, oldest first; those that a kernel does not know yet are left out."""
_ENDS_FOR_EACH = 4
"""So many times as many places for ends as for requests: those under way are not bounded by the queue of requests."""


_reference = ctypes.pythonapi.Py_IncRef, ctypes.pythonapi.Py_DecRef


class Ring:
    """``entries`` is how many may be pushed before they are handed over. OSError where the kernel gives no ring.

    ``in_worker`` has a thread of the kernel's carry a request out; otherwise it is tried within ``submit`` first.
    """

    def __init__(self, entries: int = 256) -> None:
        self._descriptor, made = _set_up(entries)
        try:
            if made.features & _NEEDED != _NEEDED:
                raise OSError(errno.ENOSYS, "io_uring of this kernel is too old")
            try:
                abi.set_workers(self._descriptor, WORKERS)
            except OSError as error:  # before 5.15: what hangs would take the workers of all
                raise OSError(errno.ENOSYS, "io_uring of this kernel is too old") from error
            self._memory = mmap.mmap(self._descriptor, made.bytes, offset=abi.OFF_RINGS)
            self._sqes = mmap.mmap(self._descriptor, made.sq_entries * abi.SQE_BYTES, offset=abi.OFF_SQES)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._memory.madvise(mmap.MADV_DONTFORK)
        self._sqes.madvise(mmap.MADV_DONTFORK)
        self._words = words = memoryview(self._memory).cast("B")[: made.bytes & ~3].cast("I")
        self._sq_tail, self._sq_flags = made.sq_tail // 4, made.sq_flags // 4
        self._cq_head, self._cq_tail = made.cq_head // 4, made.cq_tail // 4
        ends = made.cqes
        self._ends = memoryview(self._memory)[ends : ends + made.cq_entries * abi.CQE_BYTES]
        self._entries, self._cq_entries = made.sq_entries, made.cq_entries
        self._tail = words[self._sq_tail]
        self._pushed = 0
        """Of those before the tail, how many the kernel has not taken yet."""
        self._head = words[self._cq_head]
        for index in range(made.sq_entries):  # the indirection that the kernel offers is not used
            words[made.sq_array // 4 + index] = index
        self._number = 0
        self._waiting: dict[int, tuple[Ended, object]] = {}
        """By the number that the kernel gives back with the end."""
        self._ended: deque[tuple[Ended, int]] = deque()
        """Taken out of the kernel's queue, and not told yet."""
        self._closed = False
        _reference[0](ctypes.py_object(self))  # until it is closed: see above

    def fileno(self) -> int:
        """A descriptor, the ring's own, that is readable while ends wait to be reaped; it needs no clearing."""
        return self._descriptor

    @property
    def outstanding(self) -> int:
        """Pushed, and not told of its end yet."""
        return len(self._waiting) + len(self._ended)

    @property
    def is_pushed(self) -> bool:
        """Is there something to be handed over?"""
        return self._pushed > 0

    def make_up_for(self, hung: int) -> None:
        """So many requests hang, and keep a worker each: others have as many as ever."""
        with contextlib.suppress(OSError):  # then they have what is left
            abi.set_workers(self._descriptor, WORKERS + hung)

    def write(
        self, descriptor: int, address: int, length: int, offset: int, ended: Ended, keep: object,
        in_worker: bool = False,
    ) -> None:  # fmt: skip
        """As pwrite(2) does, from the memory at ``address``; ``keep`` is what keeps that alive."""
        self._push(abi.WRITE, in_worker, descriptor, offset, address, length, 0, ended, keep)

    def write_now(self, descriptor: int, address: int, length: int, offset: int) -> int:
        """Write what need not wait; return how many bytes, or the error: -EAGAIN where it would wait. It is over then.
        A system call of its own would sleep where the file system is frozen (also by a suspended device-mapper).
        """

        def over(_: int) -> None:
            """It tells this one from the others."""

        self._push(abi.WRITE, False, descriptor, offset, address, length, abi.RWF_NOWAIT, over, None)
        self.submit()
        while True:
            self._collect()
            for at in range(len(self._ended) - 1, -1, -1):
                tell, result = self._ended[at]
                if tell is over:
                    del self._ended[at]
                    return result
            abi.enter(self._descriptor, 0, 1, abi.ENTER_GETEVENTS)

    def read(
        self, descriptor: int, address: int, length: int, offset: int, ended: Ended, keep: object,
        in_worker: bool = False,
    ) -> None:  # fmt: skip
        """As pread(2) does, into the memory at ``address``."""
        self._push(abi.READ, in_worker, descriptor, offset, address, length, 0, ended, keep)

    def fdatasync(self, descriptor: int, ended: Ended) -> None:
        """As fdatasync(2), by a worker: it covers what has ended before it was pushed."""
        self._push(abi.FSYNC, False, descriptor, 0, 0, 0, abi.FSYNC_DATASYNC, ended, None)

    def submit(self) -> None:
        """Hand over all that was pushed. What the kernel has no memory for ends with -EAGAIN."""
        while self._pushed:
            done = abi.enter(self._descriptor, self._pushed, 0, 0)
            if done > 0:
                self._pushed -= done
            elif done == -errno.EBUSY and self._collect():
                pass  # ends waited for their place
            elif done != -errno.EINTR:
                self._take_back(-errno.EAGAIN)

    def reap(self) -> int:
        """Tell of all that have ended; how many. What one of those told raises is raised when all were told."""
        ended = self._ended
        self._collect()
        count = 0
        problems: list[BaseException] = []
        while ended:
            tell, result = ended.popleft()
            count += 1
            try:
                tell(result)
            except BaseException as error:  # whatever it is, it is the caller's
                problems.append(error)
        if len(problems) == 1:
            raise problems[0]
        if problems:
            raise BaseExceptionGroup("several requests of a ring", problems)
        return count

    def wait(self, seconds: float) -> int:
        """``submit``, wait until one has ended, but no longer than that, and ``reap``."""
        self.submit()
        if self._waiting and not self._ended and self._words[self._cq_tail] == self._head:
            abi.enter_for(self._descriptor, 0, seconds)
        return self.reap()

    def close(self) -> None:
        """Only when all has ended: the kernel would go on reading from buffers that are others' by then."""
        assert not self.outstanding, f"a ring is closed with {self.outstanding} requests under way"
        if self._closed:
            return
        self._closed = True
        self._words.release()
        self._ends.release()
        self._memory.close()
        self._sqes.close()
        os.close(self._descriptor)
        _reference[1](ctypes.py_object(self))

    def _push(
        self, operation: int, in_worker: bool, descriptor: int, offset: int, address: int, length: int, flags: int,
        ended: Ended, keep: object,
    ) -> None:  # fmt: skip
        if self._pushed == self._entries:
            self.submit()
        self._number = number = self._number + 1
        tail = self._tail
        place = (tail & (self._entries - 1)) * abi.SQE_BYTES
        how = abi.SQE_ASYNC if in_worker else 0
        _pack(self._sqes, place, operation, how, 0, descriptor, offset, address, length, flags, number, 0, 0, 0)
        self._waiting[number] = ended, keep
        self._words[self._sq_tail] = self._tail = (tail + 1) & _32_BITS
        self._pushed += 1

    def _take_back(self, result: int) -> None:
        """The kernel took none of those pushed: the tail goes back, and they have ended."""
        for number in range(self._number - self._pushed + 1, self._number + 1):
            self._ended.append((self._waiting.pop(number)[0], result))
        self._words[self._sq_tail] = self._tail = (self._tail - self._pushed) & _32_BITS
        self._pushed = 0

    def _collect(self) -> bool:
        """Take all ends out of the kernel's queue. Were there any?"""
        words, waiting, take = self._words, self._waiting, self._ended.append
        head = before = self._head
        while True:
            tail = words[self._cq_tail]
            if head == tail:
                if words[self._sq_flags] & (abi.SQ_CQ_OVERFLOW | abi.SQ_TASKRUN):
                    abi.enter(self._descriptor, 0, 0, abi.ENTER_GETEVENTS)
                    if words[self._cq_tail] != tail:
                        continue
                return bool(head != before)
            if barrier is not None:
                barrier()
            first = head & (self._cq_entries - 1)
            count = min((tail - head) & _32_BITS, self._cq_entries - first)
            for number, result in _unpack(self._ends[first * 16 : (first + count) * 16]):
                take((waiting.pop(number)[0], result))
            if barrier is not None:
                barrier()
            words[self._cq_head] = self._head = head = (head + count) & _32_BITS


_pack = abi.SQE.pack_into
_unpack = abi.CQE.iter_unpack


def _set_up(entries: int) -> tuple[int, abi.Parameters]:
    wanted = list(_WANTED)
    while True:
        flags = abi.SETUP_CLAMP | abi.SETUP_CQSIZE | sum(wanted)
        try:
            return abi.setup(entries, flags, entries * _ENDS_FOR_EACH)
        except OSError as error:
            if error.errno != errno.EINVAL or not wanted:
                raise
            wanted.pop()
