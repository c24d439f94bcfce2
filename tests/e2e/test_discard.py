"""Discard, zeroes and holes through a volume, by the tools that people use. The channel door only: pyfuse3 has none."""

import errno
import os
from pathlib import Path

import pytest

from tests.e2e.harness import (
    MIB,
    REGION,
    Daemon,
    Loops,
    needs_fuse,
    needs_loops,
    needs_program,
    read_at,
    same_bytes,
    tool,
    until,
    write_at,
)

pytestmark = [needs_fuse, needs_loops]


@pytest.fixture
def door() -> str:
    return "channel"


@pytest.fixture
def plexes(tmp_path: Path) -> list[Path]:
    return [tmp_path / "a.img", tmp_path / "b.img"]


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


def fill(daemon: Daemon, name: str, size: int) -> None:
    for at in range(0, size, MIB):
        write_at(daemon.path(name), at, b"d" * MIB, sync=at + MIB == size)


def test_blkdiscard_shrinks_every_plex(daemon: Daemon, loops: Loops, plexes: list[Path]) -> None:
    daemon.make("data", "64M", *plexes)
    fill(daemon, "data", 64 * MIB)
    device = loops.attach(daemon.path("data"))
    tool("blkdiscard", "--offset", 16 * MIB, "--length", 32 * MIB, device)
    for plex in plexes:
        assert allocated(plex) <= 33 * MIB
    assert read_at(Path(device), 15 * MIB, MIB) == b"d" * MIB
    assert read_at(Path(device), 16 * MIB, MIB) == bytes(MIB)
    loops.detach(device)
    daemon.json("stop", "data")
    assert same_bytes(*plexes)


def test_blkdiscard_z_writes_zeroes(daemon: Daemon, loops: Loops, plexes: list[Path]) -> None:
    daemon.make("data", "64M", *plexes)
    fill(daemon, "data", 64 * MIB)
    device = loops.attach(daemon.path("data"))
    tool("blkdiscard", "-z", "--offset", 4096, "--length", 32 * MIB, device)
    loops.detach(device)
    daemon.json("stop", "data")
    for plex in plexes:
        assert read_at(plex, 0, 4096) == b"d" * 4096
        assert read_at(plex, 4096, 32 * MIB) == bytes(32 * MIB)
        assert read_at(plex, 4096 + 32 * MIB, 1) == b"d"


@needs_program("mkfs.ext4", "fstrim", "e2fsck")
def test_fstrim_gives_the_room_of_deleted_files_back(daemon: Daemon, loops: Loops, plexes: list[Path]) -> None:
    daemon.make("data", "128M", *plexes)
    fill(daemon, "data", 128 * MIB)
    device = loops.attach(daemon.path("data"))
    tool("mkfs.ext4", "-q", "-E", "discard", device)
    assert all(allocated(plex) < 32 * MIB for plex in plexes)
    where = loops.mount(device)
    (where / "large").write_bytes(os.urandom(64 * MIB))
    tool("sync", "-f", where)
    assert all(allocated(plex) >= 64 * MIB for plex in plexes)
    (where / "large").unlink()
    tool("sync", "-f", where)
    tool("fstrim", where)
    assert all(allocated(plex) < 32 * MIB for plex in plexes)
    loops.umount(where)
    tool("e2fsck", "-fn", device)
    loops.detach(device)
    daemon.json("stop", "data")
    assert same_bytes(*plexes)


def test_a_discard_that_a_detached_plex_misses_is_copied_as_a_hole(
    daemon: Daemon, loops: Loops, plexes: list[Path]
) -> None:
    daemon.make("data", "64M", *plexes)
    fill(daemon, "data", 64 * MIB)
    device = loops.attach(daemon.path("data"))
    daemon.json("plex", "det", "data", "data-02")
    tool("blkdiscard", "--offset", 16 * MIB, "--length", 32 * MIB, device)
    task = daemon.attach("data", "data-02")
    assert (task["reason"]["code"], task["total_regions"]) == ("fast", 32 * MIB // REGION)
    assert all(allocated(plex) <= 33 * MIB for plex in plexes)
    loops.detach(device)
    daemon.json("stop", "data")
    assert same_bytes(*plexes)


def test_a_snapshot_keeps_what_the_original_discards(daemon: Daemon, loops: Loops, plexes: list[Path]) -> None:
    daemon.make("data", "64M", *plexes)
    fill(daemon, "data", 64 * MIB)
    daemon.json("snapshot", "data", "--instant", plexes[0].parent / "s.img")
    device = loops.attach(daemon.path("data"))
    tool("blkdiscard", "--offset", 16 * MIB, "--length", 16 * MIB, device)
    assert read_at(daemon.path("SNAP-data"), 15 * MIB, 2 * MIB) == b"d" * (2 * MIB)
    assert read_at(daemon.path("data"), 15 * MIB, 2 * MIB) == b"d" * MIB + bytes(MIB)


def test_holes_are_seen(daemon: Daemon, plexes: list[Path], tmp_path: Path) -> None:
    daemon.make("data", "64M", *plexes)
    write_at(daemon.path("data"), 8 * MIB, b"d" * MIB)
    file = os.open(daemon.path("data"), os.O_RDONLY)
    try:
        assert os.lseek(file, 0, os.SEEK_DATA) == 8 * MIB
        assert os.lseek(file, 8 * MIB, os.SEEK_HOLE) == 9 * MIB
        assert os.lseek(file, 9 * MIB, os.SEEK_HOLE) == 9 * MIB
        with pytest.raises(OSError, match=os.strerror(errno.ENXIO)):
            os.lseek(file, 9 * MIB, os.SEEK_DATA)
    finally:
        os.close(file)
    tool("cp", "--sparse=auto", daemon.path("data"), tmp_path / "copy")
    assert allocated(tmp_path / "copy") <= 2 * MIB
    assert same_bytes(daemon.path("data"), tmp_path / "copy")


@pytest.mark.parametrize("options", [["--collapse-range"], ["--insert-range"], ["--keep-size"]])
def test_what_makes_no_sense_for_a_device_is_refused(daemon: Daemon, plexes: list[Path], options: list[str]) -> None:
    daemon.make("data", "16M", *plexes)
    write_at(daemon.path("data"), 0, b"d" * REGION)
    with pytest.raises(AssertionError, match=r"not supported|unsupported|Invalid argument"):
        tool("fallocate", *options, "--offset", 0, "--length", REGION, daemon.path("data"))
    assert read_at(daemon.path("data"), 0, REGION) == b"d" * REGION


def test_a_discard_survives_a_kill(daemon: Daemon, loops: Loops, plexes: list[Path]) -> None:
    daemon.make("data", "64M", *plexes)
    fill(daemon, "data", 64 * MIB)
    tool("fallocate", "--punch-hole", "--offset", 16 * MIB, "--length", 32 * MIB, daemon.path("data"))
    with open(daemon.path("data"), "rb+") as file:
        os.fsync(file.fileno())
    daemon.kill()
    daemon.start()
    daemon.in_sync("data")
    assert read_at(daemon.path("data"), 15 * MIB, 2 * MIB) == b"d" * MIB + bytes(MIB)
    until(lambda: all(allocated(plex) <= 33 * MIB for plex in plexes), "the plexes are short")
