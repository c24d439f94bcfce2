"""What an admin types on the first day, through the real daemon and its fmrctl."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.harness import (
    MIB,
    Daemon,
    Loops,
    needs_fuse,
    needs_loops,
    needs_program,
    open_file,
    tool,
    until,
    write_at,
)
from tests.e2e.test_told import on_a_terminal

pytestmark = needs_fuse


@pytest.fixture
def plexes(tmp_path: Path) -> list[Path]:
    return [tmp_path / "a.img", tmp_path / "b.img"]


def test_sizes_as_people_type_them(daemon: Daemon, plexes: list[Path], tmp_path: Path) -> None:
    assert daemon.make("data", "1.5M", *plexes)["length_bytes"] == 3 << 19
    assert daemon.json("grow", "data", "+1MiB")["volume"]["length_bytes"] == 5 << 19
    assert daemon.json("grow", "data", "3MB")["volume"]["length_bytes"] == 3002368
    assert daemon.json("set", "data", "rate=10MB")["volume"]["rate"] == 10_000_000
    (tmp_path / "disk.img").write_bytes(os.urandom(70_000))
    made = daemon.make("kept", "--from", tmp_path / "disk.img", tmp_path / "disk.img", tmp_path / "copy")
    assert made["length_bytes"] == 73728, "as long as the file, up to a block"
    assert daemon.ctl("make", "other", "max", tmp_path / "f").code == "bad_size", "a file has no end"


@needs_loops
def test_the_most_that_devices_hold(daemon: Daemon, loops: Loops, tmp_path: Path) -> None:
    small, large = loops.disk("small", 24 * MIB), loops.disk("large", 48 * MIB)
    length = daemon.make("data", "max", small, large)["length_bytes"]
    assert 23 * MIB < length < 24 * MIB
    daemon.json("stop", "data")
    daemon.json("remove", "data")
    daemon.make("data", "8M", large, options=("--force",))
    grown = daemon.json("grow", "data", "max")["volume"]["length_bytes"]
    assert 47 * MIB < grown < 48 * MIB
    assert "nothing to change" in daemon.json("grow", "data", "max")["notice"]


def test_several_names_and_globs(daemon: Daemon, tmp_path: Path) -> None:
    for name in ("web1", "web2", "mail"):
        daemon.make(name, "64K", tmp_path / f"{name}.a", tmp_path / f"{name}.b", tmp_path / f"{name}.c")
    shown = daemon.json("print", "web*")["volumes"]
    assert [volume["name"] for volume in shown] == ["web1", "web2"]
    assert [v["kstate"] for v in daemon.json("stop", "mail", "web?")["volumes"]] == ["DISABLED"] * 3
    assert len(daemon.json("start", "*")["volumes"]) == 3
    assert [p["state"] for p in daemon.json("plex", "det", "web1", "*-02", "web1-03")["plexes"]] == ["STALE"] * 2
    ended = daemon.json("plex", "att", "web1", "web1-0*", "--wait")["tasks"]
    assert [task["state"] for task in ended] == ["done"] * 3
    some = daemon.ctl("plex", "det", "web2", "web2-0?")
    assert (some.status, some.code, len(some.json["plexes"])) == (3, "last_plex", 2), "the others are detached"
    assert [(f["volume"], f["plex"]) for f in some.json["failed"]] == [("web2", "web2-03")]
    again = daemon.fmrctl("plex", "det", "web2", "web2-0?")
    assert again.returncode == 3 and again.stderr.count("last_plex") == 1, "people are told once"
    told = daemon.fmrctl("print", "wbe1")
    assert told.returncode == 1 and "did you mean web1" in told.stderr
    assert "did you mean" not in daemon.fmrctl("remove", "wbe1").stderr
    assert "did you mean" not in daemon.fmrctl("plex", "dis", "web1", "wbe1-01").stderr


def test_several_that_are_started_are_waited_for(daemon: Daemon, tmp_path: Path) -> None:
    for name in ("one", "two"):
        daemon.make(name, "1M", tmp_path / f"{name}.a", tmp_path / f"{name}.b")
        daemon.json("plex", "det", name, f"{name}-02")
        write_at(daemon.path(name), 0, b"x" * 4096)
    daemon.json("stop", "one", "two")
    started = daemon.json("start", "one", "two", "--wait")
    assert [volume["name"] for volume in started["volumes"]] == ["one", "two"]
    assert {task["state"] for task in started.get("tasks", [])} <= {"done"}
    until(lambda: daemon.states("one") == daemon.states("two") == ["ACTIVE", "ACTIVE"], "both are whole")


def test_all_or_none(daemon: Daemon, tmp_path: Path) -> None:
    for name in ("one", "two"):
        daemon.make(name, "64K", tmp_path / name)
    with open_file(daemon.path("two"), os.O_RDONLY):
        refused = daemon.fmrctl("stop", "--all")
        assert refused.returncode == 3 and f"held open, two by process {os.getpid()} (" in refused.stderr
        assert {v["kstate"] for v in daemon.json("print")["volumes"]} == {"ENABLED"}
    assert len(daemon.json("stop", "--all")["volumes"]) == len(daemon.json("start", "--all")["volumes"]) == 2


def test_what_gives_something_up_asks_on_a_terminal(daemon: Daemon, plexes: list[Path]) -> None:
    daemon.make("data", "64K", *plexes)
    daemon.make("more", "64K", plexes[0].with_name("c"))
    daemon.json("stop", "data", "more")
    for answer in (b"n\n", b"\n", b"\x04"):
        status, shown = on_a_terminal(daemon, "remove", "data", "--erase", typed=answer)
        assert (status, "not_confirmed" in shown, "erase its plex files" in shown) == (3, True, True), shown
    assert plexes[0].exists() and len(daemon.json("print")["volumes"]) == 2
    assert on_a_terminal(daemon, "remove", "data", "--erase", typed=b"y\n")[0] == 0
    assert not plexes[0].exists()
    assert on_a_terminal(daemon, "remove", "more", "--yes")[0] == 0
    daemon.make("data", "64K", *plexes)
    assert on_a_terminal(daemon, "plex", "dis", "data", "data-02", typed=b"no\n")[0] == 3
    assert daemon.fmrctl("plex", "dis", "data", "data-02").returncode == 0, "a program is taken at its word"


def test_a_bare_fmrctl_is_status_and_where_help_is(daemon: Daemon, plexes: list[Path]) -> None:
    daemon.make("data", "64K", *plexes)
    told = daemon.fmrctl()
    assert told.returncode == 0 and "data OK" in told.stdout and "fmrctl --help" in told.stderr
    daemon.json("plex", "det", "data", "data-02")
    assert daemon.fmrctl().returncode == 1


def test_a_plex_is_replaced_in_one_verb(daemon: Daemon, plexes: list[Path], tmp_path: Path) -> None:
    daemon.make("data", "1M", *plexes)
    write_at(daemon.path("data"), 0, b"x" * 4096)
    task = daemon.json("replace", "data", "data-02", tmp_path / "c.img", "--wait")["task"]
    assert (task["state"], task["reason"]["code"]) == ("done", "full_new_plex")
    assert [p["path"] for p in daemon.volume("data")["plexes"]] == [str(plexes[0]), str(tmp_path / "c.img")]
    daemon.json("stop", "data")
    assert (tmp_path / "c.img").read_bytes() == plexes[0].read_bytes()


def test_another_name_and_a_comment(daemon: Daemon, plexes: list[Path]) -> None:
    daemon.make("data", "64K", *plexes)
    write_at(daemon.path("data"), 0, b"x" * 4096)
    daemon.json("set", "data", "comment=the old one")
    assert daemon.ctl("rename", "data", "archive").code == "volume_running"
    daemon.json("stop", "data")
    daemon.json("rename", "data", "archive")
    daemon.json("start", "archive")
    daemon.restart()
    assert daemon.path("archive").read_bytes()[:4096] == b"x" * 4096 and not daemon.path("data").exists()
    assert daemon.volume("archive")["comment"] == "the old one"
    assert "the old one" in daemon.fmrctl("print", "archive").stdout


@needs_loops
@needs_program("mkfs.ext4", "sfdisk")
def test_loop_devices_are_known(daemon: Daemon, loops: Loops, plexes: list[Path]) -> None:
    daemon.make("data", "16M", *plexes)
    device = daemon.fmrctl("loop", "data", "--partscan").stdout.strip()
    loops.owned(device)
    assert daemon.json("loop", "data") == {"output_version": 1, "device": device, "notice":
                                           f"nothing to change: volume data is on {device}"}  # fmt: skip
    tool("sfdisk", "--no-reread", "--no-tell-kernel", device, input="label: dos\n2048,8192\n")
    daemon.json("grow", "data", "+16M")
    assert int(Path(f"/sys/block/{Path(device).name}/size").read_text()) * 512 == 32 * MIB, "it was told"
    tool("mkfs.ext4", "-q", device)
    where = loops.mount(device)
    for words in (("stop", "data"), ("remove", "data")):
        refused = daemon.fmrctl(*words)
        assert refused.returncode == 3 and f"{device}, mounted on {where}" in refused.stderr, refused.stderr
    assert f"{device} is mounted on {where}" in daemon.fmrctl("unloop", "data").stderr
    assert "used by" not in daemon.fmrctl("stop", "data").stderr
    (where / "file").touch()
    with open_file(where / "file", os.O_RDONLY):
        refused = daemon.fmrctl("stop", "data")
        assert f"{device}, mounted on {where}, used by process {os.getpid()} (" in refused.stderr, refused.stderr
    loops.umount(where)
    assert daemon.fmrctl("unloop", "data").stdout == f"{device} is free\n"
    loops.gone(device)
    until(lambda: daemon.volume("data")["open_count"] == 0, "the kernel has let go of it")
    daemon.json("stop", "data")


@needs_loops
@needs_program("mkfs.ext4")
def test_mount_fmrd_mounts_and_umount_lets_everything_go(
    daemon: Daemon, loops: Loops, plexes: list[Path], tmp_path: Path
) -> None:
    daemon.make("data", "16M", *plexes)
    tool("mkfs.ext4", "-q", "-F", daemon.path("data"))
    where = tmp_path / "mounted"
    where.mkdir()

    def helper(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "fmrd.front.ctl.hand.mounting", *words]
        environment = os.environ | {"FMRD_MOUNT": str(daemon.mount)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    done = helper("data", str(where), "-o", "rw,nofail,noatime")
    assert done.returncode == 0, done.stderr
    loops.mounted(where)
    (where / "file").write_text("kept")
    line = next(text for text in Path("/proc/self/mountinfo").read_text().splitlines() if f" {where} " in text)
    assert "noatime" in line and " ext4 " in line
    assert "mounted on" in daemon.fmrctl("stop", "data").stderr
    loops.umount(where)
    until(lambda: daemon.volume("data")["open_count"] == 0, "the loop device went with the mount")
    daemon.json("stop", "data")
    missing = helper("data", str(where), "-o", "wait=0")
    assert missing.returncode == 32 and "volume_missing" in missing.stderr
    daemon.json("start", "data")
    broken = helper("data", str(where), "-o", "fstype=xfs")
    assert broken.returncode == 32 and "mount_failed" in broken.stderr and "\\x0a" not in broken.stderr
    until(lambda: daemon.volume("data")["open_count"] == 0, "no loop device is left behind")
    assert helper("data").returncode == 1


@needs_loops
@needs_program("mkfs.ext4")
def test_who_come_at_once_get_one_device(daemon: Daemon, loops: Loops, plexes: list[Path], tmp_path: Path) -> None:
    """Two lines of fstab, say, that systemd mounts side by side: a file system on two devices destroys itself."""
    daemon.make("data", "16M", *plexes)
    tool("mkfs.ext4", "-q", "-F", daemon.path("data"))
    environment = os.environ | {"FMRD_MOUNT": str(daemon.mount), "FMRD_LOOP": str(tmp_path / "links")}
    where = [tmp_path / "one", tmp_path / "two"]
    commands = [[sys.executable, "-P", "-m", "fmrd.front.ctl.hand.mounting", "data", str(each)] for each in where]
    commands.append([str(Path(__file__).parents[2] / "systemd" / "fmrd-loop"), "start", "data"])
    with open_file(daemon.path("data"), os.O_RDONLY) as one_of_them:
        fcntl.flock(one_of_them, fcntl.LOCK_EX)
        for each in where:
            each.mkdir()
        inode = os.fstat(one_of_them).st_ino

        def waiting() -> int:
            lines = Path("/proc/locks").read_text().splitlines()
            return sum("-> FLOCK" in line and f":{inode} " in line for line in lines)

        started = [subprocess.Popen(command, env=environment) for command in commands]
        until(lambda: waiting() == len(commands), "all of them wait until they are alone")
    assert [each.wait(60) for each in started] == [0, 0, 0]
    for each in where:
        loops.mounted(each)
    device = os.readlink(tmp_path / "links" / "data")
    loops.owned(device)
    listed = tool("losetup", "--noheadings", "--output", "NAME", "--associated", str(daemon.path("data"))).split()
    assert listed == [device], "there is one"
    assert Path("/proc/self/mounts").read_text().count(f"{device} ") == 2
    for each in where:
        loops.umount(each)


@needs_loops
def test_a_device_that_is_there_is_as_it_is_wanted_or_refused(
    daemon: Daemon, loops: Loops, plexes: list[Path], tmp_path: Path
) -> None:
    daemon.make("data", "16M", *plexes)
    device = daemon.fmrctl("loop", "data", "--read-only").stdout.strip()
    loops.owned(device)
    assert daemon.json("loop", "data", "--read-only")["device"] == device
    refused = daemon.ctl("loop", "data")
    assert (refused.status, refused.code) == (3, "volume_open") and "read-only" in refused.err
    daemon.json("unloop", "data")
    loops.gone(device)
    device = daemon.fmrctl("loop", "data").stdout.strip()
    loops.owned(device)
    refused = daemon.ctl("loop", "data", "--read-only")
    assert (refused.status, refused.code) == (3, "volume_open") and "can be written" in refused.err
    daemon.json("unloop", "data")
    loops.gone(device)
    part = tool("losetup", "--find", "--show", "--offset", "4096", str(daemon.path("data"))).strip()
    loops.owned(part)
    device = daemon.fmrctl("loop", "data").stdout.strip()
    loops.owned(device)
    assert device != part, "one that begins elsewhere is not the volume"


def test_all_are_started_or_none(daemon: Daemon, tmp_path: Path) -> None:
    for name in ("one", "three", "two"):
        daemon.make(name, "64K", tmp_path / name)
    daemon.json("stop", "--all")
    (tmp_path / "two").rename(tmp_path / "away")
    answer = daemon.ctl("start", "--all")
    assert answer.code == "not_all" and "two" in answer.err
    assert {v["kstate"] for v in daemon.json("print")["volumes"]} == {"DISABLED"}
    (tmp_path / "away").rename(tmp_path / "two")
    assert [v["name"] for v in daemon.json("start", "--all")["volumes"]] == ["one", "three", "two"]


def test_several_plexes_are_prepared_in_one_verb(daemon: Daemon, plexes: list[Path], tmp_path: Path) -> None:
    daemon.make("data", "1M", *plexes)
    write_at(daemon.path("data"), 0, b"x" * 4096)
    taken = tmp_path / "s2"
    taken.write_bytes(b"somebody's" * 1000)
    refused = daemon.ctl("snapstart", "data", tmp_path / "s%n", "--count", 2)
    assert refused.code == "plex_exists" or refused.status == 3, refused
    assert len(daemon.volume("data")["plexes"]) == 2 and not (tmp_path / "s1").exists(), "none was begun"
    taken.unlink()
    assert len(daemon.json("snapstart", "data", tmp_path / "s%n", "--count", 2, "--dry-run")["decisions"]) == 2
    begun = daemon.json("snapstart", "data", tmp_path / "s%n", "--count", 2, "--tag", "pair")["tasks"]
    assert [(task["type"], task["plex"], task["tag"]) for task in begun] == [
        ("SNAPATT", "data-03", "pair"), ("SNAPATT", "data-04", "pair"),
    ]  # fmt: skip
    assert [p["state"] for p in daemon.json("snapwait", "data", "--count", 2)["plexes"]] == ["SNAPDONE", "SNAPDONE"]
    assert daemon.ctl("snapwait", "data", "--count", 3).code == "snap_missing"
    assert len(daemon.json("snapshot", "data", "--nmirror", 2)["volume"]["plexes"]) == 2
    for wrong in (("a", "--count", 2), ("a", "b", "--count", 3), ("a", "a")):
        assert daemon.ctl("snapstart", "data", *wrong).status == 2
    assert len(daemon.json("snapstart", "data", tmp_path / "t1", tmp_path / "t2", "--wait")["tasks"]) == 2
