"""Instant snapshots: readable at once, on a sparse file that gets old data before the original writes over it."""

from pathlib import Path

import pytest

from tests.e2e.harness import (
    MIB,
    REGION,
    Daemon,
    Loops,
    needs_fuse,
    needs_loops,
    needs_program,
    read_at,
    same_bytes,
    tool,
    write_at,
)

pytestmark = needs_fuse

SIZE = 32 * MIB
REGIONS = SIZE // REGION


@pytest.fixture
def data(daemon: Daemon, tmp_path: Path) -> Path:
    daemon.make("data", SIZE, tmp_path / "a.img", tmp_path / "b.img")
    fill(daemon.path("data"), *range(10), byte=b"1")
    return daemon.path("data")


def fill(path: Path, *regions: int, byte: bytes) -> None:
    for region in regions:
        write_at(path, region * REGION + 512, byte * 4096)


def shown(path: Path, region: int) -> bytes:
    return read_at(path, region * REGION + 512, 1)


def test_an_instant_snapshot_is_readable_at_once_and_costs_what_is_written(
    daemon: Daemon, data: Path, tmp_path: Path
) -> None:
    before = data.read_bytes()
    answer = daemon.json("snapshot", "data", "--instant", tmp_path / "i.img")
    assert answer["volume"]["snapshot_of"] == "data" and "task" not in answer
    snap = daemon.path("SNAP-data")
    fill(data, 1, 5, byte=b"2")
    assert snap.read_bytes() == before and shown(data, 5) == b"2"
    fill(snap, 6, byte=b"s")
    assert (shown(snap, 6), shown(data, 6)) == (b"s", b"1")
    assert (tmp_path / "i.img").stat().st_blocks * 512 <= 4 * REGION


def test_it_is_the_same_after_a_crash(daemon: Daemon, data: Path, tmp_path: Path) -> None:
    before = data.read_bytes()
    daemon.json("snapshot", "data", "--instant", tmp_path / "i.img")
    fill(data, 1, byte=b"2")
    daemon.kill()
    daemon.start()
    assert daemon.path("SNAP-data").read_bytes() == before
    fill(data, 2, byte=b"2")
    assert daemon.path("SNAP-data").read_bytes() == before


def test_with_sync_it_becomes_a_full_copy(daemon: Daemon, data: Path, tmp_path: Path) -> None:
    before = data.read_bytes()
    task = daemon.json("snapshot", "data", "--instant", tmp_path / "i.img", "--sync", "--wait")["task"]
    assert (task["type"], task["state"]) == ("SNAPSYNC", "done")
    fill(data, 1, byte=b"2")
    assert (tmp_path / "i.img").read_bytes() == before
    daemon.json("stop", "data")
    assert daemon.path("SNAP-data").read_bytes() == before, "it needs its original no more"


def test_it_restores_its_original_by_what_changed(daemon: Daemon, data: Path, tmp_path: Path) -> None:
    before = data.read_bytes()
    daemon.json("snapshot", "data", "--instant", tmp_path / "i.img")
    fill(data, 1, 20, byte=b"x")
    tasks = daemon.json("snapback", "SNAP-data", "--from-replica", "--wait")["tasks"]
    assert {t["plex"]: t["total_regions"] for t in tasks} == {"data-01": 2, "data-02": 2, "data-03": REGIONS - 2}
    assert data.read_bytes() == before and same_bytes(data, *(tmp_path / n for n in ("a.img", "b.img", "i.img")))


@needs_loops
@needs_program("mkfs.ext4")
def test_a_full_disk_makes_the_snapshot_invalid_and_never_fails_its_original(
    daemon: Daemon, data: Path, loops: Loops, tmp_path: Path
) -> None:
    daemon.may_log_errors = True
    disk = loops.disk("small.img", 8 * MIB)
    tool("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", disk)
    small = loops.mount(disk)
    write_at(data, 0, b"1" * SIZE)
    daemon.json("snapshot", "data", "--instant", f"{small}/i.img,dco={tmp_path}/i.dco")
    for region in range(REGIONS):
        write_at(data, region * REGION, b"n" * REGION, sync=False)
    assert shown(data, REGIONS - 1) == b"n" and daemon.states("data") == ["ACTIVE", "ACTIVE"]
    lost = daemon.volume("SNAP-data")["lost"]
    assert lost and sum(part["length_bytes"] for part in lost) < SIZE
    with pytest.raises(OSError, match="Input/output error"):
        read_at(daemon.path("SNAP-data"), lost[0]["offset_bytes"], 512)
    assert shown(daemon.path("SNAP-data"), 0) == b"1", "what was kept is kept"
    answer = daemon.ctl("snapback", "SNAP-data", "--from-replica")
    assert (answer.status, answer.code) == (3, "snap_invalid")
    assert "SNAP-data is invalid" in daemon.fmrctl("print").stdout
    daemon.json("stop", "SNAP-data")
    daemon.json("remove", "SNAP-data", "--erase")


def test_an_instant_snapshot_that_is_stopped_loses_what_is_written_meanwhile(
    daemon: Daemon, data: Path, tmp_path: Path
) -> None:
    daemon.may_log_errors = True
    daemon.json("snapshot", "data", "--instant", tmp_path / "i.img")
    daemon.json("stop", "SNAP-data")
    fill(data, 3, byte=b"2")
    daemon.json("start", "SNAP-data")
    assert [(p["offset_bytes"], p["length_bytes"]) for p in daemon.volume("SNAP-data")["lost"]] == [
        (3 * REGION, REGION)
    ]
    assert shown(daemon.path("SNAP-data"), 4) == b"1"


SHARING = [
    pytest.param(("mkfs.xfs", "-q", "-m", "reflink=1"), marks=needs_program("mkfs.xfs"), id="xfs"),
    pytest.param(("mkfs.btrfs", "-q"), marks=needs_program("mkfs.btrfs"), id="btrfs"),
]


@needs_loops
@pytest.mark.parametrize("mkfs", SHARING)
def test_a_restore_can_be_undone_where_blocks_can_be_shared(
    daemon: Daemon, loops: Loops, tmp_path: Path, mkfs: tuple[str, ...]
) -> None:
    disk = loops.disk("shared.img", 400 * MIB)
    tool(*mkfs, disk)
    where = loops.mount(disk)
    daemon.make("data", SIZE, where / "a.img", tmp_path / "b.img")
    data = daemon.path("data")
    fill(data, 1, byte=b"1")
    daemon.json("snapshot", "data", "--instant", tmp_path / "i.img")
    fill(data, 1, 2, byte=b"2")
    daemon.json("snapback", "SNAP-data", "--from-replica", "--keep-undo", "--wait")
    assert (shown(data, 1), shown(daemon.path("UNDO-data"), 1)) == (b"1", b"2")
    answer = daemon.ctl("snapshot", "data", "--instant", tmp_path / "j.img")
    assert answer.status == 0
    again = daemon.ctl("snapback", "SNAP-data", "--from-replica", "--keep-undo")
    assert (again.status, again.code) == (3, "undo_present")
    tasks = daemon.json("undo", "data", "--wait")["tasks"]
    assert {t["type"] for t in tasks} == {"UNDO"} and tasks[0]["total_regions"] == 2
    assert (shown(data, 1), shown(data, 2)) == (b"2", b"2")
    assert not (where / "a.img.undo").exists() and not daemon.path("UNDO-data").exists()
    assert daemon.ctl("undo", "data").code == "undo_missing"
    assert same_bytes(data, where / "a.img", tmp_path / "b.img")


@needs_loops
@needs_program("mkfs.ext4")
def test_where_blocks_cannot_be_shared_an_undo_is_refused(daemon: Daemon, loops: Loops, tmp_path: Path) -> None:
    disk = loops.disk("ext4.img", 400 * MIB)
    tool("mkfs.ext4", "-q", disk)
    where = loops.mount(disk)
    daemon.make("data", SIZE, where / "a.img")
    fill(daemon.path("data"), 1, byte=b"1")
    daemon.json("snapshot", "data", "--instant", tmp_path / "i.img")
    fill(daemon.path("data"), 1, byte=b"2")
    answer = daemon.ctl("snapback", "SNAP-data", "--from-replica", "--keep-undo")
    assert (answer.status, answer.code) == (3, "undo_impossible")
    assert shown(daemon.path("data"), 1) == b"2" and shown(daemon.path("SNAP-data"), 1) == b"1", "nothing changed"
