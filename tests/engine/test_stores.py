"""A store that runs full gives up its oldest snapshot, in an order that no crash and no reader can see through."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio
import trio.testing

from fmrd.core.stores.declared import Declared
from fmrd.engine.stores import stores as all_stores
from fmrd.engine.stores.remembered import encode
from fmrd.engine.stores.room import SharedRoom
from fmrd.errors import Failed, Refused
from tests.engine.rig import REGION, SIZE, Rig, daemon
from tests.waiting import until

ROOM = 20 * REGION
"""Beside the copies of the DCO of two snapshots."""


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with daemon(tmp_path) as running:
        await running.make("ab")
        await running.data.write(0, b"0" * SIZE)
        yield running


async def take(rig: Rig, names: str, room: int = ROOM) -> None:
    """Snapshots, the oldest first, in a store with room for so many bytes of old data."""
    await rig.verbs.store_add(name="s", directory=str(rig.path("store")), size_bytes=SIZE)
    for name in names:
        await rig.verbs.snapshot(volumes=["data"], store="s", name=name)
    [store] = (await rig.verbs.store_print())["stores"]
    taken = store["used_bytes"]
    await rig.verbs.store_resize(name="s", size_bytes=taken + room)
    rig.host.watch.log.clear()


def file(rig: Rig, name: str) -> Path:
    return rig.path("store") / f"{name}.plex"


async def two(rig: Rig) -> None:
    await take(rig, "ij")


async def fill(rig: Rig, first: int, count: int) -> None:
    for region in range(first, first + count):
        await rig.data.write(region * REGION, b"1" * REGION)


async def is_whole(rig: Rig, name: str) -> bool:
    try:
        return await rig.door(name).read(0, SIZE) == b"0" * SIZE
    except Failed as error:
        if error.code != "snap_invalid":
            raise
        return False


def held(rig: Rig, name: str) -> int:
    return file(rig, name).stat().st_blocks * 512


async def test_a_snapshot_asks_for_room_only_where_it_takes_some(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = SharedRoom.taken

    def taken(self: SharedRoom, uuid: str, size: int) -> AbstractAsyncContextManager[None]:
        asked.append(size)
        return real(self, uuid, size)

    await take(rig, "i", 2 * SIZE)
    monkeypatch.setattr(SharedRoom, "taken", taken)
    door = rig.door("i")
    for _ in range(2):
        await door.write(5 * REGION, b"2" * REGION)
    assert asked == [0, 0], "it was granted when that region became its own"
    asked.clear()
    await door.make_zero(5 * REGION, REGION, punch=True)
    assert asked == []
    await door.write(5 * REGION, b"3" * 512)
    assert asked == [512]


async def test_it_is_lost_on_both_sides_before_its_room_is_given_back(rig: Rig) -> None:
    await two(rig)
    await fill(rig, 0, 10)
    rig.host.watch.log.clear()
    await fill(rig, 10, 1)
    log = [(o.name, o.path) for o in rig.host.watch.log]
    punch = log.index(("make_zero", str(file(rig, "i"))))
    home = [index for index, (name, path) in enumerate(log) if name == "dco_write" and path.endswith("data.dco")]
    assert sum(index < punch for index in home) >= 2, "the page of the original, and that of the snapshot"
    assert punch < log.index(("pwrite", str(rig.path("a")))), "and only then the original"
    assert not await is_whole(rig, "i") and await is_whole(rig, "j")
    assert held(rig, "i") == 0


async def test_who_reads_one_that_is_given_up_meanwhile_is_told(rig: Rig) -> None:
    """Not shown the hole that is left."""
    await two(rig)
    await fill(rig, 0, 10)
    read: list[object] = []

    async def reads() -> None:
        try:
            read.append(await rig.door("i").read(0, REGION))
        except Failed as error:
            read.append(error.code)

    with rig.host.hanging(file(rig, "i"), "pread") as hang:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reads)
            await until(lambda: hang.waiting == 1)
            await fill(rig, 10, 1)
            assert held(rig, "i") == 0
            hang.let_go()
    assert read == ["snap_invalid"]


async def test_an_original_writes_nowhere_before_the_home_copy_knows_what_is_lost(rig: Rig) -> None:
    """Also where the write that needed the room is another one."""
    await take(rig, "i", 10 * REGION)
    await fill(rig, 0, 10)
    async with trio.open_nursery() as nursery:
        with rig.host.hanging(rig.directory / "state" / "volumes" / "data.dco", "dco_write") as hang:
            nursery.start_soon(fill, rig, 10, 1)
            await until(lambda: hang.waiting >= 1)
            rig.host.watch.log.clear()
            nursery.start_soon(fill, rig, 40, 1)  # lost by now, and nobody knows
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert not rig.host.watch.seen("pwrite", str(rig.path("a")))
            hang.let_go()
    assert await rig.data.read(40 * REGION, 1) == b"1" and not await is_whole(rig, "i")


async def test_one_that_is_stopped_is_left_alone_and_the_original_goes_on(rig: Rig) -> None:
    await two(rig)
    await fill(rig, 0, 8)
    await rig.verbs.stop(volume="i")
    kept = held(rig, "i")
    await fill(rig, 8, 20)
    assert held(rig, "i") == kept > 0, "nobody could tell its original"
    assert await rig.data.read(0, 28 * REGION) == b"1" * 28 * REGION
    assert not await is_whole(rig, "j"), "the only one left"


async def test_one_of_which_nothing_can_be_read_gives_its_room_back_before_another_is_given_up(rig: Rig) -> None:
    """A crash came between the two."""
    await two(rig)
    await fill(rig, 0, 10)
    with rig.host.failing(file(rig, "i"), "make_zero"):
        await fill(rig, 10, 1)
    assert held(rig, "i") >= 10 * REGION and not await is_whole(rig, "i")
    await fill(rig, 12, 5)
    assert held(rig, "i") == 0 and held(rig, "j") > 0


async def test_where_a_store_cannot_be_looked_at_its_snapshots_lose_and_no_original(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two(rig)

    def fails(directory: str) -> dict[str, int]:
        raise OSError(5, "simulated")

    monkeypatch.setattr(rig.registry.context.stores.rooms["s"], "_measure_files", fails)
    monkeypatch.setattr(rig.registry.context.stores.rooms["s"], "_measured", None)
    await fill(rig, 0, 3)
    assert await rig.data.read(0, 3 * REGION) == b"1" * 3 * REGION
    [store] = (await rig.verbs.store_print(name="s"))["stores"]
    assert store["used_bytes"] is None and [each["valid"] for each in store["snapshots"]] == [False, False]


async def test_a_file_of_stores_that_is_damaged_keeps_no_volume_down_and_is_not_written_over(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make("ab")
        await two(rig)
    (tmp_path / "state" / "stores").write_bytes(b"rotten")
    async with daemon(tmp_path) as rig:
        await fill(rig, 0, 3)
        assert await rig.door("i").read(0, REGION) == bytes(REGION)
        for call in (rig.verbs.store_add(name="t", directory=str(rig.path("t")), size_bytes=REGION),
                     rig.verbs.store_print(name="s"), rig.verbs.snapshot(volumes=["data"], store="s")):  # fmt: skip
            with pytest.raises(Failed, match="stores_damaged"):
                await call
    assert (tmp_path / "state" / "stores").read_bytes() == b"rotten"


async def test_what_lies_there_when_a_store_is_declared_belongs_to_it(rig: Rig) -> None:
    rig.path("store").mkdir(mode=0o700)
    await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("store") / "mine"), name="mine")
    await rig.verbs.store_add(name="s", directory=str(rig.path("store")), size_bytes=16 * REGION)
    await fill(rig, 0, 30)
    assert not await is_whole(rig, "mine") and sum(f.stat().st_blocks for f in rig.path("store").iterdir()) * 512 < SIZE
    with pytest.raises(Refused, match="snap_in_store"):
        await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("store") / "full"), name="full", sync=True)


async def test_a_store_is_forgotten_only_where_that_is_remembered(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.verbs.store_add(name="s", directory=str(rig.path("store")), size_bytes=SIZE)

    def fails(data: bytes) -> None:
        raise OSError(28, "simulated")

    with monkeypatch.context() as patch:
        patch.setattr(rig.host, "write_stores", fails)
        with pytest.raises(Failed, match="io_error"):
            await rig.verbs.store_remove(name="s")
        with pytest.raises(Failed, match="io_error"):
            await rig.verbs.store_resize(name="s", size_bytes=2 * SIZE)
        with pytest.raises(Failed, match="io_error"):
            await rig.verbs.store_add(name="t", directory=str(rig.path("t")), size_bytes=SIZE)
    [store] = (await rig.verbs.store_print())["stores"]
    assert (store["name"], store["size_bytes"]) == ("s", SIZE)
    remembered = Declared("s", str(rig.path("store")), SIZE)
    assert (rig.directory / "state" / "stores").read_bytes() == encode([remembered])
    await rig.verbs.store_remove(name="s")
    assert (rig.directory / "state" / "stores").read_bytes() == encode([])
    assert all_stores.PATIENCE_SECONDS <= 5, "an original may wait for it"


@pytest.mark.parametrize("what", ["new", "open to others", "a link", "a file", "taken"])
async def test_what_a_store_foretells_is_what_it_does(rig: Rig, what: str) -> None:
    place = rig.path("store")
    if what == "open to others":
        place.mkdir()
        place.chmod(0o777)
    elif what == "a link":
        place.symlink_to(rig.directory)
    elif what == "a file":
        place.touch()
    elif what == "taken":
        await rig.verbs.store_add(name="other", directory=str(place), size_bytes=SIZE)
    told: list[str] = []
    for dry_run in (True, False):
        try:
            await rig.verbs.store_add(name="s", directory=str(place), size_bytes=SIZE, dry_run=dry_run)
        except (Failed, Refused) as error:
            told.append(error.code)
        else:
            told.append("made")
            assert place.exists() is not dry_run
    assert told == [told[0]] * 2 and (told[0] == "made") == (what == "new")
    if what != "new":
        return
    await rig.verbs.snapshot(volumes=["data"], store="s", name="i")
    for verb, more, code in (
        (rig.verbs.store_resize, {"size_bytes": 4096}, "store_in_use"),
        (rig.verbs.store_remove, {}, "store_in_use"),
    ):
        for dry_run in (True, False):
            with pytest.raises(Refused, match=code):
                await verb(name="s", dry_run=dry_run, **more)  # type: ignore[operator]  # each has its own arguments
    assert "would make" in (await rig.verbs.store_resize(name="s", size_bytes=2 * SIZE, dry_run=True))["notice"]
    assert (await rig.verbs.store_print())["stores"][0]["size_bytes"] == SIZE, "and only says so"
