"""remove, plex dis: what goes is the volume's own. What another host, another volume or another disk has is left."""

import fcntl
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from fmrd.core.record import Record
from fmrd.core.volume.plex import Plex
from fmrd.dco.loading import Loaded
from fmrd.engine.opening.giving_up import _not_ours
from tests.engine.rig import SIZE, Rig, daemon


def everything(directory: Path, *names: str) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in names}


async def stop_and_take_elsewhere(directory: Path) -> None:
    """Plex b is imported by another host while the volume is stopped here; that one goes on with it."""
    async with daemon(directory) as rig:
        await rig.make()
        await rig.stop()
    (directory / "state").rename(directory / "home")
    async with daemon(directory) as rig:
        await rig.verbs.import_volume(paths=[str(rig.path("b"))], force=True)
        await rig.write_regions(1)
    shutil.rmtree(directory / "state")
    (directory / "home").rename(directory / "state")


@pytest.mark.parametrize("erase", [False, True])
async def test_remove_leaves_what_went_on_elsewhere(tmp_path: Path, erase: bool) -> None:
    await stop_and_take_elsewhere(tmp_path)
    before = everything(tmp_path, "b", "b.dco")
    async with daemon(tmp_path) as rig:
        removed = await rig.verbs.remove(volume="data", erase=erase)
    assert "data-02" in removed["notice"] and "elsewhere" in removed["notice"] and "data-01" not in removed["notice"]
    assert everything(tmp_path, "b", "b.dco") == before
    assert not (tmp_path / "a.dco").exists() and (tmp_path / "a").exists() is not erase


@pytest.mark.parametrize("erase", [False, True])
async def test_remove_leaves_what_somebody_has_locked(rig: Rig, erase: bool) -> None:
    await rig.make()
    await rig.stop()
    before = everything(rig.directory, "b", "b.dco")
    descriptor = os.open(rig.path("b"), os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    removed = await rig.verbs.remove(volume="data", erase=erase)
    os.close(descriptor)
    assert "data-02" in removed["notice"] and "locked" in removed["notice"]
    assert everything(rig.directory, "b", "b.dco") == before


@pytest.mark.parametrize("dco", [None, b"a report", bytes(1 << 19)])
async def test_remove_leaves_another_disk_and_whatever_lies_beside_it(rig: Rig, dco: bytes | None) -> None:
    await rig.make()
    await rig.stop()
    rig.path("b").unlink()
    rig.path("b.dco").unlink()
    rig.path("b").write_bytes(b"precious")
    if dco is not None:
        rig.path("b.dco").write_bytes(dco)
    removed = await rig.verbs.remove(volume="data", erase=True)
    assert "data-02" in removed["notice"]
    assert rig.bytes_of("b") == b"precious"
    assert dco is None or rig.path("b.dco").read_bytes() == dco


async def test_remove_unlinks_no_file_that_a_record_calls_a_dco(rig: Rig) -> None:
    plexes = [{"path": str(rig.path("a")), "dco": str(rig.path("report"))}]
    await rig.verbs.make(volume="data", size_bytes=SIZE, plexes=plexes)
    await rig.stop()
    rig.path("report").write_bytes(b"a report")
    assert "data-01" in (await rig.verbs.remove(volume="data"))["notice"]
    assert rig.path("report").read_bytes() == b"a report"


async def test_of_a_plex_that_is_not_there_its_copy_of_the_dco_goes(rig: Rig) -> None:
    await rig.make()
    await rig.stop()
    rig.path("b").unlink()
    assert "notice" not in await rig.verbs.remove(volume="data")
    assert sorted(p.name for p in rig.directory.iterdir()) == ["a", "state"]


async def test_a_dissociated_plex_leaves_another_disk_alone(rig: Rig) -> None:
    await rig.make()
    await rig.det("b")
    rig.path("b").unlink()
    rig.path("b").write_bytes(b"precious")
    shutil.copy(rig.path("a.dco"), rig.path("b.dco"))
    before = everything(rig.directory, "b", "b.dco")
    gone = await rig.verbs.plex_dis(volume="data", plex="data-02")
    assert "data-02" in gone["notice"]
    assert everything(rig.directory, "b", "b.dco") == before


async def test_a_plex_that_was_left_out_keeps_all_that_it_has(rig: Rig) -> None:
    """What lies where the record says is nobody's to judge: it was not looked at since."""
    await rig.make()
    await rig.stop()
    await rig.verbs.start(volume="data", without=["data-02"])
    await rig.stop()
    before = everything(rig.directory, "b", "b.dco")
    removed = await rig.verbs.remove(volume="data", erase=True)
    assert "data-02" in removed["notice"] and "left out" in removed["notice"]
    assert everything(rig.directory, "b", "b.dco") == before and not rig.path("a").exists()


async def test_where_nothing_is_left_there_is_nothing_to_tell(rig: Rig) -> None:
    await rig.make("abc")
    await rig.stop()
    for name in ("b", "b.dco", "c.dco"):
        rig.path(name).unlink()
    assert "notice" not in await rig.verbs.remove(volume="data")
    assert sorted(p.name for p in rig.directory.iterdir()) == ["a", "c", "state"]


def test_a_copy_that_is_where_home_knows_it_is_that_plex() -> None:
    """Its own past was given up, or nothing is left of its record but whose it is."""

    def why(position: str | None, has: str) -> str:
        theirs = None if position is None else SimpleNamespace(position=position, sequence=1, lineage="0123456789")
        image = SimpleNamespace(names=lambda family, uuid: True, record=theirs)
        record = SimpleNamespace(family="", knows=lambda position: False)
        plex = SimpleNamespace(uuid="", has=has)
        return _not_ours(cast(Record, record), cast(Plex, plex), cast(Loaded, SimpleNamespace(image=image)))

    assert why("here", "here") == why(None, "here") == ""
    assert "went on elsewhere" in why("there", "here")
