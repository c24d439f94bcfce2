"""make, plex add, plex dis: where a volume's content comes from, and what is left when one cannot be made."""

import os
from pathlib import Path

import pytest
import trio

from fmrd.engine.opening import making
from fmrd.errors import BadRequest, Failed, FmrdError, Refused
from tests.backing import disks
from tests.engine.rig import REGION, SIZE, Rig
from tests.waiting import until


async def test_new_sparse_plexes_need_no_first_copy(rig: Rig) -> None:
    made = await rig.make("abc")
    assert "task" not in made
    assert await rig.states() == "ACTIVE ACTIVE ACTIVE"
    assert [p["dirty_regions"] for p in made["volume"]["plexes"]] == [0, 0, 0]
    assert [p["name"] for p in made["volume"]["plexes"]] == ["data-01", "data-02", "data-03"]
    assert not rig.host.watch.seen("copy_from")
    assert await rig.data.read(0, SIZE + 10) == bytes(SIZE)
    assert all(disks.allocated_bytes(rig.path(p)) == 0 for p in "abc")


async def test_one_plex_is_a_volume(rig: Rig) -> None:
    await rig.make("a")
    await rig.write_regions(1)
    await rig.data.flush()
    await rig.stop()
    assert rig.bytes_of("a")[REGION + 512 : REGION + 1024] == b"w" * 512


async def test_eight_plexes_take_every_write(rig: Rig) -> None:
    await rig.make("abcdefgh")
    await rig.data.write(1234, b"everywhere")
    await rig.stop()
    assert rig.same(*"abcdefgh")
    assert rig.bytes_of("h")[1234:1244] == b"everywhere"


async def test_from_keeps_the_content_of_that_file_and_copies_it_to_the_others(rig: Rig) -> None:
    content = os.urandom(SIZE)
    rig.path("b").write_bytes(content)
    made = await rig.make("abc", from_path=str(rig.path("b")))
    assert await rig.data.read(0, SIZE) == content
    assert made["task"]["reason"]["code"] == "full_new_plex"
    await rig.end_all()
    assert await rig.states() == "ACTIVE ACTIVE ACTIVE"
    await rig.stop()
    assert rig.bytes_of("a") == rig.bytes_of("b") == rig.bytes_of("c") == content


async def test_from_a_shorter_file_is_made_longer_with_zeros(rig: Rig) -> None:
    rig.path("a").write_bytes(b"short")
    await rig.make("ab", from_path=str(rig.path("a")))
    assert await rig.data.read(0, SIZE) == b"short" + bytes(SIZE - 5)


async def test_an_existing_file_is_refused_and_untouched(rig: Rig) -> None:
    rig.path("b").write_bytes(b"precious")
    with pytest.raises(Refused, match="refused_has_data") as caught:
        await rig.make()
    assert "--force" in caught.value.hint
    assert rig.bytes_of("b") == b"precious"
    assert sorted(p.name for p in rig.directory.iterdir()) == ["b", "state"], "what was made is gone again"
    assert (await rig.verbs.print())["volumes"] == []
    assert rig.host.homes() == []


async def test_force_takes_the_first_file_and_overwrites_the_others(rig: Rig) -> None:
    for letter in "ab":
        rig.path(letter).write_bytes(letter.encode() * SIZE)
    await rig.make("ab", force=True)
    assert await rig.data.read(0, 2) == b"aa"
    await rig.end_all()
    await rig.stop()
    assert rig.bytes_of("b") == b"a" * SIZE


async def test_from_must_be_one_of_the_plexes_and_exist(rig: Rig) -> None:
    with pytest.raises(BadRequest):
        await rig.make("ab", from_path=str(rig.path("z")))
    with pytest.raises(Failed, match="plex_missing"):
        await rig.make("ab", from_path=str(rig.path("a")))
    assert not rig.path("a").exists() and not rig.path("a.dco").exists()


@pytest.mark.parametrize("size", [0, -4096, 1, 4097, (1 << 50) + 4096])
async def test_a_size_that_cannot_be(rig: Rig, size: int) -> None:
    with pytest.raises(BadRequest, match="bad_size"):
        await rig.make(size_bytes=size)
    assert not rig.path("a").exists()


async def test_as_many_plexes_as_the_dco_has_columns_for(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is the log's; and not more pages than a record may speak of."""
    rig.registry.context.columns = 4
    with pytest.raises(Failed, match="plex_too_many"):
        await rig.make("abcd")
    monkeypatch.setattr(making, "MOST_PAGES", 3)
    with pytest.raises(Failed, match="dco_full"):
        await rig.make("abc")
    assert [each.name for each in rig.directory.iterdir()] == ["state"]
    monkeypatch.setattr(making, "MOST_PAGES", 4)
    await rig.make("abc")


async def test_a_second_volume_of_that_name_is_refused(rig: Rig) -> None:
    await rig.make()
    with pytest.raises(Failed, match="volume_exists"):
        await rig.make("cd")
    assert not rig.path("c").exists()


async def test_a_path_named_twice_is_refused(rig: Rig) -> None:
    with pytest.raises(BadRequest, match="twice"):
        await rig.make("aba")
    assert not rig.path("a").exists()


async def test_a_file_belongs_to_one_volume(rig: Rig) -> None:
    await rig.make()
    with pytest.raises(Refused, match="refused_in_use"):
        await rig.verbs.make(volume="other", size_bytes=SIZE, plexes=[{"path": str(rig.path("a"))}], force=True)
    assert await rig.states() == "ACTIVE ACTIVE"


async def test_a_directory_is_no_plex(rig: Rig) -> None:
    rig.path("b").mkdir()
    with pytest.raises(BadRequest, match="not_a_plex"):
        await rig.make()


async def test_a_copy_of_the_dco_that_cannot_be_written_makes_no_volume(rig: Rig) -> None:
    with rig.host.failing(rig.path("b.dco"), "dco_write"), pytest.raises(FmrdError):
        await rig.make()
    assert sorted(p.name for p in rig.directory.iterdir()) == ["state"]
    assert rig.host.homes() == []
    await rig.make()


async def test_while_it_is_made_it_is_shown_without_an_error(rig: Rig) -> None:
    with rig.host.hanging(rig.path("a.dco"), "dco_write") as hang:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.make)
            await until(lambda: hang.waiting > 0)
            [shown] = (await rig.verbs.print())["volumes"]
            hang.let_go()
    assert (shown["uuid"], shown["error"]) == (None, None)


async def test_a_dry_run_makes_nothing(rig: Rig) -> None:
    await rig.make(dry_run=True)
    assert sorted(p.name for p in rig.directory.iterdir()) == ["state"]


async def test_the_copy_of_the_dco_may_lie_elsewhere(rig: Rig) -> None:
    plexes = [{"path": str(rig.path("a")), "dco": str(rig.path("elsewhere"))}, {"path": str(rig.path("b"))}]
    await rig.verbs.make(volume="data", size_bytes=SIZE, plexes=plexes)
    assert rig.path("elsewhere").exists() and not rig.path("a.dco").exists()
    await rig.det("a")
    await rig.write_regions(1)
    assert (await rig.end(await rig.att("a")))["reason"]["code"] == "fast"


def device_bytes(path: str, length: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(length)


async def test_block_devices_as_plexes(rig: Rig, tmp_path: Path) -> None:
    with disks.loop_device(tmp_path, 32 << 20, "one.img") as one, disks.loop_device(tmp_path, 32 << 20) as two:
        plexes = [{"path": one}, {"path": two}]
        await rig.verbs.make(volume="data", size_bytes=16 << 20, plexes=plexes)
        await rig.end_all()
        await rig.data.write(0, b"x" * REGION)
        await rig.verbs.plex_det(volume="data", plex=two)
        await rig.write_regions(3, 4)
        task = await rig.end((await rig.verbs.plex_att(volume="data", plex=two))["task"])
        assert (task["reason"]["code"], task["done_regions"]) == ("fast", 2)
        await rig.stop()
        assert device_bytes(one, 16 << 20) == device_bytes(two, 16 << 20)
        await rig.verbs.start(volume="data")
        assert await rig.states() == "ACTIVE ACTIVE"
        await rig.stop()


async def test_a_device_without_room_for_its_dco_is_refused(rig: Rig, loop: str) -> None:
    with pytest.raises(Failed, match="plex_too_short"):
        await rig.verbs.make(volume="data", size_bytes=4 << 20, plexes=[{"path": loop}], force=True)


# Plexes come and go


async def test_one_more_mirror_is_copied_in_full(rig: Rig) -> None:
    await rig.make()
    await rig.data.write(0, os.urandom(SIZE))
    added = (await rig.verbs.plex_add(volume="data", path=str(rig.path("c"))))["task"]
    assert (added["plex"], added["reason"]["code"]) == ("data-03", "full_new_plex")
    assert (await rig.end(added))["done_regions"] == 64
    assert await rig.states() == "ACTIVE ACTIVE ACTIVE"
    await rig.stop()
    assert rig.same("a", "b", "c")


async def test_a_mirror_over_holes_costs_what_is_there(rig: Rig) -> None:
    await rig.make("a")
    await rig.write_regions(5)
    added = await rig.end((await rig.verbs.plex_add(volume="data", path=str(rig.path("b"))))["task"])
    assert (added["done_regions"], added["copied_bytes"]) == (64, 4096)


async def test_a_mirror_on_a_file_that_exists_is_refused(rig: Rig) -> None:
    await rig.make()
    rig.path("c").write_bytes(b"precious")
    with pytest.raises(Refused, match="refused_has_data"):
        await rig.verbs.plex_add(volume="data", path=str(rig.path("c")))
    with pytest.raises(Failed, match="plex_exists"):
        await rig.verbs.plex_add(volume="data", path=str(rig.path("a")))
    assert rig.bytes_of("c") == b"precious"


async def test_a_mirror_that_cannot_be_made_leaves_nothing(rig: Rig) -> None:
    await rig.make()
    with rig.host.failing(rig.path("c.dco"), "dco_write"), pytest.raises(Failed, match="io_error"):
        await rig.verbs.plex_add(volume="data", path=str(rig.path("c")))
    assert not rig.path("c").exists() and not rig.path("c.dco").exists()
    assert await rig.states() == "ACTIVE ACTIVE"
    await rig.end((await rig.verbs.plex_add(volume="data", path=str(rig.path("c"))))["task"])
    assert await rig.states() == "ACTIVE ACTIVE ACTIVE"


async def test_dissociated_it_is_forgotten_and_its_file_stays(rig: Rig) -> None:
    await rig.make("abc")
    await rig.data.write(0, b"kept")
    await rig.verbs.plex_dis(volume="data", plex="data-02")
    assert await rig.states() == "ACTIVE ACTIVE"
    assert rig.bytes_of("b").startswith(b"kept") and not rig.path("b.dco").exists()
    with pytest.raises(Failed, match="plex_unknown"):
        await rig.att("b")
    added = (await rig.verbs.plex_add(volume="data", path=str(rig.path("d"))))["task"]
    assert added["plex"] == "data-04", "a name is never used again"
    await rig.end(added)


async def test_the_last_plex_is_neither_dissociated_nor_detached_nor_taken_offline(rig: Rig) -> None:
    await rig.make()
    await rig.det("b")
    await rig.write_regions(1)
    for verb in (rig.verbs.plex_dis, rig.verbs.plex_det, rig.verbs.plex_off):
        with pytest.raises(Refused, match="last_plex"):
            await verb(volume="data", plex="data-01")
    assert await rig.states() == "ACTIVE STALE"
    assert await rig.data.read(REGION + 512, 1) == b"w"


async def test_columns_are_used_again(rig: Rig) -> None:
    """Many more mirrors over a volume's life than the DCO has columns."""
    await rig.make("a")
    for round_ in range(45):
        path = str(rig.path(f"m{round_}"))
        task = await rig.end((await rig.verbs.plex_add(volume="data", path=path))["task"])
        assert (task["state"], task["done_regions"]) == ("done", 64)
        await rig.verbs.plex_dis(volume="data", plex=path)
    assert await rig.states() == "ACTIVE"


async def test_remove_forgets_and_erase_removes(rig: Rig) -> None:
    await rig.make()
    await rig.verbs.remove(volume="data")
    assert sorted(p.name for p in rig.directory.iterdir()) == ["a", "b", "state"]
    assert (await rig.verbs.print())["volumes"] == []
    await rig.make("ab", force=True)
    await rig.end_all()
    await rig.verbs.remove(volume="data", erase=True)
    assert sorted(p.name for p in rig.directory.iterdir()) == ["state"]


async def test_the_copy_to_each_of_its_plexes_is_told(rig: Rig) -> None:
    """Who waits for a new volume waits for all of them."""
    for letter in "abc":
        rig.path(letter).write_bytes(bytes(SIZE))
    made = await rig.make("abc", force=True)
    assert [task["plex"] for task in made["tasks"]] == ["data-02", "data-03"]
