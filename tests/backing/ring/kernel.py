"""A kernel of one's own behind the ring: it takes, ends and refuses what it is told to, and its counts begin anywhere.

It has the layout of the real one, in a file in memory that the ring maps. So what a real kernel cannot be brought to is
tried: counts that pass 2^32, a queue of ends that overflows, ends in any order, requests that are not taken.
"""

import errno
import mmap
import os
import struct
from collections import deque

import pytest

from fmrd.backing.ring import abi

_WORDS = struct.Struct("=8I")
_HEAD, _TAIL, _MASK, _FLAGS, _CQ_HEAD, _CQ_TAIL, _CQ_MASK, _ = range(8)
_CQES = 64
_32_BITS = 0xFFFFFFFF


class Kernel:
    """``entries`` requests and twice as many ends fit. ``start`` is where its counts begin."""

    def __init__(self, entries: int, start: int) -> None:
        self.entries, self.ends = entries, 2 * entries
        self.under_way: list[int] = []
        """Numbers of requests that were taken, in that order."""
        self.overflow: deque[tuple[int, int]] = deque()
        self.takes: deque[int] = deque()
        """What it answers next when it is to take requests: how many at most, or -errno."""
        self._array = _CQES + 16 * self.ends
        self.descriptor = os.memfd_create("kernel", os.MFD_CLOEXEC)
        os.ftruncate(self.descriptor, abi.OFF_SQES + 64 * entries)
        self._memory = mmap.mmap(self.descriptor, self._array + 4 * entries)
        self._sqes = mmap.mmap(self.descriptor, 64 * entries, offset=abi.OFF_SQES)
        _WORDS.pack_into(self._memory, 0, start, start, entries - 1, 0, start, start, self.ends - 1, 0)
        self._words = memoryview(self._memory).cast("I")

    def setup(self, entries: int, flags: int, cq_entries: int) -> tuple[int, abi.Parameters]:
        features = abi.FEAT_SINGLE_MMAP | abi.FEAT_NODROP | abi.FEAT_EXT_ARG | abi.FEAT_NATIVE_WORKERS
        raw = struct.pack(
            "=7I12x7I4xQ7I4xQ", self.entries, self.ends, flags, 0, 0, features, 0,
            4 * _HEAD, 4 * _TAIL, 4 * _MASK, 0, 4 * _FLAGS, 0, self._array, 0,
            4 * _CQ_HEAD, 4 * _CQ_TAIL, 4 * _CQ_MASK, 0, 0, _CQES, 0, 0,
        )  # fmt: skip
        return self.descriptor, abi.Parameters(raw)

    def enter(self, descriptor: int, submit: int, wait_for: int, flags: int) -> int:
        if flags & abi.ENTER_GETEVENTS:
            self._flush()
        if not submit:
            return 0
        pushed = (self._words[_TAIL] - self._words[_HEAD]) & _32_BITS
        assert submit == pushed <= self.entries
        limit = self.takes.popleft() if self.takes else submit
        if limit < 0:
            return limit
        for _ in range(min(limit, submit)):
            place = self._words[self._array // 4 + (self._words[_HEAD] & (self.entries - 1))]
            self.under_way.append(abi.SQE.unpack_from(self._sqes, 64 * place)[8])
            self._words[_HEAD] = (self._words[_HEAD] + 1) & _32_BITS
        return min(limit, submit)

    def end(self, which: int, result: int) -> None:
        """One of those under way."""
        self.overflow.append((self.under_way.pop(which), result))
        if len(self.overflow) == 1:
            self._flush()
        if self.overflow:
            self._words[_FLAGS] |= abi.SQ_CQ_OVERFLOW

    def _flush(self) -> None:
        while self.overflow and (self._words[_CQ_TAIL] - self._words[_CQ_HEAD]) & _32_BITS < self.ends:
            place = self._words[_CQ_TAIL] & (self.ends - 1)
            abi.CQE.pack_into(self._memory, _CQES + 16 * place, *self.overflow.popleft())
            self._words[_CQ_TAIL] = (self._words[_CQ_TAIL] + 1) & _32_BITS
        if not self.overflow:
            self._words[_FLAGS] &= ~abi.SQ_CQ_OVERFLOW

    def install(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(abi, "set_workers", lambda descriptor, bounded: None)
        patch.setattr(abi, "setup", self.setup)
        patch.setattr(abi, "enter", self.enter)


REFUSALS = (-errno.EAGAIN, -errno.EBUSY, -errno.EINTR, 0)
