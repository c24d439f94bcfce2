"""Who serves a read: the policy chooses among plexes that are current there, and the counters prove it."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from fmrd.errors import BadRequest, Failed
from tests.engine.rig import REGION, SIZE, Rig, daemon
from tests.waiting import until


async def reads(rig: Rig) -> list[int]:
    [volume] = (await rig.verbs.print(volume="data"))["volumes"]
    return [p["reads"] for p in volume["plexes"]]


async def test_round_takes_turns(rig: Rig) -> None:
    await rig.make("abc", rdpol="round")
    for n in range(30):
        await rig.data.read(n * 7919 * 512 % SIZE, 512)
    assert await reads(rig) == [10, 10, 10]
    assert [(await rig.shown(p))["read_bytes"] for p in "abc"] == [5120] * 3


async def test_round_leaves_a_sequential_reader_on_its_disk(rig: Rig) -> None:
    await rig.make("ab", rdpol="round")
    for at in range(0, SIZE, REGION):
        await rig.data.read(at, REGION)
    assert sorted(await reads(rig)) == [0, 64]


async def test_select_keeps_each_of_two_sequential_readers_on_a_disk(rig: Rig) -> None:
    await rig.make("ab", rdpol="select")
    for at in range(0, SIZE // 2, REGION):
        await rig.data.read(at, REGION)
        await rig.data.read(SIZE // 2 + at, REGION)
    assert min(await reads(rig)) >= 31, "the first reads find both heads at the start"


async def test_prefer_asks_one_plex_while_it_can(rig: Rig) -> None:
    await rig.make("ab")
    await rig.verbs.set(volume="data", settings={"rdpol": "prefer:data-02"})
    for n in range(10):
        await rig.data.read(n * 7919 * 512 % SIZE, 512)
    assert await reads(rig) == [0, 10]
    await rig.det("b")
    await rig.data.read(0, 512)
    assert (await rig.shown("a"))["reads"] == 1
    with pytest.raises(BadRequest, match="bad_setting"):
        await rig.verbs.set(volume="data", settings={"rdpol": "prefer:"})
    with pytest.raises(Failed, match="plex_unknown"):
        await rig.verbs.set(volume="data", settings={"rdpol": "prefer:data-09"})


async def test_no_read_from_a_region_in_the_map_and_a_write_only_plex_serves_what_it_has(rig: Rig) -> None:
    await rig.make("ab")
    await rig.data.write(0, b"old" * REGION)
    await rig.det("b")
    await rig.data.write(0, b"new" * REGION)  # regions 0 to 2
    await rig.verbs.set(volume="data", settings={"rdpol": "prefer:data-02"})
    with rig.host.hanging(rig.path("b"), "copy_from") as hang:
        task = await rig.att("b")
        await until(lambda: hang.waiting == 1)
        assert (await rig.shown("b"))["mode"] == "WO"
        rig.host.watch.log.clear()
        assert await rig.data.read(REGION, 3) == b"new"[1:] + b"n"
        assert await rig.data.read(10 * REGION, 3) == bytes(3)
        served = [o.path for o in rig.host.watch.seen("pread")]
        assert served == [str(rig.path("a")), str(rig.path("b"))]
        both = await rig.data.read(2 * REGION, 2 * REGION)
        assert both == (b"new" * REGION)[2 * REGION :] + bytes(REGION), "one request, two plexes"
    await rig.end(task)


async def test_what_was_written_back_to_a_plex_that_left_meanwhile_counts_for_nothing(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    await rig.make("ab")
    await rig.write_regions(1, 9)
    await rig.verbs.set(volume="data", settings={"rdpol": "prefer:data-02"})
    b = rig.path("b")
    async with trio.open_nursery() as nursery:
        with rig.host.hanging(b, "pwrite", within=range(REGION, 2 * REGION)) as hang:
            with rig.host.failing(b, "pread", within=range(REGION, 2 * REGION)):
                nursery.start_soon(rig.data.read, REGION, 512)
                await until(lambda: hang.waiting)
            with rig.host.failing(b, "pwrite", within=range(9 * REGION, 10 * REGION)):
                await rig.write_regions(9)
            assert await rig.states() == "ACTIVE IOFAIL"
    assert not rig.plex("b").young.any() and "corrected" not in caplog.text


async def test_nothing_is_written_back_from_a_plex_that_is_in_doubt(rig: Rig) -> None:
    """It was copied to, and no fdatasync says yet that it keeps that."""
    await rig.make("ab")
    await rig.write_regions(1)
    await rig.verbs.set(volume="data", settings={"rdpol": "prefer:data-02"})
    rig.plex("a").young.mark(range(1, 2))
    rig.host.watch.log.clear()
    with rig.host.failing(rig.path("b"), "pread"):
        assert await rig.data.read(REGION + 512, 1) == b"w"
    assert not rig.host.watch.seen("pwrite") and await rig.states() == "ACTIVE ACTIVE"


@pytest.mark.parametrize("meanwhile", ["the source fails", "the plex leaves"])
async def test_a_correction_that_came_too_late_writes_nothing(rig: Rig, meanwhile: str) -> None:
    """It waits for the lock, and for the source: much may have happened since the plex could not be read."""
    await rig.make("ab", rdpol="prefer:data-02")
    await rig.write_regions(1, 9)
    await rig.data.flush()
    a, b = rig.path("a"), rig.path("b")
    rig.host.watch.log.clear()
    with rig.host.failing(b, "pread"), ExitStack() as later:
        async with trio.open_nursery() as nursery:
            async with rig.service.mirror.ranges.hold((REGION, 2 * REGION)):
                nursery.start_soon(rig.data.read, REGION + 512, 1)
                await until(lambda: bool(rig.service.mirror.ranges._waiting))
                if meanwhile == "the source fails":
                    later.enter_context(rig.host.failing(a, "pread"))
                else:
                    hang = later.enter_context(rig.host.hanging(a, "pread"))
            if meanwhile == "the plex leaves":
                await until(lambda: hang.waiting > 0)
                with rig.host.failing(b, "pwrite"):
                    await rig.write_regions(9)
                hang.let_go()
    assert [operation.offset // REGION for operation in rig.host.watch.seen("pwrite", str(b))] == (
        [] if meanwhile == "the source fails" else [9]
    )
    assert await rig.states() == ("ACTIVE ACTIVE" if meanwhile == "the source fails" else "ACTIVE IOFAIL")


async def test_a_seek_on_an_instant_snapshot_finds_no_hole(rig: Rig) -> None:
    """What its plex lacks is its original's."""
    await rig.make("ab")
    await rig.write_regions(1)
    await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("i")), name="i")
    assert await rig.door("i").seek(512, data=True) == 512
    assert await rig.door("i").seek(512, data=False) == SIZE


async def test_where_a_write_may_land_yet_is_no_hole(tmp_path: Path) -> None:
    async with daemon(tmp_path, io_timeout_seconds=0.3) as rig:
        await rig.make("a")
        with rig.host.hanging(rig.path("a"), "pwrite"):
            with pytest.raises(Failed, match="io_error"):
                await rig.write_regions(3)
            assert await rig.data.seek(3 * REGION, data=True) == 3 * REGION
            assert await rig.data.seek(4 * REGION, data=False) == 4 * REGION


async def test_the_end_of_the_volume(rig: Rig) -> None:
    await rig.make("ab")
    assert await rig.data.read(SIZE - 10, 4096) == bytes(10)
    assert await rig.data.read(SIZE, 10) == b"" == await rig.data.read(SIZE + 12345, 10)
    with pytest.raises(Failed, match="beyond_end"):
        await rig.data.write(SIZE - 1, b"xy")
    await rig.data.write(SIZE, b"")
    assert await rig.data.read(SIZE - 1, 1) == b"\0"


async def test_what_was_written_is_read_whoever_serves(rig: Rig) -> None:
    await rig.make("ab", rdpol="round")
    content = os.urandom(SIZE)
    for at in range(0, SIZE, 100_000):
        await rig.data.write(at, content[at : at + 100_000])
    for _ in range(2):
        assert b"".join([await rig.data.read(at, 77_777) for at in range(0, SIZE, 77_777)]) == content
