"""From 0.1.0 to this fmrd: what a plex has missed is still known, after a stop and after a kill."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.harness import MIB, REGION, Daemon, needs_fuse, read_at, same_bytes, write_at

pytestmark = needs_fuse

ROOT = Path(__file__).parents[2]
BEFORE = "c3f6bb0"
"""The commit of 0.1.0."""


@pytest.fixture
def door() -> str:
    """The default, of both."""
    return "channel"


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """Its sources; of a checkout without its history the test is skipped."""
    packed = subprocess.run(["git", "-C", ROOT, "archive", BEFORE, "fmrd"], capture_output=True)
    if packed.returncode:
        pytest.skip(f"this checkout has no commit {BEFORE}")
    folder = tmp_path / "older"
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)
    return folder


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_maps_are_kept(
    stopped_daemon: Daemon, tmp_path: Path, older: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = stopped_daemon
    newer = daemon.command

    def command(*options: str) -> list[str]:
        program = ["env", f"PYTHONPATH={older}", sys.executable, "-c", "from fmrd.front.daemon import main; main()"]
        return [*program, *newer(*options)[1:]]

    with monkeypatch.context() as patch:
        patch.setattr(daemon, "command", command)
        daemon.start()
    paths = [tmp_path / "a", tmp_path / "b"]
    plexes = [{"path": str(path)} for path in paths]
    daemon.ask("make", volume="data", size_bytes=16 * MIB, plexes=plexes)
    data = os.urandom(16 * MIB)
    write_at(daemon.path("data"), 0, data)
    daemon.ask("plex_det", volume="data", plex="data-02")
    for region in (3, 77):
        write_at(daemon.path("data"), region * REGION, b"missed")
    if end == "stop":
        daemon.stop()
    else:
        daemon.kill()
        daemon.umount()
    daemon.start("--log-level", "info")
    daemon.in_sync("data")
    copied = [task for task in daemon.json("task", "list", "--all")["tasks"] if task["plex"] == "data-02"]
    assert [task["reason"]["code"] for task in copied] == ["fast"]
    assert copied[0]["total_regions"] <= (2 if end == "stop" else 2 * 4 * MIB // REGION), "those, or their extents"
    assert read_at(daemon.path("data"), 77 * REGION, 6) == b"missed"
    daemon.stop()
    assert same_bytes(*paths)


def test_more_snapshots_than_an_older_one_knows_are_left_alone_by_it(
    stopped_daemon: Daemon, tmp_path: Path, older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With eight instant ones the DCO has a second bank of columns, and with seven one is enough again."""
    daemon = stopped_daemon
    newer = daemon.command

    def command(*options: str) -> list[str]:
        program = ["env", f"PYTHONPATH={older}", sys.executable, "-c", "from fmrd.front.daemon import main; main()"]
        return [*program, *newer(*options)[1:]]

    def shown_by_the_older() -> dict[str, str]:
        with monkeypatch.context() as patch:
            patch.setattr(daemon, "command", command)
            daemon.start()
        found = {volume["name"]: volume["kstate"] for volume in daemon.ask("print")["volumes"]}
        daemon.stop()
        return found

    daemon.start()
    daemon.make("data", 2 * MIB, tmp_path / "a", tmp_path / "b")
    for number in range(8):
        daemon.ask("snapshot", volumes=["data"], name=f"snap{number}", instant=str(tmp_path / f"i{number}"))
        write_at(daemon.path("data"), number * REGION, b"%d" % number)
    daemon.stop()
    daemon.may_log_errors = True
    home = daemon.state / "volumes" / "data.dco"
    before = home.read_bytes()
    assert "ENABLED" not in shown_by_the_older().values()
    assert "dco_feature" in daemon.log() and home.read_bytes() == before, "nothing is touched"
    daemon.start()
    assert read_at(daemon.path("snap7"), 7 * REGION, 1) == b"\0" and read_at(daemon.path("data"), 0, 1) == b"0"
    daemon.json("stop", "snap7")
    daemon.json("remove", "snap7", "--yes")
    daemon.stop()
    assert shown_by_the_older()["data"] == "ENABLED"
