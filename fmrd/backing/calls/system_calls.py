"""System calls run off trio's thread; this module says how they are asked for, and what becomes of those that hang.

A thread hop costs more than the page-cache write it carries, so the calls of one request share one hop (``in_turn``);
durable writes and fdatasyncs, which wait for a disk anyway, get one each (``at_once``). A call that does not answer in
time is given up, not forgotten: its lane counts it until it has landed, and a plex does not join before that
(PROTOCOLS, "Join": a hung write that lands late would overwrite newer bytes).
"""

import errno
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

import trio

from fmrd.backing.calls.second_thread import Errors
from fmrd.core.measures.latency import Latencies, Latency, Sampled
from fmrd.errors import Answered, FmrdError, SourceError

T = TypeVar("T")


class Lane:
    """A lane counts the system calls outstanding on one plex's data or on one copy of the DCO, on trio's thread. A call
    counts from the moment somebody means to issue it, so that nobody closes its file meanwhile.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.outstanding = 0
        self.late: list[Call] = []
        """Those of them that did not answer in time: given up, and may land yet; and those that ``unproven`` has."""
        self.far = False
        """An error does not end a call here: what failed may land yet (Backing.far)."""
        self.unproven: list[Call] = []
        """Those that failed where that does not end a call, and no more is known of them."""
        self.took = Latencies()
        """How long its calls took, by what they were for."""
        self._idle: trio.Event | None = None
        """Where somebody waits for that."""
        self._closings = 0
        self._all_closed = trio.Event()

    def enter(self) -> None:
        """Count a call that is about to be issued."""
        self.outstanding += 1

    def leave(self) -> None:
        """Count a call off: it has landed, or was never run."""
        self.outstanding -= 1
        if self._idle is not None and not self.outstanding:
            self._idle.set()
            self._idle = None

    @property
    def hung(self) -> int:
        """How many may land yet, though nobody waits for them."""
        return len(self.late)

    @property
    def hangs(self) -> bool:
        """Has one of them not even returned?"""
        return len(self.late) > len(self.unproven)

    def give_up(self, call: "Call") -> None:
        """It did not answer in time. It stays outstanding."""
        self.late.append(call)

    def landed(self, call: "Call") -> None:
        """One that was given up has returned."""
        self.late.remove(call)
        self.leave()

    def failed(self, call: "Call", error: OSError) -> None:
        """It raised an error, on whatever thread. A local disk says by that that the call is over."""
        if self.far and call.changes and not isinstance(error, Answered):
            self.unproven.append(call)
            self.late.append(call)

    def settle(self) -> None:
        """Somebody who knows says that nothing is under way on the far side any more."""
        for call in self.unproven:
            self.late.remove(call)
        self.unproven.clear()

    def begin_closing(self) -> None:
        """Its file is to be closed, as soon as no call is outstanding."""
        if not self._closings:
            self._all_closed = trio.Event()
        self._closings += 1

    def end_closing(self) -> None:
        """It was closed, or closing it hangs and is a call like any other."""
        self._closings -= 1
        if not self._closings:
            self._all_closed.set()

    async def closed(self, timeout_seconds: float) -> None:
        """Return when what was to be closed is closed; or at once where a call hangs, and after that time."""
        with trio.move_on_after(timeout_seconds):
            while self._closings and not self.hangs:
                await self._all_closed.wait()

    async def idle(self) -> None:
        """Return when no call is outstanding; where one hangs, that may be never."""
        while self.outstanding:
            if self._idle is None:
                self._idle = trio.Event()
            await self._idle.wait()


Began = Callable[[Exception | None], None]
"""Told, on trio's thread, of the end of a call that was begun: its error, or None."""


@dataclass(slots=True, eq=False)
class Call:
    """A call is one system call (or a few that belong together) on one lane. ``run`` raises errors of storage only."""

    lane: Lane
    run: Callable[[], object]
    inline: bool = False
    """It cannot block: no hop is needed."""
    changes: bool = True
    """It changes what lies there; of one that only reads, or opens, nothing can land late."""
    again: bool = False
    """Done twice it is as done once: where memory or descriptors are short it is run again, a little later, before that
    counts as its error. (An fdatasync is none of these: the kernel tells of what was lost once.)
    """
    begin: Callable[[Began], None] | None = None
    """The same without a thread: this returns at once, and tells of the end."""
    latency: Latency | Sampled | None = None
    """Where the time it takes is counted, once, when it ends or is given up."""


@dataclass(frozen=True)
class Outcome:
    """An outcome is what a call returned, or its error. ETIMEDOUT: it did not answer in time and may still land."""

    value: object = None
    error: Exception | None = None


Ended = Callable[[list[Outcome]], None]
"""Told the outcomes of calls that were begun together."""


class SystemCalls(Protocol):
    """This is how calls are run. Each method is called on trio's thread; the simulation brings its own."""

    async def in_turn(self, calls: Sequence[Call], timeout_seconds: float) -> list[Outcome]:
        """Run the calls one after the other, in this order, in one hop, and return their outcomes; each has
        ``timeout_seconds``. One that is given up goes on, and those behind it are run all the same.
        """

    async def at_once(self, calls: Sequence[Call], timeout_seconds: float) -> list[Outcome]:
        """Run all of them in parallel, and return their outcomes in this order; each has ``timeout_seconds``."""

    def begin(self, calls: Sequence[Call], timeout_seconds: float, ended: Ended) -> None:
        """Begin all of them in this step; ``ended`` is told their outcomes, in this order, in one step when all have
        ended or were given up: maybe this one. It is called on trio's thread, and raises nothing.
        """

    async def in_idle_time(self, step: Callable[[], bool]) -> Outcome:
        """Call ``step``, which cannot block, on trio's thread, piece by piece while nothing else is to be done, until
        it returns False or raises an error of storage.
        """

    def share(self, calls: Sequence[Callable[[], object]], ended: Callable[[Errors], None]) -> bool:
        """Run large calls that cannot block by two threads; ``ended`` is told what each raised, in this very step.
        Return whether they are still under way: until ``finish_share``, or the end of the step (IdleTime.end_step).
        """

    def memory(self, length: int) -> memoryview:
        """Return so many bytes of memory to be read into, to which nobody else refers; what is in it is anything."""

    def submit(self) -> None:
        """Have the kernel go on at once with what was begun in this step: others wait for its end."""

    def finish_share(self) -> None:
        """End what is under way, if anything is; its ``ended`` is called before this returns."""


def outcome_of(call: Call) -> Outcome:
    """Run a call here and now. Only failures of storage are outcomes; anything else is a bug and flies on."""
    try:
        return Outcome(call.run())
    except (OSError, SourceError, FmrdError) as error:
        if isinstance(error, OSError):
            call.lane.failed(call, error)
        return Outcome(error=error)
    except MemoryError:
        return Outcome(error=OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))


async def ask(system: SystemCalls, lane: Lane, run: Callable[[], T], timeout_seconds: float) -> T:
    """Run one call, and return its value or raise its error. What it opens when nobody waits any more is closed."""
    delivery = _Delivery(run)
    try:
        [outcome] = await system.at_once([Call(lane, delivery.run, changes=False)], timeout_seconds)
        if outcome.error is not None:
            raise outcome.error
    except BaseException:
        if (opened := delivery.refuse()) is not None:
            with trio.CancelScope(shield=True):  # it has just answered
                await system.at_once([Call(lane, lambda: _close(opened))], timeout_seconds)
        raise
    return cast(T, outcome.value)


class _Delivery:
    """What a call opened belongs to whoever asked; where nobody waits for it any more, it is closed."""

    def __init__(self, run: Callable[[], object]) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._refused = False
        self._value: object = None

    def run(self) -> object:
        """On the worker thread."""
        value = self._run()
        with self._lock:
            if not self._refused:
                self._value = value
                return value
        _close(value)
        return None

    def refuse(self) -> object:
        """What is to be closed; what comes later is closed by its own thread."""
        with self._lock:
            self._refused = True
            value, self._value = self._value, None
        return value


def _close(value: object) -> None:
    for part in value if isinstance(value, tuple) else (value,):
        if hasattr(part, "close"):
            part.close()
