"""The recipes of the README for plexes on other machines, as they stand there: from nothing to a running mirror.

The other machine is this one, by the real sshd, and by the units' script on a socket that systemd's tool listens on.
"""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ssh_server
from tests.certificates import authority
from tests.e2e.harness import BIN, MIB, Daemon, needs_fuse, needs_program, same_bytes, write_at
from tests.e2e.test_recipes import recipe

pytestmark = [needs_fuse, needs_program("nbdkit")]
SIZE = 4 * MIB
HELPER = Path(__file__).parents[2] / "systemd" / "fmrd-far"


def run(daemon: Daemon, title: str, **places: str) -> None:
    """``places``: what stands for the words of the recipe; the disk is shorter."""
    script = recipe(title).replace("20500M", "8M")
    for word, place in ({"/srv/far.plex": str(daemon.base / "far.plex")} | places).items():
        script = script.replace(word, place)
    environment = os.environ | {"FMRD_SOCKET": str(daemon.socket), "PATH": f"{os.environ['PATH']}:{BIN}"}
    done = subprocess.run(["bash", "-euc", script], env=environment, capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr + daemon.log()


def is_a_mirror(daemon: Daemon) -> None:
    write_at(daemon.path("data"), 12345, b"on both" * 1000)
    daemon.in_sync("data")
    assert daemon.plex("data", "data-02")["far"]["fence"] in ("lock", "single")
    assert daemon.stop() == 0
    assert same_bytes(daemon.base / "a", daemon.base / "far.plex", length=SIZE)


@pytest.fixture
def door() -> str:
    return "channel"


@pytest.mark.skipif(bool(ssh_server.lacks()), reason=f"needs {ssh_server.lacks()}")
def test_by_ssh(stopped_daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ssh_server.sshd(tmp_path / "sshd") as (_, ssh):
        monkeypatch.setenv("PATH", f"{ssh}:{os.environ['PATH']}")
        daemon = stopped_daemon
        daemon.start()
        daemon.make("data", SIZE, tmp_path / "a")
        run(daemon, "by ssh")
        is_a_mirror(daemon)


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What it was asked for."""
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path / "asked"


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    (tmp_path / "pki").mkdir()
    authority(tmp_path / "pki", "localhost", "client.test")
    return tmp_path / "pki"


def listening(disk: str, pki: Path) -> Iterator[int]:
    """The port, as fmrd-far@.socket has it, and what it begins."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = ["systemd-socket-activate", "-l", f"127.0.0.1:{port}", str(HELPER), disk, "--tls", str(pki)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert b"Listening on" in process.stderr.readline()
        try:
            yield port
        finally:
            process.terminate()


@needs_program("openssl", "systemd-socket-activate", "systemd-escape")
def test_by_nbd_with_tls(daemon: Daemon, tmp_path: Path, pki: Path, systemctl: Path) -> None:
    daemon.make("data", SIZE, tmp_path / "a")
    run(daemon, "by NBD, there")
    [unit] = systemctl.read_text().split()[2:]
    assert systemctl.read_text().startswith("enable --now fmrd-far@") and unit.endswith(".socket")
    name = unit.removeprefix("fmrd-far@").removesuffix(".socket")
    told = subprocess.run(["systemd-escape", "--unescape", "--path", name], capture_output=True, text=True, check=True)
    for port in listening(told.stdout.strip(), pki):
        run(daemon, "by NBD, here", **{"backup.example": f"localhost:{port}", "/etc/pki/fmrd": str(pki)})
        is_a_mirror(daemon)


@needs_program("systemd-socket-activate")
def test_what_the_helper_needs_it_says(tmp_path: Path) -> None:
    def refused(*words: str, **environment: str) -> str:
        done = subprocess.run(
            [str(HELPER), *words], env=os.environ | environment, capture_output=True, text=True, timeout=60
        )  # fmt: skip
        assert done.returncode == 1
        return done.stderr

    disk = tmp_path / "far.plex"
    assert "truncate" in refused(str(disk), "--plain")
    disk.write_bytes(bytes(4096))
    assert "systemctl enable" in refused(str(disk), "--plain")
    assert "others could read along" in refused(str(disk), "--", "-v", LISTEN_FDS="1")
    assert "ca-cert.pem" in refused(str(disk), "--tls", str(tmp_path), LISTEN_FDS="1")
