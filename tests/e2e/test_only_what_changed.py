"""Who sends, compares or puts back reads what changed and nothing else: counted by the plexes that were read."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.harness import BIN, DOORS, MIB, REGION, Daemon, needs_fuse

pytestmark = [needs_fuse]

SCATTERED = (3, 40, 41, 90, 133, 200, 255)
RUN = range(160, 190)
"""Of more than one record, and more than what a kernel reads ahead."""


@pytest.fixture
def door() -> str:
    """What is read ahead of a request is the kernel's, and counted, too."""
    return DOORS[0]


def write(daemon: Daemon, regions: tuple[int, ...] | range) -> None:
    with open(daemon.path("data"), "r+b") as file:
        for region in regions:
            os.pwrite(file.fileno(), os.urandom(4096), region * REGION)
        os.fsync(file.fileno())


def read_bytes(daemon: Daemon) -> int:
    """By all plexes of all volumes, since they were attached."""
    return sum(plex["read_bytes"] for volume in daemon.json("print")["volumes"] for plex in volume["plexes"])


@pytest.fixture
def changed(daemon: Daemon, tmp_path: Path) -> int:
    """All of 'data' is written, and then some of it between the instant snapshots 'one' and 'two'; how many bytes."""
    daemon.make("data", 16 * MIB, tmp_path / "a", tmp_path / "b")
    daemon.make("far", 16 * MIB, tmp_path / "f")
    write(daemon, range(256))
    daemon.json("snapshot", "data", "--instant", tmp_path / "one", "--name", "one")
    write(daemon, SCATTERED)
    write(daemon, RUN)
    daemon.json("snapshot", "data", "--instant", tmp_path / "two", "--name", "two")
    return (len(SCATTERED) + len(RUN)) * REGION


def test_a_send_reads_what_changed_and_nothing_else(daemon: Daemon, changed: int) -> None:
    environment = os.environ | {"FMRD_SOCKET": str(daemon.socket)}

    def send(*words: str) -> int:
        before = read_bytes(daemon)
        command = [str(BIN / "fmrctl"), "send", *words]
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True, timeout=60)
        return read_bytes(daemon) - before

    assert send("two") >= 16 * MIB, "what is read is counted"
    assert send("two", "--since", "one") == changed
    before = read_bytes(daemon)
    daemon.json("changed", "two", "--since", "one")
    assert read_bytes(daemon) == before, "and to know what changed nothing is read"


def test_an_instant_snapshot_is_put_back_by_what_differs_and_not_filled(daemon: Daemon, changed: int) -> None:
    old = daemon.path("one").read_bytes()
    lacks = next(plex["dirty_bytes"] for plex in daemon.volume("one")["plexes"])
    before = read_bytes(daemon)
    daemon.json("restore", "data", "--from", "one", "--wait")
    read = read_bytes(daemon) - before
    assert daemon.path("data").read_bytes() == old
    assert changed <= read <= 3 * changed, "to keep them for 'two', to put them back and to copy them: nothing else"
    [plex] = daemon.volume("one")["plexes"]
    assert plex["dirty_bytes"] == lacks > 0, "it still reads from its original what both share"
    size = (daemon.base / "one").stat().st_blocks * 512
    assert size <= changed + MIB, "its file has what differed, and no more"
