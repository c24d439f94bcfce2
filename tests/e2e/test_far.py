"""Plexes behind somebody else, here a file on nbdfuse: one that may lag, and what a kill leaves there."""

from pathlib import Path

from tests.e2e.harness import REGION, Daemon, needs_fuse, needs_program, read_at, same_bytes, until, write_at
from tests.e2e.nbd import nbd_disk

pytestmark = [needs_fuse, needs_program("nbdkit", "nbdfuse", "fusermount3")]

WRITES = 20


def test_a_write_does_not_wait_for_a_plex_that_may_lag(daemon: Daemon, tmp_path: Path) -> None:
    where, near = tmp_path / "nbd", tmp_path / "near"
    with nbd_disk(where, "file", str(where / "disk.raw")) as disk:
        daemon.make("data", "16M", near, f"{disk.path},dco={tmp_path / 'dco'}", options=("--force", "--wait"))
        daemon.json("set", "data", "write_behind=data-02:8M", "io_timeout=300")
        write_at(daemon.path("data"), 0, b"it has room for more by now")
        until(lambda: daemon.plex("data", "data-02")["lag_bytes"] == 0, "it has everything")
        disk.hang()
        for number in range(WRITES):
            write_at(daemon.path("data"), number * 4 * REGION, b"nobody waits for it")
        lags = daemon.plex("data", "data-02")
        assert (lags["state"], lags["lag_bytes"]) == ("ACTIVE", WRITES * REGION) and lags["lag_seconds"] > 0
        assert "1.2M and" in daemon.fmrctl("print", "data").stdout
        disk.go_on()
        until(lambda: daemon.plex("data", "data-02")["lag_bytes"] == 0, "it catches up")
        daemon.json("stop", "data")
        assert same_bytes(disk.path, near)
        daemon.stop()


def test_what_a_plex_that_lags_lacks_is_known_after_a_kill(daemon: Daemon, tmp_path: Path) -> None:
    """And what was under way there may land yet: it stays out until somebody says that it will not."""
    where, near = tmp_path / "nbd", tmp_path / "near"
    slow = ("--filter=delay", "file", str(where / "disk.raw"), "wdelay=20ms")
    with nbd_disk(where, *slow) as disk:
        daemon.make("data", "16M", near, f"{disk.path},dco={tmp_path / 'dco'}", options=("--force", "--wait"))
        daemon.json("set", "data", "write_behind=data-02:8M")
        for number in range(WRITES):
            write_at(daemon.path("data"), number * 4 * REGION, b"before the kill", sync=False)
        daemon.kill()
        daemon.restart()
        assert daemon.states("data") == ["ACTIVE", "STALE"]
        assert read_at(daemon.path("data"), 4 * REGION, 15) == b"before the kill"
        refused = daemon.ctl("plex", "att", "data", "data-02")
        assert (refused.status, refused.code) == (3, "session_open")
        assert daemon.attach("data", "data-02", "--settled")["reason"]["code"] == "fast"
        until(lambda: daemon.plex("data", "data-02")["lag_bytes"] == 0, "it has everything")
        daemon.json("stop", "data")
        assert same_bytes(disk.path, near)
        daemon.stop()
