"""fmrd as its unit starts it, under a stand-in for systemd: that keeps descriptors, and sees the end of the main
process only when its last thread has gone. systemd itself is tried in tests/vm.
"""

import array
import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import (
    REGION,
    Daemon,
    needs_fuse,
    needs_program,
    read_at,
    until,
    write_at,
)
from tests.e2e.nbd import Disk, nbd_disk
from tests.e2e.test_left_behind import (
    is_left_behind,
    returns,
    served_without_it,
    two_volumes,
    waits_for_the_disk,
    write_in_background,
)

pytestmark = [needs_fuse, needs_program("nbdfuse", "nbdkit")]
BEYOND = 20
"""Descriptors from here on are nobody's 3, 4, ..."""


HANDED = """
import os, sys
for index, number in enumerate(eval(sys.argv[1])):
    os.dup2(number, 3 + index)
    os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


class Service(Daemon):
    """Its main process is started as by systemd, with what was kept for it."""

    def __init__(self, base: Path) -> None:
        super().__init__(base, "channel", keeper=True)
        self.store: dict[str, int] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(base / "systemd"))

    def start(self, *options: str, wait: bool = True, stderr: int | None = None) -> None:
        assert self.process is None and stderr is None
        handed = list(self.store.items())
        environment = {"NOTIFY_SOCKET": str(self.base / "systemd"), "FDSTORE": "4", "PYTHONWARNINGS": "error"}
        if handed:
            environment |= {"LISTEN_FDS": str(len(handed)), "LISTEN_FDNAMES": ":".join(name for name, _ in handed)}
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", HANDED, str([number for _, number in handed]), *self.command(*options)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                env=os.environ | environment, pass_fds=list(self.store.values()),
            )  # fmt: skip
        if wait:
            until(lambda: "READY=1" in self.heard(), "READY=1")

    def heard(self) -> list[str]:
        """The messages that are there; what they give to be kept is."""
        said: list[str] = []
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(16), socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return said
            words = dict(line.split("=", 1) for line in data.decode().splitlines())
            said.append(data.decode())
            if {"FDSTORE", "FDSTOREREMOVE"} & words.keys() and words["FDNAME"] in self.store:
                os.close(self.store.pop(words["FDNAME"]))
            for _, _, content in ancillary:
                [number] = array.array("i", content)
                self.store[words["FDNAME"]] = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, BEYOND)
                os.close(number)

    def ends(self) -> int:
        """The status of the main process, when that has ended."""
        status = self._reap()
        self.heard()
        return status

    def clean_up(self) -> None:
        self.heard()
        for number in self.store.values():
            os.close(number)
        super().clean_up()
        self._socket.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    where = tmp_path / "nbd"
    with nbd_disk(where, "file", str(where / "disk.raw")) as made:
        yield made


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.clean_up()


ENDS = {
    "systemctl kill": -signal.SIGKILL,
    "systemctl restart": 0,
    "kill -9 of the one that serves": 128 + signal.SIGKILL,
}
"""How it ends -> with what status."""


@pytest.mark.parametrize("end", ENDS)
def test_the_next_one_is_started_while_the_one_before_waits_for_a_disk(
    service: Service, disk: Disk, tmp_path: Path, end: str
) -> None:
    service.start()
    two_volumes(service, disk, tmp_path)
    first = service.serving()
    disk.hang()
    writing = write_in_background(service.path("data"), 3 * REGION, b"old" * 1000)
    until(lambda: waits_for_the_disk(first), "a call hangs")
    assert service.process is not None
    if end != "systemctl restart":
        os.kill(first, signal.SIGKILL)
    if end != "kill -9 of the one that serves":
        service.process.send_signal(signal.SIGTERM if end == "systemctl restart" else signal.SIGKILL)
    assert service.ends() == ENDS[end]
    until(lambda: is_left_behind(first), "its call still waits")
    told = f"process {first} has ended but for calls that hang on a disk" in service.log()
    assert told == (end != "systemctl kill"), "who was killed, too, tells nothing"
    service.start()
    assert writing.wait(20) == 0, "files that are open stay open"
    served_without_it(service)
    returns(service, disk, tmp_path)


def test_the_one_that_serves_ends_with_the_main_process(service: Service, tmp_path: Path) -> None:
    """Or the next one would find the state directory taken."""
    service.start()
    service.make("other", "4M", tmp_path / "other.img")
    assert service.process is not None
    service.process.kill()
    service.ends()
    writing = write_in_background(service.path("other"), 0, b"served")
    service.start()
    assert writing.wait(20) == 0
    assert read_at(service.path("other"), 0, 6) == b"served"
    service.stop()


def test_a_child_that_fails_is_the_end_of_the_main_process(service: Service, tmp_path: Path) -> None:
    """Whoever started that has its own ideas of when to try again."""
    (tmp_path / "state").write_text("no directory")
    service.start(wait=False)
    service.may_log_errors = True
    assert service.ends() == 1
    assert "cannot be used" in service.log()


def test_a_stop_is_passed_on(service: Service, tmp_path: Path) -> None:
    service.start()
    service.make("other", "4M", tmp_path / "other.img")
    write_at(service.path("other"), 0, b"served")
    assert service.process is not None
    service.process.send_signal(signal.SIGTERM)
    assert service.ends() == 0
    assert "SIGTERM: stopping in order" in service.log()
