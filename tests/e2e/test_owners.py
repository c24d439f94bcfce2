"""One owner for a state directory, a socket, a mount point and a plex; and what a start does without some plexes."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import Daemon, needs_fuse, read_at, same_bytes, tool, until, write_at

pytestmark = needs_fuse


@pytest.fixture
def plexes(tmp_path: Path) -> list[Path]:
    return [tmp_path / "a.img", tmp_path / "b.img"]


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Daemon]:
    """A second daemon in a place of its own, not started."""
    (tmp_path / "other").mkdir()
    made = Daemon(tmp_path / "other")
    yield made
    made.mount = made.base / "volumes"  # the other mount is not ours to clear
    made.clean_up()


def refusal(daemon: Daemon) -> subprocess.CompletedProcess[str]:
    return subprocess.run(daemon.command(), capture_output=True, text=True, timeout=30, check=False)


def test_two_daemons_never_share_a_state_directory(daemon: Daemon, other: Daemon) -> None:
    other.state = daemon.state
    ended = refusal(other)
    assert ended.returncode == 3
    assert "daemon_running" in ended.stderr and str(daemon.state) in ended.stderr
    assert daemon.json("print") == {"output_version": 1, "volumes": [], "tasks": [], "opening": []}


def test_two_daemons_never_share_a_socket(daemon: Daemon, other: Daemon) -> None:
    other.socket = daemon.socket
    ended = refusal(other)
    assert (ended.returncode, "daemon_running" in ended.stderr) == (3, True)
    assert daemon.json("print") == {"output_version": 1, "volumes": [], "tasks": [], "opening": []}


def test_two_daemons_never_share_a_mount_point(daemon: Daemon, other: Daemon) -> None:
    other.mount = daemon.mount
    ended = refusal(other)
    assert (ended.returncode, "mount_failed" in ended.stderr) == (1, True)
    assert daemon.mount.is_mount()


def test_without_its_mount_a_daemon_stops_in_order_and_fails(daemon: Daemon, plexes: list[Path]) -> None:
    daemon.make("data", "16M", *plexes)
    write_at(daemon.path("data"), 0, b"kept")
    daemon.may_log_errors = True
    assert daemon.process is not None
    tool("umount", daemon.mount)
    assert daemon.process.wait(timeout=30) == 1
    assert "mount_failed" in daemon.log()
    assert daemon.json("dump", f"{plexes[0]}.dco")["dco"]["settled"]
    daemon.process = None
    daemon.start()
    assert daemon.json("task", "list", "--all")["tasks"] == []
    assert read_at(daemon.path("data"), 0, 4) == b"kept"


def test_a_socket_path_that_is_a_file_is_left_alone(daemon: Daemon, other: Daemon) -> None:
    other.socket.write_text("precious")
    ended = refusal(other)
    assert (ended.returncode, "socket_failed" in ended.stderr) == (1, True)
    assert other.socket.read_text() == "precious"


def test_a_state_directory_that_is_a_file_is_a_clear_error(other: Daemon) -> None:
    other.state.write_text("not a directory")
    ended = refusal(other)
    assert (ended.returncode, "state_failed" in ended.stderr) == (1, True)


@pytest.mark.parametrize("where", ["volumes", "file/volumes", "/proc/fmrd/volumes"])
def test_what_cannot_be_a_mount_point_is_one_line(other: Daemon, where: str) -> None:
    file = other.base / Path(where).parts[0]
    if not where.startswith("/"):
        file.write_text("precious")
    other.mount = other.base / where
    ended = refusal(other)
    assert (ended.returncode, "mount_failed" in ended.stderr) == (1, True)
    assert "Traceback" not in ended.stderr
    assert where.startswith("/") or file.read_text() == "precious"


def test_a_socket_that_has_no_place_is_one_line(other: Daemon) -> None:
    """As where XDG_RUNTIME_DIR is not there, and cannot be made."""
    other.socket = Path("/proc/fmrd/fmrd.sock")
    ended = refusal(other)
    assert (ended.returncode, "socket_failed" in ended.stderr, "Traceback" in ended.stderr) == (1, True, False)


@pytest.mark.skipif(os.geteuid() != 0, reason="the fuse control file system is root's")
def test_a_mount_that_is_cut_off_ends_the_daemon_in_order(daemon: Daemon, plexes: list[Path]) -> None:
    daemon.make("data", "16M", *plexes)
    write_at(daemon.path("data"), 0, b"kept")
    daemon.may_log_errors = True
    control = daemon.base / "connections"
    control.mkdir()
    connection = str(os.minor(daemon.mount.stat().st_dev))
    tool("mount", "-t", "fusectl", "none", control)
    try:
        (control / connection / "abort").write_text("1")
    finally:
        tool("umount", control)
    assert daemon.process is not None and daemon.process.wait(timeout=30) == 1
    daemon.process = None
    assert daemon.log().count("by somebody else: stopping in order") in (1, 2), "when it happens, and as the last words"
    assert not daemon.umount(), "nothing is left there"
    assert daemon.json("dump", f"{plexes[0]}.dco")["dco"]["settled"]
    daemon.start()
    assert read_at(daemon.path("data"), 0, 4) == b"kept"


def test_a_hangup_ends_nothing(daemon: Daemon, plexes: list[Path]) -> None:
    daemon.make("data", "16M", *plexes)
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: "SIGHUP: there is nothing to be read again" in daemon.log(), "it was heard")
    write_at(daemon.path("data"), 0, b"served")
    assert daemon.stop() == 0


def test_a_plex_belongs_to_one_volume(daemon: Daemon, plexes: list[Path]) -> None:
    daemon.make("data", "16M", *plexes)
    write_at(daemon.path("data"), 0, b"mine")
    for words in (("make", "other", "16M", plexes[0], "--force"), ("make", "other", "16M", "--from", *plexes[:1] * 2)):
        answer = daemon.ctl(*words)
        assert (answer.status, answer.code) == (3, "refused_in_use")
    assert [volume["name"] for volume in daemon.json("print")["volumes"]] == ["data"]
    assert read_at(plexes[0], 0, 4) == b"mine"


def test_a_plex_belongs_to_one_daemon(daemon: Daemon, other: Daemon, plexes: list[Path]) -> None:
    daemon.make("data", "16M", *plexes)
    other.start()
    assert other.ctl("make", "data", "16M", plexes[0], "--force").code == "refused_in_use"
    assert other.ctl("import", *plexes).status == 1
    daemon.json("remove", "data")


def test_without_a_plex_a_volume_starts_degraded_and_says_so(daemon: Daemon, plexes: list[Path]) -> None:
    daemon.make("data", "16M", *plexes)
    write_at(daemon.path("data"), 0, b"old")
    daemon.stop()
    away = plexes[1].rename(plexes[1].with_suffix(".away"))
    daemon.start()
    shown = daemon.volume("data")
    assert (shown["state"], daemon.states("data")[0]) == ("ACTIVE", "ACTIVE")
    assert shown["plexes"][1]["kstate"] != "ENABLED"
    assert str(plexes[1]) in daemon.log() or "data-02" in daemon.log()
    write_at(daemon.path("data"), 0, b"new")
    assert daemon.ctl("plex", "att", "data", "data-02").code == "plex_missing"
    away.rename(plexes[1])
    [task] = daemon.json("recover", "--wait")["tasks"]
    assert (task["reason"]["code"], task["total_regions"]) == ("fast", 1)
    assert same_bytes(*plexes)


def test_with_a_stale_plex_only_the_start_is_refused(daemon: Daemon, plexes: list[Path]) -> None:
    daemon.make("data", "16M", *plexes)
    daemon.json("plex", "det", "data", "data-02")
    write_at(daemon.path("data"), 0, b"only on the first")
    daemon.stop()
    away = plexes[0].rename(plexes[0].with_suffix(".away"))
    daemon.may_log_errors = True
    daemon.start()
    shown = daemon.volume("data")
    assert (shown["kstate"], shown["error"]["code"]) == ("DISABLED", "no_current_plex")
    refused = daemon.ctl("start", "data")
    assert (refused.status, refused.code) == (3, "no_current_plex")
    assert "data-01" in refused.err
    away.rename(plexes[0])
    assert daemon.json("start", "data", "--wait")["volume"]["state"] == "ACTIVE"
    daemon.in_sync("data")
    assert same_bytes(*plexes) and read_at(plexes[1], 0, 4) == b"only"


def test_a_volume_moves_to_another_daemon_with_its_plexes(daemon: Daemon, other: Daemon, plexes: list[Path]) -> None:
    daemon.make("data", "16M", *plexes)
    write_at(daemon.path("data"), 0, b"carried")
    daemon.stop()
    other.start()
    assert [plex["state"] for plex in other.json("import", *plexes)["volume"]["plexes"]] == ["ACTIVE"] * 2
    assert read_at(other.path("data"), 0, 7) == b"carried"
