"""fmrd's options, and what it tells systemd; the daemon itself is tested in tests/e2e."""

import logging
import os
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from fmrd.front import daemon
from fmrd.front.daemon import Daemon


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Daemon]:
    """Daemons that were asked to run; none really does."""
    found: list[Daemon] = []

    async def run(self: Daemon) -> None:
        found.append(self)

    monkeypatch.setattr(Daemon, "run", run)
    monkeypatch.setattr(daemon, "stay_out_of_memory_pressure", lambda: None)
    monkeypatch.setattr(logging, "basicConfig", lambda **options: None)
    for name in ("FMRD_STATE", "FMRD_MOUNT", "FMRD_SOCKET"):
        monkeypatch.delenv(name, raising=False)
    return found


def places(made: Daemon) -> list[str]:
    return [str(made.state), str(made.mount), str(made.socket)]


def test_options_beat_the_environment_and_that_the_defaults(
    started: list[Daemon], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("FMRD_STATE", "/env/state")
    monkeypatch.setenv("FMRD_MOUNT", "/env/mount")
    done = CliRunner().invoke(daemon.main, ["--mount", "here/volumes"])
    assert done.exit_code == 0, done.output
    assert places(started[0]) == ["/env/state", str(tmp_path / "here/volumes"), "/run/fmrd/fmrd.sock"]


@pytest.mark.parametrize("words", [["--door", "back"], ["--keeper"], ["--log-level", "loud"], ["extra"]])
def test_what_does_not_work_is_not_offered(started: list[Daemon], words: list[str]) -> None:
    done = CliRunner().invoke(daemon.main, words)
    assert (done.exit_code, started) == (2, [])


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    name = f"fmrd-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name if abstract else name)
        listener.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if abstract else name)
        daemon._notify("READY=1")
        assert listener.recv(100) == b"READY=1"


def test_a_systemd_that_does_not_listen_is_no_reason_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    daemon._notify("READY=1")
    assert "READY=1" in caplog.text
