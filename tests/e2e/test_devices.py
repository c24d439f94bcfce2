"""Block devices as plexes: the data from byte 0, the DCO at the tail, nobody else may open them."""

import contextlib
import fcntl
import os
from pathlib import Path

import pytest

from tests.backing.disks import run
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

pytestmark = [needs_fuse, needs_loops]


def test_a_device_and_a_file_mirror_each_other(daemon: Daemon, loops: Loops, tmp_path: Path) -> None:
    disk, file = Path(loops.disk("disk", 32 * MIB)), tmp_path / "b.img"
    daemon.make("data", "16M", disk, file, options=("--force", "--wait"))
    data = daemon.path("data")
    write_at(data, 0, b"both kinds")
    daemon.json("plex", "det", "data", "data-01")
    for region in (4, 5, 200):
        write_at(data, region * REGION, b"missed by the device")
    task = daemon.attach("data", str(disk))
    assert (task["reason"]["code"], task["total_regions"]) == ("fast", 3)
    daemon.json("stop", "data")
    assert same_bytes(disk, file, length=16 * MIB)
    assert not Path(f"{disk}.dco").exists()


def test_two_devices_keep_their_maps_over_a_crash(daemon: Daemon, loops: Loops) -> None:
    disks = [Path(loops.disk(name, 32 * MIB)) for name in ("one", "two")]
    daemon.make("data", "16M", *disks, options=("--force", "--wait"))
    daemon.json("set", "data", "auto_attach=off")
    daemon.json("plex", "det", "data", "data-02")
    write_at(daemon.path("data"), 9 * REGION, b"missed")
    daemon.kill()
    daemon.start()
    assert daemon.attach("data", "data-02")["reason"]["code"] == "fast"
    assert read_at(disks[1], 9 * REGION, 6) == b"missed"
    shown = daemon.json("dump", disks[1])["dco"]["volumes"][0]
    assert [plex["path"] for plex in shown["plexes"]] == [str(disk) for disk in disks]


def test_a_device_without_room_for_the_dco_is_refused(daemon: Daemon, loops: Loops) -> None:
    answer = daemon.ctl("make", "data", "16M", loops.disk("disk", 16 * MIB), "--force")
    assert (answer.status, answer.code) == (1, "plex_too_short")
    assert daemon.json("print")["volumes"] == []


@needs_program("flock")
def test_a_device_takes_part_whoever_looks_at_it_and_lets_them_look(daemon: Daemon, loops: Loops) -> None:
    """As udev does, which has a shared flock on a device while it probes it."""
    disks = [Path(loops.disk(name, 32 * MIB)) for name in ("one", "two")]
    with contextlib.ExitStack() as looking:
        for disk in disks:
            file = looking.enter_context(open(disk, "rb"))
            fcntl.flock(file, fcntl.LOCK_SH)
        daemon.make("data", "16M", *disks, options=("--force", "--wait"))
        daemon.json("plex", "det", "data", "data-02")
        write_at(daemon.path("data"), 9 * REGION, b"missed")
        daemon.restart()
        daemon.in_sync("data")
    for disk in disks:
        tool("flock", "--shared", "--nonblock", disk, "true")
        tool("flock", "--exclusive", "--nonblock", disk, "true")
    assert read_at(disks[1], 9 * REGION, 6) == b"missed"
    assert daemon.ctl("make", "other", "16M", disks[0], "--force").code == "refused_in_use", "O_EXCL is its lock"


def test_a_device_in_use_is_refused(daemon: Daemon, loops: Loops, tmp_path: Path) -> None:
    disk = loops.disk("disk", 32 * MIB)
    held = os.open(disk, os.O_RDONLY | os.O_EXCL)
    try:
        answer = daemon.ctl("make", "data", "16M", disk, "--force")
    finally:
        os.close(held)
    assert (answer.status, answer.code) == (3, "refused_in_use")
    daemon.make("data", "16M", disk)
    assert daemon.ctl("make", "other", "16M", disk, "--force").code == "refused_in_use"


VERBS = [
    ("make", "other", "16M", "{}"),
    ("plex", "add", "data", "{}"),
    ("snapstart", "data", "{}"),
    ("snapshot", "data", "--instant", "{}"),
]


@pytest.mark.parametrize("verb", VERBS, ids=lambda words: " ".join(words[:2]))
def test_a_file_system_is_not_overwritten_unasked(
    daemon: Daemon, loops: Loops, tmp_path: Path, verb: tuple[str, ...]
) -> None:
    """Nor with --force where it is mounted; a dry run says the same."""
    daemon.make("data", "16M", tmp_path / "first")
    disk = loops.disk("disk", 32 * MIB)
    words = [word.format(disk) for word in verb]
    run("mkfs.ext4", "-q", "-F", "-L", "precious", disk)
    for options in ((), ("--dry-run",)):
        answer = daemon.ctl(*words, *options)
        assert (answer.status, answer.code) == (3, "refused_has_data")
        assert "ext4" in answer.err and "precious" in answer.err and "--force" in answer.err
    mounted = tmp_path / "mnt"
    mounted.mkdir()
    run("mount", disk, mounted)
    try:
        for options in (("--force",), ("--force", "--dry-run")):
            answer = daemon.ctl(*words, *options)
            assert (answer.status, answer.code) == (3, "refused_in_use") and str(mounted) in answer.err
    finally:
        run("umount", mounted)
    daemon.json(*words, "--force", "--dry-run")
    run("fsck.ext4", "-n", "-f", disk)
    daemon.json(*words, "--force")


@pytest.mark.parametrize("verb", VERBS, ids=lambda words: " ".join(words[:2]))
def test_a_blank_device_is_taken(daemon: Daemon, loops: Loops, tmp_path: Path, verb: tuple[str, ...]) -> None:
    daemon.make("data", "16M", tmp_path / "first")
    daemon.json(*[word.format(loops.disk("disk", 32 * MIB)) for word in verb])


def test_no_file_is_made_below_dev(daemon: Daemon) -> None:
    answer = daemon.ctl("make", "data", "16M", "/dev/fmrd-no-such-disk1", "--force")
    assert (answer.status, answer.code) == (2, "not_a_plex") and not Path("/dev/fmrd-no-such-disk1").exists()
