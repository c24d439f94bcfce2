"""A Ceph cluster of one monitor and one OSD, for tests: in a directory, gone when the with-block ends. fmrd asks there
as client.fmrd, who may do what the README says, and no more.

It keeps nothing on a disk of its own beyond what the OSD is told to (memstore: all in memory), so it is up in seconds.
"""

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fmrd.backing.rbd import library
from fmrd.errors import Failed
from tests.e2e.harness import until

PROGRAMS = ("ceph-mon", "ceph-osd", "monmaptool")
START_SECONDS = 60
CONF = """\
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{port}/0
run dir = {where}
admin socket =
log file =
mon cluster log file =
pid file =
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data = {where}/mon
mon data avail crit = 1
paxos propose interval = 0.05
paxos min wait = 0.01
osd data = {where}/osd
osd objectstore = memstore
memstore device bytes = 268435456
osd memory target = 939524096
osd class load list = *
osd class default list = *
ms bind ipv6 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = {where}/keyring
"""
CAPS = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *"},
    "osd.0": {"mon": "allow profile osd", "osd": "allow *"},
    "client.fmrd": {"mon": "profile rbd", "osd": "profile rbd pool=rbd"},
}
"""Who there is, and what they may do."""


def _keyring() -> str:
    lines = []
    for name, caps in CAPS.items():
        key = struct.pack("<HIIH", 1, int(time.time()), 0, 16) + os.urandom(16)
        lines += [f"[{name}]", f"key = {base64.b64encode(key).decode()}"]
        lines += [f'caps {what} = "{may}"' for what, may in caps.items()]
    return "".join(f"{line}\n" for line in lines)


def lacks() -> str:
    """What is not installed that this needs; "" where all of it is."""
    missing = [each for each in PROGRAMS if not shutil.which(each)]
    try:
        library.load("rbd:")
    except Failed:
        missing.append("python3-rbd for this Python")
    return ", ".join(missing)


@dataclass
class Cluster:
    """``conf``: by which it is reached. Images are in the pool rbd."""

    where: Path
    conf: Path
    osd: subprocess.Popen[bytes] = field(init=False)
    handle: Any = field(init=False)
    pool: Any = field(init=False)
    count: int = 0

    def image(self, size: int, *, features: int | None = None) -> str:
        """A new image of that many bytes: its URI."""
        _, rbd = library.load("rbd:")
        self.count += 1
        name = f"disk{self.count}"
        rbd.RBD().create(self.pool, name, size, order=20, old_format=False, features=features)
        return f"rbd:rbd/{name}?conf={self.conf}&id=fmrd"

    @contextmanager
    def opened(self, uri: str) -> Iterator[Any]:
        """The image, by the library alone."""
        _, rbd = library.load("rbd:")
        with rbd.Image(self.pool, uri.partition("?")[0].rpartition("/")[2]) as image:
            yield image

    def content(self, uri: str, offset: int, length: int) -> bytes:
        with self.opened(uri) as image:
            return bytes(image.read(offset, length))

    def hang(self) -> None:
        """Nothing is answered until it goes on."""
        self.osd.send_signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self.osd.pid}/task")
        until(lambda: all(_is_stopped(each) for each in tasks.iterdir()), "all threads of the OSD have stopped")

    def go_on(self) -> None:
        self.osd.send_signal(signal.SIGCONT)

    def ask(self, **command: Any) -> bytes:
        """Of the monitor."""
        status, out, words = self.handle.mon_command(json.dumps(command), b"")
        assert not status, words
        return bytes(out)


@contextmanager
def running(where: Path) -> Iterator[Cluster]:
    """A cluster with a pool "rbd"."""
    rados, _ = library.load("rbd:")
    fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
    port = _free_port()
    conf = where / "ceph.conf"
    conf.write_text(CONF.format(fsid=fsid, port=port, where=where))
    (where / "keyring").write_text(_keyring())
    (where / "mon").mkdir()
    (where / "osd").mkdir()
    cluster = Cluster(where, conf)
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(open(where / "log", "ab"))
        monmap = where / "monmap"
        words = ["monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{port}]", str(monmap)]
        subprocess.run(words, stdout=log, stderr=log, check=True)
        mine = ["-c", str(conf)]
        first = ["--mkfs", "--monmap", str(monmap), "--keyring", str(where / "keyring")]
        subprocess.run(["ceph-mon", *mine, "-i", "a", *first], stderr=log, check=True)
        stack.enter_context(_process(["ceph-mon", *mine, "-i", "a", "-f"], log))
        cluster.handle = rados.Rados(conffile=str(conf), rados_id="admin")
        cluster.handle.connect(timeout=START_SECONDS)
        stack.callback(cluster.handle.shutdown)
        cluster.ask(prefix="osd new", uuid=osd)
        subprocess.run(
            ["ceph-osd", *mine, "-i", "0", "--mkfs", "--osd-uuid", osd], stdout=log, stderr=log, check=True
        )  # fmt: skip
        cluster.osd = stack.enter_context(_process(["ceph-osd", *mine, "-i", "0", "-f"], log))
        stack.callback(cluster.go_on)
        until(lambda: _is_up(cluster), "the OSD is up", START_SECONDS)
        cluster.ask(prefix="osd pool create", pool="rbd", pg_num=1)
        cluster.pool = cluster.handle.open_ioctx("rbd")
        stack.callback(lambda: cluster.pool.close())
        yield cluster


def _is_stopped(task: Path) -> bool:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0] == "T"
    except (FileNotFoundError, ProcessLookupError):  # that thread ended just before
        return True


def _is_up(cluster: Cluster) -> bool:
    return bool(json.loads(cluster.ask(prefix="osd stat", format="json"))["num_up_osds"])


@contextmanager
def _process(command: list[str], log: Any) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ) as process:
        try:
            yield process
        finally:
            process.kill()


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
