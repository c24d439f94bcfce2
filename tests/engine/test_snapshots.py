"""Snapshots over real files, with trouble: disks that fail or hang, a home copy that fails, verbs beside each other."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from fmrd.core.states import PlexState
from fmrd.errors import Failed, FmrdError, Refused
from tests.door import Door
from tests.engine.rig import REGION, Rig, daemon
from tests.waiting import until

SOON = 0.8


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with daemon(tmp_path) as running:
        await running.make("ab")
        yield running


async def prepare(rig: Rig, letter: str = "s", volume: str = "data") -> None:
    await rig.end((await rig.verbs.snapstart(volume=volume, path=str(rig.path(letter))))["task"])


async def take(rig: Rig, letter: str = "s", **options: object) -> None:
    await prepare(rig, letter)
    await rig.verbs.snapshot(volumes=["data"], **options)


def snap(rig: Rig, name: str = "SNAP-data") -> Door:
    return rig.door(name)


async def back(rig: Rig, name: str = "SNAP-data", **options: object) -> list[dict[str, object]]:
    tasks = (await rig.verbs.snapback(snapshot=name, **options))["tasks"]
    return [await rig.end(task) for task in tasks]


async def test_two_volumes_are_taken_at_one_instant(rig: Rig) -> None:
    """Whoever writes a number to the one and then to the other never sees the second ahead of the first."""
    await rig.verbs.make(volume="more", size_bytes=64 * REGION, plexes=[{"path": str(rig.path("c"))}])
    await prepare(rig, "s")
    await prepare(rig, "t", "more")
    numbers: list[int] = []

    async def count(stop: trio.Event) -> None:
        first, second = rig.door("data"), rig.door("more")
        while not stop.is_set():
            numbers.append(len(numbers))
            word = numbers[-1].to_bytes(512, "big")
            await first.write(0, word)
            await second.write(0, word)

    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count, stop)
        await until(lambda: len(numbers) > 20)
        await rig.verbs.snapshot(volumes=["more", "data"])
        await until(lambda: len(numbers) > 100)
        stop.set()
    ahead, behind = [int.from_bytes(await snap(rig, f"SNAP-{v}").read(0, 512), "big") for v in ("data", "more")]
    assert behind <= ahead <= behind + 1 and ahead < numbers[-1]


async def test_exactly_the_union_is_copied(rig: Rig) -> None:
    await take(rig)
    await rig.write_regions(1, 2)
    await rig.write_regions(2, 3, 4, volume="SNAP-data")
    [task] = await back(rig)
    assert (task["total_regions"], task["done_regions"]) == (4, 4) and rig.same("a", "b", "s")


async def test_a_snapshot_whose_disk_fails_never_fails_its_original(rig: Rig) -> None:
    await take(rig)
    with rig.host.failing(rig.path("s"), "pwrite", "fdatasync", "pread"):
        with pytest.raises(Failed, match="io_error"):
            await rig.write_regions(1, volume="SNAP-data")
        await rig.write_regions(1, 2)
        await rig.data.flush()
        await rig.service.mirror.clean()
    await rig.write_regions(3, volume="SNAP-data")
    assert (await back(rig))[0]["state"] == "done" and rig.same("a", "b", "s")


async def test_a_snapshot_whose_disk_hangs_never_holds_its_original(tmp_path: Path) -> None:
    async with daemon(tmp_path, io_timeout_seconds=50) as rig:
        await rig.make("ab")
        await take(rig)
        copy = f"{rig.path('s')}.dco"
        async with trio.open_nursery() as nursery:
            with rig.host.hanging(copy, "dco_write") as hang, rig.host.hanging(rig.path("s"), "pwrite"):
                nursery.start_soon(_ignoring, rig, 1)  # a mark on the snapshot's copy: it hangs
                await until(lambda: hang.waiting)
                with trio.fail_after(30):  # not one io_timeout
                    await rig.write_regions(5, 6, 7)
                    await rig.data.flush()
                    await rig.det("b")
                assert hang.waiting
        await rig.end(await rig.att("b"))
        assert rig.same("a", "b")


async def _ignoring(rig: Rig, region: int) -> None:
    with contextlib.suppress(FmrdError):
        await rig.write_regions(region, volume="SNAP-data")


VERBS = {
    "snapshot": lambda rig: rig.verbs.snapshot(volumes=["data"]),
    "snapback": lambda rig: rig.verbs.snapback(snapshot="SNAP-data"),
    "snapclear": lambda rig: rig.verbs.snapclear(snapshot="SNAP-data"),
    "instant": lambda rig: rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("i"))),
}


@pytest.mark.parametrize("verb", VERBS)
async def test_a_verb_that_the_home_copy_did_not_take_is_whole_or_not_there_after_a_kill(
    tmp_path: Path, verb: str
) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make("ab")
        await rig.write_regions(0, byte=b"0")
        if verb in ("snapback", "snapclear"):
            await take(rig)
        else:
            await prepare(rig)
        await rig.data.flush()
        with rig.host.failing(rig.directory / "state" / "volumes" / "data.dco", "dco_write"):
            with pytest.raises(Failed, match="home_failed"):
                await VERBS[verb](rig)
            rig.kill()
    async with daemon(tmp_path) as rig:
        assert await rig.data.read(512, 1) == b"0"
        there = "SNAP-data" in rig.registry.units
        assert there is (verb in ("snapback", "snapclear"))
        if there:
            await back(rig)
        else:
            await rig.verbs.snapwait(volume="data")
        await rig.stop()
        assert rig.same("a", "b", "s")


async def test_a_break_off_that_was_not_recorded_lands_when_the_home_copy_can_be_written(rig: Rig) -> None:
    await prepare(rig)
    home = rig.directory / "state" / "volumes" / "data.dco"
    with rig.host.failing(home, "dco_write"):
        with pytest.raises(Failed, match="home_failed"):
            await rig.verbs.snapshot(volumes=["data"])
        rig.host.watch.log.clear()
        await until(lambda: len(rig.host.watch.seen("dco_write", str(home))) > 1)  # it is tried again, and again
        assert rig.registry.find("SNAP-data") is None, "nobody writes to what may still be a plex"
    await until(lambda: rig.registry.find("SNAP-data") is not None)
    await rig.write_regions(1)
    await rig.write_regions(2, volume="SNAP-data")
    await back(rig)
    assert rig.same("a", "b", "s")


async def test_nothing_is_broken_off_where_the_plex_fails_its_last_fdatasync(rig: Rig) -> None:
    await prepare(rig)
    await rig.write_regions(1)
    with rig.host.failing(rig.path("s"), "fdatasync"), pytest.raises(Refused, match="snap_missing"):
        await rig.verbs.snapshot(volumes=["data"])
    assert await rig.states() == "ACTIVE ACTIVE IOFAIL"
    await rig.end_all()
    await rig.verbs.recover(volume="data")
    await rig.verbs.snapwait(volume="data")
    await rig.verbs.snapshot(volumes=["data"])


async def test_where_plexes_are_missing_the_refusal_says_so(rig: Rig) -> None:
    """Not that one which is ready misses something."""
    await prepare(rig)
    with pytest.raises(Refused, match=r"has 1 SNAPDONE plex\(es\), 2 wanted") as refused:
        await rig.verbs.snapshot(volumes=["data"], nmirror=2)
    assert "snapstart data" in str(refused.value.hint)


async def test_snapwait_waits_for_what_a_crash_left_to_be_copied(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make("ab")
        await prepare(rig)
        await rig.verbs.set(volume="data", settings={"rate": "1M"})
        await rig.write_regions(*range(40), byte=b"1")
        rig.kill()
    async with daemon(tmp_path) as rig:
        plex = rig.service.volume.plexes[2]
        assert plex.state is PlexState.SNAPDONE and plex.map.any()
        with pytest.raises(Refused, match="data-03 is SNAPDONE, but misses something that is copied to it"):
            await rig.verbs.snapshot(volumes=["data"])
        await rig.verbs.set(volume="data", settings={"rate": "0"})
        await rig.verbs.snapwait(volume="data")
        await rig.verbs.snapshot(volumes=["data"])
        await back(rig)
        await rig.stop()
        assert rig.same("a", "b", "s")


async def test_an_aborted_refresh_takes_no_snapshot_and_keeps_the_plex(rig: Rig) -> None:
    await take(rig)
    await rig.write_regions(*range(40))
    task = (await rig.verbs.refresh(snapshot="SNAP-data", rate=1))["task"]
    aborted = (await rig.verbs.task_abort(id=task["id"]))["task"]
    assert aborted["state"] == "aborted" and "SNAP-data" not in rig.registry.units
    assert await rig.states() == "ACTIVE ACTIVE STALE"
    await rig.verbs.snapwait(volume="data")
    await rig.verbs.snapshot(volumes=["data"])


async def test_an_original_that_is_written_while_everything_goes_on_stays_right(rig: Rig) -> None:
    """A writer, and snapshots that come and go beside it."""
    stop = trio.Event()

    async def write() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            await rig.write_regions(turn % 60, byte=bytes([turn % 251 + 1]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await prepare(rig)
        for turn in range(6):
            await rig.verbs.snapshot(volumes=["data"])
            before = await snap(rig).read(0, 60 * REGION)
            await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path(f"i{turn}")), name="old")
            kept = await snap(rig, "old").read(0, 60 * REGION)
            await rig.write_regions(turn, byte=b"s", volume="old")
            assert await snap(rig).read(0, 60 * REGION) == before, "the original's writes are not seen"
            again = await snap(rig, "old").read(0, 60 * REGION)
            assert again[turn * REGION + 512 :][:1] == b"s"
            assert again[(turn + 1) * REGION :] == kept[(turn + 1) * REGION :]
            await rig.verbs.remove(volume="old", erase=True)
            await back(rig)
        stop.set()
    await rig.stop()
    assert rig.same("a", "b", "s")


async def test_what_an_instant_snapshot_could_not_keep_is_all_that_it_loses(rig: Rig) -> None:
    await rig.write_regions(1, 2, byte=b"0")
    await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("i")))
    with rig.host.failing(rig.path("i"), "pwrite"):
        await rig.write_regions(1, byte=b"1")
    await rig.write_regions(2, byte=b"1")
    [lost] = (await rig.verbs.print(volume="SNAP-data"))["volumes"][0]["lost"]
    assert (lost["offset_bytes"], lost["length_bytes"]) == (REGION, REGION)
    with pytest.raises(Failed, match="snap_invalid"):
        await snap(rig).read(REGION, 512)
    assert await snap(rig).read(2 * REGION + 512, 1) == b"0"


async def test_an_original_waits_for_a_snapshot_at_rest_no_longer_than_its_limit(rig: Rig) -> None:
    await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("i")))
    await rig.verbs.set(volume="SNAP-data", settings={"io_timeout": str(SOON)})
    rest = rig.registry.service("SNAP-data").mirror.rest_lock
    await rest.acquire()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.write_regions, 1)
        [unkept] = rig.service.volume.unkept.values()
        await until(unkept.map.any)
    rest.release()
    [lost] = (await rig.verbs.print(volume="SNAP-data"))["volumes"][0]["lost"]
    assert (lost["offset_bytes"], lost["length_bytes"]) == (REGION, REGION)


async def test_a_hanging_disk_of_an_instant_snapshot_costs_its_original_one_timeout(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make("ab")
        await rig.write_regions(*range(10))
        await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("i")))
        await rig.verbs.set(volume="SNAP-data", settings={"io_timeout": str(SOON)})
        with rig.host.hanging(rig.path("i"), "copy_from", "pwrite", "fdatasync") as hang:
            await rig.write_regions(1)
            hung = hang.waiting
            await rig.write_regions(2, 3, 4, 5)
            assert hung and hang.waiting == hung, "the next ones do not wait for that disk"
            lost = (await rig.verbs.print(volume="SNAP-data"))["volumes"][0]["lost"]
            assert sum(part["length_bytes"] for part in lost) == 64 * REGION, "all of it, so that nobody waits again"
            with pytest.raises(Failed, match="snap_invalid"):
                await snap(rig).read(0, 512)
        await rig.verbs.stop(volume="SNAP-data")
        await rig.verbs.remove(volume="SNAP-data")
        await rig.stop()
        assert rig.same("a", "b")


async def test_a_disk_that_hangs_already_is_not_waited_for_by_the_original_of_its_snapshot(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make("ab")
        await rig.write_regions(*range(10))
        await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("i")))
        await rig.verbs.set(volume="SNAP-data", settings={"io_timeout": str(SOON)})
        with rig.host.hanging(rig.path("i"), "pwrite") as hang:
            await _ignoring(rig, 1)
            assert hang.waiting == 1
            await rig.write_regions(5)
            assert hang.waiting == 1


@pytest.mark.parametrize("who", ["data", "SNAP-data"])
async def test_a_hanging_plex_of_the_original_costs_an_instant_snapshot_nothing(tmp_path: Path, who: str) -> None:
    """Whoever writes, the old data is read from a plex that answers."""
    async with daemon(tmp_path, io_timeout_seconds=SOON) as rig:
        await rig.make("ab")
        await rig.write_regions(*range(10), byte=b"0")
        await rig.verbs.set(volume="data", settings={"rdpol": "prefer:data-01"})
        await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("i")))
        await rig.verbs.set(volume="SNAP-data", settings={"io_timeout": str(SOON / 2)})
        with rig.host.hanging(rig.path("a"), "pread", "pread_now", "copy_from"):
            await rig.write_regions(1, byte=b"1", volume=who)
            assert await rig.states() == "IOFAIL ACTIVE"
            assert not (await rig.verbs.print(volume="SNAP-data"))["volumes"][0]["lost"]
            assert await snap(rig).read(REGION + 512, 1) == (b"0" if who == "data" else b"1")


async def test_a_plex_that_left_the_snapshot_goes_back_with_the_others(rig: Rig) -> None:
    await prepare(rig, "s")
    await prepare(rig, "t")
    await rig.verbs.snapshot(volumes=["data"], nmirror=2)
    await rig.verbs.plex_det(volume="SNAP-data", plex=str(rig.path("t")))
    await rig.write_regions(1)
    await rig.write_regions(2, volume="SNAP-data")
    with pytest.raises(Refused, match="does not hold all of it"):
        await rig.verbs.snapback(snapshot="SNAP-data", from_replica=True)
    assert snap(rig).length_bytes, "refused, and it serves as before"
    tasks = await back(rig, all_plexes=True)
    assert [task["total_regions"] for task in tasks] == [2, 2] and rig.same("a", "b", "s", "t")
