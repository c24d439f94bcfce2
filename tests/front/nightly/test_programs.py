"""A program of somebody's ends when it ends, whatever it says, and whatever it leaves behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fmrd.front.nightly import programs
from fmrd.front.nightly.programs import KEPT_BYTES, TAIL_BYTES, run

LATE = 60.0


@pytest.fixture
def left(tmp_path: Path) -> Iterator[Path]:
    """Numbers of processes that are left behind go into this file."""
    path = tmp_path / "left"
    yield path
    for line in path.read_text().splitlines():
        os.kill(int(line), signal.SIGKILL)


def test_what_it_says_is_kept_from_both_ends() -> None:
    ran = run(["sh", "-c", "echo first; echo wrong >&2; exit 3"], LATE)
    assert (ran.status, ran.said) == (3, b"first\n")
    assert {*ran.tail.split()} == {b"first", b"wrong"} and "\n" not in ran.last


def test_a_flood_is_not_kept() -> None:
    ran = run(
        [sys.executable, "-c", "import os\nfor _ in range(64): os.write(1, b'y' * 65536)\nos.write(1, b'end')"], LATE
    )
    assert (ran.status, len(ran.said), len(ran.tail)) == (0, KEPT_BYTES, TAIL_BYTES) and ran.tail.endswith(b"end")


@pytest.mark.parametrize("apart", [True, False])
def test_one_that_leaves_somebody_behind_has_ended(left: Path, apart: bool) -> None:
    """Who holds its output open, as a connection that ssh keeps for the next time."""
    ran = run(["sh", "-c", f"setsid sleep 600 & echo $! >>{left}; echo done"], LATE, apart=apart)
    assert (ran.status, ran.said) == (0, b"done\n")


def test_one_that_takes_too_long_is_killed_though_its_output_stays_open(left: Path) -> None:
    script = f"setsid sleep 600 & echo $! >>{left}; sleep 600"
    with pytest.raises(TimeoutError, match=r"sh was killed: it took 0.5 s"):
        run(["sh", "-c", script], 0.5, apart=True)


def test_its_session_is_killed_with_it(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    with pytest.raises(TimeoutError):
        run(["sh", "-c", f"sleep 600 & echo $! >{inner}; wait"], 0.5, apart=True)
    number = inner.read_text().strip()
    state = subprocess.run(["ps", "-o", "stat=", number], capture_output=True, text=True).stdout.strip()
    assert state in ("", "Z", "Zs")


def test_no_descriptor_is_left() -> None:
    before = os.listdir("/proc/self/fd")
    run(["true"], LATE)
    with pytest.raises(OSError, match="nothing"):
        programs.run(["/nothing"], LATE)
    assert os.listdir("/proc/self/fd") == before
