"""Both sides of a mirror went on without each other: one of them is given up, by the union of what both wrote."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fmrd.errors import Refused
from tests.engine.rig import Json, Rig, daemon

HERE, THERE = (1, 2), (2, 9)
"""Regions that each side writes."""


@asynccontextmanager
async def another_host(directory: Path) -> AsyncIterator[Rig]:
    """Plex b travelled there, and a did not; nobody there ever heard of the volume."""
    moved = [("state", "home"), ("a", "a-at-home"), ("a.dco", "a.dco-at-home")]
    for name, aside in moved:
        (directory / name).rename(directory / aside)
    try:
        async with daemon(directory) as rig:
            yield rig
    finally:
        (directory / "state").rename(directory / "elsewhere")
        for name, aside in moved:
            (directory / aside).rename(directory / name)


async def part(directory: Path, *, leave: Callable[[Rig], object] = lambda rig: None, times: int = 1) -> None:
    """Plex b is imported elsewhere and written there so many times, after the volume was written by both; ``leave``:
    how the other host lets go of it, if not in order.
    """
    async with daemon(directory) as rig:
        await rig.make("ab")
        await rig.write_regions(*range(20), byte=b"0")
    async with another_host(directory) as rig:
        await rig.verbs.import_volume(paths=[str(rig.path("b"))], force=True)
        for _ in range(times):
            await rig.write_regions(*THERE, byte=b"t")
            await rig.service.mirror.clean()
        leave(rig)


async def start_without_b(rig: Rig) -> None:
    with pytest.raises(Refused, match="foreign_plex"):
        await rig.verbs.start(volume="data")
    await rig.verbs.start(volume="data", without=["data-02"])


async def ends_the_same(rig: Rig, task: Json) -> Json:
    ended = await rig.end(task)
    assert ended["state"] == "done" and await rig.states() == "ACTIVE ACTIVE"
    assert [await rig.data.read(region * (64 << 10) + 512, 1) for region in (0, *HERE, 9)] == [b"0", b"h", b"h", b"0"]
    await rig.stop()
    assert rig.same("a", "b")
    return ended


async def test_the_side_that_is_given_up_gets_what_either_wrote(tmp_path: Path) -> None:
    await part(tmp_path)
    async with daemon(tmp_path) as rig:
        await start_without_b(rig)
        await rig.write_regions(*HERE, byte=b"h")
        with pytest.raises(Refused, match="refused_split_brain") as refused:
            await rig.att("b")
        assert "2 region(s) may differ by what was written here" in refused.value.message
        assert "2 by what was written there" in refused.value.message and "--discard" in refused.value.hint
        decision = await rig.would("b", discard=True)
        assert (decision["reason"]["code"], decision["regions"]) == ("fast", 3)
        assert "2 by what was written there" in decision["reason"]["message"]
        ended = await ends_the_same(rig, await rig.att("b", discard=True))
        assert (ended["total_regions"], ended["reason"]["code"]) == (3, "fast")


async def test_pages_that_were_written_there_are_older_than_what_follows_here(tmp_path: Path) -> None:
    """However many there were: a start that asks the copies would else believe them."""
    await part(tmp_path, times=40)
    async with daemon(tmp_path) as rig:
        await start_without_b(rig)
        await rig.write_regions(*HERE, byte=b"h")
        await rig.end(await rig.att("b", discard=True))
        assert await rig.states() == "ACTIVE ACTIVE"
        await rig.write_regions(5, byte=b"h")
        rig.kill()
    async with daemon(tmp_path) as rig:
        assert await rig.states() == "ACTIVE ACTIVE"
        await rig.end_all()
        assert await rig.data.read(5 * (64 << 10) + 512, 1) == b"h"
        await rig.stop()
        assert rig.same("a", "b")


async def test_it_goes_on_after_a_kill(tmp_path: Path) -> None:
    await part(tmp_path)
    async with daemon(tmp_path) as rig:
        await start_without_b(rig)
        await rig.write_regions(*HERE, byte=b"h")
        await rig.att("b", discard=True, rate=1)
        rig.kill()
    async with daemon(tmp_path) as rig:
        await rig.end_all()
        await ends_the_same(rig, await rig.att("b"))


async def test_after_a_kill_on_the_other_host_all_of_it_is_copied(tmp_path: Path) -> None:
    """Nobody can tell whether its copy of the DCO has every mark."""
    await part(tmp_path, leave=Rig.kill)
    async with daemon(tmp_path) as rig:
        await start_without_b(rig)
        await rig.write_regions(*HERE, byte=b"h")
        ended = await ends_the_same(rig, await rig.att("b", discard=True))
        assert ended["reason"]["code"] == "full_forced" and "nobody can tell" in ended["reason"]["message"]


async def test_the_other_side_can_be_taken_instead(tmp_path: Path) -> None:
    """a is given up on the host where b went on."""
    await part(tmp_path)
    async with daemon(tmp_path) as rig:
        await start_without_b(rig)
        await rig.write_regions(*HERE, byte=b"h")
        await rig.stop()
    (tmp_path / "state").rename(tmp_path / "was")
    (tmp_path / "elsewhere").rename(tmp_path / "state")
    async with daemon(tmp_path) as rig:
        await rig.verbs.start(volume="data", without=["data-01"])
        assert (await rig.would("a", discard=True))["regions"] == 3
        ended = await rig.end(await rig.att("a", discard=True))
        assert (ended["reason"]["code"], ended["total_regions"]) == ("fast", 3)
        assert [await rig.data.read(region * (64 << 10) + 512, 1) for region in (1, 2, 9)] == [b"0", b"t", b"t"]
        await rig.stop()
        assert rig.same("a", "b")
