"""changed, send and receive through a real daemon: what differs is named, and the far side becomes the same."""

import os
import subprocess
from pathlib import Path

from tests.e2e.harness import BIN, MIB, REGION, Daemon, needs_fuse

pytestmark = [needs_fuse]


def send(daemon: Daemon, *words: str) -> bytes:
    """The stream of 'fmrctl send'."""
    done = run(daemon, "send", *words)
    assert done.returncode == 0, done.stderr.decode() + daemon.log()
    return done.stdout


def run(daemon: Daemon, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"FMRD_SOCKET": str(daemon.socket)}
    return subprocess.run(
        [str(BIN / "fmrctl"), *words], input=stdin, env=environment, capture_output=True, timeout=60
    )  # fmt: skip


def receive(daemon: Daemon, volume: str, stream: bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
    return run(daemon, "receive", volume, "--wait", *words, stdin=stream)


def write(daemon: Daemon, volume: str, offset: int, data: bytes) -> None:
    with open(daemon.path(volume), "r+b") as file:
        file.seek(offset)
        file.write(data)
        os.fsync(file.fileno())


def content(daemon: Daemon, volume: str) -> bytes:
    return daemon.path(volume).read_bytes()


def test_what_changed_is_named_and_sent_and_the_far_volume_becomes_that(daemon: Daemon, tmp_path: Path) -> None:
    daemon.make("near", 8 * MIB, tmp_path / "a")
    daemon.make("far", 8 * MIB, tmp_path / "b", tmp_path / "c")
    write(daemon, "near", 3 * REGION + 7, b"one" * 1000)
    daemon.json("snapshot", "near", "--instant", tmp_path / "s1", "--name", "s1")
    done = receive(daemon, "far", send(daemon, "s1"))
    assert done.returncode == 0, done.stderr.decode() + daemon.log()
    assert content(daemon, "far") == content(daemon, "s1") == content(daemon, "near")

    write(daemon, "near", 20 * REGION - 5, b"two" * 10)
    daemon.json("snapshot", "near", "--instant", tmp_path / "s2", "--name", "s2")
    changed = daemon.json("changed", "s2", "--since", "s1")
    assert [(r["offset_bytes"], r["length_bytes"]) for r in changed["ranges"]] == [(19 * REGION, 2 * REGION)]
    done = receive(daemon, "far", send(daemon, "s2", "--since", "s1"))
    assert done.returncode == 0, done.stderr.decode() + daemon.log()
    assert content(daemon, "far") == content(daemon, "s2")
    daemon.in_sync("far")
    assert (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes() == content(daemon, "near")
    assert not (tmp_path / "b.received").exists(), "what it came on is gone"
