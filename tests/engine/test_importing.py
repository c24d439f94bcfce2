"""What is not imported, though it can be read."""

import shutil
from pathlib import Path

import pytest

from fmrd.errors import Failed
from tests.engine.rig import daemon


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
