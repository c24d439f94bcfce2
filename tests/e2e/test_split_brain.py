"""A disk that was used on another host, and brought home: both sides are shown, and one is given up."""

from pathlib import Path

from tests.e2e.harness import MIB, REGION, Daemon, needs_fuse, read_at, same_bytes, write_at

pytestmark = needs_fuse


def write_regions(path: Path, byte: bytes, *regions: int) -> None:
    for region in regions:
        write_at(path, region * REGION, byte * 512)


def test_what_either_side_wrote_is_copied_and_nothing_else(daemon: Daemon, tmp_path: Path) -> None:
    daemon.may_log_errors = True  # the volume does not start by itself then
    home, travelling = tmp_path / "home.img", tmp_path / "travelling.img"
    daemon.make("data", 32 * MIB, home, travelling)
    write_regions(daemon.path("data"), b"0", *range(100))
    daemon.json("stop", "data")
    (tmp_path / "other").mkdir()
    other = Daemon(tmp_path / "other", daemon.door)
    try:
        other.start()
        home.rename(tmp_path / "not there")
        other.json("import", travelling, "--force")
        write_regions(other.path("data"), b"t", 7, 8, 9)
        other.json("stop", "data")
        other.stop()
    finally:
        other.clean_up()
    (tmp_path / "not there").rename(home)  # not before: whoever answers at a start is attached
    assert daemon.ctl("start", "data").code == "foreign_plex"
    daemon.json("start", "data", "--without", "data-02")
    write_regions(daemon.path("data"), b"h", 9, 10)
    refused = daemon.ctl("plex", "att", "data", "data-02")
    assert (refused.status, refused.code) == (3, "refused_split_brain")
    shown = "2 region(s) may differ by what was written here"
    assert shown in refused.err and "3 by what was written there" in refused.err and "--discard" in refused.err
    done = daemon.fmrctl("plex", "att", "data", "data-02", "--discard", "--wait")
    assert done.returncode == 0 and shown in done.stderr and "is given up" in done.stderr
    [task] = [t for t in daemon.json("task", "list", "--all")["tasks"] if t["plex"] == "data-02"]
    assert (task["reason"]["code"], task["total_regions"]) == ("fast", 4)
    assert [read_at(daemon.path("data"), region * REGION, 1) for region in (7, 9, 10)] == [b"0", b"h", b"h"]
    daemon.json("stop", "data")
    assert same_bytes(home, travelling)
