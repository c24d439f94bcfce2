"""What an instant snapshot needs of its original is kept in rounds: many regions share what each of them waits for."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from fmrd.engine.serving import keeping
from fmrd.engine.serving.keeping import Keeper
from fmrd.engine.serving.life import RestLock
from fmrd.errors import Failed
from tests.engine.faulty import FaultyBacking
from tests.engine.rig import REGION, Rig, daemon
from tests.waiting import until


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with daemon(tmp_path) as running:
        await running.make("ab")
        await running.write_regions(*range(20), byte=b"0")
        yield running


async def take(rig: Rig, letter: str = "i") -> None:
    await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path(letter)), name=letter)
    rig.host.watch.log.clear()


def written(rig: Rig, letter: str = "i") -> list[int]:
    """The regions that were copied to that snapshot's plex, in that order."""
    return [operation.offset // REGION for operation in rig.host.watch.seen("pwrite", str(rig.path(letter)))]


def begin(rig: Rig, nursery: trio.Nursery, *regions: int) -> None:
    for region in regions:
        nursery.start_soon(rig.write_regions, region)


async def test_regions_that_wait_are_kept_together(rig: Rig) -> None:
    await take(rig)
    async with trio.open_nursery() as nursery:
        with rig.host.hanging(rig.path("i"), "pwrite", first_only=True) as hang:
            begin(rig, nursery, 1)
            await until(lambda: hang.waiting == 1)
            begin(rig, nursery, 9, 3, 5, 4, 12, 7)
            await trio.testing.wait_all_tasks_blocked()
            assert written(rig) == [1]
    assert written(rig) == [1, 3, 7, 9, 12], "in order, neighbours as one"
    assert len(rig.host.watch.seen("fdatasync", str(rig.path("i")))) == 2
    assert await rig.door("i").read(0, 20 * REGION) != await rig.data.read(0, 20 * REGION)
    for region in range(20):
        assert await rig.door("i").read(region * REGION + 512, 512) == b"0" * 512


async def test_the_next_regions_are_copied_while_an_fdatasync_is_under_way(rig: Rig) -> None:
    """And have one of their own: nothing is written over before it."""
    await take(rig)
    async with trio.open_nursery() as nursery:
        with rig.host.hanging(rig.path("i"), "fdatasync", first_only=True) as hang:
            begin(rig, nursery, 1)
            await until(lambda: hang.waiting == 1)
            begin(rig, nursery, 2, 3)
            await until(lambda: written(rig) == [1, 2])
            await trio.testing.wait_all_tasks_blocked()
            assert not rig.host.watch.seen("pwrite", str(rig.path("a"))), "none of them is durable"
        await until(lambda: len(rig.host.watch.seen("pwrite", str(rig.path("a")))) == 3)
    log = [
        (o.name, o.offset // REGION) for o in rig.host.watch.log if o.path in (str(rig.path("i")), str(rig.path("a")))
    ]
    syncs = [index for index, (name, _) in enumerate(log) if name == "fdatasync"]
    assert len(syncs) == 2
    assert all(log.index(("pwrite", region)) < syncs[1] for region in (1, 2)), "copied before"
    over = [log.index(("pwrite", region), log.index(("pwrite", 2)) + 1) for region in (2, 3)]
    assert min(over) > syncs[1], "written over after"


async def test_regions_of_zeros_take_no_room_beside_others(rig: Rig) -> None:
    await take(rig)
    async with trio.open_nursery() as nursery:
        with rig.host.hanging(rig.path("i"), "pwrite", first_only=True) as hang:
            begin(rig, nursery, 1)
            await until(lambda: hang.waiting == 1)
            begin(rig, nursery, 30, 3, 33)
            await trio.testing.wait_all_tasks_blocked()
    assert written(rig) == [1, 3]
    assert rig.path("i").stat().st_blocks * 512 < 4 * REGION
    assert await rig.door("i").read(30 * REGION, REGION) == bytes(REGION)
    assert (await rig.data.read(30 * REGION, REGION)).count(b"w") == 512


async def test_a_write_over_more_than_is_in_memory_at_once_is_kept(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "PIECE_BYTES", REGION // 4)
    monkeypatch.setattr(keeping, "TOGETHER_BYTES", REGION * 3 // 4)
    before = await rig.data.read(0, 20 * REGION)
    await take(rig)
    await rig.data.write(512, b"1" * (10 * REGION))
    assert await rig.door("i").read(0, 20 * REGION) == before


async def test_snapshots_do_not_wait_for_each_others_disks(rig: Rig) -> None:
    await take(rig, "i")
    await take(rig, "j")
    async with trio.open_nursery() as nursery:
        with rig.host.hanging(rig.path("i"), "pwrite"):
            begin(rig, nursery, 1)
            await until(lambda: len(rig.host.watch.seen("fdatasync", str(rig.path("j")))) == 1)
            assert not rig.host.watch.seen("pwrite", str(rig.path("a")))
    for letter in "ij":
        assert await rig.door(letter).read(REGION + 512, 512) == b"0" * 512


async def test_where_the_plex_of_a_snapshot_is_full_every_write_of_its_original_succeeds(rig: Rig) -> None:
    """Also of those regions that were to be kept together with the one that found no room."""
    await take(rig)
    async with trio.open_nursery() as nursery:
        with rig.host.failing(rig.path("i"), "pwrite", code=28, within=range(5 * REGION, 6 * REGION)):
            begin(rig, nursery, *range(10))
            await until(lambda: len(rig.host.watch.seen("pwrite", str(rig.path("a")))) == 10)
    for region in range(10):
        assert await rig.data.read(region * REGION + 512, 512) == b"w" * 512
    lost = (await rig.verbs.print(volume="i"))["volumes"][0]["lost"]
    assert any(part["offset_bytes"] <= 5 * REGION < part["offset_bytes"] + part["length_bytes"] for part in lost)
    await rig.write_regions(11)
    assert await rig.door("i").read(11 * REGION + 512, 512) == b"0" * 512, "others are kept"


async def test_without_its_original_a_snapshot_has_what_it_holds(rig: Rig) -> None:
    await take(rig)
    await rig.write_regions(5)
    await rig.stop()
    snapshot = rig.door("i")
    assert await snapshot.read(5 * REGION + 512, 512) == b"0" * 512
    await snapshot.write(5 * REGION + 512, b"its own")
    assert await snapshot.read(5 * REGION + 512, 7) == b"its own"
    for request in (snapshot.read(6 * REGION, 1), snapshot.write(6 * REGION, b"its own")):
        with pytest.raises(Failed, match=r"volume_stopped.*reads from data, which is stopped"):
            await request


async def test_an_original_that_stops_gives_its_snapshot_nothing_any_more(rig: Rig) -> None:
    """Whoever asks counts as a request of it, which a stop waits for; it takes none then."""
    await take(rig)
    snapshot, load = rig.door("i"), rig.service.mirror.load
    async with trio.open_nursery() as nursery:
        with rig.host.hanging(rig.path("a"), "pread"), rig.host.hanging(rig.path("b"), "pread"):
            nursery.start_soon(snapshot.read, 5 * REGION, 1)
            nursery.start_soon(snapshot.write, 6 * REGION, b"its own")
            await until(lambda: load.requests == 2)
            load.closed = True
            for request in (snapshot.read(7 * REGION, 1), snapshot.write(8 * REGION, b"its own")):
                with pytest.raises(Failed, match="volume_stopped"):
                    await request
            load.closed = False
    assert load.requests == 0


async def test_an_original_asks_nothing_of_what_it_lacks_itself(rig: Rig) -> None:
    """Its first plex is out, and misses what is written: no more than any plex."""
    await take(rig)
    await rig.det("a")
    for byte in (b"1", b"2"):
        await rig.write_regions(5, byte=byte)
    assert await rig.data.read(5 * REGION + 512, 1) == b"2"
    assert await rig.door("i").read(5 * REGION + 512, 1) == b"0"


@pytest.mark.parametrize("what", ["read", "write"])
async def test_what_is_the_originals_is_taken_from_it_while_nobody_writes_there(rig: Rig, what: str) -> None:
    """A write that holds the bytes may be anywhere between the old data and the new."""
    await take(rig)
    snapshot, ranges = rig.door("i"), rig.service.mirror.ranges
    request = {"read": snapshot.read(5 * REGION + 512, 1), "write": snapshot.write(5 * REGION, b"its own")}
    request.pop("read" if what == "write" else "write").close()
    async with trio.open_nursery() as nursery:
        async with ranges.hold((5 * REGION, 6 * REGION)):
            nursery.start_soon(lambda: request[what])
            await until(lambda: bool(ranges._waiting))
            rig.host.watch.log.clear()
        await until(lambda: not ranges.holders)
    assert rig.host.watch.log, "and then it is"


async def test_pieces_that_no_plex_has_alone_are_kept_of_several(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where what is in memory is read in the same step."""
    monkeypatch.setattr(FaultyBacking, "pread_now", lambda self, offset, buffer: self.inner.pread_now(offset, buffer))
    for letter, missing in (("a", 4), ("b", 3)):
        rig.plex(letter).map.mark(range(missing, missing + 1))
        descriptor = os.open(rig.path(letter), os.O_RDWR)
        os.pwrite(descriptor, b"x" * REGION, missing * REGION)
        os.close(descriptor)
    await take(rig)
    await rig.data.write(3 * REGION, b"1" * 2 * REGION)
    for region in (3, 4):
        assert await rig.door("i").read(region * REGION + 512, 512) == b"0" * 512


async def test_what_cannot_be_read_of_the_original_is_lost_and_no_write_of_it(rig: Rig) -> None:
    await take(rig)
    with rig.host.failing(rig.path("a"), "pread"), rig.host.failing(rig.path("b"), "pread"):
        await rig.write_regions(5)
    assert await rig.data.read(5 * REGION + 512, 1) == b"w"
    with pytest.raises(Failed, match="snap_invalid"):
        await rig.door("i").read(5 * REGION + 512, 1)


async def test_of_a_snapshot_that_is_gone_nothing_is_owed(rig: Rig) -> None:
    """Who waited for his turn finds it gone."""
    keeper = Keeper(rig.service.mirror, "gone")
    assert keeper.owed([1]) == [] and not keeper.must_wait(range(1, 2))


@pytest.mark.parametrize("why", ["its plex failed", "it is stopped, or its disk is away"])
async def test_why_a_snapshot_became_invalid_is_told(rig: Rig, caplog: pytest.LogCaptureFixture, why: str) -> None:
    """Not as an error, where somebody stopped it who knows what that costs."""
    await take(rig)
    stopped = why != "its plex failed"
    if stopped:
        await rig.verbs.stop(volume="i")
    with rig.host.failing(rig.path("i"), "fdatasync"):
        await rig.write_regions(5)
    [record] = [each for each in caplog.records if "is invalid" in each.message]
    assert f"old data could not be kept ({why})" in record.message
    assert record.levelname == ("WARNING" if stopped else "ERROR")


async def test_what_can_neither_be_kept_nor_lost_durably_is_not_written_over(rig: Rig) -> None:
    """The home copy takes nothing. The extent is marked already, so nothing else would stop the write."""
    await take(rig)
    await rig.write_regions(1)
    rig.host.watch.log.clear()
    home = rig.directory / "state" / "volumes" / "data.dco"
    with rig.host.failing(home, "dco_write"), pytest.raises(Failed, match="home_failed"):
        await rig.write_regions(5)
    assert written(rig) == [5] and not written(rig, "a") and not written(rig, "b")
    await rig.write_regions(5)
    assert await rig.data.read(5 * REGION + 512, 1) == b"w"


class Sharers:
    """They ask for a volume's rest, or to work on it; ``have`` tells who has it, in that order."""

    def __init__(self) -> None:
        self.lock = RestLock()
        self.have: list[str] = []

    async def rest(self) -> None:
        await self.lock.acquire()
        self.have.append("rest")

    async def work(self) -> None:
        assert await self.lock.enter(60)
        self.have.append("work")


async def test_many_may_work_on_a_volume_and_none_while_it_is_at_rest() -> None:
    sharers = Sharers()
    lock = sharers.lock
    async with trio.open_nursery() as nursery:
        for ask in (sharers.work, sharers.work, sharers.rest, sharers.work, sharers.rest):
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
        assert sharers.have == ["work", "work"], "who comes later waits behind"
        lock.leave()
        await trio.testing.wait_all_tasks_blocked()
        assert sharers.have == ["work", "work"]
        lock.leave()
        await trio.testing.wait_all_tasks_blocked()
        assert sharers.have == ["work", "work", "rest"]
        lock.release()
        await trio.testing.wait_all_tasks_blocked()
        assert sharers.have == ["work", "work", "rest", "work"]
        lock.leave()
    assert sharers.have[-1] == "rest"


async def test_whoever_does_not_wait_any_more_holds_up_nobody() -> None:
    sharers = Sharers()
    await sharers.work()
    async with trio.open_nursery() as nursery:
        leaving = trio.CancelScope()

        async def rest_and_leave() -> None:
            with leaving:
                await sharers.rest()

        nursery.start_soon(rest_and_leave)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(sharers.work)
        await trio.testing.wait_all_tasks_blocked()
        assert sharers.have == ["work"]
        leaving.cancel()
    assert sharers.have == ["work", "work"]


async def test_work_on_a_volume_at_rest_waits_no_longer_than_it_may() -> None:
    lock = RestLock()
    await lock.acquire()
    assert not await lock.enter(0.01)
    lock.release()
    assert await lock.enter(60)
