"""Whole regions of an instant snapshot that are written over: nothing old is copied for that, and nothing is missed."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from fmrd.engine.serving.mirror import Mirror
from fmrd.errors import FmrdError
from fmrd.front.maps.ranges import Changes
from tests.engine.rig import REGION, Rig, daemon
from tests.waiting import until


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with daemon(tmp_path) as running:
        await ready(running)
        yield running


async def ready(rig: Rig) -> None:
    await rig.make("ab")
    await rig.write_regions(*range(20), byte=b"0")
    await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("i")), name="i")
    rig.host.watch.log.clear()


def reads(rig: Rig) -> int:
    return len([each for letter in "ab" for each in rig.host.watch.seen("pread", str(rig.path(letter)))])


async def test_of_whole_regions_nothing_is_read_from_the_original(rig: Rig) -> None:
    old = await rig.data.read(0, 20 * REGION)
    before = reads(rig)
    new = os.urandom(3 * REGION)
    await rig.door("i").write(4 * REGION, new)
    assert reads(rig) == before
    await rig.door("i").write(10 * REGION + 100, new[: 2 * REGION])
    assert reads(rig) > before, "of the parts at its ends the rest is the original's"
    expected = bytearray(old)
    expected[4 * REGION : 7 * REGION] = new
    expected[10 * REGION + 100 : 12 * REGION + 100] = new[: 2 * REGION]
    assert await rig.door("i").read(0, 20 * REGION) == expected
    assert await rig.data.read(0, 20 * REGION) == old
    await rig.write_regions(5, 11, 15)
    assert await rig.door("i").read(0, 20 * REGION) == expected


async def test_where_it_cannot_be_written_the_original_is_still_what_it_holds(rig: Rig) -> None:
    old = await rig.data.read(0, 20 * REGION)
    with rig.host.failing(rig.path("i"), "pwrite"), pytest.raises(FmrdError):
        await rig.door("i").write(4 * REGION, os.urandom(REGION))
    assert await rig.data.read(0, 20 * REGION) == old


async def test_what_the_snapshot_holds_since_a_kill_is_told_as_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kill comes when its map has the region, and its dirty region log has not heard of it."""
    new = os.urandom(REGION)
    real = Mirror.write_held
    begun = trio.Event()

    async def write_held(self: Mirror, *arguments: object) -> object:
        if self.volume.name == "i":
            begun.set()
            await trio.sleep_forever()
        return await real(self, *arguments)  # type: ignore[arg-type]  # as they came

    async with daemon(tmp_path) as rig, trio.open_nursery() as nursery:
        await ready(rig)
        monkeypatch.setattr(Mirror, "write_held", write_held)
        nursery.start_soon(rig.door("i").write, 4 * REGION, new)
        await until(begun.is_set)
        nursery.cancel_scope.cancel()
        rig.kill()
    monkeypatch.undo()
    async with daemon(tmp_path) as rig:
        assert await rig.door("i").read(4 * REGION, REGION) == new
        assert 4 in Changes(await rig.verbs.changed(volume="i")).bits.search(1)
