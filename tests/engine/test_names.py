"""A volume gets another name; a plex another one's place; all volumes are started or stopped, or none is."""

import errno
from pathlib import Path

import pytest

from fmrd.engine.opening.renaming import rename
from fmrd.errors import Failed, FmrdError, Refused
from tests.engine.rig import REGION, SIZE, Rig, daemon


async def renamed(rig: Rig, old: str, new: str) -> None:
    await rig.verbs.stop(volume=old)
    shown = await rig.verbs.rename(volume=old, name=new)
    assert shown["volume"]["name"] == new and "notice" not in shown
    await rig.verbs.start(volume=new)


async def test_a_renamed_volume_has_its_data_and_its_maps_over_restarts(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make()
        await rig.write_regions(1, byte=b"a")
        await rig.det("b")
        await rig.write_regions(2, byte=b"b")
        await rig.verbs.set(volume="data", settings={"auto_attach": "off"})
        await renamed(rig, "data", "new")
        assert (tmp_path / "state/volumes/new.dco").exists() and not (tmp_path / "state/volumes/data.dco").exists()
        await rig.write_regions(3, byte=b"c", volume="new")
    async with daemon(tmp_path) as rig:
        assert sorted(rig.registry.units) == ["new"]
        assert [await rig.door("new").read(n * REGION + 512, 1) for n in (1, 2, 3)] == [b"a", b"b", b"c"]
        task = (await rig.verbs.plex_att(volume="new", plex="data-02"))["task"]
        assert task["reason"]["code"] == "fast" and task["total_regions"] == 2
        await rig.end(task)
        await rig.verbs.stop(volume="new")
        assert rig.same("a", "b")


async def test_the_old_name_is_free_and_the_new_one_taken(rig: Rig) -> None:
    await rig.make()
    await rig.verbs.make(volume="other", size_bytes=SIZE, plexes=[{"path": str(rig.path("o"))}])
    with pytest.raises(Failed, match="is started"):
        await rig.verbs.rename(volume="data", name="new")
    await rig.stop()
    with pytest.raises(Failed, match="volume_exists"):
        await rig.verbs.rename(volume="data", name="other")
    await rig.verbs.rename(volume="data", name="new")
    with pytest.raises(Failed, match="volume_missing"):
        rig.registry.unit("data")
    await rig.verbs.make(volume="data", size_bytes=SIZE, plexes=[{"path": str(rig.path("c"))}])
    await rig.verbs.start(volume="new")
    assert sorted(rig.registry.units) == ["data", "new", "other"]


@pytest.mark.parametrize("which", ["original", "snapshot"])
async def test_a_family_stays_together(tmp_path: Path, which: str) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make("ab")
        await rig.verbs.plex_convert(volume="data", plex="data-02")
        await rig.verbs.snapshot(volumes=["data"])
        await rig.write_regions(5, byte=b"x")
        await renamed(rig, *{"original": ("data", "new"), "snapshot": ("SNAP-data", "monday")}[which])
    original, snapshot = ("new", "SNAP-data") if which == "original" else ("data", "monday")
    async with daemon(tmp_path) as rig:
        [shown] = (await rig.verbs.print(volume=snapshot))["volumes"]
        assert shown["snapshot_of"] == original
        [association] = (await rig.verbs.snapprint(volume=original))["snapshots"]
        assert (association["name"], association["dirty_regions"]) == (snapshot, 1)
        await rig.verbs.snapback(snapshot=snapshot)
        await rig.end_all()
        await rig.verbs.stop(volume=original)
        assert rig.same("a", "b")


async def test_a_kill_between_the_record_and_the_file_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make()
        await rig.write_regions(1, byte=b"a")
        await rig.stop()
        monkeypatch.setattr(rig.host, "rename_home", fail)
        assert "keeps the name data" in (await rig.verbs.rename(volume="data", name="new"))["notice"]
    async with daemon(tmp_path) as rig:
        assert sorted(rig.registry.units) == ["new"]
        with pytest.raises(Failed, match="the home copy of volume new has the name data still"):
            await rig.verbs.make(volume="data", size_bytes=SIZE, plexes=[{"path": str(rig.path("c"))}])
        await rig.verbs.start(volume="new")
        assert await rig.door("new").read(REGION + 512, 1) == b"a"


def fail(*args: object) -> None:
    raise OSError(errno.EIO, "no")


async def test_a_home_copy_that_takes_no_record_keeps_the_old_name(rig: Rig) -> None:
    await rig.make()
    await rig.write_regions(1, byte=b"a")
    await rig.stop()
    home = rig.directory / "state" / "volumes" / "data.dco"
    with rig.host.failing(home, "dco_write"), pytest.raises(FmrdError):
        await rig.verbs.rename(volume="data", name="new")
    assert sorted(rig.registry.units) == ["data"]
    await rig.verbs.start(volume="data")
    assert await rig.data.read(REGION + 512, 1) == b"a"
    assert rig.registry.units.reserved == set()


async def test_a_plex_is_replaced_when_all_is_copied(rig: Rig) -> None:
    await rig.make()
    await rig.write_regions(1, 2, byte=b"a")
    with rig.host.hanging(rig.path("c"), "copy_from") as hang:
        task = (await rig.verbs.plex_replace(volume="data", plex="data-02", path=str(rig.path("c"))))["task"]
        assert await rig.states() == "ACTIVE ACTIVE TEMP", "the old one serves until then"
        hang.let_go()
        assert (await rig.end(task))["state"] == "done"
    [volume] = (await rig.verbs.print(volume="data"))["volumes"]
    assert [p["path"] for p in volume["plexes"]] == [str(rig.path("a")), str(rig.path("c"))]
    await rig.stop()
    assert rig.same("a", "c") and rig.path("b").exists()


async def test_a_replacement_that_fails_drops_nothing(rig: Rig) -> None:
    await rig.make()
    await rig.write_regions(1)
    with rig.host.failing(rig.path("c"), "copy_from"):
        task = (await rig.verbs.plex_replace(volume="data", plex="data-02", path=str(rig.path("c"))))["task"]
        assert (await rig.end(task))["state"] == "failed"
    assert await rig.states() == "ACTIVE ACTIVE IOFAIL"


async def test_a_replacement_of_what_is_gone_by_then_is_done(rig: Rig) -> None:
    await rig.make()
    with rig.host.hanging(rig.path("c"), "copy_from") as hang:
        await rig.write_regions(1)
        task = (await rig.verbs.plex_replace(volume="data", plex="data-02", path=str(rig.path("c"))))["task"]
        await rig.verbs.plex_dis(volume="data", plex="data-02")
        hang.let_go()
        assert (await rig.end(task))["state"] == "done"
    assert await rig.states() == "ACTIVE ACTIVE"


async def three(rig: Rig) -> None:
    for name in ("one", "two", "three"):
        await rig.verbs.make(volume=name, size_bytes=SIZE, plexes=[{"path": str(rig.path(name))}])


def started(rig: Rig) -> list[str]:
    return sorted(name for name, unit in rig.registry.units.items() if unit.service is not None)


async def test_all_are_stopped_or_none(rig: Rig) -> None:
    await three(rig)
    rig.registry.service("two").running.open_count += 1
    with pytest.raises(Refused, match="no volume was stopped: two"):
        await rig.verbs.stop_all()
    assert started(rig) == ["one", "three", "two"]
    rig.registry.service("two").running.open_count -= 1
    assert [v["name"] for v in (await rig.verbs.stop_all())["volumes"]] == ["one", "three", "two"]
    assert started(rig) == [] and "nothing to change" in (await rig.verbs.stop_all())["notice"]


async def test_one_that_cannot_be_stopped_keeps_the_others(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await three(rig)
    stop = rig.registry.stop

    async def stop_but_one(unit: object) -> None:
        if unit is rig.registry.unit("one"):
            raise Refused("volume_open", "one was opened just now")
        await stop(unit)  # type: ignore[arg-type]  # a unit, as ever

    monkeypatch.setattr(rig.registry, "stop", stop_but_one)
    with pytest.raises(Failed, match="not_all: no volume was stopped: volume_open: one was opened"):
        await rig.verbs.stop_all()
    assert started(rig) == ["one", "three", "two"]


async def test_all_are_started_or_none(rig: Rig) -> None:
    await three(rig)
    await rig.verbs.stop_all()
    away = rig.path("two").rename(rig.path("away"))
    with pytest.raises(Failed, match=r"no volume was started: .*two"):
        await rig.verbs.start_all()
    assert started(rig) == []
    away.rename(rig.path("two"))
    assert len((await rig.verbs.start_all())["volumes"]) == 3
    assert started(rig) == ["one", "three", "two"]


async def test_what_an_instant_snapshot_keeps_survives_all_of_it(rig: Rig) -> None:
    await rig.make()
    await rig.write_regions(1, 2, byte=b"a")
    await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("i")), name="old")
    await rig.write_regions(1, byte=b"b")
    for _ in range(2):
        assert [v["name"] for v in (await rig.verbs.stop_all())["volumes"]] == ["data", "old"]
        assert [v["name"] for v in (await rig.verbs.start_all())["volumes"]] == ["data", "old"]
        await rig.write_regions(2, byte=b"c")
    assert [await rig.door("old").read(n * REGION + 512, 1) for n in (1, 2)] == [b"a", b"a"]
    [shown] = (await rig.verbs.print(volume="old"))["volumes"]
    assert shown["lost"] == []


async def test_nobody_writes_before_all_are_there(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.make()
    await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("i")), name="old")
    await rig.verbs.stop_all()
    start = rig.registry.start
    seen: list[bool] = []

    async def noted(unit: object, *arguments: object, **options: object) -> object:
        done = await start(unit, *arguments, **options)  # type: ignore[arg-type]  # as it was called
        seen.append(rig.registry.find("data") is not None)
        return done

    monkeypatch.setattr(rig.registry, "start", noted)
    await rig.verbs.start_all()
    assert seen == [False, False] and rig.registry.find("data") is not None


async def test_what_cannot_be_taken_back_is_told(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await three(rig)
    stop = rig.registry.stop

    async def stop_but_two(unit: object) -> None:
        if unit is rig.registry.unit("two"):
            rig.path("one").rename(rig.path("away"))
            raise Refused("volume_open", "two was opened just now")
        await stop(unit)  # type: ignore[arg-type]  # a unit, as ever

    monkeypatch.setattr(rig.registry, "stop", stop_but_two)
    with pytest.raises(Failed, match=r"two was opened just now; this could not be taken back on one \(no_current_plex"):
        await rig.verbs.stop_all()
    assert started(rig) == ["three", "two"]


async def test_a_comment_is_kept(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make()
        await rig.verbs.set(volume="data", settings={"comment": "Büro, 2nd shelf"})
    async with daemon(tmp_path) as rig:
        [shown] = (await rig.verbs.print(volume="data"))["volumes"]
        assert shown["comment"] == "Büro, 2nd shelf"
        await rig.verbs.set(volume="data", settings={"comment": ""})
        await rig.stop()
        [shown] = (await rig.verbs.print(volume="data"))["volumes"]
        assert shown["comment"] == ""
        await rig.verbs.start(volume="data")
        for wrong in ("a\nb", "x" * 201):
            with pytest.raises(FmrdError, match="bad_setting"):
                await rig.verbs.set(volume="data", settings={"comment": wrong})


async def test_growth_by_so_much_and_to_the_most(rig: Rig) -> None:
    await rig.make()
    shown = await rig.verbs.grow(volume="data", more_bytes=SIZE)
    assert shown["volume"]["length_bytes"] == 2 * SIZE
    with pytest.raises(FmrdError, match="no plex of it is a device"):
        await rig.verbs.grow(volume="data", most=True)


async def test_a_home_copy_of_the_new_name_stays_what_it_is(rig: Rig) -> None:
    """Whosever it is: it may be one that could not be read."""
    await rig.make()
    home = rig.service.running.home
    await rig.stop()
    strange = rig.directory / "state/volumes/new.dco"
    strange.write_bytes(b"somebody's")
    with pytest.raises(Failed, match="volume_exists"):
        await rig.verbs.rename(volume="data", name="new")
    assert strange.read_bytes() == b"somebody's"
    strange.unlink()
    with pytest.raises(Failed, match="volume_missing"):
        await rename(home, "other", "new")
    assert home.name == "data" and not strange.exists()
    await rig.verbs.start(volume="data")
