"""Idle time: work on trio's thread, a piece at a time and a fifth of the time, whoever calls for the next piece."""

from collections.abc import Callable

import pytest
import trio

from fmrd.backing.calls.idle_time import LAG_SECONDS, PAUSE_RATIO, IdleTime
from fmrd.backing.calls.second_thread import SecondThread


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
