"""A disk that hangs when fmrd ends: its process is left behind, asleep in a call, and the next fmrd serves the rest."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fmrd.backing.owning.under_way import has_ended
from tests.e2e.harness import (
    MIB,
    REGION,
    Daemon,
    Loops,
    needs_fuse,
    needs_loops,
    needs_program,
    open_file,
    read_at,
    same_bytes,
    until,
    write_at,
)
from tests.e2e.nbd import Disk, nbd_disk

pytestmark = [needs_fuse, needs_program("nbdfuse", "nbdkit")]

LOOKS = 2000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    where = tmp_path / "nbd"
    with nbd_disk(where, "file", str(where / "disk.raw")) as made:
        yield made


def two_volumes(daemon: Daemon, disk: Disk, tmp_path: Path) -> None:
    daemon.make(
        "data", "16M", f"{disk.path},dco={tmp_path / 'a.dco'}", tmp_path / "b.img", options=("--force", "--wait")
    )
    daemon.make("other", "4M", tmp_path / "other.img")
    daemon.json("set", "data", "io_timeout=2")


def write_in_background(path: Path, offset: int, data: bytes) -> subprocess.Popen[bytes]:
    """By a process of its own: a file of ours, open on a mount that does not answer, would hold up our children."""
    words = f"import os; f = os.open({str(path)!r}, os.O_RDWR); os.pwrite(f, {data!r}, {offset}); os.fsync(f)"
    return subprocess.Popen([sys.executable, "-c", words], stderr=subprocess.DEVNULL)


def state_of(task: Path) -> str:
    with contextlib.suppress(OSError):
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    return ""


def threads_that_hang(process: int) -> int:
    return sum(state_of(task) == "D" for task in Path(f"/proc/{process}/task").iterdir())


def waits_for_the_disk(process: int) -> bool:
    """A thread of it asked FUSE, and waits for the answer: until a signal comes that is no uninterruptible sleep. For
    many looks: nbdfuse has read the request by then, and a kill does not take it back.
    """

    def waiting() -> set[str]:
        tasks = list(Path(f"/proc/{process}/task").iterdir())
        return {task.name for task in tasks if "request_wait" in (task / "wchan").read_text() or state_of(task) == "D"}

    same = waiting()
    for _ in range(LOOKS):
        same = same and same & waiting()
    return bool(same)


def is_left_behind(process: int) -> bool:
    return has_ended(process) and threads_that_hang(process) > 0


def is_free(device: str) -> bool:
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
    except OSError:
        return False
    return True


def leave_behind(daemon: Daemon) -> int:
    """It was killed, or has stopped, and does not end."""
    assert daemon.process is not None
    process, daemon.process = daemon.process.pid, None
    until(lambda: is_left_behind(process), "only what hangs is left of it")
    return process


def served_without_it(daemon: Daemon) -> None:
    write_at(daemon.path("other"), 0, b"the other volume")
    assert read_at(daemon.path("other"), 0, 16) == b"the other volume"
    write_at(daemon.path("data"), 3 * REGION, b"new" * 1000)
    assert daemon.states("data") in (["STALE", "ACTIVE"], ["IOFAIL", "ACTIVE"])
    assert daemon.ctl("plex", "att", "data", "data-01").code == "plex_hung"
    assert daemon.states("data") in (["STALE", "ACTIVE"], ["IOFAIL", "ACTIVE"])


def returns(daemon: Daemon, disk: Disk, tmp_path: Path) -> None:
    """Nothing that was under way lands on it afterwards. It lies behind somebody else (FUSE), who proves nothing of
    what the fmrd before had asked for: somebody says that it is over, which counts for nothing while it hangs.
    """
    assert daemon.ctl("plex", "att", "data", "data-01", "--settled").code == "plex_hung"
    disk.go_on()
    until(lambda: daemon.ctl("plex", "att", "data", "data-01", "--settled").status == 0, "it answers", 60)
    until(lambda: daemon.states("data") == ["ACTIVE", "ACTIVE"], "it returns", 60)
    daemon.in_sync("data")
    assert read_at(daemon.path("data"), 3 * REGION, 3000) == b"new" * 1000
    daemon.stop()
    assert same_bytes(tmp_path / "b.img", disk.path)


@pytest.mark.parametrize("known", [False, True], ids=["at once", "after io_timeout"])
def test_a_daemon_that_is_killed_while_a_disk_hangs(
    stopped_daemon: Daemon, disk: Disk, tmp_path: Path, known: bool
) -> None:
    daemon = stopped_daemon
    daemon.start()
    two_volumes(daemon, disk, tmp_path)
    disk.hang()
    assert daemon.process is not None
    process = daemon.process
    writing = write_in_background(daemon.path("data"), 3 * REGION, b"old" * 1000)
    until(lambda: waits_for_the_disk(process.pid), "a call hangs")
    if known:
        until(lambda: daemon.states("data") == ["IOFAIL", "ACTIVE"], "the plex is out")
    process.send_signal(signal.SIGKILL)
    leave_behind(daemon)
    daemon.start()
    assert f"process {process.pid} was fmrd" in daemon.log()
    served_without_it(daemon)
    assert is_left_behind(process.pid)
    returns(daemon, disk, tmp_path)
    process.wait(20)
    writing.wait(20)


def test_a_daemon_that_is_stopped_while_a_disk_hangs(stopped_daemon: Daemon, disk: Disk, tmp_path: Path) -> None:
    daemon = stopped_daemon
    daemon.start()
    two_volumes(daemon, disk, tmp_path)
    disk.hang()
    assert daemon.process is not None
    process = daemon.process
    write_at(daemon.path("data"), 3 * REGION, b"old" * 1000)
    process.send_signal(signal.SIGTERM)
    leave_behind(daemon)
    daemon.start()
    served_without_it(daemon)
    assert is_left_behind(process.pid)
    returns(daemon, disk, tmp_path)
    process.wait(20)


@needs_loops
@pytest.mark.parametrize("door", ["channel"], indirect=True)
def test_a_device_that_hangs_is_free_for_the_next_one_but_for_what_may_land(
    stopped_daemon: Daemon, loops: Loops, tmp_path: Path
) -> None:
    """O_EXCL goes with the lock; what hangs is a mark in the DCO at its tail."""
    daemon = stopped_daemon
    where = tmp_path / "nbd"
    with nbd_disk(where, "file", str(where / "disk.raw"), size=20 * MIB) as disk:
        try:
            device = loops.attach(disk.path)
            daemon.start()
            daemon.make("data", "16M", device, tmp_path / "b.img", options=("--force", "--wait"))
            daemon.make("other", "4M", tmp_path / "other.img")
            daemon.json("set", "data", "io_timeout=2")
            disk.hang()
            assert daemon.process is not None
            process = daemon.process
            writing = write_in_background(daemon.path("data"), 3 * REGION, b"old" * 1000)
            until(lambda: waits_for_the_disk(process.pid), "a call hangs")
            process.send_signal(signal.SIGKILL)
            leave_behind(daemon)
            until(lambda: is_free(device), "its lock is gone")
            daemon.start()
            served_without_it(daemon)
            assert is_left_behind(process.pid)
            disk.go_on()
            process.wait(20)
            writing.wait(20)
            until(lambda: daemon.ctl("plex", "att", "data", "data-01", "--settled").status == 0, "it answers", 60)
            until(lambda: daemon.states("data") == ["ACTIVE", "ACTIVE"], "it returns", 60)
            daemon.in_sync("data")
            daemon.stop()
            assert same_bytes(tmp_path / "b.img", Path(device))
        finally:
            disk.go_on()
            loops.clean_up()


@pytest.mark.parametrize("door", ["channel"], indirect=True)
def test_the_keeper_starts_the_next_one_beside_what_is_left_behind(tmp_path: Path, disk: Disk, door: str) -> None:
    """Killed, then told to restart: files that are open stay open, and their requests are answered by the next one."""
    daemon = Daemon(tmp_path, door, keeper=True)
    try:
        daemon.start()
        two_volumes(daemon, disk, tmp_path)
        disk.hang()
        first = daemon.serving()
        writing = write_in_background(daemon.path("data"), 3 * REGION, b"old" * 1000)
        until(lambda: waits_for_the_disk(first), "a call hangs")
        daemon.kill_serving()
        assert writing.wait(20) == 0
        assert is_left_behind(first)
        served_without_it(daemon)
        with open_file(daemon.path("other"), os.O_RDONLY):
            daemon.kill_serving(signal.SIGTERM)
        served_without_it(daemon)
        returns(daemon, disk, tmp_path)
    finally:
        disk.go_on()
        daemon.clean_up()
