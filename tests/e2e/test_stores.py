"""Instant snapshots of several volumes share a store: a directory with a quota."""

from pathlib import Path

import pytest

from tests.e2e.harness import (
    DOORS,
    MIB,
    REGION,
    Daemon,
    Loops,
    needs_fuse,
    needs_loops,
    needs_program,
    read_at,
    tool,
    write_at,
)

pytestmark = needs_fuse

SIZE = 4 * MIB
REGIONS = SIZE // REGION


def fill(path: Path, first: int, count: int, byte: bytes) -> None:
    for region in range(first, first + count):
        write_at(path, region * REGION, byte * REGION, sync=False)


@pytest.fixture
def door() -> str:
    """No door makes a difference here."""
    return DOORS[0]


@pytest.fixture
def two(daemon: Daemon, tmp_path: Path) -> Path:
    """Two volumes with data, and where a store may lie."""
    for name in ("one", "two"):
        daemon.make(name, SIZE, tmp_path / f"{name}-a.img", tmp_path / f"{name}-b.img")
        fill(daemon.path(name), 0, REGIONS, b"0")
    return tmp_path / "store"


def used(daemon: Daemon) -> int:
    return int(daemon.json("store", "print", "s")["stores"][0]["used_bytes"])


def take(daemon: Daemon, volume: str, name: str) -> bytes:
    """Return what it must hold for good."""
    daemon.json("snapshot", volume, "--instant", "--store", "s", "--name", name)
    return daemon.path(volume).read_bytes()


def take_four(daemon: Daemon) -> dict[str, bytes]:
    """Two of each volume, which keep 512 KiB each; with their copies of the DCO that takes about 4.3 MiB."""
    held = {}
    for volume, name, byte in (("one", "a", b"1"), ("two", "b", b"1"), ("one", "c", b"2"), ("two", "d", b"2")):
        held[name] = take(daemon, volume, name)
        fill(daemon.path(volume), 0, 8, byte)
    return held


def invalid(daemon: Daemon) -> list[str]:
    return [volume["name"] for volume in daemon.json("print")["volumes"] if volume["lost"]]


def events(daemon: Daemon, kind: str) -> list[str]:
    return [event["message"] for event in daemon.ask("events")["events"] if event["kind"] == kind]


def test_the_oldest_snapshot_is_given_up_when_a_store_is_full_and_no_other(daemon: Daemon, two: Path) -> None:
    daemon.json("store", "add", "s", two, "size=5M")
    held = take_four(daemon)
    assert not invalid(daemon) and 3 * MIB < used(daemon) <= 5 * MIB
    fill(daemon.path("two"), 8, 10, b"3")
    assert invalid(daemon) == ["a"] and used(daemon) <= 5 * MIB
    assert daemon.path("two").read_bytes()[8 * REGION :] == b"3" * 10 * REGION + b"0" * (REGIONS - 18) * REGION
    assert daemon.path("one").read_bytes() == b"2" * 8 * REGION + b"0" * (REGIONS - 8) * REGION
    with pytest.raises(OSError, match="Input/output error"):
        read_at(daemon.path("a"), 0, 512)
    [told] = events(daemon, "snapshot_given_up")
    assert "snapshot a of volume one is invalid: store s was full, and it was the oldest there" in told
    assert "INVALID" in next(line for line in daemon.fmrctl("status").stdout.splitlines() if line.startswith("a "))
    assert told in daemon.fmrctl("history").stdout
    shown = daemon.json("store", "print", "s")["stores"][0]["snapshots"]
    assert [(each["name"], each["valid"]) for each in shown] == [("a", False), ("b", True), ("c", True), ("d", True)]
    assert shown[0]["held_bytes"] == 0, "its room is given back"
    for again in (daemon.stop, daemon.kill):
        again()
        daemon.start()
        for name in "bcd":
            assert daemon.path(name).read_bytes() == held[name], f"{name} after {again.__name__}"
        assert invalid(daemon) == ["a"]


def test_after_kill_9_a_snapshot_shows_what_it_held_or_says_that_it_is_invalid(daemon: Daemon, two: Path) -> None:
    daemon.json("store", "add", "s", two, "size=5M")
    held = take_four(daemon)
    for round_ in range(2):
        fill(daemon.path("one"), 8 + round_ * 8, 8, b"4")
        fill(daemon.path("two"), 8 + round_ * 8, 4, b"4")
        daemon.kill()
        daemon.start()
        gone = invalid(daemon)
        assert used(daemon) <= 5 * MIB
        for name in set(held) - set(gone):
            assert daemon.path(name).read_bytes() == held[name], f"{name} in round {round_}"
        for name in gone:
            with pytest.raises(OSError, match="Input/output error"):
                read_at(daemon.path(name), 0, 512)
    assert gone[:2] == ["a", "b"], "the oldest ones"


def test_a_store_grows_by_itself_and_remembers_it(daemon: Daemon, two: Path) -> None:
    daemon.json("store", "add", "s", two, "size=2M", "autogrow=+1M:6M", "high_water=80%")
    held = take_four(daemon)
    assert events(daemon, "store_grown") and not invalid(daemon)
    grown = daemon.json("store", "list")["stores"][0]["size_bytes"]
    assert 4 * MIB < grown <= 6 * MIB and grown % MIB == 0
    daemon.stop()
    daemon.start()
    assert daemon.json("store", "list")["stores"][0]["size_bytes"] == grown
    fill(daemon.path("one"), 8, 24, b"5")
    fill(daemon.path("two"), 8, 8, b"5")
    assert daemon.json("store", "list")["stores"][0]["size_bytes"] == 6 * MIB, "and no further"
    assert events(daemon, "store_filling") and invalid(daemon)[:1] == ["a"]
    assert daemon.path("d").read_bytes() == held["d"]


def test_what_would_give_something_up_is_foretold_or_refused(daemon: Daemon, two: Path) -> None:
    assert daemon.ctl("snapshot", "one", "--store", "s").code == "store_missing"
    assert "would make" in daemon.json("store", "add", "s", two, "size=2M", "--dry-run")["notice"]
    assert not two.exists() and not daemon.json("store", "list")["stores"]
    daemon.json("store", "add", "s", two, "2M")
    assert (two.stat().st_mode & 0o777, daemon.ctl("store", "add", "s", two, "2M").code) == (0o700, "store_exists")
    foretold = daemon.json("snapshot", "one", "--instant", "--store", "s", "--name", "a", "--dry-run")["notice"]
    assert str(two / "a.plex") in foretold and not list(two.iterdir())
    held = take(daemon, "one", "a")
    assert ((two / "a.plex").stat().st_mode & 0o777) == 0o600
    fill(daemon.path("one"), 0, 8, b"1")
    for words in (("snapback", "a"), ("snapback", "a", "--from-replica"), ("refresh", "a"), ("snapsync", "a")):
        answer = daemon.ctl(*words)
        assert (answer.status, answer.code) == (3, "snap_in_store"), words
    for words in (("store", "resize", "s", "1M"), ("store", "remove", "s")):
        answer = daemon.ctl(*words)
        assert (answer.status, answer.code) == (3, "store_in_use"), words
    assert take(daemon, "two", "b") and daemon.ctl("snapshot", "two", "--store", "s").code == "store_full"
    assert not invalid(daemon), "nobody is given up for a new one"
    with pytest.raises(OSError, match="No space left"):
        fill(daemon.path("b"), 0, REGIONS, b"9")
    assert not invalid(daemon), "nor for what is written to a snapshot"
    daemon.json("restore", "one", "--from", "a", "--wait")
    assert daemon.path("one").read_bytes() == held
    for name in ("a", "b"):
        daemon.json("stop", name)
        daemon.json("remove", name, "--erase")
    daemon.json("store", "remove", "s")
    assert not daemon.json("store", "list")["stores"] and not list(two.iterdir())


@needs_loops
@needs_program("mkfs.ext4")
def test_a_file_system_that_is_full_counts_as_a_store_that_is(daemon: Daemon, two: Path, loops: Loops) -> None:
    disk = loops.disk("small.img", 6 * MIB)
    tool("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", disk)
    daemon.json("store", "add", "s", loops.mount(disk) / "store", "size=1G")
    held = take_four(daemon)
    fill(daemon.path("two"), 8, 24, b"3")
    gone = invalid(daemon)
    assert gone and gone == ["a", "b", "c"][: len(gone)], "the oldest ones"
    assert "the file system of store s was full" in events(daemon, "snapshot_given_up")[0]
    assert daemon.path("two").read_bytes()[8 * REGION : 32 * REGION] == b"3" * 24 * REGION
    assert daemon.path("d").read_bytes() == held["d"]
