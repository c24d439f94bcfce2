"""System calls are run for real here: on trio's worker threads, and in place where they cannot block.

A call that is given up goes on; its thread delivers it when it lands, and until then its lane counts it.
"""

import contextlib
import errno
import threading
import time
from collections.abc import Callable, Sequence

import outcome
import trio

from fmrd.backing.calls.idle_time import IdleTime
from fmrd.backing.calls.second_thread import Errors, SecondThread
from fmrd.backing.calls.system_calls import Call, Ended, Outcome, outcome_of
from fmrd.backing.protocol import SourceError
from fmrd.backing.ring.buffers import Pool
from fmrd.backing.ring.ring import Ring
from fmrd.errors import Failed, is_exhaustion, no_thread

THREADS = 64
"""Calls under way at once."""


NO_THREAD_SECONDS = 0.05
"""After so long a thread is asked for again."""
PAUSES_SECONDS = (0.01, 0.1, 0.3, 1.0)
"""Before a call that memory or descriptors were short for is tried again."""
POOLED_BYTES = range(64 << 10, (1 << 20) + 1)
"""Reads of so many bytes go into memory that is used again: of new memory each page has to be found, and made zeros."""
POOLED = 16
SLOW_SECONDS = 1.0
"""After this a call no longer counts as one of them: a disk that hangs holds up the others' calls no longer."""


class _Errand:
    """The calls of one hop. A call is claimed before it is run, so that one given up in time is never run late."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = calls
        self.outcomes: list[Outcome] = []
        self.took_ns: list[int] = []
        """By each of them."""
        self.done = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._lock = threading.Lock()
        self._running: Call | None = None
        self._clock = trio.lowlevel.current_clock()
        """Not the system's: time in which the daemon itself stood still is not the disk's."""
        self._since = 0.0
        self.failure: outcome.Outcome[None] = outcome.Value(None)
        self._abandoned = False
        self.hung: Call | None = None

    def start(self) -> None:
        self._since = self._clock.current_time()
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
                self._since = self._clock.current_time()
            began = time.perf_counter_ns()
            result = _outcome_in_the_end(call)
            took = time.perf_counter_ns() - began
            with self._lock:
                self._running = None
                if self._abandoned:
                    return
                self.took_ns.append(took)
                self.outcomes.append(result)

    def deliver(self, result: "outcome.Outcome[None]") -> None:
        """On the worker thread, when ``run`` has ended."""
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._landed, result)

    def _landed(self, result: "outcome.Outcome[None]") -> None:
        if self.hung is not None:
            self.hung.lane.landed(self.hung)
        self.failure = result
        self.done.set()

    def patience(self, timeout_seconds: float) -> float:
        """How much longer the call that is running now may take."""
        with self._lock:
            return self._since + timeout_seconds - self._clock.current_time()

    def abandon(self) -> None:
        """Give up the call that is running; those behind it are never run, those before it have their outcomes."""
        with self._lock:
            self._abandoned = True
            self.hung = self._running
            behind = len(self.outcomes) + (self.hung is not None)
        if self.hung is not None:
            self.hung.lane.give_up(self.hung)
            _count(self.hung, int((self._clock.current_time() - self._since) * 1e9))
        for call in [*self.calls[: len(self.outcomes)], *self.calls[behind:]]:
            call.lane.leave()

    def count(self) -> None:
        """Count how long its calls took: on trio's thread, as all that is counted."""
        for call, took in zip(self.calls, self.took_ns, strict=False):
            _count(call, took)


async def _begin(errand: _Errand, timeout_seconds: float) -> Failed | None:
    """Where no thread can be had, one may be free in a moment: others' calls end."""
    until = trio.current_time() + timeout_seconds
    while True:
        try:
            errand.start()
        except RuntimeError as error:  # can't start new thread
            if trio.current_time() >= until:
                return no_thread(error)
            await trio.sleep(NO_THREAD_SECONDS)
        else:
            return None


def _count(call: Call, ns: int) -> None:
    if call.latency is not None:
        call.latency.add(max(0, ns))


def _outcome_here(call: Call) -> Outcome:
    """Of one that cannot block."""
    if call.latency is None:
        return outcome_of(call)
    began = time.perf_counter_ns()
    result = outcome_of(call)
    call.latency.add(time.perf_counter_ns() - began)
    return result


def _outcome_in_the_end(call: Call) -> Outcome:
    """On the worker thread. What memory or descriptors were short for is tried again for a while."""
    result = outcome_of(call)
    for pause in PAUSES_SECONDS if call.again else ():
        if not is_exhaustion(_of_storage(result.error)):
            break
        time.sleep(pause)
        result = outcome_of(call)
    return result


def _of_storage(error: Exception | None) -> Exception | None:
    return error.error if isinstance(error, SourceError) else error


class ThreadedCalls:
    """This is SystemCalls for real, on trio's worker threads: ``threads`` calls run at once, not counting slow ones."""

    ring: Ring | None = None

    def __init__(self, threads: int = THREADS) -> None:
        self._slots = trio.Semaphore(threads)
        self._second_thread = SecondThread()
        self.idle = IdleTime(self._second_thread)
        self._memory = Pool(POOLED_BYTES[-1], POOLED)

    def share(self, calls: Sequence[Callable[[], object]], ended: Callable[[Errors], None]) -> bool:
        return self._second_thread.begin(calls, ended)

    def memory(self, length: int) -> memoryview:
        spare = self._memory.spare() if length in POOLED_BYTES else None
        return spare[:length] if spare is not None else memoryview(bytearray(length))

    def submit(self) -> None:
        """What was begun is on its way."""

    def finish_share(self) -> None:
        self._second_thread.finish()

    async def in_idle_time(self, step: Callable[[], bool]) -> Outcome:
        try:
            return Outcome(await self.idle.run(step))
        except (OSError, SourceError) as error:
            return Outcome(error=error)

    async def in_turn(self, calls: Sequence[Call], timeout_seconds: float) -> list[Outcome]:
        if all(call.inline for call in calls):
            return [_outcome_here(call) for call in calls]
        errand = _Errand(calls)
        for call in calls:
            call.lane.enter()  # while it waits for a thread too: nobody closes its file meanwhile
        try:
            async with self._slots:
                problem = await _begin(errand, timeout_seconds)
                if problem is not None:
                    return [Outcome(error=problem)] * len(calls)
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
            errand.count()
        if errand.done.is_set():
            errand.failure.unwrap()
            return errand.outcomes
        done = list(errand.outcomes)
        if errand.hung is not None:
            sentence = f"{errand.hung.lane.name}: no answer within {timeout_seconds:g} s"
            done.append(Outcome(error=TimeoutError(errno.ETIMEDOUT, sentence)))
        rest = calls[len(done) :]
        return [*done, *(await self.in_turn(rest, timeout_seconds) if rest else [])]

    def begin(self, calls: Sequence[Call], timeout_seconds: float, ended: Ended) -> None:
        async def run() -> None:
            ended(await self.at_once(calls, timeout_seconds))

        trio.lowlevel.spawn_system_task(run)

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
