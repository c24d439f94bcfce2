"""What an admin is told: at a glance, and by a daemon that does not answer."""

import os
import pty
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.harness import BIN, Daemon, needs_fuse, until

pytestmark = needs_fuse


@pytest.fixture
def plexes(tmp_path: Path) -> list[Path]:
    return [tmp_path / "a.img", tmp_path / "b.img"]


def on_a_terminal(daemon: Daemon, *words: str, typed: bytes = b"", **environment: str) -> tuple[int, str]:
    """The exit status, and what such a fmrctl shows on a terminal of 120 columns."""
    ours, theirs = pty.openpty()
    plain = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    told = plain | {"FMRD_SOCKET": str(daemon.socket), "TERM": "xterm-256color", "COLUMNS": "120"} | environment
    with subprocess.Popen([BIN / "fmrctl", *words], stdin=theirs, stdout=theirs, stderr=theirs, env=told) as process:
        os.close(theirs)
        os.write(ours, typed)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    return process.returncode, shown.decode()


def test_status_names_what_is_sick_among_thirty(daemon: Daemon, tmp_path: Path) -> None:
    for n in range(30):
        daemon.make(f"v{n:02d}", "64K", tmp_path / f"{n}.a", tmp_path / f"{n}.b")
    well = daemon.fmrctl("status")
    assert (well.returncode, len(well.stdout.splitlines())) == (0, 31)
    assert daemon.fmrctl("status", "-x").stdout == "all volumes are well\n"
    daemon.json("plex", "det", "v17", "v17-02")
    sick = daemon.fmrctl("status")
    first, _, line, cause, action, *others = sick.stdout.splitlines()
    assert (sick.returncode, first, line.split()[:3]) == (1, "1 of 30 volume(s) not well", ["v17", "DEGRADED", "1/2"])
    assert "v17-02" in cause and action.strip() == "action: fmrctl plex att v17 v17-02" and len(others) == 29
    one = daemon.fmrctl("status", "-x")
    assert one.returncode == 1 and len(one.stdout.splitlines()) == 1
    assert one.stdout.startswith("v17 DEGRADED: plex v17-02 ") and "fmrctl plex att v17 v17-02" in one.stdout
    assert daemon.fmrctl("status", "v0*", "v16").returncode == 0
    assert [h["name"] for h in daemon.ctl("status", "v1?", "-x").json["health"]] == ["v17"]
    missing = daemon.ctl("status", "v71")
    assert (missing.status, missing.code) == (1, "volume_missing") and "did you mean" in missing.err


def test_a_volume_that_does_not_start_is_bad(daemon: Daemon, plexes: list[Path]) -> None:
    daemon.may_log_errors = True
    daemon.make("data", "1M", plexes[0])
    daemon.stop()
    plexes[0].rename(plexes[0].with_suffix(".away"))
    daemon.start()
    told = daemon.fmrctl("status")
    assert told.returncode == 2 and "REFUSED" in told.stdout and "action:" in told.stdout


def test_colours_are_for_terminals(daemon: Daemon, plexes: list[Path]) -> None:
    daemon.make("data", "1M", *plexes)
    daemon.json("plex", "det", "data", "data-02")
    for words in (("print",), ("status",), ("status", "-x")):
        assert "\x1b[" in on_a_terminal(daemon, *words)[1], words
        assert "\x1b[" not in on_a_terminal(daemon, *words, NO_COLOR="1")[1], words
        assert "\x1b[" not in daemon.fmrctl(*words).stdout, words


def test_a_daemon_that_is_stopped_hung_or_absent_is_given_up(daemon: Daemon, plexes: list[Path]) -> None:
    """No command hangs on it: each ends within --timeout, with exit status 4."""
    daemon.make("data", "1M", *plexes)
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        for words in (("status",), ("print",), ("plex", "det", "data", "data-02"), ("task", "monitor")):
            began = time.monotonic()
            told = daemon.fmrctl(*words, "--timeout", "1")
            assert (told.returncode, "unreachable" in told.stderr) == (4, True), words
            assert time.monotonic() - began < 30, words
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    until(lambda: daemon.ctl("status").status != 4, "it goes on")
    daemon.stop()
    assert daemon.fmrctl("status", "--timeout=1").returncode == 4
    with socket.socket(socket.AF_UNIX) as hung:  # accepts, and never answers
        hung.bind(str(daemon.socket))
        hung.listen()
        assert daemon.fmrctl("status", "--timeout", "0.5").returncode == 4


def test_a_verb_may_take_longer_than_the_timeout(daemon: Daemon, plexes: list[Path], tmp_path: Path) -> None:
    """A daemon that is there says so; a wait for what does not end lasts."""
    daemon.make("data", "16M", *plexes)
    daemon.json("snapstart", "data", tmp_path / "s", "--rate", "1")
    environment = os.environ | {"FMRD_SOCKET": str(daemon.socket)}
    waiting = subprocess.Popen([BIN / "fmrctl", "--timeout", "2.5", "snapwait", "data"], env=environment,
                               stderr=subprocess.PIPE)  # fmt: skip
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.communicate(timeout=8)
    [task] = daemon.json("task", "list")["tasks"]
    daemon.json("task", "set", task["id"], "rate=0")
    assert waiting.communicate(timeout=60)[1] == b"" and waiting.returncode == 0
