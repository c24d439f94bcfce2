"""Both plexes of a volume lie behind sessions that are lost at once."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from fmrd.engine.far.redialing import is_lost
from fmrd.errors import Failed, FmrdError
from tests.e2e.harness import needs_program
from tests.engine.rig import REGION, SIZE, Rig, daemon
from tests.nbd_servers import Server, nbdkit_file, serving
from tests.waiting import until

pytestmark = needs_program("nbdkit")
DISK = SIZE + (2 << 20)
SOON = 0.02


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[Server]]:
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        server = nbdkit_file(tmp_path / name, DISK, "--filter=limit")
        server.query = "&x-fence=single"
        found.append(server)
    with serving(found[0]), serving(found[1]):
        yield found


def image(server: Server) -> Path:
    return server.socket.parent / "disk.raw"


@asynccontextmanager
async def cut_off(tmp_path: Path, servers: list[Server], lost: bytes = b"") -> AsyncIterator[Rig]:
    """What was written to region 7 was not flushed; then both went, in the middle of a write to region 3, and came
    back. ``lost``: the first had not written region 7 to its disk, where this is instead.
    """
    async with daemon(tmp_path, clean_seconds=SOON, return_seconds=SOON) as rig:
        plexes = [{"path": server.uri} for server in servers]
        await rig.verbs.make(volume="data", size_bytes=SIZE, plexes=plexes)
        await rig.end_all()
        await rig.write_regions(1)
        await rig.data.flush()
        await rig.write_regions(7, byte=b"u")
        for server in servers:
            await trio.to_thread.run_sync(server.kill)
        with pytest.raises(FmrdError):
            await rig.write_regions(3)
        if lost:
            with image(servers[0]).open("r+b") as disk:
                os.pwrite(disk.fileno(), lost, 7 * REGION + 512)
        for server in servers:
            await trio.to_thread.run_sync(server.start)
        running = rig.service.running
        await until(lambda: not any(is_lost(running, plex) for plex in rig.service.volume.plexes))
        yield rig


async def both_active(rig: Rig) -> None:
    plexes = rig.service.volume.plexes
    await until(lambda: all(plex.state == "ACTIVE" and not plex.map.any() for plex in plexes))


async def test_both_come_back_and_are_made_equal(tmp_path: Path, servers: list[Server]) -> None:
    """Each may have lost something else: one of them is right for both, as after a crash."""
    async with cut_off(tmp_path, servers, lost=bytes(512)) as rig:
        await both_active(rig)
        await rig.end_all()
        await rig.write_regions(4, byte=b"y")
        assert await rig.data.read(1 * REGION + 512, 512) == b"w" * 512
        await rig.stop()
    one, two = (image(server).read_bytes()[:SIZE] for server in servers)
    assert one == two


async def test_what_was_lost_there_is_told_by_a_flush(tmp_path: Path, servers: list[Server]) -> None:
    """Also when both are equal by then, for nobody knows whether it is what was written."""
    async with cut_off(tmp_path, servers, lost=bytes(512)) as rig:
        await both_active(rig)
        await rig.end_all()
        await until(lambda: rig.service.volume.suspicion() is None)
        with pytest.raises(Failed, match="suspect"):
            await rig.data.flush()
        await rig.data.flush()
        await rig.write_regions(5)
        await rig.data.flush()
