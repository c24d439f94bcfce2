"""A daemon's start reads a home copy once, for all of the family; what was written since is read again."""

from pathlib import Path

import pytest

from fmrd.core.states import PlexState
from fmrd.dco.loading import load
from fmrd.engine.copies.remembered import Remembered
from fmrd.engine.opening.homes import Home
from tests.dco.fakes import Rig as Fake
from tests.engine.rig import REGION, Rig, daemon


async def family(rig: Rig) -> None:
    await rig.make("ab")
    for number in range(3):
        await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path(f"i{number}")), name=f"snap{number}")
        await rig.write_regions(number)


async def test_the_home_copy_of_a_family_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with daemon(tmp_path) as rig:
        await family(rig)
    reads: list[str | None] = []
    read = Home.read

    async def counting(self: Home, only: str | None = None) -> object:
        reads.append(only)
        return await read(self, only)

    monkeypatch.setattr(Home, "read", counting)
    async with daemon(tmp_path) as rig:
        assert reads == [None] and len(rig.registry.units) == 4
        assert rig.service.running.home.remembered is None, "nobody needs it any more"
        await rig.verbs.stop(volume="snap2")
        await rig.verbs.start(volume="snap2")
        assert reads[1:] == [rig.registry.service("snap2").volume.settings.uuid], "its own pages only"
        for number in range(3):
            assert await rig.door(f"snap{number}").read(number * REGION + 512, 1) == b"\0"


async def test_what_was_written_since_it_was_read_is_read_again() -> None:
    fake = await Fake(PlexState.ACTIVE, PlexState.ACTIVE).start()
    home, volume = fake.home, fake.volume.record()
    loaded = load(home.file)
    remembered = Remembered(loaded)
    assert remembered.of(volume, None) is loaded, "the first one begins the ledger with it"
    assert remembered.of(volume, None) is None, "there was a ledger meanwhile"
    assert remembered.of(volume, fake.ledger) is None, "that began with another read"
    home.adopt(loaded)
    home.touched.clear()
    assert remembered.of(volume, fake.ledger) is loaded
    assert remembered.of(None, fake.ledger) is None
    await fake.store.write_pages([(volume.plexes[1].map.index, 0)])
    assert remembered.of(volume, fake.ledger) is None
    assert home.begun_with is loaded
    del loaded, remembered
    assert home.begun_with is None, "it costs no memory for longer"
