"""Idle time: work on trio's thread, a piece at a time and a fifth of the time, whoever calls for the next piece."""

import os
from collections.abc import Callable, Iterator

import pytest
import trio

from fmrd.backing.calls.idle_time import LAG_SECONDS, PAUSE_RATIO, SELECTABLE, IdleTime
from fmrd.backing.calls.second_thread import SecondThread
from fmrd.backing.ring.buffers import address_of
from fmrd.backing.ring.probe import open_ring
from fmrd.backing.ring.ring import Ring
from tests.waiting import LATE_SECONDS


class Bench:
    """A clock that only work moves on."""

    def __init__(self) -> None:
        self.now, self.piece_seconds = 1000.0, 1.0
        self.done: list[str] = []
        self.idle = IdleTime(SecondThread(), lambda: self.now)

    def work(self, name: str, pieces: int = 1000) -> Callable[[], bool]:
        left = [pieces]

        def step() -> bool:
            self.done.append(name)
            self.now += self.piece_seconds
            left[0] -= 1
            return left[0] > 0

        return step

    async def begun(self, nursery: trio.Nursery, name: str, pieces: int = 1000) -> None:
        """Its first piece is done, or it waits behind another one."""
        nursery.start_soon(self.idle.run, self.work(name, pieces))
        await rounds()

    def used(self, at: float) -> bool:
        self.now = at
        return self.idle.use()


async def rounds() -> None:
    """Of the event loop."""
    for _ in range(5):
        await trio.lowlevel.checkpoint()


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_work_goes_on_by_itself_until_it_says_that_it_is_done() -> None:
    done: list[int] = []

    def step() -> bool:
        done.append(len(done))
        return len(done) < 20

    idle = IdleTime(SecondThread())
    await idle.run(step)
    assert done == list(range(20)) and not idle.use()


async def test_after_a_piece_others_have_their_share(bench: Bench, nursery: trio.Nursery) -> None:
    await bench.begun(nursery, "a")
    assert bench.done == ["a"], "the clock stands still: no more is due"
    assert not bench.used(1000 + PAUSE_RATIO)
    assert bench.used(1001 + PAUSE_RATIO)
    assert not bench.used(1001 + 2 * PAUSE_RATIO)
    await rounds()
    assert len(bench.done) == 2


async def test_what_was_missed_is_made_up_for_within_bounds(bench: Bench, nursery: trio.Nursery) -> None:
    """Under load some pieces follow each other; after a pause no flood does."""
    bench.piece_seconds = LAG_SECONDS / 10
    await bench.begun(nursery, "a")
    bench.done.clear()
    bench.now = 5000.0
    while bench.idle.use():
        pass
    assert len(bench.done) == 10 / (1 + PAUSE_RATIO) + 1


async def test_one_work_after_the_other(bench: Bench, nursery: trio.Nursery) -> None:
    await bench.begun(nursery, "a", 2)
    await bench.begun(nursery, "b", 2)
    for at in (2000, 3000, 4000):
        assert bench.used(at)
    assert bench.done == ["a", "a", "b", "b"]
    assert not bench.used(5000)


async def test_an_error_is_raised_to_whom_it_concerns(bench: Bench, nursery: trio.Nursery) -> None:
    """Not to who called for the piece."""
    raised: list[Exception] = []

    def fails() -> bool:
        raise OSError("no")

    async def ask() -> None:
        try:
            await bench.idle.run(fails)
        except OSError as error:
            raised.append(error)

    await bench.begun(nursery, "a", 2)
    nursery.start_soon(ask)
    await rounds()
    assert bench.used(2000) and bench.used(3000)
    assert not raised
    await rounds()
    assert [str(error) for error in raised] == ["no"]
    assert not bench.used(4000)


async def test_a_cancelled_work_is_not_gone_on_with(bench: Bench, nursery: trio.Nursery) -> None:
    scope = trio.CancelScope()

    async def run() -> None:
        with scope:
            await bench.idle.run(bench.work("a"))

    nursery.start_soon(run)
    await rounds()
    assert bench.done == ["a"]
    scope.cancel()
    await rounds()
    assert not bench.used(9000)
    assert bench.done == ["a"]


@pytest.fixture
def ring() -> Iterator[Ring]:
    made = open_ring(8)
    if not isinstance(made, Ring):
        pytest.skip(made)
    yield made
    made.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_while_something_is_in_the_ring_a_request_or_an_end_is_waited_for(ring: Ring, pipe: tuple[int, int]) -> None:
    """A read of an empty pipe does not end: whatever hangs there holds up nobody's request."""
    idle, requests = IdleTime(SecondThread()), os.pipe()
    idle.ring = ring
    assert not idle.waits_with(requests[0], LATE_SECONDS), "nothing is under way"
    told: list[int] = []
    ring.read(pipe[0], address_of(buffer := bytearray(1)), 1, 0, told.append, buffer)
    assert not idle.use() and ring.outstanding == 1
    assert not idle.waits_with(requests[0], 0.0)
    os.write(requests[1], b"r")
    assert idle.waits_with(requests[0], LATE_SECONDS) and told == []
    os.read(requests[0], 1)
    os.write(pipe[1], b"e")
    assert idle.waits_with(requests[0], LATE_SECONDS)
    assert idle.use() and told == [1] and buffer == b"e"
    assert not idle.waits_with(requests[0], LATE_SECONDS)
    for end in requests:
        os.close(end)


def test_a_descriptor_that_cannot_be_asked_of_is_not_waited_for(ring: Ring, pipe: tuple[int, int]) -> None:
    idle, told = IdleTime(SecondThread()), list[int]()
    idle.ring = ring
    ring.read(pipe[0], address_of(buffer := bytearray(1)), 1, 0, told.append, buffer)
    ring.submit()
    assert not idle.waits_with(SELECTABLE, LATE_SECONDS)
    os.write(pipe[1], b"e")
    assert idle.waits_with(pipe[1], LATE_SECONDS)
    assert idle.use() and told == [1]


def test_what_a_step_pushed_is_handed_over_at_its_end(ring: Ring, pipe: tuple[int, int]) -> None:
    idle, told = IdleTime(SecondThread()), list[int]()
    idle.ring = ring
    os.write(pipe[1], b"e")
    idle.begin_step()
    ring.read(pipe[0], address_of(buffer := bytearray(1)), 1, 0, told.append, buffer)
    idle.end_step()
    assert told == [1] or idle.waits_with(pipe[1], LATE_SECONDS)
    while not told:
        idle.use()
    assert buffer == b"e"
