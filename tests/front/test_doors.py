"""Only the pyfuse3 door needs that library. Each test starts a process in which it cannot be imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHANNEL = """
import sys
from pathlib import Path
from fmrd.backing.host import LinuxHost
from fmrd.backing.calls.threaded_calls import ThreadedCalls
from fmrd.engine.context import Context
from fmrd.engine.registry import Registry
from fmrd.front.doors.channel.door import ChannelDoor
from fmrd.front.daemon.daemon import Daemon

place = Path(sys.argv[1])
system = ThreadedCalls()
registry = Registry(Context(LinuxHost(place), system), str(place))
assert isinstance(Daemon(place, place, place)._door(registry, system.idle), ChannelDoor)
assert not [name for name in sys.modules if "pyfuse3" in name or "fusefs" in name]
"""


@pytest.fixture
def without_pyfuse3(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that finds no pyfuse3."""
    (tmp_path / "libraries").mkdir()
    (tmp_path / "libraries" / "pyfuse3.py").write_text("raise ModuleNotFoundError(\"No module named 'pyfuse3'\")\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FMRD_")}
    return kept | {"PYTHONPATH": str(tmp_path / "libraries")}


def run(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, timeout=60)


def test_fmrd_starts_without_pyfuse3(without_pyfuse3: dict[str, str]) -> None:
    done = run(without_pyfuse3, "-m", "fmrd.front.daemon.daemon", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--door" in done.stdout


def test_the_channel_door_is_made_without_pyfuse3(without_pyfuse3: dict[str, str], tmp_path: Path) -> None:
    done = run(without_pyfuse3, "-c", CHANNEL, str(tmp_path / "place"))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_door_that_needs_it_says_so_in_one_line(without_pyfuse3: dict[str, str], tmp_path: Path) -> None:
    places = [f"--{name}={tmp_path / name}" for name in ("state", "mount", "socket")]
    done = run(without_pyfuse3, "-m", "fmrd.front.daemon.daemon", "--door=pyfuse3", "--log-level=warning", *places)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.endswith(
        "ERROR fmrd: door_missing: --door pyfuse3: that library cannot be imported (No module named 'pyfuse3')"
    )
