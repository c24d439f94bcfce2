"""A volume whose disks answer late at a daemon's start is opened when one has, as long as its requests are held."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from fmrd.engine.opening import late
from fmrd.engine.opening.homes import Home
from tests.engine.faulty import FaultyBacking, FaultyHost, Hang
from tests.engine.rig import Rig, daemon
from tests.waiting import until


@pytest.fixture
async def hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hang]:
    """Of both disks of a volume that was made: neither is opened until it lets go."""
    async with daemon(tmp_path) as rig:
        await rig.make()
        await rig.data.write(0, b"held")
    hang, real = Hang(), FaultyHost.open_plex

    def open_plex(self: FaultyHost, path: str, tail_bytes: int) -> FaultyBacking:
        hang.wait()
        return real(self, path, tail_bytes)

    monkeypatch.setattr(FaultyHost, "open_plex", open_plex)
    yield hang
    hang.let_go()


async def test_a_disk_that_has_answered_after_all_is_asked_again(
    tmp_path: Path, hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, asked = late._has_answered, list[bool]()

    async def waiting(home: Home, until: float) -> bool:
        """Nobody answered in time."""
        asked.append(True)
        hang.let_go()
        return await waits(home, until)

    monkeypatch.setattr(late, "_has_answered", waiting)
    async with daemon(tmp_path, io_timeout_seconds=4.0) as rig:
        unit = rig.registry.units["data"]
        assert unit.failure is None and asked
        assert await rig.data.read(0, 4) == b"held"
        assert await rig.states() == "ACTIVE ACTIVE"


async def test_one_that_has_not_answered_within_io_timeout_is_not_waited_for(tmp_path: Path, hang: Hang) -> None:
    async with daemon(tmp_path, io_timeout_seconds=0.2) as rig:
        await until(lambda: not rig.registry.arriving.may_come(name="data"))
        failure = rig.registry.units["data"].failure
        assert failure is not None and failure.code == "no_current_plex"
        hang.let_go()


async def test_a_call_that_is_only_under_way_is_not_waited_for(rig: Rig) -> None:
    """It is of another volume of the family, which is open, and has no end."""
    await rig.make()
    with rig.host.hanging(rig.path("a"), "fdatasync") as hang:
        async with trio.open_nursery() as nursery:
            await rig.data.write(0, b"x")
            nursery.start_soon(rig.data.flush)
            await until(lambda: hang.waiting == 1)
            assert rig.service.running.home.lanes[rig.plex("a").uuid].outstanding
            assert not await late._has_answered(rig.service.running.home, trio.current_time())
            hang.let_go()
