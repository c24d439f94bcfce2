"""Streams that are received, data that is put back, and what else happens to the volumes meanwhile."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fmrd.engine.maps import holes
from fmrd.engine.served import answer_to
from fmrd.engine.snapshots import foretold
from tests.engine.rig import REGION, Rig, daemon


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with daemon(tmp_path) as running:
        await running.make("ab")
        yield running


async def test_what_is_written_to_a_snapshot_while_holes_are_looked_for_makes_another_version_of_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sends it compares that with the version at the end: these regions are not among those it was told of."""
    await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("s")), name="s")
    before = (await rig.verbs.changed(volume="s"))["version"]
    served = rig.registry.find("s")
    assert served is not None
    real = holes.zeros_in

    async def then_written(*args: Any) -> Any:
        found = await real(*args)
        await answer_to(partial(served.write_now, 7 * REGION, b"w" * 512))
        return found

    monkeypatch.setattr("fmrd.engine.maps.changed.zeros_in", then_written)
    shown = await rig.verbs.changed(volume="s")
    assert (shown["regions"], shown["version"], shown["pristine"]) == (0, before, True)
    shown = await rig.verbs.changed(volume="s")
    assert (shown["regions"], shown["version"] == before, shown["pristine"]) == (1, False, False)
