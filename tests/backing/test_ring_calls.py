"""Calls that are begun: told of once, given up in time, remembered until they have landed; and through a real ring."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from fmrd.backing import plexfile
from fmrd.backing.calls import ring_calls
from fmrd.backing.calls.ring_calls import RingCalls, system_calls
from fmrd.backing.calls.system_calls import Began, Call, Lane, Outcome
from fmrd.backing.owning.under_way import Process, Writing
from fmrd.backing.plexfile import PlexFile
from fmrd.backing.ring.abi import NotBegun
from fmrd.core.measures.latency import Latency
from fmrd.engine.serving.writes_under_way import Landing
from tests.waiting import LATE_SECONDS as LATE
from tests.waiting import until

SIZE = 1 << 20


@pytest.fixture
def plex(tmp_path: Path, calls: RingCalls) -> Iterator[PlexFile]:
    made = plexfile.create_plex(str(tmp_path / "p"), SIZE)
    if made.inline:
        pytest.skip("needs a temporary directory on a disk")
    made.ring = calls.ring
    yield made
    made.close()


class OnOrder:
    """A call that was begun, and ends when a test says so."""

    def __init__(self, lane: Lane, *, again: bool = False) -> None:
        self.told: list[Began] = []
        self.ran = 0
        self.latency = Latency()
        self.call = Call(lane, self._run, again=again, begin=self.told.append, latency=self.latency)

    def _run(self) -> None:
        self.ran += 1

    def end(self, error: Exception | None = None) -> None:
        self.told[0](error)


async def test_what_can_be_begun_is_begun_without_a_ring() -> None:
    """Requests to a server: no thread is taken for them, and who is not answered in time is given up."""
    system, lane = RingCalls(None), Lane("far")
    waiting: list[Began] = []
    told: list[list[Outcome]] = []
    call = Call(lane, fail, begin=waiting.append)
    system.begin([call, call], LATE, told.append)
    waiting[1](None)
    assert not told and lane.outstanding == 1
    waiting[0](None)
    assert told == [[Outcome(), Outcome()]] and not lane.outstanding
    system.begin([call], 0.01, told.append)
    await until(lambda: len(told) == 2)
    assert isinstance(told[1][0].error, TimeoutError) and lane.hung == 1
    waiting[2](None)
    assert not lane.hung and not lane.outstanding


def fail() -> None:
    raise AssertionError("it is begun, and not run")


async def test_all_are_begun_before_any_has_ended_and_told_of_in_their_order(calls: RingCalls) -> None:
    first, second = OnOrder(Lane("a")), OnOrder(Lane("b"))
    told: list[list[Outcome]] = []
    calls.begin([first.call, second.call], LATE, told.append)
    assert first.told and second.told and (first.call.lane.outstanding, second.call.lane.outstanding) == (1, 1)
    second.end(error := OSError(errno.EIO, "gone"))
    assert told == [] and second.call.lane.outstanding == 0
    first.end()
    assert told == [[Outcome(), Outcome(error=error)]] and first.call.lane.outstanding == 0


async def test_one_that_is_given_up_counts_until_it_has_landed(calls: RingCalls) -> None:
    hung, fine = OnOrder(Lane("hung")), OnOrder(Lane("fine"))
    told: list[list[Outcome]] = []
    calls.begin([hung.call, fine.call], 0.05, told.append)
    fine.end()
    await until(lambda: bool(told))
    [late, sound] = told[0]
    assert isinstance(late.error, TimeoutError) and "hung: no answer within 0.05 s" in str(late.error)
    assert sound == Outcome() and hung.call.lane.hung == hung.call.lane.outstanding == 1
    hung.end()
    assert hung.call.lane.hung == hung.call.lane.outstanding == 0 and len(told) == 1


async def test_each_call_is_timed_once_however_it_ends(calls: RingCalls) -> None:
    fine, failed, late, short, never = (OnOrder(Lane(name), again=True) for name in ("a", "b", "c", "d", "e"))
    told: list[list[Outcome]] = []
    calls.begin([each.call for each in (fine, failed, late, short, never)], 0.2, told.append)
    fine.end()
    failed.end(OSError(errno.EIO, "gone"))
    short.end(OSError(errno.ENOMEM, "short"))
    never.end(NotBegun(errno.ENOMEM, "no thread"))
    await until(lambda: bool(told))
    late.end()
    assert [sum(each.latency.buckets) for each in (fine, failed, late, short, never)] == [1] * 5
    assert late.latency.total_ns >= 0.2e9 > fine.latency.total_ns


async def test_nobody_waits_any_more(calls: RingCalls) -> None:
    one = OnOrder(Lane("one"))
    with trio.move_on_after(0.05):
        await calls.in_turn([one.call], LATE)
    assert one.call.lane.hung == 1
    one.end()
    assert one.call.lane.outstanding == 0


async def test_what_the_kernel_did_not_begin_a_thread_does(calls: RingCalls) -> None:
    """No memory, or no worker, is no fact about a disk."""
    one = OnOrder(Lane("one"))
    told: list[list[Outcome]] = []
    calls.begin([one.call], LATE, told.append)
    one.end(NotBegun(errno.ENOMEM, "no thread"))
    await until(lambda: bool(told))
    assert told == [[Outcome()]] and one.ran == 1 and one.call.lane.outstanding == 0


async def test_what_memory_was_short_for_is_run_again_by_a_thread(calls: RingCalls) -> None:
    one, last = OnOrder(Lane("one"), again=True), OnOrder(Lane("last"))
    told: list[list[Outcome]] = []
    calls.begin([one.call, last.call], LATE, told.append)
    one.end(OSError(errno.ENOMEM, "short"))
    last.end(error := OSError(errno.ENOMEM, "an fdatasync's error is told once"))
    await until(lambda: bool(told))
    assert told == [[Outcome(), Outcome(error=error)]] and (one.ran, last.ran) == (1, 0)


async def test_a_thread_that_hangs_with_what_the_kernel_did_not_begin_may_let_it_land(calls: RingCalls) -> None:
    """Nothing has landed by that the kernel began nothing."""
    lane, hung = Lane("p"), threading.Event()
    made = Landing(hung.wait, ((0, 512),))
    told: list[list[Outcome]] = []
    begun: list[Began] = []

    def begin(ended: Began) -> None:
        begun.append(lambda error: made._over(ended, error))

    calls.begin([Call(lane, made, again=True, begin=begin)], 0.2, told.append)
    begun[0](NotBegun(errno.ENOMEM, "no thread"))
    await until(lambda: bool(told))
    assert lane.hung == 1 and not made.landed
    hung.set()
    await until(lambda: not lane.hung)
    assert made.landed


async def test_others_have_as_many_workers_while_some_hang(calls: RingCalls, monkeypatch: pytest.MonkeyPatch) -> None:
    workers: list[int] = []
    monkeypatch.setattr(calls.ring, "make_up_for", workers.append)
    hung = [OnOrder(Lane("a")), OnOrder(Lane("b"))]
    told: list[list[Outcome]] = []
    calls.begin([each.call for each in hung], 0.05, told.append)
    await until(lambda: bool(told))
    for each in hung:
        each.end()
    assert workers == [1, 2, 1, 0] and calls.idle.hung == 0


async def test_what_has_ended_is_not_given_up_though_nobody_looked(
    calls: RingCalls, plex: PlexFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop stood still, and whoever asks who waits too long comes first."""
    monkeypatch.setattr(calls, "_reap", trio.sleep_forever)
    monkeypatch.setattr(ring_calls, "LOOK_SECONDS", 0.01)
    told: list[list[Outcome]] = []
    calls.begin([writing(plex, Lane("p"), 0, b"x")], 0.0, told.append)
    assert told or calls.idle.waits_with(calls.ring.fileno(), LATE)
    await until(lambda: bool(told))
    assert told == [[Outcome()]]


async def test_where_one_cannot_be_begun_a_thread_does_that(calls: RingCalls) -> None:
    one, ran = OnOrder(Lane("one")), list[int]()
    told: list[list[Outcome]] = []
    calls.begin([one.call, Call(Lane("two"), lambda: ran.append(2))], LATE, told.append)
    await until(lambda: ran == [2])
    one.end()
    await until(lambda: bool(told))
    assert one.ran == 0


def writing(plex: PlexFile, lane: Lane, offset: int, data: bytes) -> Call:
    def begin(ended: Began) -> None:
        plex.begin_pwrite(offset, data, ended)

    return Call(lane, lambda: plex.pwrite(offset, data), again=True, begin=begin)


async def test_writes_and_an_fdatasync_for_real(calls: RingCalls, plex: PlexFile) -> None:
    lane = Lane("p")
    writes = [writing(plex, lane, at << 12, bytes([at + 1]) * 4096) for at in range(64)]
    assert await calls.at_once(writes, LATE) == [Outcome()] * 64
    assert await calls.at_once([Call(lane, plex.fdatasync, begin=plex.begin_fdatasync)], LATE) == [Outcome()]
    assert lane.outstanding == 0 and calls.ring.outstanding == 0
    assert plex.pread(0, 64 << 12) == b"".join(bytes([at + 1]) * 4096 for at in range(64))


async def test_a_file_that_somebody_cut_is_not_made_longer(calls: RingCalls, plex: PlexFile) -> None:
    os.truncate(plex.path, SIZE // 2)
    [outcome] = await calls.at_once([writing(plex, Lane("p"), SIZE - 4, b"last")], LATE)
    assert outcome.error is not None and "changed by somebody else" in str(outcome.error)
    [outcome] = await calls.at_once([Call(Lane("p"), plex.fdatasync, begin=plex.begin_fdatasync)], LATE)
    assert outcome.error is not None and os.stat(plex.path).st_size == SIZE // 2


async def test_a_write_that_came_to_an_end_too_early_goes_on(calls: RingCalls, plex: PlexFile) -> None:
    told: list[Exception | None] = []
    real = calls.ring.write
    asked: list[tuple[int, int]] = []

    def short(descriptor, address, length, offset, ended, keep, in_worker=False):  # type: ignore[no-untyped-def]  # Ring.write's own signature
        asked.append((offset, length))
        real(descriptor, address, min(length, 3), offset, ended, keep, in_worker)

    calls.ring.write = short  # type: ignore[method-assign]  # a disk that takes three bytes at a time
    plex.begin_pwrite(10, b"12345678", told.append)
    calls.idle.hand_over()
    while not told:
        assert calls.idle.waits_with(calls.ring.fileno(), LATE)
        calls.idle.hand_over()
    assert told == [None] and asked == [(10, 8), (13, 5), (16, 2)]
    assert plex.pread(9, 10) == b"\x0012345678\x00"


async def test_the_next_process_is_told_what_was_handed_over(calls: RingCalls, plex: PlexFile) -> None:
    """Noted from the push on; whoever comes then may ask while this thread has not ended."""
    told: list[Exception | None] = []
    me, this_thread = Process.this(), f"/proc/{os.getpid()}/task/{threading.get_native_id()}"
    assert me._writes(this_thread) == set()
    plex.begin_pwrite(0, b"x", told.append)
    with Writing(other := (7, 7)):
        assert me._writes(this_thread) == {plex.file, other}
    while not told:
        calls.ring.wait(LATE)
    assert me._writes(this_thread) == set()


async def test_a_closed_file(calls: RingCalls, plex: PlexFile) -> None:
    plex.close()
    [outcome] = await calls.at_once([writing(plex, Lane("p"), 0, b"x")], LATE)
    assert isinstance(outcome.error, OSError) and outcome.error.errno == errno.EBADF


async def test_without_a_ring_it_is_said_why(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert system_calls(uring=False).ring is None
    monkeypatch.setattr(ring_calls, "open_ring", lambda: "the kernel has none")
    assert system_calls().ring is None
    assert [record.message for record in caplog.records] == [
        "writes to disks take threads: it is switched off", "writes to disks take threads: the kernel has none",
    ]  # fmt: skip


async def test_nobody_wakes_up_while_nothing_is_under_way_and_later_ones_are_given_up_all_the_same(
    calls: RingCalls,
) -> None:
    told: list[list[Outcome]] = []
    first, second = OnOrder(Lane("a")), OnOrder(Lane("b"))
    calls.begin([first.call], LATE, told.append)
    first.end()
    await until(lambda: calls._some is not None)
    calls.begin([second.call], 0.05, told.append)
    await until(lambda: len(told) == 2)
    assert isinstance(told[1][0].error, TimeoutError)
    second.end()


async def test_what_could_not_even_be_begun_is_run_by_a_thread(calls: RingCalls) -> None:
    lane, ran = Lane("p"), []
    told: list[list[Outcome]] = []

    def begin(ended: Began) -> None:
        raise OSError(errno.ENOMEM, "no memory for it")

    calls.begin([Call(lane, lambda: ran.append(1), begin=begin)], LATE, told.append)
    await until(lambda: bool(told))
    assert told[0][0].error is None and ran == [1]
    assert (lane.outstanding, lane.hung, calls.idle.hung) == (0, 0, 0)
