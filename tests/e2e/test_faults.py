"""Disks that fail, by other people's tools: a plex lies on nbdfuse over nbdkit, whose filters fail on order."""

import os
from itertools import count
from pathlib import Path

import pytest

from tests.e2e.harness import (
    MIB,
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
from tests.e2e.labels import BLOCK, Labelled, generations, label, must_hold
from tests.e2e.nbd import failing, nbd_disk

pytestmark = [needs_fuse, needs_program("nbdkit", "nbdfuse", "fusermount3")]
REGION = 64 << 10


def put(daemon: Daemon, region: int, text: bytes) -> None:
    write_at(daemon.path("data"), region * REGION, text)


def forget(path: Path) -> None:
    """Reads of it ask the disk again."""
    with path.open("r+b") as file:
        os.fdatasync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.mark.parametrize("plexes", [2, 3])
def test_writes_that_fail_detach_the_plex_and_only_what_it_missed_is_copied(
    daemon: Daemon, tmp_path: Path, plexes: int
) -> None:
    where = tmp_path / "nbd"
    sound = [tmp_path / f"sound{number}" for number in range(plexes - 1)]
    with nbd_disk(where, *failing(where, "pwrite")) as disk:
        daemon.make("data", "16M", f"{disk.path},dco={tmp_path / 'dco'}", *sound, options=("--force", "--wait"))
        assert daemon.states("data") == ["ACTIVE"] * plexes, "--wait waits for every copy"
        put(daemon, 3, b"before")
        disk.fail("pwrite")
        put(daemon, 3, b"while it fails")
        assert daemon.states("data") == ["IOFAIL", *["ACTIVE"] * (plexes - 1)]
        assert read_at(daemon.path("data"), 3 * REGION, 14) == b"while it fails"
        disk.heal("pwrite")
        refused = daemon.ctl("plex", "att", "data", "data-01")  # FUSE does not say whether the write is over
        assert (refused.status, refused.code) == (3, "session_open")
        task = daemon.attach("data", "data-01", "--settled")
        assert daemon.states("data") == ["ACTIVE"] * plexes
        assert task["reason"]["code"] == "fast" and task["total_bytes"] < 16 * MIB
        daemon.json("stop", "data")
        assert same_bytes(disk.path, *sound)
        daemon.stop()


def test_reads_that_fail_are_served_by_the_other_plex_and_written_back(daemon: Daemon, tmp_path: Path) -> None:
    where, sound = tmp_path / "nbd", tmp_path / "sound"
    with nbd_disk(where, *failing(where, "pread")) as disk:
        daemon.make("data", "16M", f"{disk.path},dco={tmp_path / 'dco'}", sound, options=("--force", "--wait"))
        daemon.json("set", "data", "rdpol=prefer:data-01")
        forget(disk.path)
        disk.fail("pread")
        assert read_at(daemon.path("data"), 3 * REGION, 16) == bytes(16)
        assert daemon.plex("data", "data-01")["errors"] >= 1
        assert daemon.states("data") == ["ACTIVE", "ACTIVE"]
        disk.heal("pread")
        assert daemon.json("verify", "data")["mismatches"] == []
        daemon.stop()


def test_the_last_copy_tells_its_error_and_stays(daemon: Daemon, tmp_path: Path) -> None:
    where, other = tmp_path / "nbd", tmp_path / "other"
    with nbd_disk(where, *failing(where, "pwrite")) as disk:
        daemon.make("data", "16M", f"{disk.path},dco={tmp_path / 'dco'}", other, options=("--force", "--wait"))
        daemon.json("plex", "det", "data", "data-02")
        disk.fail("pwrite")
        with pytest.raises(OSError, match="Input/output error"):
            put(daemon, 3, b"lost")
        assert daemon.states("data") == ["ACTIVE", "STALE"]
        disk.heal("pwrite")
        put(daemon, 4, b"kept")
        with pytest.raises(OSError, match="Input/output error"):
            put(daemon, 3, b"the other one may land yet")
        daemon.json("plex", "att", "data", "data-01", "--settled")
        put(daemon, 3, b"kept")
        daemon.attach("data", "data-02")
        daemon.json("stop", "data")
        assert same_bytes(disk.path, other)
        daemon.stop()


def test_a_slow_disk_is_waited_for_and_loses_nothing(daemon: Daemon, tmp_path: Path) -> None:
    where, sound = tmp_path / "nbd", tmp_path / "sound"
    slow = ("--filter=delay", "file", str(where / "disk.raw"), "delay-write=200ms")
    with nbd_disk(where, *slow) as disk:
        daemon.make("data", "16M", f"{disk.path},dco={tmp_path / 'dco'}", sound, options=("--force", "--wait"))
        put(daemon, 3, b"slowly")
        assert daemon.states("data") == ["ACTIVE", "ACTIVE"]
        daemon.json("stop", "data")
        assert same_bytes(disk.path, sound)
        daemon.stop()


@needs_program("mount", "umount")
def test_a_plex_whose_file_system_is_full_comes_back_when_there_is_room(daemon: Daemon, tmp_path: Path) -> None:
    small, sound = tmp_path / "small", tmp_path / "sound"
    small.mkdir()
    tool("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small)
    try:
        daemon.make("data", "16M", f"{small / 'disk'},dco={tmp_path / 'dco'}", sound)
        content = os.urandom(8 * MIB)
        write_at(daemon.path("data"), 0, content)
        assert daemon.plex("data", "data-01")["state"] in ("IOFAIL", "TEMP")
        assert daemon.plex("data", "data-02")["state"] == "ACTIVE"
        assert read_at(daemon.path("data"), 0, len(content)) == content
        tool("mount", "-o", "remount,size=32m", small)
        until(lambda: daemon.states("data") == ["ACTIVE", "ACTIVE"], "it is attached again by itself", 60)
        daemon.json("stop", "data")
        assert same_bytes(small / "disk", sound)
        daemon.stop()
    finally:
        daemon.clean_up()
        tool("umount", small)


def test_a_disk_that_answers_after_minutes_holds_nobody_up_and_comes_back(daemon: Daemon, tmp_path: Path) -> None:
    """Until its last call has returned it is not attached: a write that lands late would overwrite newer bytes."""
    where, sound = tmp_path / "nbd", tmp_path / "sound"
    slow = ("--filter=delay", "file", str(where / "disk.raw"), "delay-write=600")
    with nbd_disk(where, *slow) as disk:
        daemon.make("data", "16M", f"{disk.path},dco={tmp_path / 'dco'}", sound, options=("--force", "--wait"))
        daemon.json("set", "data", "io_timeout=1")
        put(daemon, 3, b"after minutes")
        assert daemon.states("data") == ["IOFAIL", "ACTIVE"]
        put(daemon, 4, b"at once")
        assert daemon.ctl("plex", "att", "data", "data-01").code in ("plex_busy", "plex_hung")
    (where / "mount").rmdir()
    (where / "mount").symlink_to(tmp_path / "mended" / "mount")
    with nbd_disk(tmp_path / "mended", "file", str(where / "disk.raw")) as disk:  # what it was asked before has failed
        until(lambda: daemon.ctl("plex", "att", "data", "data-01").code == "session_open", "its calls have returned")
        assert daemon.attach("data", "data-01", "--settled")["state"] == "done"
        daemon.json("stop", "data")
        assert same_bytes(disk.path, sound)
        daemon.stop()


@needs_loops
@needs_program("losetup")
def test_a_device_that_vanishes_under_load_and_returns(daemon: Daemon, loops: Loops, tmp_path: Path) -> None:
    where, sound = tmp_path / "nbd", tmp_path / "sound"
    writer = Labelled(daemon.path("data"), [0] * (16 * MIB // BLOCK), count(1), seed=1, punches=False)
    try:
        with nbd_disk(where, "file", str(where / "disk.raw")) as disk:
            device, name = loops.attach(disk.path), tmp_path / "by-id"  # its number is anybody's once it is free
            name.symlink_to(device)
            daemon.make("data", "16M", sound)
            daemon.json("plex", "add", "data", f"{name},dco={tmp_path / 'dco'}", "--wait")
            writer.go()
            until(lambda: writer.written > 20, "it is written to")
            loops.pull(device)  # in use: it stays until fmrd lets go of it
            before = writer.written
            until(lambda: writer.written > before + 20, "it is written to")
            assert daemon.states("data") == ["ACTIVE", "ACTIVE"]
            disk.vanish()
            put(daemon, 3, b"and flushed")  # a device's cache takes writes that its disk will not
            assert daemon.states("data") == ["ACTIVE", "IOFAIL"]
            until(lambda: not loop_file(device).exists(), "fmrd has let go of the device")
        with nbd_disk(tmp_path / "mended", "file", str(where / "disk.raw")) as disk:
            device = loops.attach(disk.path)
            name.unlink()
            name.symlink_to(device)
            until(lambda: daemon.ctl("plex", "att", "data", "data-02").code == "session_open", "it is there again")
            assert daemon.attach("data", "data-02", "--settled")["state"] == "done"
            writer.rest()
            write_at(daemon.path("data"), 3 * REGION, label(48, writer.held[48]))
            daemon.json("stop", "data")
            for plex in (sound, name):
                must_hold(writer.held, generations(plex, len(writer.held)), str(plex))
            loops.detach(device)
            daemon.stop()
    finally:
        writer.stop()


def loop_file(device: str) -> Path:
    """There while the device has a file."""
    return Path("/sys/block") / Path(device).name / "loop" / "backing_file"
