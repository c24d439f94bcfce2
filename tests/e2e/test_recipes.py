"""The recipes of the README, as they stand there: run by a shell, with other places for its paths."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.e2e.harness import BIN, MIB, REGION, Daemon, needs_fuse, needs_program

pytestmark = [needs_fuse]

README = (Path(__file__).parents[2] / "README.md").read_text()


def recipe(title: str) -> str:
    """The example that begins with that comment."""
    [found] = [each for each in README.split("```")[1::2] if each.startswith(f"\n# {title}\n")]
    return found


class Shell:
    """fmrctl speaks to ``near``; 'ssh second' is this machine, and ``far``."""

    def __init__(self, near: Daemon, far: Daemon, base: Path) -> None:
        self.near = near
        self.base = base
        ssh = base / "bin" / "ssh"
        ssh.parent.mkdir()
        ssh.write_text(f'#!/bin/sh\nshift\nFMRD_SOCKET={far.socket} exec "$@"\n')
        ssh.chmod(stat.S_IRWXU)
        for name in ("snapshots", "backup"):
            (base / name).mkdir()

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        places = {"/srv/snapshots": self.base / "snapshots", "/backup": self.base / "backup",
                  "/run/fmrd/volumes": self.near.mount}  # fmt: skip
        for path, place in places.items():
            script = script.replace(path, str(place))
        environment = os.environ | {"FMRD_SOCKET": str(self.near.socket)}
        environment["PATH"] = f"{self.base / 'bin'}:{BIN}:{os.environ['PATH']}"
        command = ["bash", "-euo", "pipefail", "-c", script]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    def works(self, title: str) -> str:
        done = self.run(recipe(title))
        assert done.returncode == 0, done.stderr + self.near.log()
        return done.stdout


@pytest.fixture
def far(tmp_path: Path) -> Daemon:
    (tmp_path / "far").mkdir()
    return Daemon(tmp_path / "far")


@pytest.fixture
def shell(daemon: Daemon, far: Daemon, tmp_path: Path) -> Shell:
    daemon.make("data", 4 * MIB, tmp_path / "a", tmp_path / "b")
    return Shell(daemon, far, tmp_path)


def write(daemon: Daemon, volume: str, offset: int, data: bytes) -> None:
    with open(daemon.path(volume), "r+b") as file:
        file.seek(offset)
        file.write(data)
        os.fsync(file.fileno())


def names(daemon: Daemon) -> list[str]:
    return [volume["name"] for volume in daemon.json("print")["volumes"] if volume["snapshot_of"]]


def snap(shell: Shell, name: str) -> None:
    shell.near.json("snapshot", "data", "--instant", shell.base / name, "--name", name)


def test_every_night(shell: Shell) -> None:
    for number in range(4):
        shell.near.json("snapshot", "data", "--instant", shell.base / f"o{number}", "--name", f"old{number}")
    shell.works("every night")
    left = names(shell.near)
    assert len(left) == 2 and "old3" in left and [name for name in left if name.startswith("data-2")]


def test_a_second_machine_follows_through_cuts_and_kills(shell: Shell, far: Daemon, tmp_path: Path) -> None:
    far.start()
    try:
        far.make("data", 4 * MIB, tmp_path / "far" / "p")
        for number in range(3):
            write(shell.near, "data", number * 7 * REGION, os.urandom(3 * REGION))
            if number == 1:
                shell.near.kill()
                shell.near.umount()
                shell.near.start()
            if number == 2:
                far.kill()
                far.umount()
                far.start()
            shell.works("every five minutes")
            far.in_sync("data")
            assert far.path("data").read_bytes() == shell.near.path("data").read_bytes()
            assert len(names(shell.near)) == 1
        write(shell.near, "data", 0, os.urandom(20 * REGION))
        snap(shell, "cut")
        [old] = [name for name in names(shell.near) if name != "cut"]
        before = far.path("data").read_bytes()
        done = shell.run(
            f"fmrctl send cut --since {old} | head -c {10 * REGION} | ssh second fmrctl receive data --wait"
        )
        assert done.returncode != 0 and far.path("data").read_bytes() == before
        shell.works("after a cut")
        assert far.path("data").read_bytes() == shell.near.path("data").read_bytes()
    finally:
        far.clean_up()


def test_a_stream_in_a_file(shell: Shell) -> None:
    write(shell.near, "data", 0, b"monday")
    snap(shell, "data-monday")
    write(shell.near, "data", 0, b"sunday")
    assert "is whole" in shell.works("into a file, and back")
    assert shell.near.path("data").read_bytes()[:6] == b"monday"


@needs_program("qemu-img", "gzip")
def test_a_whole_disk(shell: Shell) -> None:
    write(shell.near, "data", 5 * REGION, b"monday" * 1000)
    snap(shell, "data-monday")
    shell.works("a whole disk")
    whole = shell.near.path("data").read_bytes()
    compare = "qemu-img compare -f raw -F qcow2 /run/fmrd/volumes/data-monday /backup/data-monday.qcow2"
    assert "identical" in shell.run(compare).stdout
    with subprocess.Popen(
        ["gzip", "-dc", shell.base / "backup" / "data-monday.gz"], stdout=subprocess.PIPE
    ) as unpacked:
        assert unpacked.stdout is not None and unpacked.stdout.read() == whole


@needs_program("fallocate", "dd")
def test_only_what_changed(shell: Shell) -> None:
    write(shell.near, "data", 0, os.urandom(10 * REGION))
    snap(shell, "data-monday")
    shutil.copy(shell.near.path("data-monday"), shell.base / "backup" / "data.img")
    write(shell.near, "data", 3 * REGION + 5, b"tuesday" * 20000)
    write(shell.near, "data", 40 * REGION, b"more")
    snap(shell, "data-tuesday")
    shell.works("only what changed, onto a copy of data-monday")
    assert (shell.base / "backup" / "data.img").read_bytes() == shell.near.path("data-tuesday").read_bytes()


def files_of(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("RESTIC_PASSWORD", "x")
    monkeypatch.setenv("RESTIC_REPOSITORY", str(shell.base / "backup" / "restic"))
    monkeypatch.setenv("BORG_REPO", str(shell.base / "backup" / "borg"))
    monkeypatch.setenv("HOME", str(shell.base))
    snap(shell, "data-monday")
    return str(shell.near.path("data-monday"))


@needs_program("restic")
def test_restic_takes_the_file_of_a_snapshot(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    write(shell.near, "data", 0, os.urandom(10 * REGION))
    path = files_of(shell, monkeypatch)
    backup = "restic init && fmrctl cat data-monday | restic backup --stdin --stdin-filename data"
    done = shell.run(f"{backup} && restic dump latest /data | cmp - {path}")
    assert done.returncode == 0, done.stderr


@needs_program("borg")
def test_borg_takes_the_file_of_a_snapshot(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    write(shell.near, "data", 0, os.urandom(10 * REGION))
    path = files_of(shell, monkeypatch)
    done = shell.run(f"borg init -e none && borg create --read-special ::monday {path} && borg check --verify-data")
    assert done.returncode == 0, done.stderr
