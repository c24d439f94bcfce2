"""A store whose directory, or a snapshot in it, does not answer: its originals go on, and wait once at most."""

from collections.abc import AsyncIterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from fmrd.dco import layout
from fmrd.engine.stores import stores
from fmrd.errors import Failed
from tests.engine.rig import REGION, SIZE, Rig, daemon
from tests.waiting import until

PATIENCE = 0.3
ENOUGH_SECONDS = 10
"""Far less than the io_timeout of these volumes."""


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    """Two volumes whose snapshots share a store."""
    monkeypatch.setattr(stores, "PATIENCE_SECONDS", PATIENCE)
    async with daemon(tmp_path) as running:
        for volume in ("data", "other"):
            plexes = [{"path": str(tmp_path / f"{volume}-{letter}")} for letter in "ab"]
            await running.verbs.make(volume=volume, size_bytes=SIZE, plexes=plexes)
            await running.door(volume).write(0, b"0" * SIZE)
        await running.verbs.store_add(name="s", directory=str(tmp_path / "store"), size_bytes=2 << 20)
        yield running


async def take(rig: Rig, volume: str, name: str) -> None:
    await rig.verbs.snapshot(volumes=[volume], name=name, store="s")


async def write(rig: Rig, volume: str, *regions: int) -> None:
    with trio.fail_after(ENOUGH_SECONDS):
        for region in regions:
            await rig.door(volume).write(region * REGION, b"1" * REGION)


async def lost(rig: Rig, *names: str) -> list[str]:
    """Which of these snapshots are invalid."""
    shown = {volume["name"]: volume["lost"] for volume in (await rig.verbs.print())["volumes"]}
    return [name for name in names if shown[name]]


async def test_an_original_waits_once_for_a_store_that_does_not_answer(rig: Rig) -> None:
    await take(rig, "data", "i")
    await take(rig, "other", "j")
    store = str(rig.path("store"))
    with rig.host.hanging(store, "store_files") as hang:
        await write(rig, "data", *range(20))
        await write(rig, "other", *range(20))
        assert hang.waiting == 1, "nobody asks again what has not answered yet"
        assert await lost(rig, "i", "j") == ["i", "j"]
        with pytest.raises(Failed, match="store s has not answered"):
            await rig.verbs.store_resize(name="s", size_bytes=4 << 20)
    await until(lambda: not rig.registry.context.stores.room("s").hangs)
    await rig.verbs.store_resize(name="s", size_bytes=4 << 20)
    await take(rig, "data", "k")
    await write(rig, "data", 1)
    assert not await lost(rig, "k") and await rig.door("k").read(0, SIZE) == b"1" * 20 * REGION + b"0" * 44 * REGION


async def test_what_is_started_while_others_need_room_can_be_given_up_later(rig: Rig) -> None:
    await take(rig, "data", "i")
    await write(rig, "data", *range(4))
    await rig.verbs.stop(volume="i")
    await take(rig, "other", "j")
    async with trio.open_nursery() as nursery:
        with rig.host.hanging(rig.path("state/volumes/data.dco"), "dco_write") as hang:
            nursery.start_soon(lambda: rig.verbs.start(volume="i"))
            await until(lambda: hang.waiting == 1)
            await write(rig, "other", *range(24))
            assert await lost(rig, "j") == ["j"], "the other one could not be told just then"
    await take(rig, "other", "k")
    await write(rig, "other", *range(3))
    assert await lost(rig, "i", "k") == ["i"]


async def test_an_original_does_not_wait_for_the_home_copy_of_whom_it_takes_room_from(rig: Rig) -> None:
    await take(rig, "data", "i")
    await write(rig, "data", *range(8))
    await take(rig, "other", "j")
    with rig.host.hanging(rig.path("state/volumes/data.dco"), "dco_write") as hang:
        await write(rig, "other", *range(24))
        assert hang.waiting
    await until(lambda: rig.path("store/i.plex").stat().st_blocks == 0)
    assert await lost(rig, "i") == ["i"]
    with pytest.raises(Failed, match="snap_invalid"):
        await rig.door("i").read(0, REGION)


async def test_nothing_is_given_up_whose_original_stops(rig: Rig) -> None:
    """That it is lost would reach the home copy when the original is there again, and does not know."""
    await take(rig, "data", "i")
    await write(rig, "data", *range(8))
    await take(rig, "other", "j")
    home, records = rig.path("state/volumes/data.dco"), 2 * layout.RECORD_SLOT_BYTES
    copies = (home, rig.path("data-a.dco"), rig.path("data-b.dco"))
    with ExitStack() as stack:
        pages = range(records, 1 << 30)
        hanging = partial(rig.host.hanging, within=pages, first_only=True)
        late = [stack.enter_context(hanging(path, "dco_write")) for path in copies]
        for hang in late:
            hang.waiting = 1  # not yet
        async with trio.open_nursery() as nursery:
            with rig.host.hanging(home, "dco_write", within=range(records)) as last:
                nursery.start_soon(lambda: rig.verbs.stop(volume="data"))
                await until(lambda: last.waiting == 1)
                for hang in late:
                    hang.waiting = 0
                await write(rig, "other", *range(24))
                for hang in late:
                    hang.waiting = 1
        await rig.verbs.start(volume="data")
    await until(lambda: not rig.registry.context.stores.room("s")._going.uuids)
    assert await rig.door("i").read(0, SIZE) == b"0" * SIZE
    assert await lost(rig, "i", "j") == ["j"]
