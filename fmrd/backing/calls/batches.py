"""Calls that were begun together, until each has ended or was given up."""

import errno
from collections.abc import Sequence
from functools import partial
from time import perf_counter_ns
from typing import Protocol

import trio

from fmrd.backing.calls.fan import Disk, Fan
from fmrd.backing.calls.system_calls import Call, Ended, Outcome
from fmrd.backing.descriptor import Descriptor
from fmrd.backing.ring.abi import NotBegun
from fmrd.backing.ring.buffers import address_of
from fmrd.errors import is_exhaustion

_FINE = Outcome()


class Keeper(Protocol):
    """Who has begun them (ring_calls.py)."""

    def ended(self, batch: "Batch") -> None:
        """All of its calls have, or were given up."""

    def hang(self, more: int) -> None:
        """So many more (or fewer) were given up, and have not ended."""

    async def by_thread(self, call: Call, timeout_seconds: float) -> Outcome:
        """Run what the kernel did not even begin."""


class Batch:
    """Calls that were begun together. ``ended`` is told once: of those given up, that they hang."""

    __slots__ = ("_began_ns", "_calls", "_ended", "_left", "_outcomes", "_system", "deadline", "timeout_seconds")

    def __init__(self, system: Keeper, calls: Sequence[Call], timeout_seconds: float, ended: Ended) -> None:
        self._system = system
        self._calls = calls
        self._ended = ended
        self._outcomes: list[Outcome | None] = [None] * len(calls)
        self._left = len(calls)
        self._began_ns = 0
        self.timeout_seconds = timeout_seconds
        self.deadline = trio.current_time() + timeout_seconds

    def begin(self) -> None:
        for call in self._calls:
            call.lane.enter()
        self._began_ns = perf_counter_ns()
        for index, call in enumerate(self._calls):
            assert call.begin is not None, "who begins them has asked"
            try:
                call.begin(partial(self._over, index))
            except (OSError, MemoryError) as error:  # else its lane would count it for ever
                self._over(index, NotBegun(errno.ENOMEM, str(error)))

    def told(self) -> list[Outcome]:
        """Once ``ended`` was called."""
        return [outcome for outcome in self._outcomes if outcome is not None]

    def give_up(self, why: str) -> None:
        """Those that have not ended may land yet; nothing is done where all have."""
        for index, call in enumerate(self._calls):
            if self._outcomes[index] is None:
                call.lane.give_up(call)
                self._system.hang(1)
                sentence = f"{call.lane.name}: {why}"
                self._have(index, Outcome(error=TimeoutError(errno.ETIMEDOUT, sentence)))

    def _over(self, index: int, error: Exception | None) -> None:
        call, outcomes = self._calls[index], self._outcomes
        if error is None and outcomes[index] is None:  # mostly it is so
            call.lane.leave()
            self._have(index, _FINE)
        elif outcomes[index] is not None:
            self._system.hang(-1)
            if isinstance(error, OSError):
                call.lane.failed(call, error)
            call.lane.landed(call)
        elif isinstance(error, NotBegun) or (call.again and is_exhaustion(error)):
            trio.lowlevel.spawn_system_task(self._by_thread, index)
        else:
            if isinstance(error, OSError):
                call.lane.failed(call, error)
            call.lane.leave()
            self._have(index, Outcome(error=error))

    async def _by_thread(self, index: int) -> None:
        call = self._calls[index]
        outcome = await self._system.by_thread(call, self.timeout_seconds)
        if self._outcomes[index] is not None:
            self._system.hang(-1)
            call.lane.landed(call)
        else:
            call.lane.leave()
            self._have(index, outcome)

    def _have(self, index: int, outcome: Outcome) -> None:
        latency = self._calls[index].latency
        if latency is not None:
            latency.add(perf_counter_ns() - self._began_ns)
        self._put(index, outcome)

    def _put(self, index: int, outcome: Outcome) -> None:
        self._outcomes[index] = outcome
        self._left -= 1
        if not self._left:
            self._system.ended(self)
            self._ended(self.told())


class FanBatch(Batch):
    """A fan that the ring carries out. What it tells of a disk is looked at here; only of one that did not simply write
    all of it does a call know.
    """

    __slots__ = ("_address", "_fan", "_length")

    def __init__(self, system: Keeper, fan: Fan, timeout_seconds: float, ended: Ended) -> None:
        super().__init__(system, fan, timeout_seconds, ended)
        self._fan = fan
        self._address = 0
        self._length = len(fan.data)

    def begin(self) -> None:
        fan = self._fan
        self._began_ns = perf_counter_ns() if fan.weight else 0
        for index, disk in enumerate(fan.disks):
            disk.lane.enter()
            file = disk.backing
            assert isinstance(file, Descriptor), "who begins them has asked"
            try:
                self._address = self._address or address_of(fan.data)
                file.push_write(fan.offset, self._address, fan.data, partial(self._told, index, disk, file))
            except OSError as error:
                self._over(index, error)
            except MemoryError as error:
                self._over(index, NotBegun(errno.ENOMEM, str(error)))

    def _told(self, index: int, disk: Disk, file: Descriptor, result: int) -> None:
        """By the ring, of one of them."""
        if result != self._length or self._outcomes[index] is not None:
            file.finish_write(
                self._fan.offset, self._address, self._fan.data, partial(self._finished, index, disk), result
            )
            return
        file.handed_over.leave()
        disk.lane.leave()
        if self._began_ns:
            disk.lane.took.write.add(perf_counter_ns() - self._began_ns, self._fan.weight)
        self._put(index, _FINE)

    def _finished(self, index: int, disk: Disk, error: Exception | None) -> None:
        if self._outcomes[index] is not None:
            disk.landed(self._fan[index], error)
        self._over(index, error)


def batch_of(system: Keeper, calls: Sequence[Call], timeout_seconds: float, ended: Ended) -> Batch:
    """Return one that has not begun. All of a fan whose disks are files is the ring's."""
    if isinstance(calls, Fan) and all([isinstance(disk.backing, Descriptor) for disk in calls.disks]):
        return FanBatch(system, calls, timeout_seconds, ended)
    return Batch(system, calls, timeout_seconds, ended)
