"""fmrctl as a user or a script runs it: exit statuses, one clear line, one JSON object, and what people read."""

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from fmrd.errors import Refused
from fmrd.front.client import Client
from tests.e2e.harness import BIN, MIB, Daemon, needs_fuse, write_at

pytestmark = needs_fuse


@pytest.fixture
def plexes(tmp_path: Path) -> list[Path]:
    return [tmp_path / "a.img", tmp_path / "b.img"]


def test_exit_statuses_and_the_one_line(daemon: Daemon, plexes: list[Path]) -> None:
    daemon.make("data", "16M", *plexes)
    daemon.json("plex", "det", "data", "data-02")
    for status, code, words in (
        (0, "", ("print",)),
        (0, "", ("plex", "det", "data", "data-02")),
        (1, "volume_missing", ("print", "nothing")),
        (1, "volume_exists", ("make", "data", "16M", "c.img")),
        (2, "bad_request", ("make",)),
        (2, "bad_request", ("frobnicate",)),
        (2, "bad_size", ("make", "other", "12Q", "c.img")),
        (2, "bad_size", ("make", "other", "1000", "c.img")),
        (2, "bad_name", ("make", "../other", "16M", "c.img")),
        (2, "bad_setting", ("set", "data", "colour=red")),
        (2, "not_a_plex", ("make", "other", "16M", "/tmp")),
        (3, "last_plex", ("plex", "det", "data", "data-01")),
        (4, "unreachable", ("print", "--socket", "/nonexistent/fmrd.sock")),
    ):
        done = daemon.fmrctl(*words)
        assert done.returncode == status, (words, done.stderr)
        assert done.stderr.startswith(f"fmrctl: {code}: ") if code else True, (words, done.stderr)
        said = daemon.ctl(*words)
        assert (said.status, said.code) == (status, code), words


def test_a_verb_with_nothing_to_change_says_so(daemon: Daemon, plexes: list[Path]) -> None:
    daemon.make("data", "16M", *plexes)
    for words in (("start", "data"), ("grow", "data", "16M"), ("plex", "att", "data", "data-01"),
                  ("plex", "on", "data", "data-01"), ("recover",)):  # fmt: skip
        done = daemon.fmrctl("--json", *words)
        assert (done.returncode, "nothing to change" in done.stderr) == (0, True), words
        assert "nothing to change" in json.loads(done.stdout)["notice"]


def test_a_recover_that_attached_nothing_fails(daemon: Daemon, plexes: list[Path]) -> None:
    daemon.make("data", "16M", *plexes)
    daemon.json("plex", "det", "data", "data-02")
    away = plexes[1].rename(plexes[1].with_suffix(".away"))
    for words in (("recover",), ("recover", "--dry-run")):
        said = daemon.ctl(*words)
        assert (said.status, said.code) == (1, "not_recovered") and said.json["failed"][0]["code"] == "plex_missing"
    away.rename(plexes[1])
    assert daemon.ctl("recover", "--wait").status == 0


def test_what_is_gone_is_not_shown_as_if_it_were_there(daemon: Daemon, plexes: list[Path]) -> None:
    daemon.make("data", "16M", *plexes)
    assert daemon.fmrctl("plex", "dis", "data", "data-02").stdout == "plex data-02 is gone\n"
    assert daemon.fmrctl("remove", "data").stdout == "volume data is gone\n"


def test_print_reads_like_vxprint(daemon: Daemon, plexes: list[Path]) -> None:
    daemon.make("data", "16M", *plexes)
    daemon.json("plex", "det", "data", "data-02")
    write_at(daemon.path("data"), 0, b"x")
    lines = [line.split() for line in daemon.fmrctl("print").stdout.splitlines()]
    assert [line[:2] for line in lines[:2]] == [["V", "NAME"], ["PL", "NAME"]]
    assert lines[2] == ["v", "data", "on", "ENABLED", "ACTIVE", "16M", "SELECT", "0", str(daemon.path("data"))]
    assert lines[3] == ["pl", "data-01", "data", "ENABLED", "ACTIVE", "16M", "0", "RW", str(plexes[0])]
    assert lines[4] == ["pl", "data-02", "data", "DETACHED", "STALE", "16M", "64K", "-", str(plexes[1])]


def test_an_attach_says_why_it_copies_what(daemon: Daemon, plexes: list[Path]) -> None:
    daemon.make("data", "16M", *plexes)
    daemon.json("plex", "det", "data", "data-02")
    write_at(daemon.path("data"), 0, b"x")
    decided = daemon.fmrctl("plex", "att", "data", "data-02", "--dry-run").stdout
    assert "missed writes to 1 of 256 regions" in decided and "(fast; 1 region(s), 64K" in decided
    done = daemon.fmrctl("plex", "att", "data", "data-02", "--wait").stdout
    assert "(fast; 1 region(s), 64K) - done" in done


def test_relative_paths_are_those_of_the_user(daemon: Daemon, tmp_path: Path) -> None:
    done = daemon.fmrctl("--json", "make", "data", "16M", "a.img", "sub/../b.img,dco=b.dco", cwd=tmp_path)
    assert [p["path"] for p in json.loads(done.stdout)["volume"]["plexes"]] == [
        str(tmp_path / "a.img"),
        str(tmp_path / "b.img"),
    ]
    assert (tmp_path / "b.dco").exists() and not (tmp_path / "b.img.dco").exists()
    assert daemon.fmrctl("plex", "det", "data", "b.img", cwd=tmp_path).returncode == 0
    assert daemon.states("data") == ["ACTIVE", "STALE"]


def test_dump_shows_a_copy_offline(daemon: Daemon, plexes: list[Path]) -> None:
    daemon.make("data", "16M", *plexes)
    daemon.json("plex", "det", "data", "data-02")
    write_at(daemon.path("data"), 0, b"x")
    daemon.stop()
    shown = daemon.json("dump", f"{plexes[0]}.dco")["dco"]
    assert (shown["settled"], shown["volumes"][0]["name"]) == (True, "data")
    assert [(p["state"], p["dirty_regions"]) for p in shown["volumes"][0]["plexes"]] == [("ACTIVE", 0), ("STALE", 1)]
    text = daemon.fmrctl("dump", f"{plexes[0]}.dco").stdout
    assert "DCO of data-01" in text and "plex data-02 STALE: 1 dirty region(s), 64K" in text
    assert daemon.ctl("dump", plexes[0]).code == "dco_damaged"
    assert daemon.ctl("dump", plexes[0].parent).code == "dco_missing"
    assert daemon.ctl("dump", "/nonexistent").code == "io_error"


def test_explain_needs_no_daemon(stopped_daemon: Daemon) -> None:
    assert "only the regions in the plex's map" in stopped_daemon.json("explain", "fast")["explanation"]
    answer = stopped_daemon.ctl("explain", "nonsense")
    assert (answer.status, answer.code) == (1, "unknown_code")


def test_tasks_are_listed_with_their_progress(daemon: Daemon, plexes: list[Path]) -> None:
    daemon.make("data", "16M", *plexes)
    daemon.json("plex", "det", "data", "data-02")
    write_at(daemon.path("data"), 0, b"x" * 8 * MIB)
    task = daemon.json("plex", "att", "data", "data-02", "--rate", "1M")["task"]
    listed = daemon.fmrctl("task", "list").stdout.splitlines()
    assert listed[0].split()[:5] == ["ID", "TYPE", "VOLUME", "PLEX", "STATE"]
    assert listed[1].split()[:5] == ["1", "PLXATT", "data", "data-02", "running"]
    assert "PLXATT" in daemon.fmrctl("print", "data").stdout
    daemon.json("task", "set", task["id"], "rate=0")
    daemon.json("task", "monitor")
    assert daemon.fmrctl("task", "list").stdout == "there are no tasks\n"
    assert "done" in daemon.fmrctl("task", "list", "--all").stdout


def test_a_terminal_sees_a_bar(daemon: Daemon, plexes: list[Path]) -> None:
    daemon.make("data", "16M", *plexes)
    daemon.json("plex", "det", "data", "data-02")
    write_at(daemon.path("data"), 0, b"x" * 8 * MIB)
    ours, terminal = pty.openpty()
    command = [str(BIN / "fmrctl"), "--socket", str(daemon.socket), "plex", "att", "data", "data-02", "--wait"]
    done = subprocess.run(
        [*command, "--json"], stdout=subprocess.PIPE, stderr=terminal, timeout=60, check=True,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(terminal)
    drawn = os.read(ours, 1 << 20).decode()
    os.close(ours)
    assert "task 1 data-02 (fast)" in drawn and "8.0/8.0 MiB" in drawn
    assert json.loads(done.stdout)["task"]["state"] == "done"


def test_the_socket_is_the_users_own(daemon: Daemon) -> None:
    assert daemon.socket.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_nobody_else_may_command_the_daemon(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon.base.chmod(0o755)
    daemon.socket.chmod(0o666)
    monkeypatch.chdir(daemon.base)
    os.seteuid(65534)
    try:
        with pytest.raises(Refused, match="not_allowed"):
            Client(Path(daemon.socket.name)).ask("print")
    finally:
        os.seteuid(0)
