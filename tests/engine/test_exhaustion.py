"""No open files, no memory, no threads: errors of their own, and never a fact about a disk."""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from fmrd.backing.calls import threaded_calls
from fmrd.backing.calls.second_thread import SecondThread
from fmrd.backing.calls.system_calls import Call, Lane, outcome_of
from fmrd.backing.calls.threaded_calls import ThreadedCalls
from fmrd.errors import Failed, FmrdError
from tests.engine.faulty import Operation
from tests.engine.rig import Rig, daemon
from tests.waiting import until

CODES = [errno.EMFILE, errno.ENFILE, errno.ENOMEM]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threaded_calls, "PAUSES_SECONDS", (0.0, 0.0, 0.0))
    monkeypatch.setattr(threaded_calls, "NO_THREAD_SECONDS", 0.0)


@contextmanager
def short(rig: Rig, *names: str, code: int, times: int) -> Iterator[list[Operation]]:
    """These operations find nothing left, on whatever file, the first ``times`` times."""
    failed: list[Operation] = []

    def hook(operation: Operation) -> None:
        if operation.name in names and len(failed) < times:
            failed.append(operation)
            raise OSError(code, os.strerror(code))

    rig.host.watch.hooks.append(hook)
    try:
        yield failed
    finally:
        rig.host.watch.hooks.remove(hook)


@pytest.mark.parametrize("code", CODES)
async def test_no_plex_leaves_because_something_is_short_for_a_moment(rig: Rig, code: int) -> None:
    await rig.make()
    with short(rig, "pwrite", "pread", "dco_write", code=code, times=3) as failed:
        await rig.write_regions(1, 2)
        assert (await rig.data.read(0, 512)) == bytes(512)
    assert len(failed) == 3
    assert await rig.states() == "ACTIVE ACTIVE"
    assert [p["errors"] for p in [await rig.shown("a"), await rig.shown("b")]] == [0, 0]


async def test_an_fdatasync_is_never_asked_twice(rig: Rig) -> None:
    """The kernel tells once of what was lost."""
    await rig.make()
    await rig.write_regions(1)
    before = len(rig.host.watch.seen("fdatasync", str(rig.path("b"))))
    with rig.host.failing(rig.path("b"), "fdatasync", code=errno.ENOMEM):
        await rig.data.flush()
        assert await rig.states() == "ACTIVE IOFAIL"
        await until(lambda: rig.plex("b").uuid not in rig.service.mirror.opened)
    tried = len(rig.host.watch.seen("fdatasync", str(rig.path("b")))) - before
    assert tried == 2, "by the flush, and as it was let go of"


@pytest.mark.parametrize("code", CODES)
async def test_a_plex_whose_dco_cannot_be_read_for_that_is_not_without_one(rig: Rig, code: int) -> None:
    await rig.make()
    await rig.det("b")
    with short(rig, "dco_read", code=code, times=1), pytest.raises(FmrdError) as caught:
        await rig.att("b")
    assert caught.value.code == "exhausted" and caught.value.exit_status == 1
    assert (await rig.end(await rig.att("b")))["reason"]["code"] == "nothing_missed"


@pytest.mark.parametrize("code", CODES)
async def test_a_start_is_refused_and_judges_nobody(rig: Rig, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.make()
    await rig.stop()
    opening = rig.host.open_plex

    def short_of(path: str, tail_bytes: int) -> object:
        if path == str(rig.path("b")):
            raise OSError(code, os.strerror(code))
        return opening(path, tail_bytes)

    with monkeypatch.context() as exhausted:
        exhausted.setattr(rig.host, "open_plex", short_of)
        with pytest.raises(Failed) as caught:
            await rig.verbs.start(volume="data")
        assert caught.value.code == "exhausted"
        with pytest.raises(Failed) as caught:
            await rig.verbs.import_volume(paths=[str(rig.path("a")), str(rig.path("b"))])
        assert caught.value.code == "exhausted"
    await rig.verbs.start(volume="data")
    assert await rig.states() == "ACTIVE ACTIVE"
    assert not (await rig.verbs.task_list())["tasks"], "nothing had to be copied"


async def test_at_boot_it_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make()
    from tests.engine import faulty

    opening = faulty.FaultyHost.open_plex
    left = [2]

    def short_of(self: faulty.FaultyHost, path: str, tail_bytes: int) -> object:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return opening(self, path, tail_bytes)

    monkeypatch.setattr(faulty.FaultyHost, "open_plex", short_of)
    async with daemon(tmp_path, return_seconds=0.01) as rig:
        await until(lambda: rig.registry.find("data") is not None)
        assert await rig.states() == "ACTIVE ACTIVE"


def test_no_memory_is_the_error_of_a_call_and_no_bug() -> None:
    def run() -> None:
        raise MemoryError

    error = outcome_of(Call(Lane("x"), run)).error
    assert isinstance(error, OSError) and error.errno == errno.ENOMEM


async def test_a_call_waits_for_a_thread_that_cannot_be_had_now(monkeypatch: pytest.MonkeyPatch) -> None:
    start, tries = trio.lowlevel.start_thread_soon, []

    def none_left(*args: object, **options: object) -> None:
        tries.append(args)
        if len(tries) < 4:
            raise RuntimeError("can't start new thread")
        start(*args, **options)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(trio.lowlevel, "start_thread_soon", none_left)
    [outcome] = await ThreadedCalls().in_turn([Call(Lane("x"), lambda: "done")], 60)
    assert outcome.value == "done" and len(tries) == 4


async def test_where_none_comes_that_is_told_and_nothing_is_left_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*args: object, **options: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(trio.lowlevel, "start_thread_soon", none_left)
    lane = Lane("x")
    outcomes = await ThreadedCalls().at_once([Call(lane, lambda: None), Call(lane, lambda: None)], 0.01)
    assert [isinstance(o.error, Failed) and o.error.code for o in outcomes] == ["exhausted"] * 2
    assert lane.outstanding == 0


def test_what_two_threads_share_is_done_by_one_where_no_other_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    import _thread

    def none_left(*args: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", none_left)
    done: list[int] = []
    ended: list[object] = []
    SecondThread().begin([lambda: done.append(threading.get_ident())] * 3, ended.append)
    assert done == [threading.get_ident()] * 3 and len(ended) == 1
