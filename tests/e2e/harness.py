"""A real fmrd in a directory of its own, commanded by fmrctl, and loop devices; everything is cleaned up after itself.

``Daemon`` starts, stops, kills and restarts it; ``Loops`` attaches and mounts. Waits poll a condition and are bounded;
nothing here sleeps for a guessed time.
"""

import contextlib
import ctypes
import io
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from fmrd.core.json_object import Json
from fmrd.front.client import Client
from fmrd.front.ctl.cli import run

T = TypeVar("T")

BIN = Path(sys.executable).parent
PATIENCE_SECONDS = 30.0
MNT_DETACH = 2
READY = " ready: volumes in "
"""What fmrd logs when it is."""
DOORS = ("channel", "pyfuse3")
MIB = 1 << 20
REGION = 64 << 10
_libc = ctypes.CDLL(None, use_errno=True)

needs_fuse = pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK) or (os.geteuid() != 0 and shutil.which("fusermount3") is None),
    reason="needs /dev/fuse, and root or fusermount3",
)
needs_loops = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/loop-control") or shutil.which("losetup") is None,
    reason="loop devices need root, /dev/loop-control and losetup",
)


def needs_program(*names: str) -> pytest.MarkDecorator:
    missing = [name for name in names if shutil.which(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} is not installed")


def until(condition: Callable[[], T], what: str, seconds: float = PATIENCE_SECONDS) -> T:
    """The first true value of ``condition``, asked again and again; AssertionError when patience ends."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)  # between two looks, so that what is waited for can run


@dataclass(frozen=True)
class Answer:
    """What one fmrctl --json left behind."""

    status: int
    json: Json
    err: str

    @property
    def code(self) -> str:
        """Of the error, '' if there was none."""
        return str(self.json.get("error", {}).get("code", ""))


class Daemon:
    """fmrd on ``base/state``, ``base/volumes`` and ``base/fmrd.sock``, logging to ``base/log``."""

    def __init__(self, base: Path, door: str = DOORS[0], *, keeper: bool = False) -> None:
        self.base = base
        self.door = door
        self.keeper = ("--keeper",) if keeper else ()
        self.state = base / "state"
        self.mount = base / "volumes"
        self.socket = base / "fmrd.sock"
        self.log_path = base / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.may_log_errors = False
        """A test that provokes ERROR lines says so."""

    # The process

    def start(self, *options: str, wait: bool = True, stderr: int | None = None) -> None:
        """Returns when it has said READY=1; with ``wait=False`` at once. ``stderr``: instead of the log."""
        assert self.process is None, "it runs already"
        notify = self.base / "notify"
        notify.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, open(self.log_path, "ab") as log:
            ready.bind(str(notify))
            ready.setblocking(False)
            self.process = subprocess.Popen(
                self.command(*options), stdin=subprocess.DEVNULL, stdout=log, cwd="/",
                stderr=log if stderr is None else stderr,
                env=os.environ | {"NOTIFY_SOCKET": str(notify), "PYTHONWARNINGS": "error",
                                  "FMRD_HOOKS": str(self.base / "hooks.d")},
            )  # fmt: skip
            if wait:
                until(lambda: self._said_ready(ready), "READY=1")

    def command(self, *options: str) -> list[str]:
        places = ["--state", str(self.state), "--mount", str(self.mount), "--socket", str(self.socket)]
        return [str(BIN / "fmrd"), *places, "--door", self.door, *self.keeper, *options]

    def _said_ready(self, ready: socket.socket) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"fmrd ended with status {self.process.returncode}:\n{self.log()}"
        try:
            return b"READY=1" in ready.recv(4096)
        except BlockingIOError:
            return False

    def stop(self, number: int = signal.SIGTERM) -> int:
        """An orderly stop; its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self._reap()

    def kill(self) -> None:
        """kill -9: the state of the disks is whatever had been written by then."""
        assert self.process is not None
        self.process.kill()
        self._reap()

    def restart(self) -> None:
        """Start again after a stop or a kill."""
        if self.process is not None:
            self.stop()
        self.start()

    def serving(self) -> int:
        """The process that serves under the keeper, its newest child; 0 while there is none."""
        assert self.process is not None and self.keeper
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[-1]) if children else 0

    def kill_serving(self, number: int = signal.SIGKILL) -> None:
        """End the process that serves, and return when another one is ready in its place."""
        ready = self.log().count(READY)
        os.kill(until(self.serving, "the keeper has a child"), number)
        until(lambda: self.log().count(READY) > ready, "another fmrd is ready")

    def _reap(self) -> int:
        assert self.process is not None
        status = self.process.wait(timeout=PATIENCE_SECONDS)
        self.process = None
        return status

    @staticmethod
    def kill_orphan(process: int) -> None:
        """One whose keeper is gone."""
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(process)
            try:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                ended, _, _ = select.select([descriptor], [], [], PATIENCE_SECONDS)
                assert ended, f"process {process} does not end"
            finally:
                os.close(descriptor)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def kill_all(self) -> None:
        """kill -9 of the keeper too: the mount is gone."""
        if self.process is not None:
            serving = self.serving() if self.keeper and self.process.poll() is None else 0
            self.process.kill()
            self._reap()
            if serving:
                self.kill_orphan(serving)
        while self.umount():
            pass

    def clean_up(self) -> None:
        self.kill_all()

    def umount(self) -> bool:
        """Lazily; False where nothing is mounted. No program does it: a child of ours would hang in closing the files
        we have open there while nobody serves them.
        """
        return bool(_libc.umount2(os.fsencode(self.mount), MNT_DETACH) == 0)

    # fmrctl

    def fmrctl(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """As a user runs it, in a process of its own."""
        environment = os.environ | {"FMRD_SOCKET": str(self.socket)}
        command = [str(BIN / "fmrctl"), *map(str, words)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, **options)

    def ctl(self, *words: object) -> Answer:
        """The same code without a new process, with --json."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = run(["--json", "--socket", str(self.socket), *map(str, words)])
        return Answer(status, json.loads(out.getvalue() or "{}"), err.getvalue())

    def json(self, *words: object) -> Json:
        """The answer of a verb that must succeed."""
        answer = self.ctl(*words)
        assert answer.status == 0, f"fmrctl {' '.join(map(str, words))}: {answer.err}\n{self.log()}"
        return answer.json

    def ask(self, verb: str, **args: Any) -> Json:
        """Past fmrctl, on the socket itself."""
        return Client(self.socket).ask(verb, **args)

    # What it shows

    def make(self, volume: str, size: object, *paths: object, options: tuple[object, ...] = ()) -> Json:
        shown: Json = self.json("make", volume, size, *paths, *options)["volume"]
        return shown

    def volume(self, name: str) -> Json:
        shown: Json = self.json("print", name)["volumes"][0]
        return shown

    def plex(self, volume: str, plex: str) -> Json:
        return next(p for p in self.volume(volume)["plexes"] if plex in (p["name"], p["path"]))

    def states(self, volume: str) -> list[str]:
        return [plex["state"] for plex in self.volume(volume)["plexes"]]

    def attach(self, volume: str, plex: str, *options: str) -> Json:
        """Attach and wait; the finished task."""
        task: Json = self.json("plex", "att", volume, plex, "--wait", *options)["task"]
        return task

    def in_sync(self, volume: str) -> None:
        """Wait until every plex is ACTIVE with an empty map, and no copy is running."""

        def arrived() -> bool:
            shown = self.json("print", volume)
            plexes = shown["volumes"][0]["plexes"]
            return not shown["tasks"] and all(p["state"] == "ACTIVE" and not p["dirty_regions"] for p in plexes)

        until(arrived, f"all plexes of {volume} in sync: {self.states(volume)}")

    def path(self, volume: str) -> Path:
        """The volume's file in the mount."""
        return self.mount / volume


class Loops:
    """Loop devices and mounts of one test."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self._devices: list[str] = []
        self._mounts: list[Path] = []

    def attach(self, path: Path, *options: str) -> str:
        """A device on that file, with direct I/O where the file allows it."""
        command = ["losetup", "--find", "--show", "--direct-io=on", *options, str(path)]
        device = tool(*command).strip()
        self._devices.append(device)
        return device

    def detach(self, device: str) -> None:
        """Returns when the device is really gone: losetup -d on a busy one only marks it."""
        self.pull(device)
        backing = Path("/sys/block") / Path(device).name / "loop" / "backing_file"
        until(lambda: not backing.exists(), f"{device} let go of its file")

    def pull(self, device: str) -> None:
        """Detach it, at once or when nobody has it open any more."""
        tool("losetup", "--detach", device)
        self._devices.remove(device)

    def mount(self, device: str, *options: str) -> Path:
        where = self.base / f"mounted-{len(self._mounts)}"
        where.mkdir(exist_ok=True)
        self.mount_at(device, where, *options)
        return where

    def mount_at(self, device: str, where: Path, *options: str) -> None:
        tool("mount", *options, device, str(where))
        self._mounts.append(where)

    def owned(self, device: str) -> None:
        """Somebody else made it; it is cleaned up here."""
        self._devices.append(device)

    def gone(self, device: str) -> None:
        """Somebody else has detached it."""
        self._devices.remove(device)

    def mounted(self, where: Path) -> None:
        """By somebody else."""
        self._mounts.append(where)

    def umount(self, where: Path) -> None:
        tool("umount", str(where))
        self._mounts.remove(where)

    def lose(self, where: Path, device: str) -> None:
        """Unmount and detach what lies on a volume that has gone; the file system has errors to tell, and may."""
        tool("umount", "--lazy", str(where))
        self._mounts.remove(where)
        self.pull(device)

    def disk(self, name: str, size: int) -> str:
        """A block device of its own, on a sparse file."""
        file = self.base / name
        with open(file, "wb") as made:
            made.truncate(size)
        return self.attach(file)

    def clean_up(self) -> None:
        for where in reversed(self._mounts):
            _libc.umount2(os.fsencode(where), MNT_DETACH)
        for device in reversed(self._devices):
            subprocess.run(["losetup", "--detach", device], check=False, capture_output=True)


def tool(*command: object, **options: Any) -> str:
    """Run a program that must succeed; its standard output."""
    words = [str(word) for word in command]
    done: subprocess.CompletedProcess[str] = subprocess.run(
        words, capture_output=True, text=True, timeout=60, **options
    )
    assert done.returncode == 0, f"{' '.join(words)} ended with {done.returncode}: {done.stderr}{done.stdout}"
    return done.stdout


def write_at(path: Path, offset: int, data: bytes, *, sync: bool = True) -> None:
    """pwrite, and fsync: on a volume's file, durable on every plex when it returns."""
    with open_file(path, os.O_RDWR) as file:
        assert os.pwrite(file, data, offset) == len(data)
        if sync:
            os.fsync(file)


def read_at(path: Path, offset: int, length: int) -> bytes:
    with open_file(path, os.O_RDONLY) as file:
        return os.pread(file, length, offset)


@contextlib.contextmanager
def open_file(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def same_bytes(*paths: Path, length: int | None = None) -> bool:
    """Are the files equal, over ``length`` bytes or over the first one's size?"""
    size = paths[0].stat().st_size if length is None else length
    first = paths[0]
    return all(
        subprocess.run(["cmp", "-s", "-n", str(size), str(first), str(other)], check=False).returncode == 0
        for other in paths[1:]
    )
