"""A daemon that may die: under its keeper the mount, open files, loop devices and their file systems live on."""

import contextlib
import mmap
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import (
    MIB,
    READY,
    REGION,
    Daemon,
    Loops,
    needs_fuse,
    needs_loops,
    needs_program,
    open_file,
    read_at,
    same_bytes,
    tool,
    until,
    write_at,
)
from tests.e2e.killing import Killing

pytestmark = needs_fuse


@pytest.fixture
def door() -> str:
    """The one whose mount can be kept."""
    return "channel"


@pytest.fixture
def stopped_daemon(tmp_path: Path, door: str) -> Iterator[Daemon]:
    made = Daemon(tmp_path, door, keeper=True)
    yield made
    made.clean_up()
    assert "Traceback" not in made.log() and (made.may_log_errors or " ERROR " not in made.log()), made.log()


@pytest.fixture
def data(daemon: Daemon) -> Path:
    daemon.make("data", "64M", daemon.base / "a", daemon.base / "b")
    return daemon.path("data")


GONE = r"not connected|aborted|Input/output"


@contextlib.contextmanager
def open_until_the_end(path: Path, flags: int = 0) -> Iterator[int]:
    """A file whose mount goes meanwhile: its close has an error to tell, and may."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags)
    try:
        yield descriptor
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGTERM])
def test_open_files_outlive_the_daemon(daemon: Daemon, data: Path, number: signal.Signals) -> None:
    with open_file(data, os.O_RDWR) as file:
        for turn in range(3):
            os.pwrite(file, bytes([65 + turn]) * 4096, turn * MIB)
            daemon.kill_serving(number)
            assert os.pread(file, 4, turn * MIB) == bytes([65 + turn]) * 4
            os.pwrite(file, b"after", turn * MIB)
            os.fsync(file)
        assert daemon.volume("data")["open_count"] == 1
    until(lambda: daemon.volume("data")["open_count"] == 0, "its release is heard")
    daemon.in_sync("data")
    assert same_bytes(data, daemon.base / "a", daemon.base / "b")


def test_who_asks_while_there_is_no_daemon_waits(daemon: Daemon, data: Path) -> None:
    """The serving process stands still, so that it is killed before it reads the request."""
    with open_until_the_end(data, os.O_DIRECT) as file:
        stopped = daemon.serving()
        os.kill(stopped, signal.SIGSTOP)
        writing = Writing(file, b"w" * 4096, 8 * MIB)
        os.kill(stopped, signal.SIGKILL)
        assert writing.result() == 4096
    assert read_at(data, 8 * MIB, 4) == b"wwww"


@needs_loops
@needs_program("mkfs.ext4", "fsfreeze")
def test_a_request_that_the_daemon_had_read_is_sent_again(daemon: Daemon, loops: Loops) -> None:
    """A plex lies on a file system that is frozen: the write that is to go there is under way when its daemon dies."""
    device = loops.disk("disk", 64 * MIB)
    tool("mkfs.ext4", "-q", device)
    disk = loops.mount(device)
    daemon.make("data", "16M", daemon.base / "a", disk / "b")
    write_at(daemon.path("data"), 0, b"marked")
    with open_until_the_end(daemon.path("data"), os.O_DIRECT) as file:
        serving = daemon.serving()
        ready = daemon.log().count(READY)
        tool("fsfreeze", "--freeze", disk)
        try:
            writing = Writing(file, b"w" * 4096, MIB)
            until(lambda: stuck(serving), "the write waits for the disk")
            os.kill(serving, signal.SIGKILL)
        finally:
            tool("fsfreeze", "--unfreeze", disk)
        assert writing.result() == 4096
        until(lambda: daemon.log().count(READY) > ready, "another fmrd is ready")
    assert read_at(daemon.path("data"), MIB, 4) == b"wwww"
    daemon.in_sync("data")
    daemon.json("stop", "data")
    assert same_bytes(daemon.base / "a", disk / "b")


def stuck(process: int) -> bool:
    """Does one of its threads wait for a disk?"""
    states = [task.joinpath("stat").read_text() for task in Path(f"/proc/{process}/task").iterdir()]
    return any(state.rpartition(")")[2].split()[0] == "D" for state in states)


class Writing:
    """A write in a thread of its own, from aligned memory as O_DIRECT asks for. It may never end."""

    def __init__(self, file: int, data: bytes, offset: int) -> None:
        self._done: list[int] = []
        memory = mmap.mmap(-1, len(data))
        memory[:] = data
        self._thread = threading.Thread(
            target=lambda: self._done.append(os.pwritev(file, [memory], offset)), daemon=True
        )
        self._thread.start()

    def result(self) -> int:
        self._thread.join(30)
        assert self._done, "the write has not ended"
        return self._done[0]


def test_what_a_plex_missed_is_known_to_the_next_daemon(daemon: Daemon, data: Path) -> None:
    daemon.json("set", "data", "auto_attach=off")
    daemon.json("plex", "det", "data", "data-02")
    with open_file(data, os.O_RDWR) as file:
        os.pwrite(file, b"missed", 200 * REGION)
        daemon.kill_serving()
        os.pwrite(file, b"missed", 900 * REGION)
    task = daemon.attach("data", "data-02")
    assert task["reason"]["code"] == "fast"
    assert same_bytes(data, daemon.base / "a", daemon.base / "b")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_keeper_that_is_told_to_end_unmounts(daemon: Daemon, data: Path, number: signal.Signals) -> None:
    serving = daemon.serving()
    with open_until_the_end(data) as file:
        os.pwrite(file, b"kept", 0)
        assert daemon.stop(number) == 0
        assert not Path(f"/proc/{serving}").exists()
        with pytest.raises(OSError, match=GONE):
            os.pread(file, 4096, MIB)
    assert os.listdir(daemon.mount) == []
    daemon.start()
    assert read_at(data, 0, 4) == b"kept"
    assert daemon.json("task", "list", "--all")["tasks"] == []


class OnATerminal(Daemon):
    """The first of a process group, as a shell starts it."""

    def command(self, *options: str) -> list[str]:
        return ["setsid", *super().command(*options)]


def test_ctrl_c_ends_keeper_and_daemon_in_order(tmp_path: Path) -> None:
    """A terminal sends it to the whole group. Heard twice it would be an end at once."""
    daemon = OnATerminal(tmp_path, keeper=True)
    try:
        daemon.start()
        daemon.make("data", "64M", daemon.base / "a", daemon.base / "b")
        with open_until_the_end(daemon.path("data")) as file:
            os.pwrite(file, b"kept", 0)
            assert daemon.process is not None
            os.killpg(daemon.process.pid, signal.SIGHUP)
            assert daemon.volume("data")["open_count"] == 1
            serving = daemon.serving()
            os.killpg(daemon.process.pid, signal.SIGINT)
            assert daemon.process.wait(timeout=30) == 0
        daemon.process = None
        assert "leaving at once" not in daemon.log() and "SIGINT: stopping in order" in daemon.log()
        assert not Path(f"/proc/{serving}").exists()
        assert daemon.json("dump", daemon.base / "a.dco")["dco"]["settled"]
    finally:
        daemon.clean_up()


def test_a_restart_with_no_file_open_mounts_anew(daemon: Daemon, data: Path) -> None:
    """SIGTERM to the serving process: unmounted in order, so the keeper has nothing to keep, and ends with it."""
    os.kill(daemon.serving(), signal.SIGTERM)
    assert daemon._reap() == 0
    assert os.listdir(daemon.mount) == []


def test_a_restart_under_open_files_leaves_nothing_to_recover(daemon: Daemon, data: Path) -> None:
    with open_file(data, os.O_RDWR) as file:
        os.pwrite(file, b"x" * MIB, 0)
        daemon.kill_serving(signal.SIGTERM)
        assert daemon.json("task", "list", "--all")["tasks"] == []
        assert os.pread(file, 4, 0) == b"xxxx"


def test_a_mount_that_somebody_took_away_is_made_anew(daemon: Daemon, data: Path) -> None:
    daemon.may_log_errors = True
    write_at(data, 0, b"kept")
    old = daemon.serving()
    assert daemon.umount()
    until(lambda: daemon.serving() not in (0, old), "the keeper has started another one")
    until(data.exists, "the volume is there again")
    assert read_at(data, 0, 4) == b"kept"


def test_a_mount_that_was_taken_away_while_no_daemon_lived_is_made_anew(daemon: Daemon, data: Path) -> None:
    with open_until_the_end(data) as file:
        os.pwrite(file, b"kept", 0)
        old = daemon.serving()
        os.kill(old, signal.SIGSTOP)
        assert daemon.umount()
        daemon.kill_serving()
        until(data.exists, "the volume is there again")
        assert read_at(data, 0, 4) == b"kept"
        with pytest.raises(OSError, match=GONE):
            os.pread(file, 4096, MIB)


def test_a_mount_under_a_symbolic_link_is_taken_over(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    daemon.stop()
    daemon.mount = tmp_path / "link" / "volumes"
    daemon.start()
    daemon.make("data", "16M", daemon.base / "a", daemon.base / "b")
    with open_file(daemon.path("data"), os.O_RDWR) as file:
        os.pwrite(file, b"kept", 0)
        daemon.kill_serving()
        assert os.pread(file, 4, 0) == b"kept"


def test_a_daemon_outlives_its_keeper(daemon: Daemon, data: Path) -> None:
    """What it is told to end then ends in order."""
    orphan = daemon.serving()
    with open_until_the_end(data) as file:
        os.pwrite(file, b"before", 0)
        daemon.kill()
        try:
            assert os.pread(file, 6, 0) == b"before"
            os.pwrite(file, b"during", 0)
            os.kill(orphan, signal.SIGTERM)
            until(lambda: not Path(f"/proc/{orphan}").exists(), "it has ended")
        finally:
            daemon.kill_orphan(orphan)
    assert os.listdir(daemon.mount) == []
    daemon.start()
    assert read_at(data, 0, 6) == b"during"


def test_a_daemon_that_cannot_start_takes_its_keeper_with_it(stopped_daemon: Daemon) -> None:
    stopped_daemon.may_log_errors = True
    stopped_daemon.mount.parent.joinpath("state").write_text("no directory")
    stopped_daemon.start(wait=False)
    assert stopped_daemon._reap() == 1
    assert "cannot be used" in stopped_daemon.log()


@needs_loops
@needs_program("mkfs.ext4", "mkfs.xfs", "e2fsck", "xfs_repair")
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_file_system_on_a_loop_device_lives_on(daemon: Daemon, loops: Loops, kind: str) -> None:
    daemon.make("data", "400M", daemon.base / "a", daemon.base / "b")
    device = loops.attach(daemon.path("data"))
    tool(f"mkfs.{kind}", "-q", device)
    where = loops.mount(device)
    content = os.urandom(8 * MIB)
    for turn in range(3):
        (where / f"file-{turn}").write_bytes(content)
        daemon.kill_serving()
        tool("sync", "-f", where)
    assert all((where / f"file-{turn}").read_bytes() == content for turn in range(3))
    loops.umount(where)
    tool(*{"ext4": ("e2fsck", "-fn"), "xfs": ("xfs_repair", "-n")}[kind], device)
    loops.detach(device)
    daemon.in_sync("data")
    daemon.json("stop", "data")
    assert same_bytes(daemon.base / "a", daemon.base / "b")


@needs_loops
@needs_program("fio", "mkfs.ext4", "e2fsck", "cmp")
def test_fio_sees_no_error_while_the_daemon_is_killed_again_and_again(daemon: Daemon, loops: Loops) -> None:
    killing = Killing(daemon, loops, size_mib=256, file_mib=16)
    try:
        killing.start()
        for _ in range(4):
            killing.det()
            killing.kill()
            killing.att()
            killing.kill()
        killing.finish()
    finally:
        killing.clean_up()
    assert killing.counts == {"det": 4, "kills": 8, "att": 4}
