"""A plex behind a line: the link to the other machine goes down while fio writes and verifies, and comes up again.

The other machine is a network namespace with an nbdkit in it, which listens as a socket unit with KeepAlive= would.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.harness import MIB, Daemon, Loops, needs_fuse, needs_loops, needs_program, same_bytes, tool, until
from tests.e2e.verified import Verified

SIZE, DISK = 64 * MIB, 66 * MIB
PATIENCE = 90.0
LISTENING = """
import os, socket, sys
listening = socket.socket()
for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 2)):
    listening.setsockopt(socket.IPPROTO_TCP, option, value)
listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
listening.bind((sys.argv[1], 10809))
listening.listen()
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execvp(sys.argv[2], sys.argv[2:])
"""
"""What systemd does for a socket unit."""


def has_namespaces() -> bool:
    """May this user make a network namespace, and a line into it?"""
    name = f"fmrd-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode == 0
    linked = (
        made
        and not subprocess.run(
            ["ip", "-n", name, "link", "add", "name", "here", "type", "veth", "peer", "name", "there"],
            capture_output=True,
        ).returncode
    )
    subprocess.run(["ip", "netns", "delete", name], capture_output=True)
    return linked


pytestmark = [needs_fuse, needs_loops, needs_program("nbdkit", "fio", "ip")]


@dataclass(frozen=True)
class Machine:
    """``name`` is its namespace, ``line`` the end of the link that is here."""

    name: str
    line: str
    address: str
    disk: Path

    @property
    def uri(self) -> str:
        return f"nbd://{self.address}/?x-fence=single"

    def listens(self) -> bool:
        return ":10809" in tool("ip", "netns", "exec", self.name, "ss", "--listening", "--tcp", "--numeric")

    def link(self, state: str) -> None:
        tool("ip", "link", "set", self.line, state)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Machine]:
    if not has_namespaces():
        pytest.skip("network namespaces and veth are not to be had")
    number = os.getpid() & 0x3FFF  # of one of 16384 networks of two addresses, set apart for tests (RFC 2544)
    network = (198 << 24) + (18 << 16) + 4 * number
    here, there = (".".join(map(str, (network + last).to_bytes(4, "big"))) for last in (1, 2))
    machine = Machine(f"fmrd-{os.getpid()}", f"fmrd{number}", there, tmp_path / "far.raw")
    with machine.disk.open("wb") as file:
        file.truncate(DISK)
    tool("ip", "netns", "add", machine.name)
    try:
        tool("ip", "link", "add", machine.line, "type", "veth", "peer", "name", "line", "netns", machine.name)
        tool("ip", "address", "add", f"{here}/30", "dev", machine.line)
        tool("ip", "-n", machine.name, "address", "add", f"{there}/30", "dev", "line")
        tool("ip", "-n", machine.name, "link", "set", "line", "up")
        machine.link("up")
        nbdkit = ["nbdkit", "--foreground", "--filter=limit", "file", str(machine.disk)]
        command = ["ip", "netns", "exec", machine.name, sys.executable, "-c", LISTENING, there, *nbdkit]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
            yield machine
            server.kill()
    finally:
        tool("ip", "netns", "delete", machine.name)


def test_the_link_goes_down_under_fio_and_comes_up_again(
    daemon: Daemon, loops: Loops, other: Machine, tmp_path: Path
) -> None:
    until(other.listens, "the server listens")
    daemon.make("data", SIZE, tmp_path / "near", other.uri)
    daemon.json("set", "data", "io_timeout=3")
    disk = Verified(daemon, loops, "data", kind="ext4", file_mib=16)
    disk.make()
    disk.mount()
    try:
        disk.go()
        until(lambda: daemon.volume("data")["plexes"][1]["writes"] > 100, "fio writes to both")
        other.link("down")
        until(lambda: daemon.states("data") == ["ACTIVE", "IOFAIL"], "the far plex has failed", PATIENCE)
        before = daemon.volume("data")["plexes"][0]["writes"]
        until(lambda: daemon.volume("data")["plexes"][0]["writes"] > before + 100, "work goes on")
        disk.works()
        other.link("up")
        until(lambda: daemon.states("data") == ["ACTIVE", "ACTIVE"], "it came back by itself", PATIENCE)
        disk.rest()
        disk.write_all()
        disk.verify_all()
        disk.umount()
    finally:
        disk.clean_up()
    tasks = [each for each in daemon.json("task", "list", "--all")["tasks"] if each["plex"] == "data-02"]
    assert [(each["state"], each["reason"]["code"]) for each in tasks] == [("done", "full_new_plex"), ("done", "fast")]
    assert 0 < tasks[1]["copied_bytes"] < SIZE // 2, "what was missed, and the extents that were being written"
    daemon.in_sync("data")
    assert daemon.stop() == 0
    assert same_bytes(tmp_path / "near", other.disk, length=SIZE)
