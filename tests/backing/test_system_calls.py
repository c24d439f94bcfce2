"""System calls off trio's thread: in order, given up in time, remembered until they have landed."""

import errno
import threading
from collections.abc import Iterator, Sequence, Sized
from functools import partial
from typing import cast

import pytest
import trio

from fmrd.backing.calls import threaded_calls
from fmrd.backing.calls.system_calls import Call, Lane, Outcome, ask
from fmrd.backing.calls.threaded_calls import POOLED, POOLED_BYTES, ThreadedCalls
from fmrd.backing.protocol import SourceError
from fmrd.backing.ring.buffers import address_of
from fmrd.errors import Failed
from tests.waiting import LATE_SECONDS as LATE
from tests.waiting import until

SOON = 0.05
"""A timeout for what never answers."""


class Hang:
    """A system call that returns when it is let go, from a disk that does not answer until then."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self._let_go = threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self._let_go.wait(LATE), "nobody let go of it"
        return "late"

    def let_go(self) -> None:
        self._let_go.set()


@pytest.fixture
def hang() -> Iterator[Hang]:
    made = Hang()
    yield made
    made.let_go()


@pytest.fixture
def lane() -> Lane:
    return Lane("p")


def fail(error: Exception) -> None:
    raise error


async def test_in_turn_means_in_this_order_and_on_one_thread(lane: Lane) -> None:
    ran: list[tuple[int, int]] = []

    def note(number: int) -> int:
        ran.append((number, threading.get_ident()))
        return number * 10

    outcomes = await ThreadedCalls().in_turn([Call(lane, partial(note, n)) for n in range(5)], LATE)
    assert outcomes == [Outcome(n * 10) for n in range(5)]
    assert [n for n, _ in ran] == [0, 1, 2, 3, 4]
    assert len({thread for _, thread in ran}) == 1 and ran[0][1] != threading.get_ident()
    assert lane.outstanding == 0


async def test_at_once_means_side_by_side(lane: Lane) -> None:
    meeting = threading.Barrier(3, timeout=LATE)
    outcomes = await ThreadedCalls().at_once([Call(lane, meeting.wait)] * 3, LATE)
    assert sorted(o.value for o in outcomes) == [0, 1, 2]


async def test_calls_that_cannot_block_need_no_thread(lane: Lane) -> None:
    calls = [Call(lane, threading.get_ident, inline=True)] * 2
    for way in (ThreadedCalls().in_turn, ThreadedCalls().at_once):
        assert await way(calls, LATE) == [Outcome(threading.get_ident())] * 2


async def test_no_calls_are_no_trouble() -> None:
    assert await ThreadedCalls().in_turn([], LATE) == []
    assert await ThreadedCalls().at_once([], LATE) == []


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "on a thread"])
@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "io"), SourceError(OSError(errno.EIO, "io")), Failed("io_error", "no")], ids=type
)
async def test_a_failure_of_storage_is_an_outcome_and_the_rest_still_runs(
    lane: Lane, error: Exception, inline: bool
) -> None:
    calls = [Call(lane, partial(fail, error), inline), Call(lane, lambda: "ran", inline)]
    assert await ThreadedCalls().in_turn(calls, LATE) == [Outcome(error=error), Outcome("ran")]


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "on a thread"])
async def test_a_bug_is_no_outcome(lane: Lane, inline: bool) -> None:
    with pytest.raises(ZeroDivisionError):
        await ThreadedCalls().in_turn([Call(lane, lambda: 1 // 0, inline)], LATE)
    assert lane.outstanding == 0


async def test_what_hangs_is_given_up_and_remembered_until_it_lands(lane: Lane, hang: Hang) -> None:
    other = Lane("q")
    [first, given_up, last] = await ThreadedCalls().in_turn(
        [Call(other, lambda: "before"), Call(lane, hang), Call(other, lambda: "behind")], SOON
    )
    assert first == Outcome("before") and last == Outcome("behind"), "a new hop served it"
    assert isinstance(given_up.error, TimeoutError) and given_up.error.errno == errno.ETIMEDOUT
    assert (lane.outstanding, lane.hung, other.outstanding) == (1, 1, 0)
    assert "p: no answer" in str(given_up.error)
    with trio.move_on_after(0) as scope:
        await lane.idle()
    assert scope.cancelled_caught
    hang.let_go()
    with trio.fail_after(LATE):
        await lane.idle()
    assert (lane.outstanding, lane.hung) == (0, 0)


async def test_each_call_of_an_errand_has_the_whole_timeout(lane: Lane) -> None:
    """Five calls that take 0.6 of a timeout each."""
    pauses = [threading.Event() for _ in range(5)]
    outcomes = await ThreadedCalls().in_turn([Call(lane, partial(p.wait, 0.3)) for p in pauses], 0.5)
    assert [o.error for o in outcomes] == [None] * 5


async def test_a_lane_is_idle_when_its_last_call_has_landed(lane: Lane) -> None:
    hangs = [Hang(), Hang()]
    await ThreadedCalls().at_once([Call(lane, hang) for hang in hangs], SOON)
    assert lane.outstanding == 2
    async with trio.open_nursery() as nursery:
        idle = trio.Event()

        async def wait() -> None:
            await lane.idle()
            idle.set()

        nursery.start_soon(wait)
        hangs[0].let_go()
        await until(lambda: lane.outstanding == 1)
        assert not idle.is_set()
        hangs[1].let_go()
        with trio.fail_after(LATE):
            await idle.wait()


async def test_calls_that_hang_do_not_use_up_the_threads(lane: Lane) -> None:
    threads = ThreadedCalls(threads=2)
    hangs = [Hang() for _ in range(7)]
    outcomes = await threads.at_once([Call(lane, hang) for hang in hangs], SOON)
    assert all(isinstance(o.error, TimeoutError) for o in outcomes)
    assert await threads.in_turn([Call(Lane("q"), lambda: "served")], LATE) == [Outcome("served")]
    for hang in hangs:
        hang.let_go()
    with trio.fail_after(LATE):
        await lane.idle()
    meeting = threading.Barrier(2, timeout=LATE)
    assert len(await threads.at_once([Call(lane, meeting.wait)] * 2, LATE)) == 2, "both threads are still there"


async def test_a_disk_that_hangs_soon_holds_up_the_calls_of_others_no_more(
    lane: Lane, hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threaded_calls, "SLOW_SECONDS", SOON)
    shared = ThreadedCalls(threads=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shared.in_turn, [Call(lane, hang)], LATE)
        await until(hang.begun.is_set)
        assert await shared.in_turn([Call(Lane("q"), lambda: "served")], LATE) == [Outcome("served")]
        assert (lane.outstanding, lane.hung) == (1, 0), "it may still answer in time"
        hang.let_go()


async def test_a_call_that_waits_for_a_thread_is_outstanding(lane: Lane, hang: Hang) -> None:
    shared = ThreadedCalls(threads=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shared.in_turn, [Call(Lane("q"), hang)], LATE)
        await until(hang.begun.is_set)
        nursery.start_soon(shared.in_turn, [Call(lane, lambda: None)], LATE)
        await until(lambda: lane.outstanding == 1)
        hang.let_go()
    assert lane.outstanding == 0


async def test_no_more_threads_than_allowed(lane: Lane) -> None:
    guard = threading.Lock()
    running = most = 0

    def call() -> None:
        nonlocal running, most
        with guard:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.002)
        with guard:
            running -= 1

    await ThreadedCalls(threads=3).at_once([Call(lane, call)] * 20, LATE)
    assert most == 3


async def test_a_cancelled_errand_runs_nothing_more_and_leaves_only_what_runs(lane: Lane, hang: Hang) -> None:
    other = Lane("q")
    ran: list[str] = []
    threads = ThreadedCalls(threads=1)
    async with trio.open_nursery() as nursery:
        calls = [Call(other, lambda: ran.append("first")), Call(lane, hang), Call(other, lambda: ran.append("last"))]
        nursery.start_soon(threads.in_turn, calls, LATE)
        await until(hang.begun.is_set)
        nursery.cancel_scope.cancel()
    assert (lane.outstanding, other.outstanding) == (1, 0)
    hang.let_go()
    with trio.fail_after(LATE):
        await lane.idle()
    assert ran == ["first"]
    assert await threads.in_turn([Call(lane, lambda: 1)], LATE) == [Outcome(1)], "its thread came free"


async def test_cancelled_before_its_turn_it_never_runs(lane: Lane, hang: Hang) -> None:
    threads = ThreadedCalls(threads=1)
    ran: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(threads.in_turn, [Call(lane, hang)], LATE)
        await until(hang.begun.is_set)
        with trio.move_on_after(SOON):
            await threads.in_turn([Call(lane, lambda: ran.append("ran"))], LATE)
        assert lane.outstanding == 1
        hang.let_go()
    assert ran == [] and lane.outstanding == 0


async def test_ask_returns_the_value_or_raises_the_error(lane: Lane) -> None:
    assert await ask(ThreadedCalls(), lane, lambda: 42, LATE) == 42
    with pytest.raises(Failed, match="plex_busy"):
        await ask(ThreadedCalls(), lane, partial(fail, Failed("plex_busy", "no")), LATE)


class Opened:
    def __init__(self) -> None:
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()


@pytest.mark.parametrize("paired", [False, True], ids=["alone", "in a pair"])
async def test_what_is_opened_too_late_is_closed_again(lane: Lane, hang: Hang, paired: bool) -> None:
    opened = Opened()
    with pytest.raises(TimeoutError):
        await ask(ThreadedCalls(), lane, lambda: (hang(), (opened, True) if paired else opened)[1], SOON)
    assert not opened.closed.is_set()
    hang.let_go()
    await until(opened.closed.is_set)


async def test_what_is_opened_for_one_who_went_away_is_closed_again(lane: Lane, hang: Hang) -> None:
    opened = Opened()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, ThreadedCalls(), lane, lambda: (hang(), opened)[1], LATE)
        await until(hang.begun.is_set)
        nursery.cancel_scope.cancel()
    hang.let_go()
    await until(opened.closed.is_set)


async def test_what_lands_as_it_is_given_up_is_closed_too(lane: Lane) -> None:
    """The call has ended, and the answer crosses the giving up: whoever asked has an error, nobody has the value."""
    opened = Opened()

    class Crossing:
        async def at_once(self, calls: list[Call], timeout_seconds: float) -> list[Outcome]:
            for call in calls:
                call.run()
            return [Outcome(error=TimeoutError(errno.ETIMEDOUT, "no answer"))]

    with pytest.raises(TimeoutError):
        await ask(Crossing(), lane, lambda: opened, LATE)  # type: ignore[arg-type]  # at_once is all that ask uses
    assert opened.closed.is_set()


async def test_what_nobody_waits_for_any_more_is_closed_off_trios_thread() -> None:
    """It answered, and whoever asked was gone: closing it may hang like any call."""

    class Opened:
        closed_by = 0

        def close(self) -> None:
            self.closed_by = threading.get_ident()

    class TooLate(ThreadedCalls):
        asked = 0

        async def at_once(self, calls: Sequence[Call], timeout_seconds: float) -> list[Outcome]:
            self.asked += 1
            outcomes = await super().at_once(calls, timeout_seconds)
            if self.asked == 1:
                raise RuntimeError("gone")
            return outcomes

    opened = Opened()
    with pytest.raises(RuntimeError, match="gone"):
        await ask(TooLate(), Lane("a"), lambda: opened, 5.0)
    assert opened.closed_by not in (0, threading.get_ident())


async def test_memory_for_large_reads_is_used_again_once_nobody_refers_to_it() -> None:
    calls, size = ThreadedCalls(), POOLED_BYTES[-1]
    first, second = calls.memory(size), calls.memory(size // 2)
    where = address_of(first)
    assert (len(first), len(second)) == (size, size // 2) and address_of(second) != where
    part = first[4096:8192]
    del first
    third = calls.memory(size)
    assert address_of(third) != where, "a part of it is somebody's"
    del part
    assert address_of(calls.memory(size)) == where
    for length in (1, POOLED_BYTES[0] - 1, size + 1):
        assert bytes(calls.memory(length)) == bytes(length), "of its own"


async def test_beyond_what_is_used_again_memory_is_as_long_as_what_is_read() -> None:
    """What is made for one read alone, and for all of a piece, is dear."""
    calls = ThreadedCalls()
    held = [calls.memory(POOLED_BYTES[0]) for _ in range(POOLED + 2)]
    assert [len(cast(Sized, view.obj)) > POOLED_BYTES[0] for view in held] == [True] * POOLED + [False] * 2
    del held[0]
    assert len(cast(Sized, calls.memory(POOLED_BYTES[0]).obj)) > POOLED_BYTES[0]
