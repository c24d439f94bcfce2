"""fmrd's options; the daemon itself is tested in tests/e2e."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from fmrd.front.daemon import daemon, keeping
from fmrd.front.daemon.daemon import Daemon
from fmrd.front.metrics.metrics import Metrics
from fmrd.front.metrics.server import DEFAULT_PORT, Where


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Daemon]:
    """Daemons that were asked to run; none really does."""
    found: list[Daemon] = []

    async def run(self: Daemon) -> None:
        found.append(self)

    monkeypatch.setattr(Daemon, "run", run)
    monkeypatch.setattr(daemon, "prepare_memory", lambda: None)
    monkeypatch.setattr(daemon, "log_to_standard_error", lambda level: None)
    for name in ("FMRD_STATE", "FMRD_MOUNT", "FMRD_SOCKET", "FMRD_METRICS", "FMRD_METRICS_FILE"):
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


WRONG = [["--metrics", "x"], ["--door", "back"], ["--keeper", "--door", "pyfuse3"], ["--log-level", "loud"], ["extra"]]


@pytest.mark.parametrize("words", WRONG)
def test_what_does_not_work_is_not_offered(started: list[Daemon], words: list[str]) -> None:
    done = CliRunner().invoke(daemon.main, words)
    assert (done.exit_code, started) == (2, [])


def test_a_keeper_takes_the_place_of_the_process_and_is_told_how_to_run_fmrd(
    started: list[Daemon], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Replaced(Exception):
        pass

    commands = []

    def execv(program: str, command: list[str]) -> None:
        commands.append(command)
        raise Replaced

    monkeypatch.setattr(os, "execv", execv)
    words = ["--state", "/s", "--mount", str(tmp_path / "m"), "--socket", "/k", "--log-level", "debug",
             "--metrics", "--metrics-file", str(tmp_path / "x.prom")]  # fmt: skip
    assert isinstance(CliRunner().invoke(daemon.main, ["--keeper", *words]).exception, Replaced)
    [command] = commands
    child = command[command.index(keeping.HOLDER) + 1 :]
    assert CliRunner().invoke(daemon.main, child[child.index(keeping.SERVING) + 1 :]).exit_code == 0
    assert places(started[0]) == ["/s", str(tmp_path / "m"), "/k"]
    assert started[0].metrics == Metrics(Where(host="127.0.0.1", port=DEFAULT_PORT), tmp_path / "x.prom")
