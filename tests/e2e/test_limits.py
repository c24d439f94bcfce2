"""A daemon with no more open files: it says so, judges no disk by it, and goes on when it may."""

import resource
from pathlib import Path

from tests.e2e.harness import MIB, Daemon, needs_fuse, read_at, until, write_at

pytestmark = needs_fuse


def allow(daemon: Daemon, more: int | None) -> None:
    """So many open files beyond those that it has now; None: as before."""
    assert daemon.process is not None
    _, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
    highest = max(int(each.name) for each in Path(f"/proc/{daemon.process.pid}/fd").iterdir())
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (hard if more is None else highest + 1 + more, hard))


def test_without_open_files_no_plex_is_absent(daemon: Daemon, tmp_path: Path) -> None:
    daemon.make("data", 16 * MIB, tmp_path / "a.img", tmp_path / "b.img")
    daemon.make("other", 16 * MIB, tmp_path / "c.img", tmp_path / "d.img")
    daemon.json("plex", "det", "data", "data-02")
    daemon.json("stop", "other")
    until(lambda: daemon.volume("data")["plexes"][1]["state"] == "STALE", "it is detached")
    told = set()
    for more in (1, 2, 3, 4):  # one is the client's own
        allow(daemon, more)
        for words in (("plex", "att", "data", "data-02"), ("start", "other")):
            answer = daemon.ctl(*words)
            told.add(answer.code)
            assert answer.code in ("", "exhausted"), f"{words} with {more}: {answer.json}"
            assert answer.code == "" or "LimitNOFILE" in answer.err
            if answer.code == "":
                allow(daemon, None)
                daemon.in_sync("data") if words[0] == "plex" else daemon.in_sync("other")
                daemon.json("plex", "det", "data", "data-02") if words[0] == "plex" else daemon.json("stop", "other")
                allow(daemon, more)
        write_at(daemon.path("data"), 0, b"%d" % more)
        assert read_at(daemon.path("data"), 0, 1) == b"%d" % more
    assert "exhausted" in told
    allow(daemon, None)
    assert daemon.attach("data", "data-02")["reason"]["code"] == "fast"
    daemon.json("start", "other")
    assert daemon.states("other") == ["ACTIVE", "ACTIVE"]
