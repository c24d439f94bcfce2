"""What an admin is told: at a glance, and by a daemon that does not answer."""

import json
import os
import pty
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from fmrd.core.json_object import Json
from tests.e2e.harness import BIN, Daemon, needs_fuse, until, write_at

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


class Listener:
    """`fmrctl --json events` in a process of its own."""

    def __init__(self, daemon: Daemon, *options: str) -> None:
        command = [BIN / "fmrctl", "--json", "--socket", daemon.socket, "events", *options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._text = b""

    @property
    def events(self) -> list[Json]:
        assert self._process.stdout is not None
        self._text += self._process.stdout.read() or b""
        lines = self._text.splitlines(keepends=True)
        return [event for line in lines if line.endswith(b"\n") for event in json.loads(line)["events"]]

    @property
    def kinds(self) -> list[str]:
        return [event["kind"] for event in self.events]

    def end(self) -> str:
        """What it said on standard error."""
        self._process.terminate()
        return self._process.communicate(timeout=30)[1].decode()


def listening(daemon: Daemon) -> Listener:
    """One that is known to hear what happens from now on."""
    found = Listener(daemon, "--since", "1d")
    until(lambda: found.events, "it hears of the daemon's start")
    return found


def test_events_are_heard_as_they_happen_and_over_a_restart(daemon: Daemon, plexes: list[Path]) -> None:
    listener = listening(daemon)
    daemon.make("data", "16M", *plexes)
    daemon.json("plex", "det", "data", "data-02")
    write_at(daemon.path("data"), 0, b"x" * 4096)
    daemon.attach("data", "data-02")
    until(lambda: "volume_well" in listener.kinds, "all of it")
    kinds = listener.kinds
    wanted = ["daemon_started", "volume_started", "verb", "plex_detached", "verb", "plex_attached", "copy_started",
              "verb", "copy_done", "plex_in_sync", "volume_well"]  # fmt: skip
    assert sorted(kinds) == sorted(wanted)
    detached = next(event for event in listener.events if event.get("verb") == "plex_det")
    assert (detached["uid"], detached["volume"], detached["plex"]) == (os.geteuid(), "data", "data-02")
    assert detached["arguments"] == ["volume=data", "plex=data-02"]
    done = next(event for event in listener.events if event["kind"] == "copy_done")
    assert done["task"]["done_regions"] == 1 and done["task"]["copied_bytes"] > 0
    cursor = listener.events[-1]["cursor"]
    assert daemon.json("events", "--no-follow", "--since", cursor)["events"] == []
    seen = len(kinds)
    daemon.restart()
    until(lambda: listener.kinds[seen:].count("volume_started") == 1, "it goes on with the next daemon")
    assert "events_missed" in listener.kinds[seen:], "what happened at the end may be missing, which is said"
    assert "the daemon is away" in listener.end()
    [first, *_] = daemon.json("events", "--no-follow", "--since", cursor)["events"]
    assert first["kind"] == "events_missed"


def test_history_outlives_the_daemon(daemon: Daemon, plexes: list[Path], tmp_path: Path) -> None:
    daemon.make("data", "1M", *plexes)
    daemon.make("mail", "1M", tmp_path / "m")
    daemon.json("plex", "det", "data", "data-02")
    daemon.ctl("plex", "det", "data", "data-01")  # refused
    daemon.restart()
    told = daemon.fmrctl("history", "data")
    assert told.returncode == 0 and "mail" not in told.stdout
    for line in ("verb user 0: plex_det volume=data plex=data-02", "plex_detached", "verb_failed", "last_plex",
                 "volume_stopped volume data"):  # fmt: skip
        assert line.replace("user 0", f"user {os.geteuid()}") in told.stdout, line
    assert len(daemon.json("history", "-n", "3")["events"]) == 3
    until(lambda: (daemon.state / "history").read_text().count("daemon_started") == 2, "both lives are in the file")
    daemon.kill_all()
    daemon.start()
    found = daemon.json("history")["events"]
    assert sum(event["kind"] == "daemon_started" for event in found) == 3


def test_a_snapshot_says_when_and_how_it_was_taken(daemon: Daemon, plexes: list[Path], tmp_path: Path) -> None:
    daemon.make("data", "1M", *plexes)
    before = time.time()
    daemon.json("plex", "convert", "data", "data-02")
    daemon.json("snapshot", "data")
    daemon.json("snapshot", "data", "--instant", tmp_path / "i", "--name", "now")
    daemon.restart()
    found = {snap["name"]: snap for snap in daemon.json("snapprint")["snapshots"]}
    assert {name: snap["taken_as"] for name, snap in found.items()} == {"SNAP-data": "break-off", "now": "instant"}
    assert daemon.fmrctl("status", "-x").stdout == "all volumes are well\n"
    assert before <= found["SNAP-data"]["taken"] <= found["now"]["taken"] <= time.time()
    assert daemon.volume("now")["taken"] == found["now"]["taken"] and daemon.volume("data")["taken"] is None
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found["now"]["taken"]))
    assert f"{when} instant" in daemon.fmrctl("snapprint").stdout
    verbs = [event for event in daemon.json("history", "data")["events"] if event.get("verb") == "snapshot"]
    assert len(verbs) == 2


def test_a_hook_hears_of_a_plex_that_left_and_one_that_hangs_holds_up_nothing(
    stopped_daemon: Daemon, plexes: list[Path], tmp_path: Path
) -> None:
    hooks = tmp_path / "hooks.d"
    hooks.mkdir(mode=0o755)
    for name, script in (("notes", f"cat >>{tmp_path}/seen"), ("hangs", "exec sleep 1000")):
        (hooks / name).write_text(f"#!/bin/sh\n{script}\n")
        (hooks / name).chmod(0o755)
    stopped_daemon.start()
    stopped_daemon.make("data", "16M", *plexes)
    os.truncate(plexes[1], 4096)  # somebody cuts it: the next flush finds that
    write_at(stopped_daemon.path("data"), 0, b"x" * 4096)
    seen = tmp_path / "seen"
    until(lambda: seen.exists() and "plex_failed" in seen.read_text(), "the hook was told")
    event = next(e for e in map(json.loads, seen.read_text().splitlines()) if e["kind"] == "plex_failed")
    assert (event["volume"], event["plex"]) == ("data", "data-02") and "plex att data data-02" in event["action"]
    warning = next(line for line in stopped_daemon.log().splitlines() if "DEGRADED" in line)
    assert " WARNING " in warning and "1 of 2 plexes left" in warning and "What to do: " in warning
    assert stopped_daemon.stop() == 0


@pytest.mark.parametrize("when", ["yesterday", "-5m", "x.1", "5w"])
def test_a_time_that_is_none_is_refused(daemon: Daemon, when: str) -> None:
    assert daemon.ctl("events", "--no-follow", f"--since={when}").status == 2
