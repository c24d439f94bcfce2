"""What is not imported, though it can be read."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from fmrd.engine.opening.files import PlexFiles
from fmrd.engine.opening.importing import newest_of
from fmrd.errors import Failed, Refused
from tests.engine.rig import Rig, daemon
from tests.waiting import until


async def test_an_instant_snapshot_is_nothing_without_its_original(tmp_path: Path) -> None:
    """What it holds only its home copy knew."""
    async with daemon(tmp_path) as rig:
        await rig.make("ab")
        await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("i")))
        await rig.write_regions(1)
    shutil.rmtree(tmp_path / "state")
    async with daemon(tmp_path) as rig:
        for force in (False, True):
            with pytest.raises(Failed, match=r"not_imported.*instant snapshot"):
                await rig.verbs.import_volume(paths=[str(rig.path("i"))], force=force)
        assert not list((tmp_path / "state/volumes").iterdir()) and not (await rig.verbs.print())["volumes"]


async def test_with_its_original_it_stays_stopped(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make("ab")
        await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("i")))
        await rig.write_regions(1)
    shutil.rmtree(tmp_path / "state")
    async with daemon(tmp_path) as rig:
        await rig.verbs.import_volume(paths=[str(rig.path(letter)) for letter in "abi"])
        started = {name: unit.service is not None for name, unit in rig.registry.units.items()}
        assert started == {"data": True, "SNAP-data": False}


async def test_plexes_that_do_not_know_the_home_copy_do_not_take_its_place(rig: Rig) -> None:
    """They were put back; what the volume was since only the home copy tells."""
    await rig.make("ab")
    await rig.stop()
    names = ("a", "a.dco", "b", "b.dco")
    for name in names:
        shutil.copy2(rig.path(name), rig.path(f"old-{name}"))
    await rig.verbs.start(volume="data")
    await rig.write_regions(1)
    await rig.stop()
    for name in names:
        shutil.copy2(rig.path(f"old-{name}"), rig.path(name))
    home = rig.directory / "state/volumes/data.dco"
    before = home.read_bytes()
    paths = [str(rig.path("a")), str(rig.path("b"))]
    for dry_run in (True, False):
        with pytest.raises(Refused, match="foreign_plex"):
            await rig.verbs.import_volume(paths=paths, dry_run=dry_run)
        assert home.read_bytes() == before
    await rig.verbs.import_volume(paths=paths, force=True)
    assert await rig.data.read(0, 1) == b"\0"


async def test_which_side_counts_is_said_by_path_or_by_name(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make("ab")
        await rig.stop()
    shutil.rmtree(tmp_path / "state")
    paths = [str(tmp_path / letter) for letter in "ab"]
    async with daemon(tmp_path) as rig:
        for prefer in ("data-03", str(rig.path("c")), ""):
            with pytest.raises(Failed, match="plex_unknown"):
                await rig.verbs.import_volume(paths=paths, prefer=prefer)
        await rig.verbs.import_volume(paths=paths, prefer="data-02")
        assert await rig.states() == "ACTIVE ACTIVE"


def test_copies_of_which_each_claims_to_be_the_others_future_are_two_sides() -> None:
    """Somebody wrote them: no two that fmrd wrote do."""

    def claims(sequence: int) -> PlexFiles:
        record = SimpleNamespace(
            knows=lambda position: True, position=(sequence, "x"), sequence=sequence, lineage="0123456789"
        )
        return cast(PlexFiles, SimpleNamespace(record=record, image=None, loaded=None))

    with pytest.raises(Refused, match="split_brain"):
        newest_of({"a": claims(1), "b": claims(2)}, None)


async def test_of_plexes_of_which_one_was_changed_the_other_leads(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make("ab")
        await rig.write_regions(1)
        await rig.stop()
    shutil.rmtree(tmp_path / "state")
    os.utime(tmp_path / "b")
    async with daemon(tmp_path) as rig:
        await rig.verbs.import_volume(paths=[str(tmp_path / letter) for letter in "ab"])
        await until(lambda: all(plex.state == "ACTIVE" for plex in rig.service.volume.plexes))
        [task] = (await rig.verbs.task_list(all=True))["tasks"]
        assert (task["plex"], task["reason"]["code"]) == ("data-02", "full_backing_changed")
