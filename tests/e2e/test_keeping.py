"""Snapshots that stay, through a real daemon: put back a range, read without spoiling caches, go by rules."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.harness import BIN, MIB, REGION, Daemon, needs_fuse, needs_program

pytestmark = [needs_fuse]


def write(daemon: Daemon, volume: str, offset: int, data: bytes) -> None:
    with open(daemon.path(volume), "r+b") as file:
        file.seek(offset)
        file.write(data)
        os.fsync(file.fileno())


def cat(daemon: Daemon, *words: str) -> bytes:
    environment = os.environ | {"FMRD_SOCKET": str(daemon.socket)}
    done = subprocess.run([str(BIN / "fmrctl"), "cat", *words], env=environment, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def kept(daemon: Daemon, tmp_path: Path) -> Daemon:
    """A volume 'data', whose snapshot 's' holds what it was before all of it was written over."""
    daemon.make("data", 4 * MIB, tmp_path / "a", tmp_path / "b")
    write(daemon, "data", 0, b"old" * MIB)
    daemon.json("snapshot", "data", "--instant", tmp_path / "s", "--name", "s")
    write(daemon, "data", 0, b"new" * MIB)
    return daemon


def test_a_range_is_put_back_and_the_snapshot_stays(kept: Daemon, tmp_path: Path) -> None:
    new, old = kept.path("data").read_bytes(), kept.path("s").read_bytes()
    offset, length = 5 * REGION + 100, 2 * REGION
    kept.json("restore", "data", "--from", "s", "--range", f"{offset}:{length}", "--wait")
    expected = new[:offset] + old[offset : offset + length] + new[offset + length :]
    assert kept.path("data").read_bytes() == expected
    kept.in_sync("data")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == expected
    assert kept.path("s").read_bytes() == old and not (tmp_path / "a.received").exists()


def test_all_of_it_is_put_back_and_the_snapshot_stays(kept: Daemon) -> None:
    old = kept.path("s").read_bytes()
    task = kept.json("snapback", "s", "--from-replica", "--keep", "--wait")["task"]
    assert task["state"] == "done"
    assert kept.path("data").read_bytes() == old == kept.path("s").read_bytes()
    write(kept, "data", 0, b"newer")
    kept.json("snapback", "s", "--from-replica", "--keep", "--wait")
    assert kept.path("data").read_bytes() == old, "as often as one likes"


@pytest.fixture
def two(kept: Daemon, tmp_path: Path) -> Daemon:
    """And a volume 'log' with a snapshot 'l'."""
    kept.make("log", 2 * MIB, tmp_path / "p")
    write(kept, "log", 0, b"old" * 1000)
    kept.json("snapshot", "log", "--instant", tmp_path / "l", "--name", "l")
    write(kept, "log", REGION, b"new" * 1000)
    return kept


def test_several_volumes_are_put_back_together_and_their_snapshots_stay(two: Daemon) -> None:
    old = {name: two.path(name).read_bytes() for name in ("s", "l")}
    foretold = two.json("snapback", "s", "l", "--from-replica", "--keep", "--dry-run")
    assert foretold["notice"].count("would put back") == 2
    answer = two.json("snapback", "s", "l", "--from-replica", "--keep", "--wait")
    assert [each["name"] for each in answer["volumes"]] == ["data", "log"]
    assert all(task["state"] == "done" for task in answer["tasks"])
    assert (two.path("data").read_bytes(), two.path("log").read_bytes()) == (old["s"], old["l"])
    assert {name: two.path(name).read_bytes() for name in ("s", "l")} == old


def test_where_one_of_several_cannot_be_put_back_none_is(two: Daemon) -> None:
    before = {name: two.path(name).read_bytes() for name in ("data", "log")}
    with open(two.path("log"), "rb"):
        assert two.ctl("snapback", "s", "l", "--from-replica", "--keep").code == "volume_open"
    assert {name: two.path(name).read_bytes() for name in ("data", "log")} == before
    assert not [each["name"] for each in two.json("print")["volumes"] if each["receiving"]]
    assert two.ctl("snapback", "s", "l", "--from-replica").code == "bad_request"
    two.json("snapshot", "log", "--instant", two.base / "l2", "--name", "l2")
    assert two.ctl("snapback", "l", "l2", "--from-replica", "--keep").code == "bad_request"


def test_what_was_put_back_and_broke_off_is_begun_anew(kept: Daemon) -> None:
    """fmrctl was killed: a second one need not clean up first."""
    old = kept.path("s").read_bytes()
    kept.ask("restore_begin", volume="data", snapshot="s")
    assert kept.ctl("receive", "data", "--token").code == "receive_missing", "it is no stream, which could go on"
    kept.json("restore", "data", "--from", "s", "--wait")
    assert kept.path("data").read_bytes() == old


def test_a_volume_that_is_open_is_left_alone(kept: Daemon) -> None:
    with open(kept.path("data"), "rb"):
        answer = kept.ctl("restore", "data", "--from", "s")
        assert (answer.status, answer.code) == (3, "volume_open")
    assert [volume["name"] for volume in kept.json("print")["volumes"]] == ["data", "s"]
    assert kept.ctl("restore", "data", "--from", "s", "--range", "4M:4K").code == "bad_size"
    assert kept.ctl("restore", "data", "--from", "s", "--range", "4M").code == "bad_size"


def test_bytes_of_a_snapshot_are_written_to_standard_output(kept: Daemon) -> None:
    old = kept.path("s").read_bytes()
    assert cat(kept, "s") == old
    assert cat(kept, "s", "--range", "100:5000") == old[100:5100]


@needs_program("fincore")
def test_what_was_read_is_not_left_in_the_page_cache(kept: Daemon, tmp_path: Path) -> None:
    def cached(path: Path) -> int:
        shown = subprocess.run(["fincore", "-bno", "RES", path], capture_output=True, text=True, check=True).stdout
        return int(shown)

    kept.json("snapsync", "s", "--wait")
    with open(tmp_path / "s", "rb") as plex:
        os.fsync(plex.fileno())  # what is not on its disk yet cannot be given up
    cat(kept, "s")
    assert cached(kept.path("s")) == 0
    assert cached(tmp_path / "s") == 0, "nor what the daemon read for it"


def test_nights_go_by_rules_and_what_is_open_stays(daemon: Daemon, tmp_path: Path) -> None:
    daemon.make("data", MIB, tmp_path / "a")
    daemon.make("other", MIB, tmp_path / "o")
    daemon.json("snapshot", "other", "--instant", tmp_path / "theirs", "--name", "theirs")
    for number in range(4):
        daemon.json("snapshot", "data", "--instant", tmp_path / f"s{number}", "--name", f"s{number}")
    with open(daemon.path("s0"), "rb"):
        foretold = daemon.json("prune", "data", "--keep-last", "2", "--dry-run")
        assert foretold["removed"] == ["s0", "s1"]
        assert len(daemon.json("print")["volumes"]) == 7
        shown = daemon.json("prune", "data", "--keep-last", "2")
    assert shown["removed"] == ["s1"] and [each["name"] for each in shown["left"]] == ["s0"]
    assert sorted(v["name"] for v in daemon.json("print")["volumes"]) == ["data", "other", "s0", "s2", "s3", "theirs"]
    assert not (tmp_path / "s1").exists() and (tmp_path / "theirs").exists()
    assert daemon.ctl("prune", "data").code == "bad_request", "no rule is no wish to lose all"
    assert daemon.ctl("prune", "s2", "--keep-last", "1").code == "bad_request"


def test_a_night_has_its_date_in_its_name(daemon: Daemon, tmp_path: Path) -> None:
    daemon.make("data", MIB, tmp_path / "a")
    taken = daemon.json("snapshot", "data", "--instant", tmp_path / "s", "--name", "%v-%Y%m%d-%H%M")["volume"]
    assert taken["name"].startswith("data-20") and taken["taken"] > 1e9
