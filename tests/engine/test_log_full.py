"""More is written than the dirty region log holds: it is bounded, whatever bound it was given, and cleaned in time."""

from pathlib import Path

import pytest
import trio

from fmrd.engine.serving.mirror import Mirror
from tests.engine.rig import REGION, Json, Rig, daemon
from tests.waiting import until


async def test_the_log_holds_as_many_extents_as_it_was_set_to(tmp_path: Path) -> None:
    """At once: what is too much leaves, though nobody writes; and after the next start."""
    async with daemon(tmp_path) as rig:
        await rig.make(drl_extent_bytes=REGION)
        await rig.write_regions(*range(40))
        assert (await _log(rig)) == {"extent_bytes": REGION, "dirty_extents": 40, "most_extents": 16384}
        await rig.verbs.set(volume="data", settings={"drl_extents": "16"})
        await until(lambda: rig.service.volume.drl.count <= 16)
        await rig.write_regions(*range(40, 64))
        assert rig.service.volume.drl.count <= 16
        await rig.stop()
        assert (await _log(rig)) == {"extent_bytes": REGION, "dirty_extents": 0, "most_extents": 16}
        await rig.verbs.start(volume="data")
        await rig.write_regions(*range(64))
        assert rig.service.volume.drl.count <= 16
        rig.kill()
    async with daemon(tmp_path) as rig:
        await rig.end_all()
        assert sum(task["total_regions"] for task in (await rig.verbs.task_list(all=True))["tasks"]) <= 16
        assert rig.same("a", "b")


async def _log(rig: Rig) -> Json:
    [volume] = (await rig.verbs.print(volume="data"))["volumes"]
    found: Json = volume["drl"]
    return found


async def test_a_log_that_fills_is_cleaned_before_a_write_has_to_wait(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.registry.context.hot_extents = 16
    await rig.make(drl_extent_bytes=REGION)

    async def nobody_waits(self: Mirror, extents: range) -> None:
        raise AssertionError("a write waits for a cleaning")

    monkeypatch.setattr(Mirror, "_make_room", nobody_waits)
    drl = rig.service.volume.drl
    for region in range(0, 64, 2):
        await rig.write_regions(region)
        if drl.is_filling:
            await until(lambda: not drl.is_filling)
    assert 0 < drl.count <= 12


async def test_a_scattered_load_over_more_than_the_log_holds(rig: Rig) -> None:
    rig.registry.context.hot_extents = 4
    await rig.make(drl_extent_bytes=REGION)
    for region in range(64):
        await rig.write_regions(region)
        assert rig.service.volume.drl.count <= 4
    async with trio.open_nursery() as nursery:
        for region in range(64):
            nursery.start_soon(rig.write_regions, region)
    await rig.stop()
    assert rig.same("a", "b")


async def test_who_finds_it_full_lets_half_of_it_leave(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was used last stays, and is not paid for again."""

    async def nobody_is_ahead(self: Mirror) -> bool:
        return True

    monkeypatch.setattr(Mirror, "clean_ahead", nobody_is_ahead)
    rig.registry.context.hot_extents = 16
    await rig.make(drl_extent_bytes=REGION)
    await rig.write_regions(*range(16))
    rig.host.watch.log.clear()
    await rig.write_regions(16)
    assert rig.service.volume.drl.count == 9
    assert len(rig.host.watch.seen("fdatasync", str(rig.path("a")))) == 1
