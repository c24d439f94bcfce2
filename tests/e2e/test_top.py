"""fmrctl top in a real terminal, on a real daemon: it shows a copy, a key holds that, and q ends it."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.harness import BIN, Daemon, needs_fuse, until

pytestmark = needs_fuse


class Terminal:
    """What a program wrote to its terminal so far, and its keyboard."""

    def __init__(self, end: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.text = ""
        self._end = end

    def press(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def shows(self, text: str) -> None:
        until(lambda: text in self._read(), f"{text!r} is drawn: {self.text[-2000:]!r}", 60)

    def shows_when(self, condition: Callable[[], bool], what: str) -> None:
        """Read on until it holds: who does not read holds up who writes."""
        until(lambda: (self._read(), condition())[1], what, 60)

    def _read(self) -> str:
        while select.select([self._end], [], [], 0)[0]:
            try:
                data = os.read(self._end, 1 << 16)
            except OSError:  # it has ended
                break
            self.text += data.decode(errors="replace")
        return self.text


@contextmanager
def terminal(columns: int, lines: int, *command: object, **environment: str) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))
        process = subprocess.Popen(
            [str(word) for word in command], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env=os.environ | {"TERM": "xterm-256color"} | environment,
        )  # fmt: skip
        os.close(theirs)
        try:
            yield Terminal(ours, process)
        finally:
            process.kill()
            process.wait(30)
    finally:
        os.close(ours)


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (200, 60)])
def test_a_copy_is_seen_held_and_let_go(daemon: Daemon, tmp_path: Path, columns: int, lines: int) -> None:
    daemon.make("data", "16M", tmp_path / "a", tmp_path / "b")
    task = daemon.json("plex", "add", "data", tmp_path / "c", "--rate", "1")["task"]["id"]

    def state() -> str:
        return str(daemon.json("task", "list")["tasks"][0]["state"])

    with terminal(columns, lines, BIN / "fmrctl", "top", "0.5", FMRD_SOCKET=str(daemon.socket)) as seen:
        seen.shows("data-03")
        seen.shows("PLXATT")
        seen.press("p")
        seen.shows_when(lambda: state() == "paused", "the copy is paused")
        seen.shows("paused")
        seen.shows("LAST EVENTS")
        seen.shows(f"user {os.getuid()}: task_pause id={task}")
        seen.press("r")
        seen.shows_when(lambda: state() == "running", "the copy goes on")
        seen.press("l")
        seen.shows("bytes a second")
        seen.press("0\r")
        seen.shows_when(lambda: not daemon.json("task", "list")["tasks"], "without a limit the copy ends")
        assert daemon.json("task", "list", "--all")["tasks"][0]["id"] == task
        seen.press("q")
        seen.shows_when(lambda: seen.process.poll() is not None, "q ends it")
        assert seen.process.returncode == 0
