"""Real file systems on loop devices with direct I/O on a volume, while plexes come and go under them."""

import os
import shutil
from pathlib import Path

import pytest

from tests.e2e.harness import MIB, Daemon, Loops, needs_fuse, needs_loops, needs_program, same_bytes, tool, until

pytestmark = [needs_fuse, needs_loops]

EXT4 = pytest.param("ext4", marks=needs_program("mkfs.ext4", "e2fsck"))
XFS = pytest.param("xfs", marks=needs_program("mkfs.xfs", "xfs_repair"))
MAKE = {"ext4": ("mkfs.ext4", "-q"), "xfs": ("mkfs.xfs", "-q")}
CHECK = {"ext4": ("e2fsck", "-fn"), "xfs": ("xfs_repair", "-n")}


@pytest.fixture
def plexes(tmp_path: Path) -> list[Path]:
    return [tmp_path / "a.img", tmp_path / "b.img"]


def fill(directory: Path, name: str, count: int = 20) -> None:
    (directory / name).mkdir()
    for number in range(count):
        (directory / name / str(number)).write_bytes(f"{name} {number}\n".encode() * 2000)


def check(directory: Path, name: str, count: int = 20) -> None:
    for number in range(count):
        assert (directory / name / str(number)).read_bytes() == f"{name} {number}\n".encode() * 2000


@pytest.mark.parametrize("kind", [EXT4, XFS])
def test_a_file_system_lives_while_plexes_come_and_go(
    daemon: Daemon, loops: Loops, plexes: list[Path], kind: str
) -> None:
    daemon.make("data", "320M", *plexes)
    device = loops.attach(daemon.path("data"))
    assert Path(f"/sys/block/{Path(device).name}/loop/dio").read_text().strip() == "1"
    tool(*MAKE[kind], device)
    where = loops.mount(device)
    fill(where, "both")
    daemon.json("plex", "det", "data", "data-02")
    fill(where, "while-away")
    task = daemon.json("plex", "att", "data", "data-02")["task"]
    fill(where, "during-the-copy")
    daemon.json("task", "monitor", task["id"])
    daemon.json("plex", "det", "data", "data-01")
    fill(where, "on-the-second-only")
    assert daemon.attach("data", "data-01")["total_bytes"] < 320 * MIB / 2
    for name in ("both", "while-away", "during-the-copy", "on-the-second-only"):
        check(where, name)
    loops.umount(where)
    tool(*CHECK[kind], device)
    loops.detach(device)
    daemon.json("stop", "data")
    assert same_bytes(*plexes)
    alone = loops.mount(str(plexes[1]), "-o", "loop,ro")
    check(alone, "during-the-copy")
    loops.umount(alone)


@needs_program("mkfs.xfs", "xfs_growfs", "xfs_repair")
def test_a_mounted_file_system_grows_with_its_volume(daemon: Daemon, loops: Loops, plexes: list[Path]) -> None:
    daemon.make("data", "320M", *plexes)
    device = loops.attach(daemon.path("data"))
    tool(*MAKE["xfs"], device)
    where = loops.mount(device)
    fill(where, "before")
    before = os.statvfs(where).f_blocks
    daemon.json("grow", "data", "400M")
    tool("losetup", "--set-capacity", device)
    assert int(tool("blockdev", "--getsize64", device)) == 400 * MIB
    tool("xfs_growfs", where)
    assert os.statvfs(where).f_blocks - before == 80 * MIB // os.statvfs(where).f_frsize
    fill(where, "after")
    check(where, "before")
    loops.umount(where)
    tool(*CHECK["xfs"], device)
    loops.detach(device)
    daemon.json("stop", "data")
    assert same_bytes(*plexes) and plexes[0].stat().st_size == 400 * MIB


@pytest.mark.parametrize("kind", [EXT4])
def test_a_mounted_file_system_survives_a_detach_loop_under_load(
    daemon: Daemon, loops: Loops, plexes: list[Path], kind: str
) -> None:
    daemon.make("data", "64M", *plexes)
    device = loops.attach(daemon.path("data"))
    tool(*MAKE[kind], device)
    where = loops.mount(device)
    for turn in range(6):
        plex = f"data-0{turn % 2 + 1}"
        daemon.json("plex", "det", "data", plex)
        fill(where, f"turn-{turn}", 5)
        if turn:
            shutil.rmtree(where / f"turn-{turn - 1}")
        tool("sync", "--file-system", where)
        task = daemon.json("plex", "att", "data", plex)["task"]
        fill(where, f"copying-{turn}", 5)
        daemon.json("task", "monitor", task["id"])
    check(where, "turn-5", 5)
    loops.umount(where)
    tool(*CHECK[kind], device)
    loops.detach(device)
    daemon.json("stop", "data")
    assert same_bytes(*plexes)


@needs_program("mkfs.ext4", "e2fsck")
@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_a_file_system_outlives_a_daemon_that_ends_under_it(
    daemon: Daemon, loops: Loops, plexes: list[Path], ending: str
) -> None:
    daemon.make("data", "64M", *plexes)
    device = loops.attach(daemon.path("data"))
    tool(*MAKE["ext4"], device)
    where = loops.mount(device)
    fill(where, "synced")
    tool("sync", "--file-system", where)
    fill(where, "not-synced")
    if ending == "stop":
        assert daemon.stop() == 0
        assert same_bytes(*plexes)
    else:
        daemon.kill()
    loops.lose(where, device)
    daemon.start()
    daemon.in_sync("data")
    device = loops.attach(daemon.path("data"))
    where = loops.mount(device)
    check(where, "synced")
    loops.umount(where)
    tool(*CHECK["ext4"], device)
    loops.detach(device)
    daemon.json("stop", "data")
    assert same_bytes(*plexes)


def test_the_file_is_closed_when_the_loop_device_goes(daemon: Daemon, loops: Loops, plexes: list[Path]) -> None:
    daemon.make("data", "16M", *plexes)
    device = loops.attach(daemon.path("data"))
    assert daemon.ctl("stop", "data").code == "volume_open"
    loops.detach(device)
    until(lambda: daemon.volume("data")["open_count"] == 0, "the loop device let go")
    daemon.json("stop", "data")
