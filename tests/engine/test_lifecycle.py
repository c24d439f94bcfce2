"""Stop, start, kill, grow, recover, import: what a volume is after it was away."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fmrd.errors import BadRequest, Failed, Refused
from tests.engine.rig import REGION, SIZE, Json, Rig, daemon
from tests.waiting import until


@asynccontextmanager
async def stopped(directory: Path, letters: str = "ab") -> AsyncIterator[Rig]:
    """A daemon whose volume was filled and is stopped."""
    async with daemon(directory) as rig:
        await rig.make(letters)
        await rig.data.write(0, os.urandom(SIZE))
        await rig.stop()
        yield rig


async def start(rig: Rig, **options: object) -> Json:
    return (await rig.verbs.start(volume="data", **options))["volume"]  # type: ignore[arg-type]  # as given


# Stop and start in order


async def test_stopped_in_order_it_starts_without_any_copy(tmp_path: Path) -> None:
    async with stopped(tmp_path) as rig:
        [shown] = (await rig.verbs.print())["volumes"]
        assert (shown["kstate"], shown["state"], shown["error"]) == ("DISABLED", "CLEAN", None)
        assert [p["state"] for p in shown["plexes"]] == ["CLEAN", "CLEAN"]
        with pytest.raises(Failed, match="volume_stopped"):
            rig.registry.service("data")
        shown = await start(rig)
        assert (shown["kstate"], shown["state"]) == ("ENABLED", "ACTIVE")
        assert [p["dirty_regions"] for p in shown["plexes"]] == [0, 0]
        assert (await rig.verbs.task_list(all=True))["tasks"] == []
        assert "nothing to change" in (await rig.verbs.start(volume="data"))["notice"]
        await rig.stop()
        assert "nothing to change" in (await rig.verbs.stop(volume="data"))["notice"]


async def test_an_open_volume_is_not_stopped(rig: Rig) -> None:
    await rig.make()
    rig.data.opened()
    for verb in (rig.verbs.stop, rig.verbs.remove):
        with pytest.raises(Refused, match="volume_open"):
            await verb(volume="data")
    rig.data.released()
    await rig.stop()


async def test_the_daemon_starts_what_ran_and_leaves_what_was_stopped(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make("ab")
        await rig.verbs.make(volume="other", size_bytes=SIZE, plexes=[{"path": str(rig.path("x"))}])
        await rig.write_regions(3)
        await rig.verbs.stop(volume="other")
    async with daemon(tmp_path) as rig:
        assert await rig.data.read(3 * REGION + 512, 1) == b"w"
        assert rig.registry.find("other") is None
        assert not (await rig.verbs.task_list(all=True))["tasks"]


async def test_a_detached_plex_keeps_its_map_over_a_stop(tmp_path: Path) -> None:
    async with stopped(tmp_path) as rig:
        await start(rig)
        await rig.verbs.set(volume="data", settings={"auto_attach": "off"})
        await rig.det("b")
        await rig.write_regions(3, 9)
        await rig.stop()
        await start(rig)
        await rig.write_regions(10)
        assert await rig.states() == "ACTIVE STALE"
        task = await rig.end(await rig.att("b"))
        assert (task["reason"]["code"], task["done_regions"]) == ("fast", 3)
        await rig.stop()
        assert rig.same("a", "b")


async def test_a_detached_plex_returns_by_itself_at_the_next_start(tmp_path: Path) -> None:
    async with stopped(tmp_path) as rig:
        await start(rig)
        await rig.det("b")
        await rig.write_regions(3, 9)
        await rig.stop()
        await start(rig)
        await until(lambda: rig.plex("b").state == "ACTIVE")
        [task] = (await rig.verbs.task_list(all=True))["tasks"]
        assert (task["type"], task["reason"]["code"], task["done_regions"]) == ("PLXATT", "fast", 2)


async def test_offline_is_kept_over_a_restart_until_on(tmp_path: Path) -> None:
    async with stopped(tmp_path) as rig:
        await start(rig)
        off = await rig.verbs.plex_off(volume="data", plex="data-02")
        assert (off["plex"]["state"], off["plex"]["kstate"]) == ("OFFLINE", "DISABLED")
        await rig.write_regions(5)
        await rig.stop()
        await start(rig)
        await rig.verbs.recover()
        assert await rig.states() == "ACTIVE OFFLINE"
        with pytest.raises(Refused, match="plex_state"):
            await rig.att("b")
        assert (await rig.verbs.plex_on(volume="data", plex="data-02"))["plex"]["state"] == "STALE"
        task = await rig.end(await rig.att("b"))
        assert (task["reason"]["code"], task["done_regions"]) == ("fast", 1)
        await rig.stop()
        assert rig.same("a", "b")


# After the end of the process


async def test_after_a_kill_the_dirty_extents_and_nothing_else_are_copied(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make("ab", size_bytes=10 * SIZE)
        await rig.data.write(0, os.urandom(10 * SIZE))
        await rig.service.mirror.clean()
        await rig.write_regions(3, 64 * 7)
        rig.kill()
    with rig.path("b").open("r+b") as file:
        file.seek(4 * REGION)
        file.write(b"what only one plex had when the process ended")
    async with daemon(tmp_path) as rig:
        await rig.end_all()
        [task] = (await rig.verbs.task_list(all=True))["tasks"]
        assert (task["type"], task["reason"]["code"], task["state"]) == ("RDWRBACK", "recovery", "done")
        assert task["done_regions"] == 128, "two extents of the DRL"
        assert await rig.data.read(3 * REGION + 512, 1) == b"w"
        await rig.stop()
        assert rig.same("a", "b")


async def test_after_a_kill_a_detached_plex_still_gets_a_fast_resync(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make("abc", size_bytes=10 * SIZE)
        await rig.det("c")
        await rig.write_regions(64 * 3)
        await rig.service.mirror.clean()
        await rig.write_regions(64 * 7)
        rig.kill()
    async with daemon(tmp_path) as rig:
        await until(lambda: rig.plex("c").state == "ACTIVE")
        tasks = (await rig.verbs.task_list(all=True))["tasks"]
        [task] = [t for t in tasks if t["plex"] == "data-03"]
        assert (task["reason"]["code"], task["done_regions"]) == ("fast", 65), "its map, and the extent of the DRL"
        await rig.end_all()
        await rig.stop()
        assert rig.same("a", "b", "c")


async def test_a_resync_that_was_killed_goes_on_from_its_map(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make("ab")
        await rig.data.write(0, os.urandom(SIZE))
        await rig.det("b")
        await rig.write_regions(*range(0, 40, 2))
        await rig.service.mirror.clean()
        task = await rig.att("b", rate=1)
        await until(lambda: rig.registry.context.tasks.find(task["id"]).done_regions > 0)
        rig.kill()
    async with daemon(tmp_path) as rig:
        [task] = (await rig.verbs.task_list())["tasks"]
        assert (task["type"], task["reason"]["code"]) == ("PLXATT", "fast")
        assert (await rig.end(task))["done_regions"] <= 20
        assert await rig.states() == "ACTIVE ACTIVE"
        await rig.stop()
        assert rig.same("a", "b")


# Plexes that are missing, or were changed


async def test_it_starts_degraded_from_the_right_copy_and_says_so(tmp_path: Path) -> None:
    async with stopped(tmp_path) as rig:
        rig.path("a").rename(rig.path("hidden"))
        await start(rig)
        assert await rig.states() == "STALE ACTIVE"
        await rig.write_regions(3)
        failed = (await rig.verbs.recover())["failed"]
        assert [(f["plex"], f["code"]) for f in failed] == [("data-01", "plex_missing")]
        rig.path("hidden").rename(rig.path("a"))
        [task] = (await rig.verbs.recover(volume="data"))["tasks"]
        assert ((await rig.end(task))["done_regions"], task["reason"]["code"]) == (1, "fast")
        await rig.stop()
        assert rig.same("a", "b")


async def test_with_stale_copies_only_the_start_is_refused(tmp_path: Path) -> None:
    async with stopped(tmp_path) as rig:
        await start(rig)
        await rig.det("b")
        await rig.write_regions(3)
        await rig.stop()
        rig.path("a").rename(rig.path("hidden"))
        with pytest.raises(Refused, match="no_current_plex") as caught:
            await start(rig)
        assert "data-01" in caught.value.message
        with pytest.raises(Refused, match="no_current_plex"):
            await start(rig, force=True)
        rig.path("hidden").rename(rig.path("a"))
        await start(rig)


async def test_a_file_changed_while_stopped_is_copied_in_full(tmp_path: Path) -> None:
    async with stopped(tmp_path) as rig:
        rig.path("b").write_bytes(b"changed" * 1000)
        os.truncate(rig.path("b"), SIZE)
        await start(rig)
        await until(lambda: rig.plex("b").state == "ACTIVE")
        [task] = (await rig.verbs.task_list(all=True))["tasks"]
        assert (task["reason"]["code"], task["done_regions"]) == ("full_backing_changed", 64)
        await rig.stop()
        assert rig.same("a", "b")


async def test_where_all_were_changed_the_one_that_was_in_use_is_named(tmp_path: Path) -> None:
    """Not the one that was detached: what it holds is older."""
    async with stopped(tmp_path) as rig:
        await start(rig)
        await rig.det("a")
        await rig.write_regions(3)
        await rig.stop()
        for letter in "ab":
            rig.path(f"{letter}.dco").unlink()
        with pytest.raises(Refused, match="plexes_changed") as caught:
            await start(rig)
        assert "--accept data-02" in caught.value.hint


async def test_where_all_were_changed_the_admin_chooses(tmp_path: Path) -> None:
    async with stopped(tmp_path) as rig:
        for letter in "ab":
            with rig.path(letter).open("r+b") as file:
                file.write(f"repaired {letter}".encode())
        with pytest.raises(Refused, match="plexes_changed") as caught:
            await start(rig)
        assert "--accept" in caught.value.hint
        with pytest.raises(Failed, match="plex_unknown"):
            await start(rig, accept="data-09")
        await start(rig, accept=str(rig.path("b")))
        assert await rig.data.read(0, 10) == b"repaired b"
        await until(lambda: rig.plex("a").state == "ACTIVE")
        await rig.stop()
        assert rig.same("a", "b")


async def test_started_without_a_plex_it_is_not_asked_again(tmp_path: Path) -> None:
    async with stopped(tmp_path) as rig:
        await start(rig, without=["data-02"])
        assert await rig.states() == "ACTIVE STALE"
        await rig.write_regions(3)
        await rig.stop()
        await start(rig)
        assert await rig.states() == "ACTIVE STALE"
        assert (await rig.end(await rig.att("b")))["done_regions"] == 1
        assert await rig.states() == "ACTIVE ACTIVE"


async def test_a_home_copy_that_was_rolled_back_is_noticed(tmp_path: Path) -> None:
    async with stopped(tmp_path) as rig:
        home = rig.directory / "state" / "volumes" / "data.dco"
        shutil.copy(home, rig.path("old"))
        await start(rig)
        await rig.write_regions(3)
        await rig.stop()
        shutil.copy(rig.path("old"), home)
        with pytest.raises(Refused, match="foreign_plex"):
            await start(rig)
        await rig.verbs.import_volume(paths=[str(rig.path("a")), str(rig.path("b"))])
        assert await rig.data.read(3 * REGION + 512, 1) == b"w"


# Import


async def test_import_after_the_state_directory_was_lost(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make("abc")
        await rig.data.write(0, os.urandom(SIZE))
        await rig.det("c")
        await rig.write_regions(3, 4)
        content = await rig.data.read(0, SIZE)
    shutil.rmtree(tmp_path / "state")
    async with daemon(tmp_path) as rig:
        assert (await rig.verbs.print())["volumes"] == []
        (tmp_path / "moved").mkdir()
        for name in ("b", "b.dco"):
            rig.path(name).rename(tmp_path / "moved" / name)
        paths = [str(rig.path("c")), str(rig.path("a")), str(tmp_path / "moved" / "b")]
        await rig.verbs.import_volume(paths=paths, dry_run=True)
        assert (await rig.verbs.print())["volumes"] == []
        imported = (await rig.verbs.import_volume(paths=paths))["volume"]
        assert (imported["name"], imported["length_bytes"]) == ("data", SIZE)
        assert await rig.data.read(0, SIZE) == content
        await until(lambda: all(p.state == "ACTIVE" for p in rig.service.volume.plexes))
        [task] = (await rig.verbs.task_list(all=True))["tasks"]
        assert (task["plex"], task["reason"]["code"], task["done_regions"]) == ("data-03", "fast", 2)
        await rig.stop()
        assert rig.bytes_of("a") == rig.bytes_of("c") == rig.bytes_of("moved/b") == content
    async with daemon(tmp_path) as rig:
        await start(rig)
        assert await rig.states() == "ACTIVE ACTIVE ACTIVE", "it knows the new place"


async def test_an_import_without_all_that_took_part_needs_force(tmp_path: Path) -> None:
    async with stopped(tmp_path):
        pass
    shutil.rmtree(tmp_path / "state")
    async with daemon(tmp_path) as rig:
        with pytest.raises(Refused, match="no_current_plex") as caught:
            await rig.verbs.import_volume(paths=[str(rig.path("a"))])
        assert "data-02" in caught.value.message
        await rig.verbs.import_volume(paths=[str(rig.path("a"))], force=True)
        assert await rig.states() == "ACTIVE STALE"
        assert await rig.data.read(0, SIZE) == rig.bytes_of("a")


async def test_files_that_were_copied_are_imported_by_force(tmp_path: Path) -> None:
    """They look like changed ones: one of them is believed, and the other copied from it."""
    async with stopped(tmp_path) as rig:
        content = rig.bytes_of("a")
        for name in ("a", "b", "a.dco", "b.dco"):
            shutil.copy(rig.path(name), tmp_path / f"copy-{name}")
    shutil.rmtree(tmp_path / "state")
    paths = [str(tmp_path / "copy-a"), str(tmp_path / "copy-b")]
    async with daemon(tmp_path) as rig:
        with pytest.raises(Refused, match="plexes_changed") as caught:
            await rig.verbs.import_volume(paths=paths)
        assert "import --force" in caught.value.hint
        await rig.verbs.import_volume(paths=paths, force=True, prefer=paths[1])
        await rig.end(await rig.att("copy-a"))
        assert await rig.states() == "ACTIVE ACTIVE"
        assert await rig.data.read(0, SIZE) == content


async def test_a_half_copied_plex_is_never_imported_alone(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make("ab")
        await rig.data.write(0, os.urandom(SIZE))
        await rig.det("b")
        await rig.write_regions(1, 40)
        await rig.att("b", rate=1)
        rig.kill()
    shutil.rmtree(tmp_path / "state")
    async with daemon(tmp_path) as rig:
        with pytest.raises(Refused, match="no_current_plex"):
            await rig.verbs.import_volume(paths=[str(rig.path("b"))], force=True)


async def test_what_cannot_be_imported(tmp_path: Path) -> None:
    async with stopped(tmp_path) as rig:
        await rig.verbs.make(volume="other", size_bytes=SIZE, plexes=[{"path": str(rig.path("x"))}])
        await rig.verbs.stop(volume="other")
        rig.path("plain").write_bytes(bytes(SIZE))
        with pytest.raises(BadRequest, match="name the plexes"):
            await rig.verbs.import_volume(paths=[])
        for letters in (["plain"], ["a", "x"], ["missing"]):
            with pytest.raises(Failed, match="not_imported"):
                await rig.verbs.import_volume(paths=[str(rig.path(each)) for each in letters])
        await start(rig)
        with pytest.raises(Failed, match=r"not_imported|volume_running"):
            await rig.verbs.import_volume(paths=[str(rig.path("a")), str(rig.path("b"))])
        assert await rig.states() == "ACTIVE ACTIVE"


# Growth


async def test_growth_online(rig: Rig) -> None:
    await rig.make("abc")
    await rig.data.write(0, os.urandom(SIZE))
    await rig.det("c")
    grown = (await rig.verbs.grow(volume="data", size_bytes=2 * SIZE))["volume"]
    assert grown["length_bytes"] == rig.data.length_bytes == 2 * SIZE
    assert await rig.data.read(2 * SIZE - 10, 100) == bytes(10)
    await rig.data.write(2 * SIZE - 4, b"tail")
    task = await rig.end(await rig.att("c"))
    assert (task["reason"]["code"], task["done_regions"]) == ("fast", 64), "what was added"
    await rig.stop()
    assert rig.same("a", "b", "c") and rig.bytes_of("c").endswith(b"tail")
    await start(rig)
    assert await rig.data.read(2 * SIZE - 4, 100) == b"tail"


async def test_growth_from_a_short_last_region(rig: Rig) -> None:
    await rig.make("ab", size_bytes=SIZE + 4096)
    await rig.det("b")
    await rig.verbs.grow(volume="data", size_bytes=SIZE + 3 * REGION)
    await rig.data.write(SIZE + 4096, b"x" * REGION)
    await rig.end(await rig.att("b"))
    await rig.stop()
    assert rig.same("a", "b")


@pytest.mark.parametrize("longer", ["a", "b", "ab"])
async def test_growth_into_what_lies_there_already(rig: Rig, longer: str) -> None:
    """A file that is longer than its volume (or a block device) does not grow by zeros: one plex is right there."""
    for letter in "ab":
        size = 2 * SIZE if letter in longer else SIZE - 4096
        rig.path(letter).write_bytes(letter.encode() * size)
    await rig.make("ab", size_bytes=SIZE - 4096, from_path=str(rig.path("a")), force=True)
    await rig.end_all()
    await rig.verbs.grow(volume="data", size_bytes=2 * SIZE)
    seen = await rig.data.read(SIZE - 4096, SIZE + 4096)
    assert seen[:4096] == bytes(4096), "the rest of a region that was short"
    await rig.end_all()
    assert await rig.states() == "ACTIVE ACTIVE"
    await rig.stop()
    assert rig.same("a", "b") and rig.bytes_of("a")[SIZE - 4096 :] == seen


async def test_growth_over_a_page_of_the_dco(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make("ab", region_size_bytes=4096, drl_extent_bytes=4096, size_bytes=64 << 20)
        await rig.verbs.grow(volume="data", size_bytes=512 << 20)
        await rig.det("b")
        await rig.data.write(500 << 20, b"far")
        rig.kill()
    async with daemon(tmp_path) as rig:
        await until(lambda: rig.plex("b").state == "ACTIVE")
        await rig.stop()
        assert rig.bytes_of("b")[500 << 20 :][:3] == b"far"


async def test_a_volume_never_shrinks(rig: Rig) -> None:
    await rig.make()
    with pytest.raises(BadRequest, match="bad_size"):
        await rig.verbs.grow(volume="data", size_bytes=SIZE // 2)
    with pytest.raises(BadRequest, match="bad_size"):
        await rig.verbs.grow(volume="data", size_bytes=SIZE + 1)
    assert "nothing to change" in (await rig.verbs.grow(volume="data", size_bytes=SIZE))["notice"]
    assert rig.data.length_bytes == SIZE


# Recover


async def test_recover_attaches_all_that_answer(rig: Rig) -> None:
    await rig.make("abcd")
    for letter in "bcd":
        await rig.det(letter)
    await rig.write_regions(1)
    rig.path("d").rename(rig.path("hidden"))
    would = await rig.verbs.recover(dry_run=True)
    assert [(d["plex"], d["reason"]["code"], d["regions"]) for d in would["decisions"]] == [
        ("data-02", "fast", 1),
        ("data-03", "fast", 1),
    ]
    assert [f["code"] for f in would["failed"]] == ["plex_missing"]
    assert await rig.states() == "ACTIVE STALE STALE STALE"
    await rig.verbs.recover()
    await rig.end_all()
    assert await rig.states() == "ACTIVE ACTIVE ACTIVE STALE"
    rig.path("hidden").rename(rig.path("d"))
    await rig.verbs.recover(volume="data")
    await rig.end_all()
    assert "nothing to change" in (await rig.verbs.recover())["notice"]
    await rig.stop()
    assert rig.same("a", "b", "c", "d")


async def test_the_dirty_region_log_forgets_what_is_idle(tmp_path: Path) -> None:
    async with daemon(tmp_path, clean_seconds=0.01) as rig:
        await rig.make()
        await rig.write_regions(3)
        pages = rig.service.volume.drl_on_home
        await until(lambda: not any(page.any() for page in pages.values()))
        rig.kill()
    async with daemon(tmp_path) as rig:
        assert (await rig.verbs.task_list(all=True))["tasks"] == []
