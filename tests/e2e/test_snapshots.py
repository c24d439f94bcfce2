"""Snapshots as their user meets them: prepared, broken off, used beside the original, given back."""

from pathlib import Path

import pytest

from tests.e2e.harness import MIB, REGION, Daemon, needs_fuse, read_at, same_bytes, until, write_at

pytestmark = needs_fuse

SIZE = 32 * MIB
REGIONS = SIZE // REGION


@pytest.fixture
def data(daemon: Daemon, tmp_path: Path) -> Path:
    """A volume of 32 MiB on two plexes; its file."""
    daemon.make("data", SIZE, tmp_path / "a.img", tmp_path / "b.img")
    return daemon.path("data")


def prepare(daemon: Daemon, path: Path, volume: str = "data") -> None:
    daemon.json("snapstart", volume, path, "--wait")


def fill(path: Path, *regions: int, byte: bytes = b"w") -> None:
    for region in regions:
        write_at(path, region * REGION + 512, byte * 4096)


def shown(path: Path, region: int) -> bytes:
    return read_at(path, region * REGION + 512, 1)


def dirty(daemon: Daemon, name: str = "SNAP-data") -> int:
    [found] = [s for s in daemon.json("snapprint")["snapshots"] if s["name"] == name]
    return int(found["dirty_regions"])


# Prepare


def test_snapstart_copies_all_of_it_and_keeps_it_current(daemon: Daemon, data: Path, tmp_path: Path) -> None:
    fill(data, 1)
    task = daemon.json("snapstart", "data", tmp_path / "s.img", "--wait")["task"]
    assert (task["type"], task["reason"]["code"], task["total_regions"]) == ("SNAPATT", "full_new_plex", REGIONS)
    plex = daemon.plex("data", "data-03")
    assert (plex["state"], plex["mode"]) == ("SNAPDONE", "WO")
    fill(data, 2)
    assert same_bytes(data, tmp_path / "s.img")


def test_snapstart_goes_on_after_a_crash(daemon: Daemon, data: Path, tmp_path: Path) -> None:
    fill(data, *range(0, 100, 10))
    daemon.json("set", "data", "rate=64K")
    task = daemon.json("snapstart", "data", tmp_path / "s.img")["task"]
    assert daemon.plex("data", "data-03")["state"] == "SNAPATT"
    daemon.kill()
    daemon.start()
    [running] = until(lambda: [t for t in daemon.json("print")["tasks"] if t["type"] == "SNAPATT"], "it goes on")
    assert running["plex"] == task["plex"]
    daemon.json("set", "data", "rate=0")
    daemon.json("snapwait", "data")
    assert same_bytes(data, tmp_path / "s.img")


def test_snapwait_returns_when_a_plex_is_snapdone(daemon: Daemon, data: Path, tmp_path: Path) -> None:
    assert daemon.ctl("snapwait", "data").code == "snap_missing"
    daemon.json("snapstart", "data", tmp_path / "s.img")
    assert daemon.json("snapwait", "data")["plex"]["state"] == "SNAPDONE"


def test_snapabort_removes_the_plex_and_leaves_its_file(daemon: Daemon, data: Path, tmp_path: Path) -> None:
    daemon.json("snapstart", "data", tmp_path / "s.img", "--rate", "64K")
    daemon.json("snapabort", "data")
    assert daemon.states("data") == ["ACTIVE", "ACTIVE"] and (tmp_path / "s.img").exists()
    assert daemon.ctl("snapabort", "data").code == "snap_missing"


def test_a_regular_plex_is_converted_but_never_the_last_one(daemon: Daemon, data: Path) -> None:
    assert daemon.json("plex", "convert", "data", "data-02")["plex"]["state"] == "SNAPDONE"
    answer = daemon.ctl("plex", "convert", "data", "data-01")
    assert (answer.status, answer.code) == (3, "last_plex")
    daemon.json("snapshot", "data")
    assert daemon.states("data") == ["ACTIVE"] and daemon.states("SNAP-data") == ["ACTIVE"]


# Break off


def test_snapshot_makes_a_volume_of_the_snapdone_plex(daemon: Daemon, data: Path, tmp_path: Path) -> None:
    fill(data, 1)
    prepare(daemon, tmp_path / "s.img")
    answer = daemon.json("snapshot", "data")
    assert answer["volume"]["name"] == "SNAP-data" and answer["volume"]["snapshot_of"] == "data"
    assert answer["held_seconds"] >= 0
    until(lambda: "writes were held" in daemon.log(), "it is logged")
    assert daemon.states("data") == ["ACTIVE", "ACTIVE"] and daemon.states("SNAP-data") == ["ACTIVE"]
    assert dirty(daemon) == 0 and same_bytes(data, daemon.path("SNAP-data"), tmp_path / "s.img")
    [listed] = daemon.volume("data")["snapshots"]
    assert (listed["name"], listed["volume"], listed["percent_dirty"]) == ("SNAP-data", "data", 0)


def test_each_side_is_written_on_its_own_and_marks_its_own_map(daemon: Daemon, data: Path, tmp_path: Path) -> None:
    prepare(daemon, tmp_path / "s.img")
    daemon.json("snapshot", "data")
    snap = daemon.path("SNAP-data")
    fill(data, 1, byte=b"o")
    fill(snap, 2, byte=b"s")
    assert (shown(data, 1), shown(snap, 1), shown(data, 2), shown(snap, 2)) == (b"o", b"\0", b"\0", b"s")
    assert dirty(daemon) == 2


def test_several_volumes_share_one_instant(daemon: Daemon, data: Path, tmp_path: Path) -> None:
    daemon.make("more", SIZE, tmp_path / "c.img")
    prepare(daemon, tmp_path / "s.img")
    assert daemon.ctl("snapshot", "data", "more").code == "snap_missing"
    assert daemon.states("data") == ["ACTIVE", "ACTIVE", "SNAPDONE"], "it fails wholly"
    prepare(daemon, tmp_path / "t.img", "more")
    names = [v["name"] for v in daemon.json("snapshot", "--all")["volumes"]]
    assert names == ["SNAP-data", "SNAP-more"]


def test_names_are_counted_up_or_made_from_a_pattern(daemon: Daemon, data: Path, tmp_path: Path) -> None:
    for number in range(3):
        prepare(daemon, tmp_path / f"{number}.img")
    assert daemon.json("snapshot", "data")["volume"]["name"] == "SNAP-data"
    assert daemon.json("snapshot", "data")["volume"]["name"] == "SNAP1-data"
    assert daemon.json("snapshot", "data", "--name", "nightly-%v")["volume"]["name"] == "nightly-data"
    assert daemon.ctl("snapshot", "data", "--name", "a/b").code == "bad_name"


def test_eight_snapshots_have_maps_of_their_own(daemon: Daemon, data: Path, tmp_path: Path) -> None:
    for number in range(8):
        prepare(daemon, tmp_path / f"{number}.img")
        daemon.json("snapshot", "data", "--name", f"s{number}")
        fill(data, number)
    assert [dirty(daemon, f"s{number}") for number in range(8)] == [8 - number for number in range(8)]
    assert shown(daemon.path("s7"), 6) == b"w" and shown(daemon.path("s0"), 0) == b"\0"
    answer = daemon.ctl("snapstart", "s0", tmp_path / "deeper.img")
    assert (answer.status, answer.code) == (3, "snap_of_snap")


# Give back


def test_snapback_copies_the_union_and_the_original_wins(daemon: Daemon, data: Path, tmp_path: Path) -> None:
    prepare(daemon, tmp_path / "s.img")
    daemon.json("snapshot", "data")
    fill(data, 1, 2, byte=b"o")
    fill(daemon.path("SNAP-data"), 2, 3, byte=b"s")
    assert daemon.json("snapback", "SNAP-data", "--dry-run")["decision"]["regions"] == 3
    task = daemon.json("snapback", "SNAP-data", "--wait")["task"]
    assert (task["type"], task["state"], task["total_regions"]) == ("SNAPBACK", "done", 3)
    assert 0 < task["copied_bytes"] <= 3 * REGION
    assert daemon.states("data") == ["ACTIVE", "ACTIVE", "SNAPDONE"] and not daemon.path("SNAP-data").exists()
    assert same_bytes(data, tmp_path / "a.img", tmp_path / "s.img") and shown(data, 2) == b"o"
    daemon.json("snapshot", "data")  # used again, at once


def test_a_snapshot_in_use_is_not_taken_back(daemon: Daemon, data: Path, tmp_path: Path) -> None:
    prepare(daemon, tmp_path / "s.img")
    daemon.json("snapshot", "data")
    with open(daemon.path("SNAP-data"), "rb"):
        answer = daemon.ctl("snapback", "SNAP-data")
        assert (answer.status, answer.code) == (3, "volume_open")
    until(lambda: daemon.volume("SNAP-data")["open_count"] == 0, "the file is let go of")
    with open(data, "rb"):
        answer = daemon.ctl("snapback", "SNAP-data", "--from-replica")
        assert (answer.status, answer.code) == (3, "volume_open")


def test_from_replica_copies_the_snapshot_onto_all_plexes(daemon: Daemon, data: Path, tmp_path: Path) -> None:
    fill(data, 1, byte=b"1")
    for name in ("s.img", "t.img"):
        prepare(daemon, tmp_path / name)
        daemon.json("snapshot", "data")
    daemon.json("plex", "det", "data", "data-02")
    fill(data, 1, 4, byte=b"x")
    fill(daemon.path("SNAP-data"), 5, byte=b"s")
    daemon.json("snapback", "SNAP-data", "--from-replica", "--wait")
    assert (shown(data, 1), shown(data, 4), shown(data, 5)) == (b"1", b"\0", b"s")
    assert daemon.states("data") == ["ACTIVE", "STALE", "SNAPDONE"]
    assert daemon.plex("data", "data-02")["dirty_regions"] == 3, "a detached plex gains the union"
    assert dirty(daemon, "SNAP1-data") == 3, "so does another snapshot"
    assert daemon.attach("data", "data-02")["total_regions"] == 3
    assert same_bytes(data, *(tmp_path / name for name in ("a.img", "b.img", "s.img")))


def test_a_half_done_restore_goes_on_in_the_same_direction(daemon: Daemon, data: Path, tmp_path: Path) -> None:
    prepare(daemon, tmp_path / "s.img")
    daemon.json("snapshot", "data")
    fill(data, *range(100), byte=b"x")
    daemon.json("snapback", "SNAP-data", "--from-replica", "--rate", "64K")
    assert shown(data, 50) == b"\0", "at once"
    daemon.kill()
    daemon.start()
    assert shown(data, 50) == b"\0"
    tasks = daemon.json("task", "list", "--all")["tasks"]
    assert {t["reason"]["code"] for t in tasks if t["plex"] in ("data-01", "data-02")} <= {"fast", "recovery"}
    until(lambda: not daemon.json("print")["tasks"], "all copied")
    assert daemon.states("data") == ["ACTIVE", "ACTIVE", "SNAPDONE"]
    assert same_bytes(data, *(tmp_path / name for name in ("a.img", "b.img", "s.img"))) and shown(data, 99) == b"\0"


def test_a_snapback_cut_off_goes_on_to_snapdone(daemon: Daemon, data: Path, tmp_path: Path) -> None:
    prepare(daemon, tmp_path / "s.img")
    daemon.json("snapshot", "data")
    fill(data, *range(50), byte=b"x")
    daemon.json("snapback", "SNAP-data", "--rate", "64K")
    daemon.kill()
    daemon.start()
    assert daemon.json("snapwait", "data")["plex"]["path"] == str(tmp_path / "s.img")
    assert same_bytes(data, tmp_path / "s.img")


def test_refresh_is_a_new_snapshot_by_what_changed(daemon: Daemon, data: Path, tmp_path: Path) -> None:
    prepare(daemon, tmp_path / "s.img")
    daemon.json("snapshot", "data")
    fill(data, 7, byte=b"n")
    task = daemon.json("refresh", "SNAP-data", "--wait")["tasks"][0]
    assert (task["state"], task["total_regions"]) == ("done", 1)
    assert shown(daemon.path("SNAP-data"), 7) == b"n" and dirty(daemon) == 0


def test_a_snapshot_with_two_plexes_gives_them_back_one_by_one(daemon: Daemon, data: Path, tmp_path: Path) -> None:
    for name in ("s.img", "t.img"):
        prepare(daemon, tmp_path / name)
    daemon.json("snapshot", "data", "--nmirror", "2")
    assert daemon.states("SNAP-data") == ["ACTIVE", "ACTIVE"]
    fill(daemon.path("SNAP-data"), 1)
    daemon.json("snapback", "SNAP-data", "--plex", tmp_path / "s.img", "--wait")
    assert daemon.states("SNAP-data") == ["ACTIVE"] and shown(daemon.path("SNAP-data"), 1) == b"w"
    daemon.json("snapback", "SNAP-data", "--all-plexes", "--wait")
    assert daemon.states("data") == ["ACTIVE", "ACTIVE", "SNAPDONE", "SNAPDONE"]
    assert same_bytes(data, tmp_path / "s.img", tmp_path / "t.img")


# Strangers, growth, restarts


def test_snapclear_makes_strangers_of_them(daemon: Daemon, data: Path, tmp_path: Path) -> None:
    prepare(daemon, tmp_path / "s.img")
    daemon.json("snapshot", "data")
    assert daemon.ctl("remove", "data").code == "snap_present"
    assert daemon.json("snapclear", "SNAP-data")["volume"]["snapshot_of"] is None
    assert daemon.ctl("snapback", "SNAP-data").code == "snap_unknown"
    assert daemon.json("snapprint") == {"output_version": 1, "snapshots": [], "detached": []}
    fill(daemon.path("SNAP-data"), 1)
    daemon.json("remove", "data")
    daemon.restart()
    assert shown(daemon.path("SNAP-data"), 1) == b"w"
    daemon.make("data", SIZE, tmp_path / "new.img")
    daemon.json("stop", "SNAP-data")
    daemon.json("remove", "SNAP-data")
    task = daemon.json("plex", "add", "data", tmp_path / "other.img", "--wait")["task"]
    assert task["reason"]["code"] == "full_new_plex"


def test_snapprint_tells_how_much_differs_and_what_detached_plexes_miss(
    daemon: Daemon, data: Path, tmp_path: Path
) -> None:
    prepare(daemon, tmp_path / "s.img")
    daemon.json("snapshot", "data")
    daemon.json("plex", "det", "data", "data-02")
    fill(data, *range(REGIONS // 4))
    found = daemon.json("snapprint", "data")
    assert [(s["name"], s["percent_dirty"]) for s in found["snapshots"]] == [("SNAP-data", 25.0)]
    assert [(s["name"], s["percent_dirty"]) for s in found["detached"]] == [("data-02", 25.0)]
    table = daemon.fmrctl("snapprint").stdout
    assert "ss SNAP-data data   32M    8M    25" in table and "dp data-02" in table


def test_growth_makes_the_other_side_incomplete_until_it_has_grown(daemon: Daemon, data: Path, tmp_path: Path) -> None:
    prepare(daemon, tmp_path / "s.img")
    daemon.json("snapshot", "data")
    daemon.json("grow", "data", 2 * SIZE)
    answer = daemon.ctl("snapback", "SNAP-data")
    assert (answer.status, answer.code) == (3, "refused_incomplete")
    assert dirty(daemon) == REGIONS, "what was added"
    daemon.json("grow", "SNAP-data", 2 * SIZE)
    assert daemon.json("snapback", "SNAP-data", "--wait")["task"]["total_regions"] == REGIONS
    assert same_bytes(data, tmp_path / "s.img")


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_both_sides_are_there_after_a_restart(daemon: Daemon, data: Path, tmp_path: Path, how: str) -> None:
    prepare(daemon, tmp_path / "s.img")
    daemon.json("snapshot", "data")
    fill(data, 1, byte=b"o")
    fill(daemon.path("SNAP-data"), 2, byte=b"s")
    getattr(daemon, how)()
    daemon.start()
    assert (shown(data, 1), shown(daemon.path("SNAP-data"), 2)) == (b"o", b"s")
    task = daemon.json("snapback", "SNAP-data", "--wait")["task"]
    assert task["reason"]["code"] == "fast" and same_bytes(data, tmp_path / "s.img")
    if how == "stop":
        assert task["total_regions"] == 2


def test_either_side_runs_while_the_other_is_away(daemon: Daemon, data: Path, tmp_path: Path) -> None:
    prepare(daemon, tmp_path / "s.img")
    daemon.json("snapshot", "data")
    daemon.json("stop", "data")
    fill(daemon.path("SNAP-data"), 2, byte=b"s")
    assert daemon.ctl("snapback", "SNAP-data").code == "volume_stopped"
    daemon.json("start", "data")
    daemon.json("stop", "SNAP-data")
    fill(data, 1, byte=b"o")
    daemon.restart()
    assert daemon.json("snapback", "SNAP-data", "--wait")["task"]["total_regions"] == 2
    assert same_bytes(data, tmp_path / "s.img")


def test_a_dump_tells_what_its_copy_knows(daemon: Daemon, data: Path, tmp_path: Path) -> None:
    prepare(daemon, tmp_path / "s.img")
    daemon.json("snapshot", "data")
    fill(data, 1, 2)
    fill(daemon.path("SNAP-data"), 3)
    daemon.stop()
    home = daemon.fmrctl("dump", daemon.state / "volumes" / "data.dco").stdout
    assert "2 region(s) written since snapshot SNAP-data" in home
    assert "snapshot of data, which wrote 1 region(s) itself" in home
    found = daemon.json("dump", tmp_path / "s.img.dco")["dco"]["volumes"]
    assert [(v["name"], v["snapshot_of"], v["dirty_regions"]) for v in found] == [
        ("data", None, None),
        ("SNAP-data", "data", 1),
    ]
    assert found[0]["plexes"][0]["dirty_regions"] is None, "that is on the original's copies"
    table = daemon.fmrctl("dump", tmp_path / "s.img.dco").stdout
    assert "its map is on other copies" in table
