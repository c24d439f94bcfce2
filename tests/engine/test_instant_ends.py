"""`snapsync` at its end: one commit of both volumes, under the verb locks of both, beside other verbs."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from fmrd.core.json_object import Json
from tests.engine.rig import Rig, daemon
from tests.waiting import until

SNAP = "SNAP-data"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """An instant snapshot of a volume that was written since."""
    async with daemon(tmp_path) as running:
        await running.make("ab")
        await running.write_regions(1, 2, byte=b"0")
        await running.verbs.snapshot(volumes=["data"], instant=str(running.path("i")))
        await running.write_regions(2, 3, byte=b"1")
        yield running


async def _copied(rig: Rig) -> Json:
    """The task of a snapsync that has copied everything, and waits for a lock that others hold."""
    task = (await rig.verbs.snapsync(snapshot=SNAP))["task"]
    [running] = rig.registry.context.tasks.running(SNAP)
    with trio.fail_after(30):
        await running.halted.wait()
    await trio.testing.wait_all_tasks_blocked()
    assert running.state == "running"
    return task


async def test_a_snapshot_that_goes_back_meanwhile_is_not_completed_and_its_task_says_aborted(rig: Rig) -> None:
    """The snapback has the locks already when the last region was copied."""
    answers: list[Json] = []

    async def back() -> None:
        answers.append(await rig.verbs.snapback(snapshot=SNAP))

    async with trio.open_nursery() as nursery:
        with rig.host.hanging(rig.path("a"), "fdatasync") as hang:  # it cleans the original first
            nursery.start_soon(back)
            await until(lambda: hang.waiting > 0)
            task = await _copied(rig)
    assert (await rig.end(task))["state"] == "aborted"
    for each in answers[0]["tasks"]:
        assert (await rig.end(each))["state"] == "done"
    assert SNAP not in rig.registry.units
    await rig.stop()
    assert rig.same("a", "b", "i")


async def test_a_snapshot_that_is_stopped_meanwhile_is_completed_first(rig: Rig) -> None:
    """Its copy of the DCO is made anew then, which would be cut off by a stop in between."""
    home = rig.directory / "state" / "volumes" / "data.dco"
    async with rig.service.running.verb():
        task = await _copied(rig)
        hanging = rig.host.hanging(home, "dco_write")
        hang = hanging.__enter__()
    async with trio.open_nursery() as nursery:
        await until(lambda: hang.waiting > 0)
        nursery.start_soon(lambda: rig.verbs.stop(volume=SNAP))
        await trio.testing.wait_all_tasks_blocked()
        hanging.__exit__(None, None, None)
    assert (await rig.end(task))["state"] == "done"
    await rig.verbs.start(volume=SNAP)
    [shown] = (await rig.verbs.print(volume=SNAP))["volumes"]
    assert shown["plexes"][0]["dirty_regions"] == 0
