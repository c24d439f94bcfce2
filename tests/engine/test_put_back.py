"""The state directory put back from a backup under the same record: the pages tell, not the record's sequence."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from fmrd.core.stamps import Stamp
from fmrd.errors import Refused
from tests.engine.faulty import FaultyBacking
from tests.engine.rig import Rig, daemon
from tests.waiting import until

LENGTH = 64 << 20


def keep(rig: Rig) -> None:
    shutil.copytree(rig.directory / "state", rig.directory / "night")


def put_back(directory: Path) -> None:
    shutil.rmtree(directory / "state")
    shutil.copytree(directory / "night", directory / "state")


async def write_sixteen_mib(rig: Rig, volume: str = "data") -> None:
    for offset in range(0, 16 << 20, 1 << 20):
        await rig.door(volume).write(offset + (32 << 20), b"w" * (1 << 20))
        if volume == "data":
            await rig.service.mirror.clean()


async def test_a_home_copy_put_back_after_a_crash_is_told_by_its_pages(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make(size_bytes=LENGTH)
        await rig.write_regions(1)
        await rig.det("b")
        keep(rig)
        await write_sixteen_mib(rig)
        rig.kill()
    put_back(tmp_path)
    async with daemon(tmp_path) as rig:
        with pytest.raises(Refused, match=r"foreign_plex: .*data-01.* put back as it had been before") as refused:
            await rig.verbs.start(volume="data")
        assert "start --without data-01" in refused.value.hint
        await rig.verbs.import_volume(paths=[str(rig.path("a")), str(rig.path("b"))])
        task = await rig.end(await rig.att("b"))
        assert (task["reason"]["code"], task["state"], task["done_regions"] >= 256) == ("fast", "done", True)
        await rig.stop()
        assert rig.same("a", "b")


async def test_one_write_of_pages_more_than_the_home_copy_is_what_a_crash_leaves(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make()
        await rig.det("b")
        keep(rig)
        rig.plex("b").map.mark(range(1, 2))
        await rig.service.mirror.store.write_pages(rig.service.volume.touched_pages())
        rig.kill()
    put_back(tmp_path)
    async with daemon(tmp_path) as rig:
        assert await rig.states() == "ACTIVE STALE"
        assert 1 in rig.plex("b").map


async def test_a_home_copy_that_failed_for_a_while_was_not_put_back(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make()
        await rig.det("b")
        mirror = rig.service.mirror
        await rig.write_regions(1)
        with rig.host.failing(mirror.store.home.file.path, "dco_write"):
            for region in (2, 3, 4):
                rig.plex("b").map.mark(range(region, region + 1))
                with pytest.raises(Exception, match="home_failed"):
                    await mirror.store.write_pages(rig.service.volume.touched_pages())
        rig.kill()
    async with daemon(tmp_path) as rig:
        assert 4 in rig.plex("b").map, "it started"


async def test_what_a_stopped_snapshot_wrote_is_told_by_its_own_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = FaultyBacking.__init__

    def on_a_device(self: FaultyBacking, *arguments: Any) -> None:
        real(self, *arguments)
        self.is_block = True

    monkeypatch.setattr(FaultyBacking, "__init__", on_a_device)
    monkeypatch.setattr(FaultyBacking, "stamp", lambda self, pieces=(): Stamp(0, 0, 0))
    async with daemon(tmp_path) as rig:
        await rig.make(size_bytes=LENGTH)
        await rig.end((await rig.verbs.snapstart(volume="data", path=str(rig.path("x"))))["task"])
        await rig.verbs.snapshot(volumes=["data"])
        name = "SNAP-data"
        await until(lambda: rig.registry.find(name) is not None)
        keep(rig)
        for offset in range(0, 4 << 20, 1 << 20):
            await rig.door(name).write(offset, b"s" * (1 << 20))
            await rig.registry.service(name).mirror.clean()
        rig.kill()
    put_back(tmp_path)
    async with daemon(tmp_path) as rig:
        assert rig.registry.units[name].service is None
        for task in (await rig.verbs.snapback(snapshot=name))["tasks"]:
            assert (await rig.end(task))["reason"]["code"] == "fast"
        await rig.stop()
        assert rig.path("a").read_bytes() == rig.path("x").read_bytes()[:LENGTH]
