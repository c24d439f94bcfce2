"""What runs in the background: its figures, its ends, its history."""

import pytest
import trio
import trio.testing

from fmrd.engine.tasks import HISTORY, LONGEST_PAUSE_SECONDS, Task, TaskList
from fmrd.errors import Failed


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tasks(clock: Clock) -> TaskList:
    return TaskList(clock)


def new(tasks: TaskList, volume: str = "data", plex: str = "data-02") -> Task:
    return tasks.new("PLXATT", volume, plex, ("fast", "a few regions"))


def test_figures_while_it_runs(tasks: TaskList, clock: Clock) -> None:
    task = new(tasks)
    task.total_regions, task.total_bytes = 10, 1000
    assert (task.json()["rate_bytes_per_second"], task.json()["eta_seconds"]) == (0, None)
    clock.time += 2
    task.progressed(4, 400, 150)
    shown = task.json()
    assert (shown["done_regions"], shown["done_bytes"], shown["copied_bytes"]) == (4, 400, 150)
    assert (shown["rate_bytes_per_second"], shown["eta_seconds"]) == (200, 3.0)
    assert (shown["state"], shown["ended"], shown["error"]) == ("running", None, None)


def test_figures_stand_still_when_it_has_ended(tasks: TaskList, clock: Clock) -> None:
    task = new(tasks)
    task.progressed(1, 100, 100)
    clock.time += 1
    task.end("done")
    clock.time += 100
    task.end("failed", ("io_error", "too late"))
    shown = task.json()
    assert (shown["state"], shown["ended"], shown["eta_seconds"], shown["error"]) == ("done", 1001.0, 0, None)
    assert shown["rate_bytes_per_second"] == 100


def test_a_failure_says_why(tasks: TaskList) -> None:
    task = new(tasks)
    task.end("failed", ("io_error", "the disk is gone"))
    assert task.json()["error"] == {"code": "io_error", "message": "the disk is gone"}


@pytest.mark.parametrize("verb", ["pause", "resume", "abort"])
def test_what_has_ended_cannot_be_told_anything(tasks: TaskList, verb: str) -> None:
    task = new(tasks)
    task.end("done")
    with pytest.raises(Failed, match="task_ended"):
        getattr(task, verb)()


async def test_a_pause_holds_until_resume_or_abort(tasks: TaskList) -> None:
    for wake in (Task.resume, Task.abort):
        task = new(tasks)
        task.pause()
        passed = trio.Event()

        async def go(task: Task = task, passed: trio.Event = passed) -> None:
            await task.while_paused()
            passed.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(go)
            await trio.testing.wait_all_tasks_blocked()
            task.set_rate(5)  # wakes it, and it goes back to waiting
            await trio.testing.wait_all_tasks_blocked()
            assert not passed.is_set()
            wake(task)
            with trio.fail_after(5):
                await passed.wait()


async def test_a_pause_ends_when_the_task_is_told_something_and_never_begins_once_aborted(tasks: TaskList) -> None:
    task = new(tasks)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(task.pause_for, 1e6)
        await trio.testing.wait_all_tasks_blocked()
        task.set_rate(5)
    task.abort()
    with trio.fail_after(5):
        await task.pause_for(1e6)


@pytest.mark.parametrize(
    ("own", "volumes", "rest"), [(0, 100, 9.0), (500, 100, 1.0), (0, 0, LONGEST_PAUSE_SECONDS), (0, 10_000, 0.05)]
)
async def test_a_copy_keeps_to_its_rate_or_the_volumes_and_leaves_time_for_others(
    tasks: TaskList, autojump_clock: trio.testing.MockClock, own: int, volumes: int, rest: float
) -> None:
    task = new(tasks)
    task.set_rate(own)
    began = trio.current_time()
    await task.give_way(1000, 1.0, volumes)
    assert trio.current_time() - began == pytest.approx(rest)


def test_ids_are_never_used_again_and_the_oldest_ended_ones_leave(tasks: TaskList) -> None:
    running = new(tasks)
    for _ in range(HISTORY + 10):
        new(tasks).end("done")
    last = new(tasks)
    ids = [t.id for t in tasks.all()]
    assert ids == sorted(ids) and len(set(ids)) == len(ids)
    assert ids[0] == running.id and ids[-1] == last.id == HISTORY + 12
    assert len(ids) == HISTORY + 2
    with pytest.raises(Failed, match="task_missing"):
        tasks.find(2)
    assert tasks.find(running.id) is running


def test_what_runs_is_found_by_volume_and_plex(tasks: TaskList) -> None:
    one, two, other = new(tasks), new(tasks, plex="data-01"), new(tasks, volume="log", plex="log-01")
    two.end("done")
    assert tasks.running() == [one, other]
    assert tasks.running("data") == [one]
    assert tasks.running("data", "data-01") == []
    assert tasks.last("data", "data-01") is two and tasks.last("data", "data-03") is None
