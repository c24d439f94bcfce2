"""What people ask other systems for, asked of fmrctl: the rows of the README's table that no other test has."""

import os
import re
from pathlib import Path

from tests.e2e.harness import Daemon, needs_fuse, write_at

pytestmark = needs_fuse


def test_a_copy_is_slowed_down_and_let_go(daemon: Daemon, tmp_path: Path) -> None:
    daemon.make("data", "16M", tmp_path / "a")
    write_at(daemon.path("data"), 0, os.urandom(8 << 20))
    task = daemon.json("plex", "add", "data", tmp_path / "b", "--rate", "64KB")["task"]
    assert daemon.fmrctl("status", "data").returncode == 1
    assert "RESYNCING" in daemon.fmrctl("status", "data").stdout
    assert daemon.json("task", "pause", task["id"])["task"]["state"] == "paused"
    assert f"fmrctl task resume {task['id']}" in daemon.fmrctl("status", "data").stdout
    daemon.json("task", "resume", task["id"])
    daemon.json("task", "set", task["id"], "rate=0")
    [ended] = daemon.json("task", "monitor", task["id"])["tasks"]
    assert ended["state"] == "done" and daemon.fmrctl("status").returncode == 0


def test_disks_that_move_to_another_machine(daemon: Daemon, tmp_path: Path) -> None:
    daemon.make("data", "1M", tmp_path / "a", tmp_path / "b")
    write_at(daemon.path("data"), 0, b"moved" * 100)
    daemon.json("stop", "--all")
    daemon.stop()
    daemon.state.rename(tmp_path / "left behind")
    daemon.start()
    assert "there are no volumes" in daemon.fmrctl("status").stdout
    daemon.json("import", tmp_path / "a", tmp_path / "b", "--wait")
    assert daemon.path("data").read_bytes()[:500] == b"moved" * 100
    assert daemon.fmrctl("status", "-x").stdout == "all volumes are well\n"


def test_every_word_of_a_status_is_explained(daemon: Daemon, tmp_path: Path) -> None:
    daemon.make("data", "1M", tmp_path / "a", tmp_path / "b")
    daemon.json("plex", "det", "data", "data-02")
    words = set(re.findall(r"\b[A-Z]{4,}\b", daemon.fmrctl("status").stdout)) - {"NAME", "STATE", "PLEXES", "LENGTH"}
    assert words == {"DEGRADED", "STALE"}
    for word in words:
        assert daemon.json("explain", word)["explanation"]
