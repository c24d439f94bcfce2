"""System calls off trio's thread, and what becomes of those that do not return.

A thread hop costs more than the page-cache write it carries, so the calls of one request share one hop (``in_turn``);
durable writes and fdatasyncs, which wait for a disk anyway, get one each (``at_once``). A call that does not answer in
time is given up, not forgotten: its lane counts it until it has landed, and a plex does not join before that
(RULES, Join: a hung write that lands late would overwrite newer bytes).
"""

import contextlib
import errno
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

import outcome
import trio

from fmrd.backing.calls.idle_time import IdleTime
from fmrd.backing.calls.second_thread import Errors, SecondThread
from fmrd.backing.protocol import SourceError
from fmrd.errors import FmrdError

T = TypeVar("T")

THREADS = 64
"""Calls under way at once."""
SLOW_SECONDS = 1.0
"""After this a call no longer counts as one of them: a disk that hangs holds up the others' calls no longer."""


class Lane:
    """The system calls outstanding on one plex's data or on one copy of the DCO."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.outstanding = 0
        self.hung = 0
        """Those of them that did not answer in time."""
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


class _Errand:
    """The calls of one hop. A call is claimed before it is run, so that one given up in time is never run late."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = calls
        self.outcomes: list[Outcome] = []
        self.done = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._lock = threading.Lock()
        self._running: Call | None = None
        self._since = 0.0
        self.failure: outcome.Outcome[None] = outcome.Value(None)
        self._abandoned = False
        self.hung: Call | None = None

    def start(self) -> None:
        self._since = time.monotonic()
        trio.lowlevel.start_thread_soon(self.run, self.deliver, name="fmrd hop")

    async def wait(self, timeout_seconds: float) -> None:
        """Until all of them have ended, or one has taken longer than that."""
        while not self.done.is_set() and (left := self.patience(timeout_seconds)) > 0:
            with trio.move_on_after(left):
                await self.done.wait()

    def run(self) -> None:
        """On the worker thread."""
        for call in self.calls:
            with self._lock:
                if self._abandoned:
                    return
                self._running = call
                self._since = time.monotonic()
            result = outcome_of(call)
            with self._lock:
                self._running = None
                if self._abandoned:
                    return
                self.outcomes.append(result)

    def deliver(self, result: outcome.Outcome[None]) -> None:
        """On the worker thread, when ``run`` has ended."""
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._landed, result)

    def _landed(self, result: outcome.Outcome[None]) -> None:
        if self.hung is not None:
            self.hung.lane.hung -= 1
            self.hung.lane.leave()
        self.failure = result
        self.done.set()

    def patience(self, timeout_seconds: float) -> float:
        """How much longer the call that is running now may take."""
        with self._lock:
            return self._since + timeout_seconds - time.monotonic()

    def abandon(self) -> None:
        """Give up the call that is running; those behind it are never run, those before it have their outcomes."""
        with self._lock:
            self._abandoned = True
            self.hung = self._running
            behind = len(self.outcomes) + (self.hung is not None)
        if self.hung is not None:
            self.hung.lane.hung += 1
        for call in [*self.calls[: len(self.outcomes)], *self.calls[behind:]]:
            call.lane.leave()


class ThreadedCalls:
    """The real one: trio's worker threads. Calls that cannot block (page cache in memory) run where they are asked."""

    def __init__(self, threads: int = THREADS) -> None:
        self._slots = trio.Semaphore(threads)
        self._second_thread = SecondThread()
        self.idle = IdleTime(self._second_thread)

    def share(self, calls: Sequence[Callable[[], object]], ended: Callable[[Errors], None]) -> bool:
        return self._second_thread.begin(calls, ended)

    def finish_share(self) -> None:
        self._second_thread.finish()

    async def in_idle_time(self, step: Callable[[], bool]) -> Outcome:
        try:
            return Outcome(await self.idle.run(step))
        except (OSError, SourceError) as error:
            return Outcome(error=error)

    async def in_turn(self, calls: Sequence[Call], timeout_seconds: float) -> list[Outcome]:
        if all(call.inline for call in calls):
            return [outcome_of(call) for call in calls]
        errand = _Errand(calls)
        for call in calls:
            call.lane.enter()  # while it waits for a thread too: nobody closes its file meanwhile
        try:
            async with self._slots:
                errand.start()
                with trio.move_on_after(min(timeout_seconds, SLOW_SECONDS)):
                    await errand.done.wait()
            if not errand.done.is_set():
                await errand.wait(timeout_seconds)
        finally:
            if errand.done.is_set():
                for call in calls:
                    call.lane.leave()
            else:
                errand.abandon()
        if errand.done.is_set():
            errand.failure.unwrap()
            return errand.outcomes
        done = list(errand.outcomes)
        if errand.hung is not None:
            sentence = f"{errand.hung.lane.name}: no answer within {timeout_seconds:g} s"
            done.append(Outcome(error=TimeoutError(errno.ETIMEDOUT, sentence)))
        rest = calls[len(done) :]
        return [*done, *(await self.in_turn(rest, timeout_seconds) if rest else [])]

    async def at_once(self, calls: Sequence[Call], timeout_seconds: float) -> list[Outcome]:
        if len(calls) <= 1 or all(call.inline for call in calls):
            return await self.in_turn(calls, timeout_seconds) if calls else []
        outcomes: list[Outcome] = [Outcome()] * len(calls)

        async def one(index: int) -> None:
            [outcomes[index]] = await self.in_turn([calls[index]], timeout_seconds)

        async with trio.open_nursery() as nursery:
            for index in range(len(calls)):
                nursery.start_soon(one, index)
        return outcomes
