"""Fixtures of the end-to-end tests; the classes are in harness.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import DOORS, Daemon, Loops


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> str:
    """Every test through every door."""
    return str(request.param)


@pytest.fixture
def stopped_daemon(tmp_path: Path, door: str) -> Iterator[Daemon]:
    """Not started yet. Afterwards its log must hold no bug, and no ERROR line that nobody announced."""
    daemon = Daemon(tmp_path, door)
    yield daemon
    daemon.clean_up()
    if daemon.log_path.exists():
        log = daemon.log()
        assert "Traceback" not in log, log
        assert daemon.may_log_errors or " ERROR " not in log, log


@pytest.fixture
def daemon(stopped_daemon: Daemon) -> Daemon:
    """Ready."""
    stopped_daemon.start()
    return stopped_daemon


@pytest.fixture
def loops(stopped_daemon: Daemon, tmp_path: Path) -> Iterator[Loops]:
    """Detached and unmounted before the daemon goes."""
    made = Loops(tmp_path)
    yield made
    made.clean_up()
