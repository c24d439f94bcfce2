"""More snapshots than one bank of columns has room for: the DCO becomes wide, and what was there stays where it was."""

import errno
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import trio

from fmrd.backing import dcofile
from fmrd.core.record import Record
from fmrd.dco import layout
from fmrd.dco.loading import load
from fmrd.errors import Failed, Refused
from tests.engine.rig import REGION, SIZE, Rig, daemon

FEW = 6
"""Columns of a row, where a test wants several banks with few snapshots."""


def narrow(rig: Rig) -> Rig:
    rig.registry.context.columns = FEW
    return rig


async def take(rig: Rig, *numbers: int) -> None:
    """Broken off one after the other, each with its number in region 0."""
    for number in numbers:
        await rig.data.write(512, bytes([number]) * 512)
        await rig.verbs.snapstart(volume="data", path=str(rig.path(f"s{number}")))
        await rig.verbs.snapwait(volume="data")
        await rig.verbs.snapshot(volumes=["data"], name=f"snap{number}")


async def shows(rig: Rig, *numbers: int) -> None:
    """What each of these held when it was taken, and wrote since."""
    for number in numbers:
        assert await rig.door(f"snap{number}").read(512, 512) == bytes([number]) * 512, f"snap{number}"


def recorded(rig: Rig, file: str = "state/volumes/data.dco") -> tuple[Record, int]:
    """As a copy has it, and the incompatible features that say who may read it."""
    dco = dcofile.open_file(str(rig.directory / file))
    assert dco is not None
    try:
        record = load(dco).image.record
        assert record is not None
        slots = [dco.read(layout.record_offset(slot), layout.RECORD_SLOT_BYTES) for slot in (0, 1)]
        found = [layout.decode_record(data, slot) for slot, data in enumerate(slots)]
        return record, max(found, key=lambda slot: slot.record.sequence).incompatible
    finally:
        dco.close()


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_dozen_snapshots_hold_what_they_held_and_go_back_by_their_maps(tmp_path: Path, end: str) -> None:
    """With the columns that a volume is made with; after the last went an older fmrd reads the DCO again."""
    numbers = range(1, 13)
    async with daemon(tmp_path) as rig:
        await rig.make("ab")
        await take(rig, *numbers)
        assert recorded(rig)[0].runs == ((0, 1), (1, 1)) and recorded(rig)[1] == layout.WIDE
        for number in numbers:
            await rig.door(f"snap{number}").write(number * REGION, b"its own")
        await rig.write_regions(0, 40, byte=b"z")
        if end == "kill":
            rig.kill()
    async with daemon(tmp_path) as rig:
        await shows(rig, *numbers)
        for number in numbers:
            assert await rig.door(f"snap{number}").read(number * REGION, 7) == b"its own"
            back = (await rig.verbs.snapback(snapshot=f"snap{number}"))["task"]
            task = await rig.end(back)
            assert task["state"] == "done" and task["reason"]["code"] == "fast"
            assert end == "kill" or task["total_regions"] <= 3, "0, 40 and its own"
        assert recorded(rig)[1] == layout.WIDE, "plexes that came back have columns there still"
        paths = [str(rig.path(f"s{number}")) for number in numbers]
        for path in paths[1:]:
            await rig.verbs.plex_dis(volume="data", plex=path)
        await rig.stop()
        assert rig.same("a", "b", "s1")
        assert recorded(rig)[0].runs == () and recorded(rig)[1] == 0
        assert recorded(rig, "a.dco")[1] == 0


async def test_banks_come_while_the_volume_grows_and_all_is_found_again(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        narrow(rig).registry.context.page_regions = 64
        await rig.make("ab")
        await take(rig, 1, 2, 3)
        await rig.verbs.grow(volume="data", size_bytes=2 * SIZE)
        await take(rig, 4, 5)
        await rig.verbs.mark(volume="data", name="since")
        await rig.data.write(2 * SIZE - 1, b"!")
        before = recorded(rig)[0].runs
        assert len({bank for bank, _ in before}) > 3 and len(before) > len({bank for bank, _ in before})
        rig.kill()
    async with daemon(tmp_path) as rig:
        await shows(rig, 1, 2, 3, 4, 5)
        [mark] = rig.service.volume.settings.marks
        assert (
            2 * 64 - 1 in rig.service.volume.tracks[mark.uuid].map and 3 not in rig.service.volume.tracks[mark.uuid].map
        )
        assert await rig.data.read(2 * SIZE - 1, 1) == b"!"
        for number in (3, 1, 5):
            await rig.verbs.snapclear(snapshot=f"snap{number}")
        await take(rig, 6, 7)
        await shows(rig, 2, 4, 6, 7)
        await rig.verbs.snapback(snapshot="snap4")
        await rig.end_all()
        await rig.stop()
        assert rig.same("a", "b", "s4")


async def test_a_plex_that_was_away_while_banks_came_is_brought_up_to_date(tmp_path: Path) -> None:
    """Its copy of the DCO becomes as long as the others."""
    async with daemon(tmp_path) as rig:
        await narrow(rig).make("abc")
        await rig.det("c")
        await take(rig, 1, 2)
        await rig.write_regions(7)
        assert (await rig.end(await rig.att("c")))["reason"]["code"] == "fast"
        await rig.det("a")
        await rig.det("b")
        await rig.write_regions(9)
        assert recorded(rig, "c.dco")[0].runs == recorded(rig)[0].runs != ()
        for letter in "ab":
            await rig.att(letter)
        await rig.end_all()
        await rig.stop()
        assert rig.same("a", "b", "c")


async def test_a_plex_that_was_away_since_there_were_more_banks_than_now_is_brought_up_to_date(tmp_path: Path) -> None:
    """Where its copy had another bank, the volume has grown meanwhile."""
    async with daemon(tmp_path) as rig:
        narrow(rig).registry.context.page_regions = 64
        await rig.make("abc")
        await take(rig, 1)
        assert recorded(rig, "c.dco")[0].runs == ((0, 1), (1, 1))
        await rig.verbs.plex_off(volume="data", plex=str(rig.path("c")))
        await rig.verbs.stop(volume="snap1")
        await rig.verbs.remove(volume="snap1")
    async with daemon(tmp_path) as rig:
        await rig.verbs.grow(volume="data", size_bytes=2 * SIZE)
        assert recorded(rig)[0].runs == () and recorded(rig, "c.dco")[0].runs != ()
        await rig.write_regions(70)
        await rig.verbs.plex_on(volume="data", plex=str(rig.path("c")))
        assert (await rig.end(await rig.att("c")))["reason"]["code"] == "fast"
        await rig.det("c")
        await rig.write_regions(71)
        copy = dcofile.open_file(str(rig.path("c.dco")))
        assert copy is not None
        image = load(copy).image
        copy.close()
        assert not image.damaged and all(None not in slots for slots in image.pages.values())
        await rig.end(await rig.att("c"))
        await rig.stop()
        assert rig.same("a", "b", "c")


async def test_the_copy_of_a_snapshot_has_room_for_its_own_pages_alone(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        narrow(rig).registry.context.page_regions = 1
        await rig.make("ab", 24 * REGION, drl_extent_bytes=REGION)
        await take(rig, *range(1, 7))
        home = rig.directory / "state" / "volumes" / "data.dco"
        copy = rig.path("s6.dco")
        assert home.stat().st_size >= copy.stat().st_size > 5 * layout.copy_bytes(24, FEW) // 2
        assert 2 * home.stat().st_blocks > 3 * copy.stat().st_blocks


# What cannot be


VERBS: dict[str, Callable[..., Awaitable[Any]]] = {
    "snapstart": lambda rig, **how: rig.verbs.snapstart(volume="data", path=str(rig.path("more")), **how),
    "instant": lambda rig, **how: rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("more")), **how),
    "add": lambda rig, **how: rig.verbs.plex_add(volume="data", path=str(rig.path("more")), **how),
}


@pytest.mark.parametrize("verb", VERBS)
async def test_a_dco_that_cannot_grow_is_told_of_before_anything_is_made(tmp_path: Path, verb: str) -> None:
    async with daemon(tmp_path) as rig:
        await narrow(rig).make("abcde")
        rig.service.volume.plexes[1].tail = 1 << 30
        for how in ({"dry_run": True}, {}):
            with pytest.raises(Failed, match=rf"plex_too_many.*the DCO on {rig.path('b')} cannot grow") as failed:
                await VERBS[verb](rig, **how)
            assert "plex add data PATH,dco=FILE" in failed.value.hint and not rig.path("more").exists()
        rig.service.volume.plexes[1].tail = None
        await VERBS[verb](rig)


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, "no_room"), (errno.EIO, "io_error")])
@pytest.mark.parametrize("of", ["home", "plex"])
async def test_without_room_for_a_bank_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: str, number: int, code: str
) -> None:
    """Neither in memory nor on a disk: what was to be taken is taken when there is room."""
    async with daemon(tmp_path) as rig:
        await narrow(rig).make("abcde")

        def full(*_: object) -> None:
            raise OSError(number, "it does not work")

        with monkeypatch.context() as patch:
            patch.setattr(dcofile.DcoFile, "extend" if of == "home" else "reserve", full)
            with pytest.raises((Failed, Refused), match=f"{code}.*the copy of the DCO of .* cannot grow"):
                await rig.verbs.mark(volume="data", name="since")
        assert not rig.service.volume.settings.marks and not rig.service.mirror.store.family.rows.runs
        await rig.write_regions(3)
        assert await rig.states() == "ACTIVE ACTIVE ACTIVE ACTIVE ACTIVE"
        await rig.verbs.mark(volume="data", name="since")
        assert recorded(rig)[1] == layout.WIDE


@pytest.mark.parametrize("started", [True, False], ids=["started", "stopped"])
async def test_a_snapshot_on_a_device_does_not_go_back_where_its_dco_has_no_room(tmp_path: Path, started: bool) -> None:
    async with daemon(tmp_path) as rig:
        await narrow(rig).make("ab")
        await take(rig, 1)
        [plex] = rig.registry.service("snap1").volume.plexes
        await take(rig, 2, 3, 4)
        if not started:
            await rig.verbs.stop(volume="snap1")
            family = rig.service.mirror.store.family
            [plex] = next(v for v in family.volumes if v.name == "snap1").plexes
        plex.tail = 1 << 30
        back = rig.verbs.snapback
        if started:
            copy = rig.registry.service("snap1").mirror.opened[plex.uuid].dco_copy.file
            monkey = pytest.MonkeyPatch.context()
        else:
            copy, monkey = None, nullcontext()
        with monkey as patch:
            if patch is not None:
                patch.setattr(copy.inner, "length", layout.copy_bytes(1, FEW))
            for how in ({"dry_run": True}, {}, {"from_replica": True, "force": True}):
                if not started and "from_replica" in how:
                    continue
                with pytest.raises(Failed, match=rf"dco_full: plex {plex.name}: the DCO on .* has no room"):
                    await back(snapshot="snap1", **how)
        assert "snap1" in rig.registry.units
        plex.tail = None
        await back(snapshot="snap1")
        await rig.end_all()


@pytest.mark.parametrize("what", ["marks", "instant"])
async def test_verbs_at_once_that_need_columns_all_get_some(tmp_path: Path, what: str) -> None:
    """What one of them found free another one has taken by then: that is no reason to refuse it."""
    async with daemon(tmp_path) as rig:
        await narrow(rig).make("ab")

        async def one(number: int) -> None:
            if what == "marks":
                await rig.verbs.mark(volume="data", name=f"m{number}")
            else:
                await rig.verbs.snapshot(volumes=["data"], name=f"i{number}", instant=str(rig.path(f"i{number}")))

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(one, number)
        assert len(rig.service.volume.tracks) == 8
