"""The last copy of a volume lies behind a session that is lost: it gets a new one when the line is back."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from fmrd.engine.far.redialing import is_lost
from fmrd.errors import Failed, FmrdError, Refused
from tests.e2e.harness import needs_program
from tests.engine.rig import REGION, SIZE, Rig, daemon
from tests.nbd_servers import Server, nbdkit_file, serving
from tests.waiting import LATE_SECONDS, until

pytestmark = needs_program("nbdkit")
DISK = SIZE + (2 << 20)
SOON = 0.02


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "far").mkdir()
    server = nbdkit_file(tmp_path / "far", DISK, "--filter=limit")
    server.query = "&x-fence=single"
    with serving(server):
        yield server


async def make(rig: Rig, *paths: str) -> None:
    await rig.verbs.make(volume="data", size_bytes=SIZE, plexes=[{"path": path} for path in paths])


async def lose(rig: Rig, far: Server) -> None:
    """The server is gone, and somebody was told."""
    await trio.to_thread.run_sync(far.kill)
    with pytest.raises(FmrdError, match="lost"):
        await rig.write_regions(3, byte=b"x")
    assert await rig.states() == "ACTIVE"


async def attach(rig: Rig, far: Server, *, settled: bool = False) -> None:
    """When the server, which takes one client at a time, has heard that the last try of the daemon's own is over."""
    with trio.fail_after(LATE_SECONDS):
        while True:
            try:
                await rig.verbs.plex_att(volume="data", plex=far.uri, settled=settled)
            except FmrdError as error:
                if error.code not in ("plex_busy", "plex_missing"):
                    raise
                await trio.lowlevel.checkpoint()
            else:
                return


def forget(image: Path, offset: int) -> None:
    with image.open("r+b") as disk:
        os.pwrite(disk.fileno(), bytes(512), offset)


async def back(far: Server) -> None:
    await trio.to_thread.run_sync(far.start)


async def write_at_last(rig: Rig) -> None:
    """When it can be written to again."""
    await until(lambda: not any(is_lost(rig.service.running, plex) for plex in rig.service.volume.open_plexes()))
    await rig.write_regions(3, 4, byte=b"y")


async def both_active(rig: Rig) -> None:
    """And neither lacks anything: what failed on one and not on the other is a hole, which is copied back."""
    await until(lambda: all(plex.state == "ACTIVE" and not plex.map.any() for plex in rig.service.volume.plexes))


async def test_it_comes_back_by_itself(tmp_path: Path, far: Server) -> None:
    async with daemon(tmp_path, clean_seconds=SOON, return_seconds=SOON) as rig:
        await make(rig, far.uri)
        await rig.write_regions(1)
        await rig.data.flush()
        await lose(rig, far)
        await back(far)
        await write_at_last(rig)
        assert await rig.data.read(3 * REGION + 512, 512) == b"y" * 512
        assert await rig.data.read(1 * REGION + 512, 512) == b"w" * 512
        [shown] = (await rig.verbs.print(volume="data"))["volumes"]
        assert shown["plexes"][0]["far"]["session"] == "open"
        await until(lambda: not rig.service.mirror.opened[rig.service.volume.plexes[0].uuid].dco_copy.broken)
        await rig.stop()
    async with daemon(tmp_path) as rig:
        await rig.verbs.start(volume="data")
        assert await rig.data.read(3 * REGION + 512, 512) == b"y" * 512


async def test_what_was_not_durable_when_it_went_is_told_of_by_a_flush(tmp_path: Path, far: Server) -> None:
    """The server came back, and may have forgotten it: no fdatasync of the new session would tell."""
    async with daemon(tmp_path) as rig:
        await make(rig, far.uri)
        await rig.write_regions(7, byte=b"u")
        await trio.to_thread.run_sync(far.kill)
        forget(far.socket.parent / "disk.raw", 7 * REGION + 512)
        await back(far)
        await rig.verbs.plex_att(volume="data", plex=far.uri)
        with pytest.raises(Failed, match="suspect"):
            await rig.data.flush()
        await rig.data.write(0, bytes(SIZE))  # all that its log names
        await rig.data.flush()


async def test_without_a_fence_somebody_must_say_that_it_is_over(tmp_path: Path, far: Server) -> None:
    far.query = ""
    async with daemon(tmp_path, clean_seconds=SOON, return_seconds=SOON) as rig:
        await make(rig, far.uri)
        await lose(rig, far)
        await back(far)
        with pytest.raises(Refused, match="session_open"):
            await attach(rig, far)
        with pytest.raises(FmrdError):
            await rig.write_regions(4)
        await attach(rig, far, settled=True)
        await rig.write_regions(4, byte=b"z")
        assert await rig.data.read(4 * REGION + 512, 512) == b"z" * 512


@pytest.mark.parametrize("what", ["another disk", "an older state"])
async def test_another_disk_in_its_place_is_not_taken(tmp_path: Path, far: Server, what: str) -> None:
    image = far.socket.parent / "disk.raw"
    async with daemon(tmp_path) as rig:
        await make(rig, far.uri)
        older = image.read_bytes()
        await rig.verbs.set(volume="data", settings={"io_timeout": "21"})
        await lose(rig, far)
        now = image.read_bytes()
        image.write_bytes(older if what == "an older state" else bytes(DISK))
        await back(far)
        with pytest.raises(Refused, match="refused_unknown_plex"):
            await rig.verbs.plex_att(volume="data", plex=far.uri)
        with pytest.raises(FmrdError):
            await rig.write_regions(4)
        image.write_bytes(now)
        await rig.verbs.plex_att(volume="data", plex=far.uri)
        await rig.write_regions(4, byte=b"z")


async def test_a_plex_that_is_not_the_last_copy_leaves_and_joins_as_ever(tmp_path: Path, far: Server) -> None:
    async with daemon(tmp_path, clean_seconds=SOON, return_seconds=SOON) as rig:
        await make(rig, str(tmp_path / "near"), far.uri)
        await rig.end_all()
        await trio.to_thread.run_sync(far.kill)
        await rig.write_regions(5)
        assert await rig.states() == "ACTIVE IOFAIL"
        await back(far)
        await both_active(rig)
        await rig.stop()
    assert (tmp_path / "near").read_bytes() == (far.socket.parent / "disk.raw").read_bytes()[:SIZE]
