"""More than nine snapshots, through the real daemon: killed and started again, each holds what it held."""

from pathlib import Path

import pytest

from tests.e2e.harness import (
    MIB,
    REGION,
    Daemon,
    Loops,
    needs_fuse,
    needs_loops,
    read_at,
    same_bytes,
    until,
    write_at,
)

pytestmark = needs_fuse

COUNT = 12


@pytest.fixture
def door() -> str:
    """It is all behind the door."""
    return "channel"


def test_a_dozen_snapshots_outlive_a_kill_and_go_back(daemon: Daemon, tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    daemon.make("data", 2 * MIB, *paths)
    home = daemon.state / "volumes" / "data.dco"
    for number in range(COUNT):
        write_at(daemon.path("data"), 0, b"%02d" % number)
        daemon.ask("snapstart", volume="data", path=str(tmp_path / f"s{number}"))
        daemon.ask("snapwait", volume="data")
        daemon.ask("snapshot", volumes=["data"], name=f"snap{number}")
        write_at(daemon.path(f"snap{number}"), number * REGION + 4096, b"own")
        if number == 8:
            assert daemon.json("dump", home)["dco"]["banks"] == 1, "nine are what they were"
    shown = daemon.json("dump", home)["dco"]
    assert (shown["columns"], shown["banks"]) == (80, 2) and len(shown["volumes"]) == COUNT + 1
    assert " of 80 columns in use, in 2 banks" in daemon.fmrctl("dump", str(home)).stdout
    assert daemon.json("dump", tmp_path / "a.dco")["dco"]["banks"] == 2
    daemon.kill()
    daemon.umount()
    daemon.start()
    write_at(daemon.path("data"), MIB, b"after")
    for number in range(COUNT):
        snapshot = daemon.path(f"snap{number}")
        assert read_at(snapshot, 0, 2) == b"%02d" % number
        assert read_at(snapshot, number * REGION + 4096, 3) == b"own"
        [task] = daemon.ask("snapback", snapshot=f"snap{number}")["tasks"]
        assert task["reason"]["code"] == "fast"
    until(lambda: not daemon.ask("print")["tasks"], "all came back")
    daemon.stop()
    assert same_bytes(*paths, *(tmp_path / f"s{number}" for number in range(COUNT)))


@needs_loops
def test_a_device_keeps_a_volume_at_few_snapshots_until_its_dco_lies_in_a_file(
    daemon: Daemon, loops: Loops, tmp_path: Path
) -> None:
    """The area at its end has the room that it was made with; that is said before anything is made."""
    disk = Path(loops.disk("disk", 4 * MIB))
    daemon.make("data", MIB, disk, tmp_path / "b", options=("--force", "--wait"))
    for number in range(7):
        daemon.ask("snapshot", volumes=["data"], name=f"snap{number}", instant=str(tmp_path / f"i{number}"))
    more = ("snapshot", "data", "--name", "more", "--instant", tmp_path / "more")
    for options in (("--dry-run",), ()):
        answer = daemon.ctl(*more, *options)
        assert (answer.status, answer.code) == (1, "plex_too_many")
        assert f"the DCO on {disk} cannot grow" in answer.err and "dco=FILE" in answer.err
    assert not (tmp_path / "more").exists() and daemon.states("data") == ["ACTIVE", "ACTIVE"]
    daemon.json("plex", "dis", "data", str(disk), "--yes")
    daemon.json("plex", "add", "data", f"{disk},dco={tmp_path / 'disk.dco'}", "--force", "--wait")
    daemon.json(*more)
    daemon.restart()
    daemon.in_sync("data")
    assert daemon.json("dump", tmp_path / "disk.dco")["dco"]["banks"] == 2
    another = Path(loops.disk("another", 4 * MIB))
    assert daemon.ctl("plex", "add", "data", another, "--force", "--wait").status == 0, "with room for what there is"
    assert daemon.json("dump", another)["dco"]["banks"] == 2
