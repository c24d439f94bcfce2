"""Marks, and what is told of changes, on real files."""

import errno
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest
import trio

from fmrd.core.json_object import Json
from fmrd.errors import FmrdError
from fmrd.front.maps.ranges import Changes, Range
from tests.engine.faulty import FaultyBacking
from tests.engine.rig import REGION, SIZE, Rig, daemon
from tests.waiting import until


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with daemon(tmp_path) as running:
        await running.make("ab")
        yield running


async def told(rig: Rig, volume: str, **asked: str) -> Changes:
    return Changes(await rig.verbs.changed(volume=volume, **asked))


async def regions(rig: Rig, volume: str, **asked: str) -> list[int]:
    """Those that are told."""
    return list((await told(rig, volume, **asked)).bits.search(1))


async def refused(work: Awaitable[Json]) -> str:
    with pytest.raises(FmrdError) as caught:
        await work
    return caught.value.code


async def instant(rig: Rig, letter: str) -> Json:
    return await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path(letter)), name=letter)


async def test_a_mark_tells_what_was_written_since_also_after_a_stop(rig: Rig) -> None:
    await rig.write_regions(1)
    await rig.verbs.mark(volume="data", name="night")
    await rig.write_regions(5, 6, 63)
    assert await regions(rig, "data", mark="night") == [5, 6, 63]
    await rig.stop()
    await rig.verbs.start(volume="data")
    await rig.write_regions(9)
    assert await regions(rig, "data", mark="night") == [5, 6, 9, 63]
    [shown] = (await rig.verbs.mark(volume="data"))["marks"]
    assert (shown["name"], shown["dirty_regions"], shown["dirty_bytes"]) == ("night", 4, 4 * REGION)
    await rig.verbs.mark(volume="data", name="night", reset=True)
    assert await regions(rig, "data", mark="night") == []


async def test_a_mark_outlives_a_kill(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make("ab")
        await rig.verbs.mark(volume="data", name="night")
        await rig.write_regions(5)
        rig.kill()
    async with daemon(tmp_path) as rig:
        assert 5 in await regions(rig, "data", mark="night"), "and the rest of its extent, which nobody can tell apart"


async def test_a_write_under_way_ends_before_a_mark_is_set_or_is_in_it(rig: Rig) -> None:
    async with trio.open_nursery() as nursery:
        with rig.host.hanging(rig.path("a"), "pwrite", first_only=True) as hang:
            nursery.start_soon(rig.write_regions, 7)
            await until(lambda: hang.waiting == 1)
            set_ = trio.Event()

            async def mark() -> None:
                await rig.verbs.mark(volume="data", name="night")
                set_.set()

            nursery.start_soon(mark)
            await trio.testing.wait_all_tasks_blocked()
            assert not set_.is_set(), "what a reader sees now would change later, and be in no map"
    assert await regions(rig, "data", mark="night") == []


async def test_what_a_mark_cannot_be_is_said(rig: Rig) -> None:
    await rig.verbs.mark(volume="data", name="night")
    assert await refused(rig.verbs.mark(volume="data", name="night")) == "mark_exists"
    assert await refused(rig.verbs.mark(volume="data", name="noon", reset=True)) == "mark_missing"
    assert await refused(rig.verbs.mark(volume="data", name="noon", delete=True)) == "mark_missing"
    assert await refused(rig.verbs.mark(volume="data", name="received")) == "bad_name"
    assert await refused(rig.verbs.changed(volume="data", mark="noon")) == "mark_missing"
    assert await refused(rig.verbs.changed(volume="data")) == "bad_request"
    await instant(rig, "s")
    assert await refused(rig.verbs.mark(volume="s", name="night")) == "snap_of_snap"
    for number in range(7):
        await rig.verbs.mark(volume="data", name=f"m{number}")
    assert await refused(rig.verbs.mark(volume="data", name="more")) == "plex_too_many"
    await rig.verbs.mark(volume="data", name="m1", delete=True)
    await rig.verbs.mark(volume="data", name="more")


async def test_a_mark_stands_for_the_snapshots_taken_since_and_no_others(rig: Rig) -> None:
    await instant(rig, "s")
    await rig.write_regions(1)
    await rig.verbs.mark(volume="data", name="night")
    await rig.write_regions(2)
    await instant(rig, "t")
    await rig.write_regions(3, volume="t")
    assert await regions(rig, "t", mark="night") == [2, 3]
    assert await regions(rig, "t", since="night") == [2, 3], "a name that is no snapshot's is a mark's"
    assert await refused(rig.verbs.changed(volume="s", mark="night")) == "mark_unfit"
    shown = await rig.verbs.changed(volume="t", mark="night")
    assert shown["pristine_only"] and len(shown["bases"]) == 1 and not shown["pristine"]
    await rig.verbs.mark(volume="data", name="night", reset=True)
    assert await refused(rig.verbs.changed(volume="t", mark="night")) == "mark_unfit"


async def test_what_either_side_wrote_is_told_of_two_snapshots_and_of_one_and_its_original(rig: Rig) -> None:
    await instant(rig, "s")
    await rig.write_regions(1)
    await instant(rig, "t")
    await rig.write_regions(2, volume="s")
    await rig.write_regions(3, volume="t")
    await rig.write_regions(4)
    assert await regions(rig, "s") == [1, 2, 4]
    assert await regions(rig, "t") == [3, 4]
    assert await regions(rig, "t", since="s") == await regions(rig, "s", since="t") == [1, 2, 3, 4]
    assert await refused(rig.verbs.changed(volume="t", since="t")) == "bad_request"
    assert await refused(rig.verbs.changed(volume="t", since="s", mark="m")) == "bad_request"


async def test_snapshots_of_two_volumes_have_nothing_in_common(rig: Rig) -> None:
    await rig.verbs.make(volume="other", size_bytes=SIZE, plexes=[{"path": str(rig.path("o"))}])
    await rig.verbs.snapshot(volumes=["other"], instant=str(rig.path("p")), name="p")
    await instant(rig, "s")
    assert await refused(rig.verbs.changed(volume="s", since="p")) == "snap_unrelated"


async def test_a_restore_is_in_the_marks(rig: Rig) -> None:
    await instant(rig, "s")
    await rig.write_regions(8)
    await rig.verbs.mark(volume="data", name="night")
    for task in (await rig.verbs.snapback(snapshot="s", from_replica=True))["tasks"]:
        await rig.end(task)
    assert await regions(rig, "data", mark="night") == [8]


async def test_what_a_growth_adds_is_in_the_marks(rig: Rig) -> None:
    await rig.verbs.mark(volume="data", name="night")
    await rig.verbs.grow(volume="data", size_bytes=SIZE + 2 * REGION)
    assert await regions(rig, "data", mark="night") == [64, 65]


async def test_what_was_accepted_as_it_is_may_differ_everywhere(rig: Rig) -> None:
    """Others changed the plex, and no map has that."""
    await rig.verbs.mark(volume="data", name="night")
    await instant(rig, "s")
    await rig.stop()
    for letter in "ab":
        with rig.path(letter).open("r+b") as plex:
            plex.seek(40 * REGION)
            plex.write(b"others")
    assert await refused(rig.verbs.start(volume="data")) == "plexes_changed"
    await rig.verbs.start(volume="data", accept="data-01")
    await rig.end_all()
    assert await regions(rig, "data", mark="night") == list(range(64))
    assert await regions(rig, "s") == list(range(64))


async def test_holes_are_told_apart_from_data(rig: Rig) -> None:
    """Of a snapshot that has all of it, and of one that reads it from its original."""
    await rig.write_regions(1, 2, 9)
    await instant(rig, "s")
    await rig.data.make_zero(2 * REGION, REGION, punch=True)
    await rig.write_regions(5)
    asked = Changes(await rig.verbs.changed(volume="s", everything=True))
    assert list(asked.ranges()) == [
        Range(0, REGION, "zero"), Range(REGION, 2 * REGION, "data"), Range(3 * REGION, 6 * REGION, "zero"),
        Range(9 * REGION, REGION, "data"), Range(10 * REGION, 54 * REGION, "zero"),
    ]  # fmt: skip
    assert [(r.offset // REGION, r.kind) for r in (await told(rig, "s")).ranges()] == [(2, "data"), (5, "zero")]
    assert not asked.zero_bytes % REGION and asked.zero_bytes == 61 * REGION


async def test_a_disk_that_cannot_be_asked_for_holes_has_none(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await instant(rig, "s")
    await rig.write_regions(1)

    def fail(*arguments: int) -> tuple[bool, int]:
        raise OSError(errno.EIO, "it cannot tell")

    assert [each.kind for each in (await told(rig, "s")).ranges()] == ["zero"]
    monkeypatch.setattr(FaultyBacking, "data_until", staticmethod(fail))
    assert [each.kind for each in (await told(rig, "s")).ranges()] == ["data"]
