"""All calls of a write begin before one is waited for (engine/far/together.py)."""

from collections.abc import Callable

import pytest
import trio

from fmrd.backing.calls.ring_calls import RingCalls, system_calls
from fmrd.backing.calls.system_calls import Began, Call, Lane, Outcome
from fmrd.backing.calls.threaded_calls import ThreadedCalls
from fmrd.engine.far import together

pytestmark = pytest.mark.usefixtures("calls")


@pytest.fixture
async def calls() -> ThreadedCalls:
    return system_calls()


class Far:
    """A far side that answers when it is told to."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.ended: Began | None = None

    def begin(self, ended: Began) -> None:
        self.log.append("far begun")
        self.ended = ended

    def run(self) -> None:
        raise AssertionError("it is begun")

    @property
    def call(self) -> Call:
        return Call(Lane("far"), self.run, begin=self.begin)

    def answer(self, error: Exception | None = None) -> None:
        assert self.ended is not None
        self.log.append("far answered")
        self.ended(error)


def here(log: list[str], what: str, *, inline: bool = False, done: Callable[[], object] = lambda: None) -> Call:
    def run() -> str:
        log.append(what)
        done()
        return what

    return Call(Lane("near"), run, inline=inline)


async def test_what_takes_a_thread_runs_while_the_far_one_is_under_way(calls: ThreadedCalls) -> None:
    log: list[str] = []
    far = Far(log)
    token = trio.lowlevel.current_trio_token()
    near = here(log, "near", done=lambda: token.run_sync_soon(far.answer))
    with trio.fail_after(60):
        outcomes = await together.carry_out(calls, [near, far.call], 30.0)
    assert log == ["far begun", "near", "far answered"]
    assert [outcome.value for outcome in outcomes] == ["near", None], "in the order in which they were given"


@pytest.mark.parametrize("error", [None, OSError(5, "lost")])
async def test_what_does_not_block_is_done_when_the_far_one_has_begun(
    calls: ThreadedCalls, error: Exception | None
) -> None:
    log: list[str] = []
    far = Far(log)
    told: list[list[Outcome]] = []
    together.begin(calls, [here(log, "near", inline=True), far.call], 30.0, told.append)
    assert log == ["far begun", "near"] and not told
    far.answer(error)
    [[first, second]] = told
    assert (first.value, second.error) == ("near", error)


async def test_one_that_ends_at_once_is_told_of_once(calls: ThreadedCalls) -> None:
    log: list[str] = []
    told: list[list[Outcome]] = []
    at_once = Call(Lane("far"), lambda: None, begin=lambda ended: ended(None))
    together.begin(calls, [at_once, here(log, "near", inline=True)], 30.0, told.append)
    assert len(told) == 1 and [outcome.value for outcome in told[0]] == [None, "near"]


async def test_where_none_is_far_nothing_changes() -> None:
    log: list[str] = []
    outcomes = await together.carry_out(ThreadedCalls(), [here(log, "a"), here(log, "b")], 30.0)
    assert log == ["a", "b"] and [outcome.value for outcome in outcomes] == ["a", "b"]
    assert RingCalls.in_turn is not ThreadedCalls.in_turn
