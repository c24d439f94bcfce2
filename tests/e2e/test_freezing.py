"""Snapshots of mounted file systems: frozen around the instant, clean beside their original, damaged and restored."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.e2e.harness import MIB, Daemon, Loops, needs_fuse, needs_loops, needs_program, tool, until

pytestmark = [needs_fuse, needs_loops, needs_program("mkfs.ext4", "e2fsck", "fsfreeze")]


@pytest.fixture
def mounted(daemon: Daemon, loops: Loops, tmp_path: Path) -> Path:
    """A volume with ext4, mounted; a SNAPDONE plex waits."""
    daemon.make("data", 64 * MIB, tmp_path / "a.img", tmp_path / "b.img")
    device = loops.attach(daemon.path("data"))
    tool("mkfs.ext4", "-q", device)
    where = loops.mount(device)
    (where / "file").write_text("before")
    daemon.json("snapstart", "data", tmp_path / "s.img", "--wait")
    return where


def test_with_freeze_the_snapshot_is_a_clean_file_system(daemon: Daemon, loops: Loops, mounted: Path) -> None:
    daemon.json("snapshot", "data", "--freeze", mounted)
    (mounted / "file").write_text("after")  # thawed
    device = loops.attach(daemon.path("SNAP-data"))
    tool("e2fsck", "-fn", device)
    beside = loops.mount(device)
    assert (beside / "file").read_text() == "before"
    (beside / "new").write_text("written to the snapshot")
    assert not (mounted / "new").exists()


def test_a_damaged_file_system_comes_back_from_its_snapshot(
    daemon: Daemon, loops: Loops, mounted: Path, tmp_path: Path
) -> None:
    daemon.json("snapshot", "data", "--freeze", mounted)
    for number in range(20):
        (mounted / str(number)).write_bytes(os.urandom(100_000))
    (mounted / "file").unlink()
    os.sync()
    device = tool("findmnt", "-n", "-o", "SOURCE", mounted).strip()
    loops.umount(mounted)
    with open(device, "r+b") as disk:
        disk.write(bytes(4 * MIB))  # it is really gone
    loops.detach(device)
    until(lambda: daemon.volume("data")["open_count"] == 0, "the volume is closed")
    tasks = daemon.json("snapback", "SNAP-data", "--from-replica", "--wait")["tasks"]
    assert all(task["copied_bytes"] < 32 * MIB for task in tasks)
    device = loops.attach(daemon.path("data"))
    tool("e2fsck", "-fn", device)
    assert (loops.mount(device) / "file").read_text() == "before"


def test_refresh_freezes_at_the_new_instant(daemon: Daemon, loops: Loops, mounted: Path) -> None:
    daemon.json("snapshot", "data")
    (mounted / "file").write_text("tonight")
    daemon.json("refresh", "SNAP-data", "--freeze", mounted, "--wait")
    device = loops.attach(daemon.path("SNAP-data"))
    tool("e2fsck", "-fn", device)
    assert (loops.mount(device, "-o", "ro") / "file").read_text() == "tonight"


def test_what_cannot_be_frozen_takes_no_snapshot(daemon: Daemon, mounted: Path, tmp_path: Path) -> None:
    answer = daemon.ctl("snapshot", "data", "--freeze", tmp_path)
    assert (answer.status, answer.code) == (1, "freeze_failed") and "not a mount point" in answer.err
    tool("fsfreeze", "--freeze", mounted)
    try:
        assert daemon.ctl("snapshot", "data", "--freeze", mounted).code == "freeze_failed"
    finally:
        tool("fsfreeze", "--unfreeze", mounted)
    assert daemon.states("data")[-1] == "SNAPDONE"
    (mounted / "file").write_text("goes on")


def test_a_file_system_that_a_plex_lies_on_is_not_frozen(
    daemon: Daemon, loops: Loops, mounted: Path, tmp_path: Path
) -> None:
    """Not for a snapshot of any volume, through a loop device too: the held volume would wait for itself."""
    where = loops.mount(_ext4(loops, "disk.img"))
    with open(where / "image", "wb") as image:
        image.truncate(32 * MIB)
    device = loops.attach(where / "image", "--direct-io=off")
    daemon.json("plex", "add", "data", tmp_path / "c.img", "--wait")
    for plex in (where / "d.img", device):
        daemon.make("other", 16 * MIB, plex, "--force")
        answer = daemon.ctl("snapshot", "data", "--freeze", where)
        assert (answer.status, answer.code) == (3, "refused_freeze")
        assert f"plex other-01 of volume other ({plex})" in answer.err
        instant = daemon.ctl("snapshot", "data", "--instant", tmp_path / "i.img", "--freeze", where)
        assert instant.code == "refused_freeze"
        daemon.json("stop", "other")
        daemon.json("remove", "other")
    daemon.json("snapshot", "data", "--freeze", where)  # which nobody needs any more
    (where / "file").write_text("thawed")


def test_the_file_system_of_the_state_directory_is_not_frozen(loops: Loops, tmp_path: Path) -> None:
    where = loops.mount(_ext4(loops, "disk.img"))
    daemon = Daemon(tmp_path)
    daemon.state = where / "state"
    daemon.start()
    try:
        daemon.make("data", 16 * MIB, tmp_path / "a.img")
        daemon.json("snapstart", "data", tmp_path / "s.img", "--wait")
        answer = daemon.ctl("snapshot", "data", "--freeze", where)
        assert (answer.status, answer.code) == (3, "refused_freeze") and "the state directory" in answer.err
        daemon.log_path = where / "log"  # and so where the log is
        daemon.state = tmp_path / "elsewhere"
        daemon.restart()
        answer = daemon.ctl("snapshot", "data", "--freeze", where)
        assert answer.code == "volume_missing"  # nothing is known there
        daemon.make("data", 16 * MIB, tmp_path / "c.img")
        daemon.json("snapstart", "data", tmp_path / "t.img", "--wait")
        answer = daemon.ctl("snapshot", "data", "--freeze", where)
        assert answer.code == "refused_freeze" and "the daemon's log" in answer.err
    finally:
        daemon.clean_up()


def _ext4(loops: Loops, name: str) -> str:
    device = loops.disk(name, 128 * MIB)
    tool("mkfs.ext4", "-q", device)
    return device


def test_a_file_system_is_thawed_when_the_daemon_is_killed_while_it_is_frozen(mounted: Path) -> None:
    """The process that freezes thaws when whoever asked for it is gone."""
    child = subprocess.Popen(
        [sys.executable, "-c", _ASKS, str(mounted)], stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert child.stdout is not None and child.stdout.readline() == b"frozen\n"
    written = threading.Event()

    def write() -> None:
        (mounted / "file").write_text("thawed")
        written.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert not written.wait(0.2), "a write waits while it is frozen"
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    assert written.wait(30)
    writer.join()


_ASKS = """
import sys, time
from fmrd.backing.freezing import Freezer
freezer = Freezer(sys.argv[1])
freezer.freeze()
print("frozen", flush=True)
time.sleep(600)
"""
