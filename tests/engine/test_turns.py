"""Copies take turns on a disk: who waits for it can be told otherwise, and who is paused lets others go first."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from fmrd.engine.resync import resync
from fmrd.engine.tasks import Task
from tests.engine.rig import REGION, SIZE, Json, Rig, daemon
from tests.waiting import LATE_SECONDS, until


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A volume whose copies to b and c have something to do, and what is done takes no longer than it must."""
    async with daemon(tmp_path) as running:
        await running.make("abc")
        for letter in "bc":
            await running.det(letter)
        await running.write_regions(*range(0, 40, 2))
        with trio.fail_after(LATE_SECONDS):
            yield running


def task_of(rig: Rig, task: Json) -> Task:
    return rig.registry.context.tasks.find(task["id"])


async def slow_copy(rig: Rig, letter: str) -> Task:
    """Under way, and not to end by itself."""
    task = task_of(rig, await rig.att(letter, rate=1))
    await until(lambda: task.done_regions > 0)
    return task


async def waiting_copy(rig: Rig, letter: str) -> Task:
    """Behind a slow one."""
    task = task_of(rig, await rig.att(letter))
    await trio.testing.wait_all_tasks_blocked()
    assert task.done_regions == 0 and task.ended is None
    return task


async def test_a_paused_copy_lets_others_go_first(rig: Rig) -> None:
    first = await slow_copy(rig, "b")
    second = await waiting_copy(rig, "c")
    first.pause()
    await second.finished.wait()
    assert (second.state, second.done_regions) == ("done", 20)
    assert first.state == "paused" and first.done_regions < 20
    first.set_rate(0)
    first.resume()
    await first.finished.wait()
    assert (first.state, first.done_regions, first.total_regions) == ("done", 20, 20)
    assert await rig.states() == "ACTIVE ACTIVE ACTIVE"
    await rig.stop()
    assert rig.same("a", "b", "c")


async def test_a_copy_paused_while_it_waits_does_not_take_its_turn(rig: Rig) -> None:
    first = await slow_copy(rig, "b")
    second = await waiting_copy(rig, "c")
    second.pause()
    first.set_rate(0)
    await first.finished.wait()
    await trio.testing.wait_all_tasks_blocked()
    assert (second.state, second.done_regions) == ("paused", 0)
    second.resume()
    await second.finished.wait()
    assert (second.state, second.done_regions) == ("done", 20)


async def test_a_copy_paused_and_resumed_again_and_again_is_no_failure(rig: Rig) -> None:
    task = await slow_copy(rig, "b")
    for _ in range(2 * resync.PATIENCE):
        task.pause()
        await trio.testing.wait_all_tasks_blocked()
        task.resume()
    task.set_rate(0)
    await task.finished.wait()
    assert (task.state, task.done_regions) == ("done", 20)


@pytest.mark.parametrize("paused", [False, True], ids=["running", "paused"])
async def test_who_waits_for_a_disk_can_be_aborted(rig: Rig, paused: bool) -> None:
    first = await slow_copy(rig, "b")
    second = await waiting_copy(rig, "c")
    if paused:
        second.pause()
    ended = (await rig.verbs.task_abort(id=second.id))["task"]
    assert ended["state"] == "aborted" and first.ended is None
    assert await rig.states() == "ACTIVE TEMP STALE"
    assert (await rig.shown("c"))["dirty_regions"] == 20


async def test_who_waits_for_a_disk_can_be_detached(rig: Rig) -> None:
    first = await slow_copy(rig, "b")
    await waiting_copy(rig, "c")
    await rig.det("c")
    assert await rig.states() == "ACTIVE TEMP STALE" and first.ended is None


async def test_a_stop_does_not_wait_for_another_volumes_copy(rig: Rig) -> None:
    await slow_copy(rig, "b")
    names = [{"path": str(rig.path(letter))} for letter in "xy"]
    await rig.verbs.make(volume="other", size_bytes=SIZE, plexes=names)
    await rig.verbs.plex_det(volume="other", plex="other-02")
    await rig.write_regions(3, volume="other")
    task = (await rig.verbs.plex_att(volume="other", plex="other-02"))["task"]
    await rig.verbs.stop(volume="other")
    assert task_of(rig, task).state == "aborted"


async def test_a_home_copy_that_fails_in_the_middle_fails_the_copy_and_nothing_else(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resync, "CHECKPOINT_BYTES", REGION)
    task = await slow_copy(rig, "b")
    with rig.host.failing(rig.directory / "state" / "volumes" / "data.dco", "dco_write"):
        task.set_rate(0)
        await task.finished.wait()
    assert task.state == "failed" and task.error is not None and task.error[0] == "home_failed"
    assert await rig.data.read(0, 10) == bytes(10)
    again = await rig.end(await rig.att("b"))
    assert again["state"] == "done"
    assert (await rig.shown("b"))["state"] == "ACTIVE"
