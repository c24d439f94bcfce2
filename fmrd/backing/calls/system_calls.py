"""System calls off trio's thread, and what becomes of those that do not return.

A thread hop costs more than the page-cache write it carries, so the calls of one request share one hop (``in_turn``);
durable writes and fdatasyncs, which wait for a disk anyway, get one each (``at_once``). A call that does not answer in
time is given up, not forgotten: its lane counts it until it has landed, and a plex does not join before that
(PROTOCOLS, "Join": a hung write that lands late would overwrite newer bytes).
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

import trio

from fmrd.backing.calls.second_thread import Errors
from fmrd.backing.protocol import SourceError
from fmrd.errors import FmrdError

T = TypeVar("T")


class Lane:
    """The system calls outstanding on one plex's data or on one copy of the DCO."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.outstanding = 0
        self.late: list[Call] = []
        """Those of them that did not answer in time: given up, and may land yet."""
        self._idle = trio.Event()
        self._idle.set()

    def enter(self) -> None:
        if not self.outstanding:
            self._idle = trio.Event()
        self.outstanding += 1

    def leave(self) -> None:
        self.outstanding -= 1
        if not self.outstanding:
            self._idle.set()

    @property
    def hung(self) -> int:
        """How many did not answer in time."""
        return len(self.late)

    def give_up(self, call: "Call") -> None:
        """It did not answer in time. It stays outstanding."""
        self.late.append(call)

    def landed(self, call: "Call") -> None:
        """One that was given up has returned."""
        self.late.remove(call)
        self.leave()

    async def idle(self) -> None:
        """Returns when no call is outstanding."""
        while self.outstanding:
            await self._idle.wait()


@dataclass(frozen=True)
class Call:
    """One system call (or a few that belong together) on one lane. ``run`` raises OSError or SourceError."""

    lane: Lane
    run: Callable[[], object]
    inline: bool = False
    """It cannot block: no hop is needed."""


@dataclass(frozen=True)
class Outcome:
    """What a call returned, or its error. ETIMEDOUT: it did not answer in time and may still land."""

    value: object = None
    error: Exception | None = None


class SystemCalls(Protocol):
    """How calls are run. The simulation brings its own."""

    async def in_turn(self, calls: Sequence[Call], timeout_seconds: float) -> list[Outcome]:
        """One after the other, in this order; each has ``timeout_seconds``."""

    async def at_once(self, calls: Sequence[Call], timeout_seconds: float) -> list[Outcome]:
        """All in parallel."""

    async def in_idle_time(self, step: Callable[[], bool]) -> Outcome:
        """Something that cannot block, piece by piece until ``step`` says False, while nothing else is to be done."""

    def share(self, calls: Sequence[Callable[[], object]], ended: Callable[[Errors], None]) -> bool:
        """Large calls that cannot block, by two threads. ``ended`` is told what each raised, in this very step. True:
        they are still under way, until ``finish_share`` or the end of the step.
        """

    def finish_share(self) -> None:
        """End what is under way, if anything is."""


def outcome_of(call: Call) -> Outcome:
    """Run it here and now. Only failures of storage are outcomes; anything else is a bug and flies on."""
    try:
        return Outcome(call.run())
    except (OSError, SourceError, FmrdError) as error:
        return Outcome(error=error)


async def ask(system: SystemCalls, lane: Lane, run: Callable[[], T], timeout_seconds: float) -> T:
    """Run one call and have its value, or its error raised. What it opens too late is closed again."""
    delivery = _Delivery(run)
    try:
        [outcome] = await system.at_once([Call(lane, delivery.run)], timeout_seconds)
        if outcome.error is not None:
            raise outcome.error
    except BaseException:
        delivery.refuse()
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

    def refuse(self) -> None:
        with self._lock:
            self._refused = True
            value, self._value = self._value, None
        _close(value)


def _close(value: object) -> None:
    for part in value if isinstance(value, tuple) else (value,):
        if hasattr(part, "close"):
            part.close()
