"""kill -9 at bad moments: afterwards the plexes are identical, nothing acknowledged is lost, and maps still count."""

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.harness import (
    MIB,
    REGION,
    Daemon,
    Loops,
    needs_fuse,
    needs_loops,
    open_file,
    read_at,
    same_bytes,
    until,
    write_at,
)

pytestmark = needs_fuse


@pytest.fixture
def plexes(tmp_path: Path) -> list[Path]:
    return [tmp_path / f"{name}.img" for name in "abc"]


@pytest.fixture
def data(daemon: Daemon, plexes: list[Path]) -> Path:
    daemon.make("data", "64M", *plexes)
    return daemon.path("data")


def test_what_was_synced_is_there_and_plexes_agree(daemon: Daemon, data: Path, plexes: list[Path]) -> None:
    write_at(data, 5 * MIB, b"synced")
    write_at(data, 50 * MIB, b"not synced", sync=False)
    daemon.kill()
    daemon.start()
    assert read_at(data, 5 * MIB, 6) == b"synced"
    daemon.in_sync("data")
    assert same_bytes(data, *plexes)


def test_recovery_copies_what_the_drl_names_and_no_more(daemon: Daemon, data: Path) -> None:
    write_at(data, 5 * MIB, b"one extent")
    daemon.kill()
    daemon.start()
    daemon.in_sync("data")
    tasks = daemon.json("task", "list", "--all")["tasks"]
    assert {(task["type"], task["reason"]["code"]) for task in tasks} == {("RDWRBACK", "recovery")}
    assert all(task["total_bytes"] == 4 * MIB for task in tasks)


def test_a_detached_plex_still_gets_a_fast_resync(daemon: Daemon, data: Path, plexes: list[Path]) -> None:
    write_at(data, 0, b"before")
    daemon.json("set", "data", "auto_attach=off")
    daemon.json("plex", "det", "data", "data-02")
    for region in (200, 201, 900):
        write_at(data, region * REGION, b"missed")
    daemon.kill()
    daemon.start()
    stale = daemon.plex("data", "data-02")
    assert stale["state"] == "STALE"
    assert 3 <= stale["dirty_regions"] <= 2 * 64  # what was missed, and the DRL's two extents of 64 regions
    task = daemon.attach("data", "data-02")
    assert (task["reason"]["code"], task["total_regions"]) == ("fast", stale["dirty_regions"])
    daemon.in_sync("data")
    assert same_bytes(data, *plexes)


def test_an_interrupted_copy_goes_on(daemon: Daemon, data: Path, plexes: list[Path]) -> None:
    daemon.json("plex", "det", "data", "data-02")
    write_at(data, 0, os.urandom(32 * MIB))
    task = daemon.json("plex", "att", "data", "data-02", "--rate", "8M")["task"]
    until(lambda: daemon.ask("task_get", id=task["id"])["task"]["done_regions"] > 0, "some regions are copied")
    daemon.kill()
    daemon.start()
    daemon.in_sync("data")
    assert same_bytes(data, *plexes)


def test_twice_in_a_row(daemon: Daemon, data: Path, plexes: list[Path]) -> None:
    for turn in range(2):
        write_at(data, turn * 8 * MIB, bytes([turn + 1]) * MIB, sync=False)
        daemon.kill()
        daemon.start()
        daemon.kill()
        daemon.start()
    daemon.in_sync("data")
    assert same_bytes(data, *plexes)


def test_a_dead_mount_is_cleared_away_though_a_file_is_held_open(daemon: Daemon, data: Path) -> None:
    write_at(data, 0, b"kept")
    with open_file(data, os.O_RDONLY) as held:
        daemon.kill()
        daemon.start()
        with pytest.raises(OSError, match=r"not connected|Input/output"):
            os.pread(held, 10, 0)
        assert read_at(data, 0, 4) == b"kept"


@needs_loops
def test_a_loop_device_may_still_hold_the_dead_file(daemon: Daemon, data: Path, loops: Loops) -> None:
    device = loops.attach(data)
    daemon.kill()
    daemon.start()
    assert daemon.volume("data")["open_count"] == 0
    loops.detach(device)
    loops.attach(data)
    assert daemon.volume("data")["open_count"] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_orderly_stop_leaves_nothing_to_recover(
    daemon: Daemon, data: Path, plexes: list[Path], number: signal.Signals
) -> None:
    write_at(data, 0, b"x" * MIB, sync=False)
    assert daemon.stop(number) == 0
    assert os.listdir(daemon.mount) == [] and not daemon.socket.exists()
    assert same_bytes(*plexes)
    daemon.start()
    assert daemon.json("task", "list", "--all")["tasks"] == []
    assert daemon.states("data") == ["ACTIVE"] * 3


def test_a_volume_stopped_by_the_admin_stays_stopped(daemon: Daemon, data: Path) -> None:
    daemon.json("stop", "data")
    daemon.restart()
    assert daemon.volume("data")["kstate"] == "DISABLED" and not data.exists()
    daemon.json("start", "data")
    assert data.exists()
