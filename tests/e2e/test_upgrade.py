"""From 0.1.0 to this fmrd: what a plex has missed is still known, after a stop, after a kill, and while files are open.
And back, where that can be.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import (
    MIB,
    PATIENCE_SECONDS,
    REGION,
    Daemon,
    needs_fuse,
    read_at,
    same_bytes,
    until,
    write_at,
)

pytestmark = needs_fuse

ROOT = Path(__file__).parents[2]
BEFORE = "c3f6bb0"
"""The commit of 0.1.0."""


@pytest.fixture
def door() -> str:
    """The default, of both."""
    return "channel"


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """Its sources; of a checkout without its history the test is skipped."""
    packed = subprocess.run(["git", "-C", ROOT, "archive", BEFORE, "fmrd"], capture_output=True)
    if packed.returncode:
        pytest.skip(f"this checkout has no commit {BEFORE}")
    folder = tmp_path / "older"
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)
    return folder


OLDER = ["-c", "from fmrd.front.daemon import main; main()"]
"""What its fmrd is, for Python."""


@contextlib.contextmanager
def as_older(daemon: Daemon, older: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever starts it here starts 0.1.0."""
    newer = daemon.command
    with monkeypatch.context() as patch:
        program = ["env", f"PYTHONPATH={older}", sys.executable, *OLDER]
        patch.setattr(daemon, "command", lambda *options: [*program, *newer(*options)[1:]])
        yield


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_maps_are_kept(
    stopped_daemon: Daemon, tmp_path: Path, older: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = stopped_daemon
    with as_older(daemon, older, monkeypatch):
        daemon.start()
    paths = [tmp_path / "a", tmp_path / "b"]
    plexes = [{"path": str(path)} for path in paths]
    daemon.ask("make", volume="data", size_bytes=16 * MIB, plexes=plexes)
    data = os.urandom(16 * MIB)
    write_at(daemon.path("data"), 0, data)
    daemon.ask("plex_det", volume="data", plex="data-02")
    for region in (3, 77):
        write_at(daemon.path("data"), region * REGION, b"missed")
    if end == "stop":
        daemon.stop()
    else:
        daemon.kill()
        daemon.umount()
    daemon.start("--log-level", "info")
    daemon.in_sync("data")
    copied = [task for task in daemon.json("task", "list", "--all")["tasks"] if task["plex"] == "data-02"]
    assert [task["reason"]["code"] for task in copied] == ["fast"]
    assert copied[0]["total_regions"] <= (2 if end == "stop" else 2 * 4 * MIB // REGION), "those, or their extents"
    assert read_at(daemon.path("data"), 77 * REGION, 6) == b"missed"
    daemon.stop()
    assert same_bytes(*paths)


class Systemd:
    """It keeps what one fmrd gives it, and hands that to the next one."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.kept: dict[str, int] = {}
        self._ready = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(place))
        self._socket.setblocking(False)

    def start(self, daemon: Daemon) -> None:
        """Returns when it is ready."""
        # The number of the process is known to itself alone; descriptors follow each other from 3 on.
        script = f'export LISTEN_PID=$$ LISTEN_FDS={len(self.kept)} LISTEN_FDNAMES={":".join(self.kept)}; exec "$@"'
        told = {"NOTIFY_SOCKET": str(self.place), "FDSTORE": "4", "FMRD_HOOKS": str(daemon.base / "hooks.d")}
        high = [os.dup2(number, 50 + index) for index, number in enumerate(self.kept.values())]
        moves = "".join(f" {3 + index}<&{number}" for index, number in enumerate(high))
        with open(daemon.log_path, "ab") as log:
            daemon.process = subprocess.Popen(
                ["bash", "-c", f"exec{moves}; {script}", "fmrd", *daemon.command()], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, cwd="/", env=os.environ | told, pass_fds=high,
            )  # fmt: skip
        for number in high:
            os.close(number)
        self._ready = False
        until(self._is_ready, "READY=1")

    def end(self, daemon: Daemon) -> None:
        """As a restart does: nobody is asked to unmount."""
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGTERM)
        daemon.process.wait(60)
        daemon.process = None
        while self._hears():
            pass
        assert self.kept, "nothing was kept"

    def _is_ready(self) -> bool:
        while self._hears():
            pass
        return self._ready

    def _hears(self) -> bool:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._socket, 4096, 8)
        except BlockingIOError:
            return False
        words = dict(line.partition("=")[::2] for line in data.decode().splitlines())
        name = words.get("FDNAME", "")
        if "FDSTORE" in words or "FDSTOREREMOVE" in words:
            for number in [self.kept.pop(name, -1), *descriptors[1:]]:
                if number >= 0:
                    os.close(number)
        if "FDSTORE" in words and descriptors:
            self.kept[name] = descriptors[0]
        self._ready |= "READY" in words
        return True

    def close(self) -> None:
        self._socket.close()
        for number in self.kept.values():
            os.close(number)


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(tmp_path / "systemd")
    yield made
    made.close()


USER = """
import os, sys
with open(sys.argv[1], "r+b", buffering=0) as file:
    for line in sys.stdin:
        file.write(line.rstrip("\\n").encode())
        os.fsync(file)
        print("written", flush=True)
"""
"""A process of its own: whoever forks while nobody serves a file that he has open hangs in closing it."""


def _writes(user: "subprocess.Popen[str]", text: str) -> bool:
    """Whether it is written without an error, within our patience."""
    assert user.stdin is not None and user.stdout is not None
    print(text, file=user.stdin, flush=True)
    ready, _, _ = select.select([user.stdout], [], [], PATIENCE_SECONDS)
    return bool(ready) and user.stdout.readline() == "written\n"


def test_whoever_has_a_volume_open_sees_nothing_of_it(
    stopped_daemon: Daemon, tmp_path: Path, older: Path, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = stopped_daemon
    with as_older(daemon, older, monkeypatch):
        systemd.start(daemon)
    if not systemd.kept:
        pytest.skip("this kernel sends no requests again, so nothing is kept")
    paths = [tmp_path / "a", tmp_path / "b"]
    daemon.ask("make", volume="data", size_bytes=16 * MIB, plexes=[{"path": str(path)} for path in paths])
    with subprocess.Popen(
        [sys.executable, "-c", USER, daemon.path("data")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        try:
            assert _writes(user, "before")
            daemon.ask("plex_det", volume="data", plex="data-02")
            assert _writes(user, " it")
            systemd.end(daemon)
            systemd.start(daemon)
            assert _writes(user, " and after")
        finally:
            user.kill()
    assert read_at(daemon.path("data"), 0, 19) == b"before it and after"
    daemon.in_sync("data")
    copied = [task for task in daemon.json("task", "list", "--all")["tasks"] if task["plex"] == "data-02"]
    assert [task["reason"]["code"] for task in copied] == ["fast"]
    assert copied[0]["total_regions"] <= 4 * MIB // REGION
    daemon.stop()
    assert same_bytes(*paths)


def test_the_way_back_is_refused_with_a_sentence_where_it_could_do_harm(
    stopped_daemon: Daemon, tmp_path: Path, older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a volume with a plex that lags: nothing of it is written. Others are served by 0.1.0 as before."""
    daemon = stopped_daemon
    daemon.may_log_errors = True
    daemon.start()
    daemon.make("data", 4 * MIB, tmp_path / "a", tmp_path / "b")
    daemon.make("plain", 4 * MIB, tmp_path / "c", tmp_path / "d")
    daemon.json("set", "data", "write_behind=data-02:1M")
    write_at(daemon.path("plain"), 0, b"newer")
    daemon.stop()
    theirs = [tmp_path / name for name in ("a", "a.dco", "b", "b.dco", "state/volumes/data.dco")]
    before = [path.read_bytes() for path in theirs]
    with as_older(daemon, older, monkeypatch):
        daemon.start()
    shown = {volume["name"]: volume for volume in daemon.ask("print")["volumes"]}
    assert shown["data"]["error"]["code"] == "dco_feature" and "not known here" in shown["data"]["error"]["message"]
    assert not daemon.path("data").exists() and read_at(daemon.path("plain"), 0, 5) == b"newer"
    daemon.stop()
    assert [path.read_bytes() for path in theirs] == before
    daemon.start()
    daemon.in_sync("data")


def test_more_snapshots_than_an_older_one_knows_are_left_alone_by_it(
    stopped_daemon: Daemon, tmp_path: Path, older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With eight instant ones the DCO has a second bank of columns, and with seven one is enough again."""
    daemon = stopped_daemon

    def shown_by_the_older() -> dict[str, str]:
        with as_older(daemon, older, monkeypatch):
            daemon.start()
        found = {volume["name"]: volume["kstate"] for volume in daemon.ask("print")["volumes"]}
        daemon.stop()
        return found

    daemon.start()
    daemon.make("data", 2 * MIB, tmp_path / "a", tmp_path / "b")
    for number in range(8):
        daemon.ask("snapshot", volumes=["data"], name=f"snap{number}", instant=str(tmp_path / f"i{number}"))
        write_at(daemon.path("data"), number * REGION, b"%d" % number)
    daemon.stop()
    daemon.may_log_errors = True
    home = daemon.state / "volumes" / "data.dco"
    before = home.read_bytes()
    assert "ENABLED" not in shown_by_the_older().values()
    assert "dco_feature" in daemon.log() and home.read_bytes() == before, "nothing is touched"
    daemon.start()
    assert read_at(daemon.path("snap7"), 7 * REGION, 1) == b"\0" and read_at(daemon.path("data"), 0, 1) == b"0"
    daemon.json("stop", "snap7")
    daemon.json("remove", "snap7", "--yes")
    daemon.stop()
    assert shown_by_the_older()["data"] == "ENABLED"
