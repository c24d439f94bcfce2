"""Plexes that others had meanwhile: mounted elsewhere, copied to a larger disk, on a disk that died under load."""

import os
from pathlib import Path

import pytest

from tests.backing.disks import run
from tests.e2e.harness import (
    MIB,
    REGION,
    Daemon,
    Loops,
    needs_fuse,
    needs_loops,
    needs_program,
    same_bytes,
    tool,
    until,
    write_at,
)
from tests.e2e.nbd import Disk, failing, nbd_disk

pytestmark = [needs_fuse, needs_loops]


def with_ext4(daemon: Daemon, loops: Loops, *plexes: Path, size: str = "16M") -> None:
    """A volume with a file system, that was used, and whose second plex is away."""
    daemon.make("data", size, *plexes, options=("--force", "--wait"))
    use(daemon, loops, "before", "mkfs")
    daemon.json("plex", "det", "data", "data-02")
    use(daemon, loops, "while it was away")


def use(daemon: Daemon, loops: Loops, words: str, *how: str) -> None:
    device = loops.attach(daemon.path("data"))
    if how:
        run("mkfs.ext4", "-q", "-F", device)
    where = loops.mount(device)
    (where / "file").write_text(words)
    loops.umount(where)
    loops.detach(device)


@pytest.mark.parametrize("options", [("-o", "rw"), ("-o", "ro,noload")], ids=["written", "looked at"])
def test_a_device_plex_that_was_mounted_while_it_was_away(
    daemon: Daemon, loops: Loops, options: tuple[str, ...]
) -> None:
    """A stick that was taken along: to mount it so that it may be written is enough."""
    disks = [Path(loops.disk(name, 32 * MIB)) for name in ("one", "two")]
    with_ext4(daemon, loops, *disks)
    where = loops.mount(str(disks[1]), *options)
    assert (where / "file").read_text() == "before"
    loops.umount(where)
    dry = daemon.json("plex", "att", "data", "data-02", "--dry-run")["decision"]["reason"]
    task = daemon.attach("data", "data-02")
    if "rw" in options:
        assert dry["code"] == task["reason"]["code"] == "full_backing_changed"
        assert "written elsewhere" in task["reason"]["message"] and "written elsewhere" in daemon.log()
    else:
        assert dry["code"] == task["reason"]["code"] == "fast" and task["total_regions"] < 60
    daemon.json("stop", "data")
    assert same_bytes(*disks, length=16 * MIB)


def test_a_device_plex_that_was_mounted_while_all_was_stopped(daemon: Daemon, loops: Loops) -> None:
    disks = [Path(loops.disk(name, 32 * MIB)) for name in ("one", "two")]
    daemon.make("data", "16M", *disks, options=("--force", "--wait"))
    use(daemon, loops, "before", "mkfs")
    daemon.stop()
    where = loops.mount(str(disks[0]))
    (where / "file").write_text("written to one side of a mirror")
    loops.umount(where)
    daemon.start()
    until(lambda: daemon.states("data") == ["ACTIVE", "ACTIVE"], "it is copied anew")
    assert "plex data-01 was changed while the volume was stopped" in daemon.log()
    use(daemon, loops, "after")
    daemon.json("stop", "data")
    assert same_bytes(*disks, length=16 * MIB)


def test_plexes_on_devices_that_became_longer(daemon: Daemon, loops: Loops, tmp_path: Path) -> None:
    """Logical volumes that were extended; one of them was copied to a larger disk instead. They have names of their
    own, as below /dev/disk/by-id: a loop device's number is anybody's once it is free.
    """
    disks = [tmp_path / name for name in ("by-id-one", "by-id-two")]
    for disk, name in zip(disks, ("one", "two"), strict=True):
        disk.symlink_to(loops.disk(name, 32 * MIB))
    daemon.make("data", "16M", *disks, options=("--force", "--wait"))
    write_at(daemon.path("data"), 3 * REGION, b"before")
    daemon.stop()
    os.truncate(loops.base / "one", 40 * MIB)
    tool("losetup", "--set-capacity", disks[0])
    loops.detach(str(disks[1].readlink()))
    larger = loops.base / "two"
    os.truncate(larger, 64 * MIB)
    with larger.open("r+b") as file:
        file.seek(48 * MIB)
        file.write(os.urandom(MIB))
    disks[1].unlink()
    disks[1].symlink_to(loops.attach(larger))
    daemon.start()
    assert daemon.states("data") == ["ACTIVE", "ACTIVE"]
    assert daemon.json("task", "list", "--all")["tasks"] == []
    write_at(daemon.path("data"), 4 * REGION, b"after")
    daemon.stop()
    assert same_bytes(*disks, length=16 * MIB)
    for disk in disks:
        assert daemon.json("dump", disk)["dco"]["volumes"][0]["name"] == "data"


FILE_SYSTEMS = pytest.mark.parametrize(
    "make", [("mkfs.ext4", "-q", "-F"), ("mkfs.xfs", "-q", "-f")], ids=lambda words: words[0]
)


def pull(disk: Disk, loops: Loops, mounted: Path, device: str) -> None:
    """Without unmounting it first; then it is put back, and mounted again."""
    disk.fail("pwrite")
    disk.fail("pread")
    loops.lose(mounted, device)
    disk.heal("pwrite")
    disk.heal("pread")
    loops.mount_at(loops.attach(disk.path), mounted)


@needs_program("nbdkit", "nbdfuse", "fusermount3", "mkfs.xfs")
@FILE_SYSTEMS
def test_a_file_whose_disk_died_while_it_was_written(
    daemon: Daemon, loops: Loops, tmp_path: Path, make: tuple[str, ...]
) -> None:
    """Its file system comes back with an earlier time of change than the file had; it copies what it missed."""
    where, sound = tmp_path / "nbd", tmp_path / "sound"
    with nbd_disk(where, *failing(where, "pread", "pwrite"), size=320 * MIB) as disk:
        device = loops.attach(disk.path)
        run(*make, device)
        mounted = loops.mount(device)
        daemon.make("data", "48M", sound, mounted / "plex")
        for region in range(0, 700, 7):
            write_at(daemon.path("data"), region * REGION, b"before")
        daemon.restart()
        write_at(daemon.path("data"), 3 * REGION, b"it was in use")
        disk.fail("pwrite")
        disk.fail("pread")
        write_at(daemon.path("data"), 4 * REGION, b"into an extent that is marked already")
        died = os.stat(mounted / "plex").st_mtime_ns
        until(lambda: daemon.states("data") == ["ACTIVE", "IOFAIL"], "its disk is gone")
        until(lambda: daemon.ctl("plex", "att", "data", "data-02").status != 0, "it is let go of")
        pull(disk, loops, mounted, device)
        assert os.stat(mounted / "plex").st_mtime_ns < died, "the last times never reached the disk"
        task = daemon.attach("data", "data-02", "--settled")  # it lies on FUSE, in the end
        assert task["reason"]["code"] == "fast" and task["total_bytes"] < 16 * MIB
        daemon.json("stop", "data")
        assert same_bytes(sound, mounted / "plex")
        daemon.stop()
        loops.umount(mounted)


@needs_program("nbdkit", "nbdfuse", "fusermount3", "mkfs.xfs")
@FILE_SYSTEMS
def test_a_file_whose_disk_is_pulled_after_it_was_detached(
    daemon: Daemon, loops: Loops, tmp_path: Path, make: tuple[str, ...]
) -> None:
    """Its file system is not unmounted; that its time of change is on the disk is fmrd's doing."""
    where, sound = tmp_path / "nbd", tmp_path / "sound"
    with nbd_disk(where, *failing(where, "pread", "pwrite"), size=320 * MIB) as disk:
        device = loops.attach(disk.path)
        run(*make, device)
        mounted = loops.mount(device)
        daemon.make("data", "48M", sound, mounted / "plex")
        write_at(daemon.path("data"), 3 * REGION, b"before")
        tool("sync", "-f", mounted)
        write_at(daemon.path("data"), 3 * REGION, b"later", sync=False)
        daemon.json("plex", "det", "data", "data-02")
        write_at(daemon.path("data"), 5 * REGION, b"while it was away")
        pull(disk, loops, mounted, device)
        task = daemon.attach("data", "data-02")
        assert (task["reason"]["code"], task["total_regions"]) == ("fast", 1)
        daemon.json("stop", "data")
        assert same_bytes(sound, mounted / "plex")
        daemon.stop()
        loops.umount(mounted)
