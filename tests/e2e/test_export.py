"""systemd/fmrd-export, for real: a volume is read and written by another program through nbdkit."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.harness import BIN, MIB, Daemon, needs_fuse, needs_program, until

HELPER = Path(__file__).parents[2] / "systemd" / "fmrd-export"

pytestmark = [needs_fuse, needs_program("nbdkit", "nbdcopy", "nbdinfo", "nbdfuse")]


def environment(daemon: Daemon) -> dict[str, str]:
    return os.environ | {
        "FMRD_MOUNT": str(daemon.mount), "FMRD_SOCKET": str(daemon.socket), "FMRD_EXPORT_WAIT": "0",
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }  # fmt: skip


def refused(daemon: Daemon, *words: str) -> str:
    """What it says instead of serving."""
    done = subprocess.run([HELPER, *words], env=environment(daemon), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done
    return done.stderr


@contextmanager
def exported(daemon: Daemon, volume: str, *words: str) -> Iterator[str]:
    """Its address."""
    place = daemon.base / f"{volume}.sock"
    command = [str(HELPER), volume, "--unix", str(place), *words]
    with subprocess.Popen(command, env=environment(daemon), stderr=subprocess.DEVNULL) as process:
        try:
            until(place.is_socket, "nbdkit listens")
            yield f"nbd+unix:///{volume}?socket={place}"
        finally:
            process.terminate()


@contextmanager
def elsewhere(where: Path, address: str) -> Iterator[Path]:
    """One client that keeps its connection; what it sees."""
    where.mkdir()
    disk = where / "disk"
    with subprocess.Popen(["nbdfuse", "--connections=1", str(disk), address]) as process:
        try:
            until(disk.exists, "nbdfuse serves")
            yield disk
        finally:
            tool("fusermount3", "-u", where)
            process.wait(60)


def tool(*words: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(word) for word in words], capture_output=True, timeout=60)


@pytest.fixture
def data(daemon: Daemon) -> bytes:
    """What is on volume data."""
    daemon.make("data", 4 * MIB, daemon.base / "a", daemon.base / "b")
    content = os.urandom(4 * MIB)
    with open(daemon.mount / "data", "r+b") as file:
        file.write(content)
        os.fsync(file)
    return content


def test_a_snapshot_is_read_elsewhere_and_cannot_be_written(daemon: Daemon, data: bytes) -> None:
    daemon.json("snapshot", "data", "--name", "night", "--instant", daemon.base / "night.img")
    copy = daemon.base / "copy"
    with exported(daemon, "night") as address:
        assert tool("nbdcopy", address, copy).returncode == 0
        assert copy.read_bytes() == data
        refusal = tool("nbdcopy", copy, address)
        assert refusal.returncode and b"read-only" in refusal.stderr


def test_only_the_volume_itself_has_that_name(daemon: Daemon, data: bytes) -> None:
    with exported(daemon, "data") as address:
        assert tool("nbdinfo", address.replace("/data?", "/other?")).returncode


def test_a_writable_one_takes_one_client_and_its_writes_reach_every_plex(daemon: Daemon, data: bytes) -> None:
    changed = daemon.base / "changed"
    changed.write_bytes(os.urandom(4 * MIB))
    with exported(daemon, "data", "--writable") as address:
        assert tool("nbdcopy", "--connections=1", "--flush", changed, address).returncode == 0
        with elsewhere(daemon.base / "first", address) as disk:
            assert disk.read_bytes() == changed.read_bytes()
            assert tool("nbdinfo", address).returncode, "a second client"
    daemon.json("stop", "data")
    for plex in "ab":
        assert (daemon.base / plex).read_bytes()[: 4 * MIB] == changed.read_bytes()


def test_a_volume_in_use_here_is_not_for_others_to_write(daemon: Daemon, data: bytes) -> None:
    with open(daemon.mount / "data", "rb"):
        assert "volume data is in use here" in refused(daemon, "data", "--writable")


def test_the_same_place_is_not_taken_twice(daemon: Daemon, data: bytes) -> None:
    with exported(daemon, "data") as address:
        assert "exported" in refused(daemon, "data", "--unix", str(daemon.base / "data.sock"))
        assert tool("nbdinfo", address).returncode == 0, "the first one goes on"


def test_what_cannot_be_served_is_named(daemon: Daemon) -> None:
    assert "is volume data started?" in refused(daemon, "data")
    assert "is no volume's name" in refused(daemon, "../data")


def test_over_a_network_only_with_certificates(daemon: Daemon, data: bytes) -> None:
    assert "--tls" in refused(daemon, "data", "--listen", "127.0.0.1:0")
    assert "there is no" in refused(daemon, "data", "--listen", "127.0.0.1:0", "--tls", str(daemon.base))
