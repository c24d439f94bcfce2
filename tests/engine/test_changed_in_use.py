"""A plex file that somebody else changes while it is used: it leaves, is not believed, and that is told."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fmrd.errors import Failed
from tests.engine.rig import REGION, SIZE, Rig
from tests.waiting import until


def cut(path: Path) -> None:
    os.truncate(path, SIZE // 4)


def made_longer(path: Path) -> None:
    os.truncate(path, SIZE + 4096)


def removed(path: Path) -> None:
    path.unlink()


async def full(rig: Rig, **options: object) -> bytes:
    """A volume of data on both plexes, read from b."""
    await rig.make(**options)
    data = os.urandom(SIZE)
    await rig.data.write(0, data)
    await rig.verbs.set(volume="data", settings={"rdpol": "prefer:data-02"})
    return data


async def left(rig: Rig) -> None:
    """It is out, all of it is missed, and the reason says why."""
    shown = await rig.shown("b")
    assert (shown["state"], shown["dirty_regions"], shown["reason"]["code"]) == (
        "IOFAIL", SIZE // REGION, "full_backing_changed",
    )  # fmt: skip


async def back(rig: Rig) -> None:
    await until(lambda: rig.plex("b").uuid not in rig.service.mirror.opened)
    task = await rig.end(await rig.att("b"))
    assert (task["state"], task["reason"]["code"]) == ("done", "full_backing_changed")
    await rig.stop()
    assert rig.same("a", "b")


@pytest.mark.parametrize("change", [cut, made_longer, removed])
async def test_a_flush_finds_it(rig: Rig, change: Callable[[Path], None]) -> None:
    await full(rig)
    change(rig.path("b"))
    await rig.data.write(0, b"anything")
    await rig.data.flush()
    await left(rig)


async def test_a_read_beyond_its_new_end_is_right_and_mends_nothing(rig: Rig) -> None:
    data = await full(rig)
    cut(rig.path("b"))
    assert await rig.data.read(SIZE // 2, REGION) == data[SIZE // 2 :][:REGION]
    assert rig.path("b").stat().st_size == SIZE // 4, "nothing is written behind the new end"
    await left(rig)
    await back(rig)


async def test_a_write_that_would_bring_it_back_to_its_length_finds_it(rig: Rig) -> None:
    """What lies between would read as zeros, and nobody would see that it was cut."""
    data = await full(rig)
    cut(rig.path("b"))
    await rig.data.write(SIZE - 512, b"x" * 512)
    await left(rig)
    assert await rig.data.read(SIZE // 2, REGION) == data[SIZE // 2 :][:REGION]
    await back(rig)


async def test_a_copy_does_not_take_it_for_its_source(rig: Rig) -> None:
    await full(rig, letters="abc")
    await rig.det("c")
    await rig.data.write(0, os.urandom(SIZE))
    cut(rig.path("b"))
    assert (await rig.end(await rig.att("c")))["state"] == "done"
    await left(rig)
    await rig.stop()
    assert rig.same("a", "c")


async def test_a_stop_does_not_call_it_settled(rig: Rig) -> None:
    await full(rig)
    await rig.data.flush()
    cut(rig.path("b"))
    await rig.stop()
    await rig.verbs.start(volume="data")
    await left(rig)


async def test_one_that_is_the_last_copy_stays_and_its_errors_are_told(rig: Rig) -> None:
    data = await full(rig)
    await rig.det("a")
    cut(rig.path("b"))
    with pytest.raises(Failed, match="changed by somebody else"):
        await rig.data.read(SIZE // 2, REGION)
    assert await rig.data.read(0, REGION) == data[:REGION]
    assert (await rig.shown("b"))["state"] == "ACTIVE"
