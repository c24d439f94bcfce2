"""The daemon's clock, with a machine's that a test moves."""

import threading
import time

import pytest
import trio

from fmrd.backing.calls.system_calls import Call, Lane
from fmrd.backing.calls.threaded_calls import ThreadedCalls
from fmrd.front.daemon.attention import ABSENT_SECONDS, LOOK_SECONDS, Attention
from tests.waiting import until


class Machine:
    """Its time, and how much of that passes while nobody runs."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_it_counts_what_is_looked_at_and_no_gap(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    clock = Attention(machine)
    clock.start_clock()
    for _ in range(10):
        machine.seconds += LOOK_SECONDS
        clock.current_time()
    assert clock.current_time() == pytest.approx(10.0)
    machine.seconds += 60.0
    assert clock.current_time() == pytest.approx(10.0)
    assert "stood still for 60.0 s" in caplog.text
    machine.seconds += 0.5
    assert clock.current_time() == pytest.approx(10.5)


def test_nobody_sleeps_longer_than_it_looks() -> None:
    clock = Attention(Machine())
    assert clock.deadline_to_sleep_time(0.25) == 0.25
    assert clock.deadline_to_sleep_time(float("inf")) == LOOK_SECONDS < ABSENT_SECONDS


def test_a_thread_that_asks_has_not_looked_for_the_loop() -> None:
    machine = Machine()
    clock = Attention(machine)
    machine.seconds += 60.0
    for _ in range(2):
        thread = threading.Thread(target=clock.current_time)
        thread.start()
        thread.join()
    assert clock.current_time() == pytest.approx(0.0)


def test_a_call_that_answers_when_the_daemon_runs_again_was_in_time() -> None:
    """The process stands still, and its loop wakes up with the limit of the call long over."""
    begun, landed = threading.Event(), threading.Event()
    skipped = Machine()

    def call() -> str:
        begun.set()
        assert landed.wait(30.0)
        return "there"

    async def main() -> object:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stand_still)
            [found] = await ThreadedCalls().in_turn([Call(Lane("p"), call)], 5.0)
        assert found.error is None
        return found.value

    async def stand_still() -> None:
        await until(begun.is_set)
        before = clock.current_time()
        skipped.seconds = 3600.0
        await until(lambda: clock.current_time() > before)
        landed.set()

    clock: trio.abc.Clock = Attention(lambda: time.perf_counter() + skipped.seconds)
    assert trio.run(main, clock=clock) == "there"


def test_a_call_that_hangs_while_the_daemon_runs_is_given_up() -> None:
    over = threading.Event()

    async def main() -> object:
        [found] = await ThreadedCalls().in_turn([Call(Lane("p"), lambda: over.wait(30.0))], 0.05)
        over.set()
        return type(found.error)

    assert trio.run(main, clock=Attention()) is TimeoutError
