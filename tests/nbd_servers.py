"""NBD servers that others wrote, for tests: on a socket of their own, killed and started again at will."""

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.harness import until

PATIENCE_SECONDS = 30.0


@dataclass
class Server:
    """A server that listens on ``socket``; ``command`` starts it in the foreground."""

    socket: Path
    command: list[str]
    query: str = ""
    """Of its URI, beside the socket."""
    export: str = ""
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    port: int = 0
    """Of 127.0.0.1, instead of the socket."""

    @property
    def uri(self) -> str:
        if self.port:
            return f"nbd://127.0.0.1:{self.port}/{self.export}" + self.query.replace("&", "?", 1)
        return f"nbd+unix:///{self.export}?socket={self.socket}{self.query}"

    @property
    def log_path(self) -> Path:
        """What it says."""
        return self.socket.with_suffix(".log")

    def start(self) -> None:
        """Returns when it lets somebody in."""
        self.socket.unlink(missing_ok=True)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(self._listens, f"{self.command[0]} listens")

    def _listens(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"{' '.join(self.command)} ended: {self.log_path.read_text()}")
        with socket.socket(socket.AF_INET if self.port else socket.AF_UNIX) as connection:
            try:
                connection.connect(("127.0.0.1", self.port) if self.port else str(self.socket))
            except OSError:
                return False
            # Not before it has noticed that this one left: it may take one client at a time.
            readable, _, _ = select.select([connection], [], [], PATIENCE_SECONDS)
            return bool(readable)

    def kill(self) -> None:
        """It is gone, and what it had only in memory with it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE_SECONDS)
            self.process = None

    def stop(self) -> None:
        """In order: it ends what it has begun."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(PATIENCE_SECONDS)
        self.process = None

    def hang(self) -> None:
        """It answers nothing, until it goes on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)


class NbdServer(Server):
    """nbd-server goes into the background, and has a child for each client."""

    number = 0

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        pid = self.socket.with_suffix(".pid")
        pid.unlink(missing_ok=True)
        with open(self.log_path, "ab") as log:
            done = subprocess.run(
                [*self.command, "-p", str(pid)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
            )
        assert not done.returncode, self.log_path.read_text()
        until(lambda: pid.exists() and pid.read_text().endswith("\n"), "nbd-server says who it is")
        self.number = int(pid.read_text())
        until(self._listens, "nbd-server listens")

    def kill(self) -> None:
        number, self.number = self.number, 0
        for each in [*self._children(number), number] if number else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)

    def hang(self) -> None:
        self._tell(signal.SIGSTOP)

    def go_on(self) -> None:
        self._tell(signal.SIGCONT)

    def _tell(self, number: int) -> None:
        for each in [self.number, *self._children(self.number)] if self.number else []:
            with contextlib.suppress(ProcessLookupError):  # a client's has just ended
                os.kill(each, number)

    @staticmethod
    def _children(number: int) -> list[int]:
        with contextlib.suppress(OSError):
            return [int(word) for word in Path(f"/proc/{number}/task/{number}/children").read_text().split()]
        return []


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.go_on()
        server.kill()


def disk(where: Path, size: int) -> Path:
    """A sparse file that a server serves."""
    path = where / "disk.raw"
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def nbdkit_memory(where: Path, size: int, *filters: str) -> Server:
    return _nbdkit(where, *filters, "memory", str(size))


def nbdkit_file(where: Path, size: int, *words: str) -> Server:
    """``words``: filters and their parameters."""
    filters = [word for word in words if word.startswith("--")]
    parameters = [word for word in words if not word.startswith("--")]
    path = where / "disk.raw"
    if not path.exists():
        disk(where, size)
    return _nbdkit(where, *filters, "file", str(path), *parameters)


def _nbdkit(where: Path, *words: str) -> Server:
    return Server(where / "nbd.sock", ["nbdkit", "-f", "-U", str(where / "nbd.sock"), *words])


def nbdkit_tcp(where: Path, size: int, port: int, *filters: str) -> Server:
    command = ["nbdkit", "-f", "-i", "127.0.0.1", "-p", str(port), *filters, "file", str(disk(where, size))]
    return Server(where / "nbd.sock", command, port=port)


def qemu_nbd(where: Path, size: int) -> Server:
    command = ["qemu-nbd", "-k", str(where / "nbd.sock"), "-f", "raw", "-t", "--discard=unmap", "-x", "disk"]
    return Server(where / "nbd.sock", [*command, str(disk(where, size))], export="disk")


def nbd_server(where: Path, size: int, *, durable: bool = True) -> Server:
    """It reads a configuration, and listens on TCP as well."""
    config = where / "config"
    promises = "flush = true\nfua = true\n" if durable else ""
    config.write_text(
        f"[generic]\nunixsock = {where / 'nbd.sock'}\nlistenaddr = 127.0.0.1\nport = {free_port()}\n"
        f"allowlist = false\nmax_threads = 4\n[disk]\nexportname = {disk(where, size)}\ntrim = true\n{promises}"
    )
    return NbdServer(where / "nbd.sock", ["nbd-server", "-C", str(config)], export="disk")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


SERVERS: dict[str, tuple[str, Callable[[Path, int], Server]]] = {
    "nbdkit-memory": ("nbdkit", nbdkit_memory),
    "nbdkit-file": ("nbdkit", nbdkit_file),
    "qemu-nbd": ("qemu-nbd", qemu_nbd),
    "nbd-server": ("nbd-server", nbd_server),
}
"""Name -> (program, what makes one)."""


SSH = """#!/bin/sh
# What ssh does with its words: the host and the command come last.
echo "$$ $*" >>"$(dirname "$0")/asked"
while [ "$1" != -- ]; do shift; done
[ "$2" != nowhere ] || { echo "ssh: Could not resolve hostname \033[31mnowhere" >&2; exit 255; }
[ "$2" != bare ] || PATH=/nowhere
exec /bin/sh -c "$3"
"""


def ssh_to_here(where: Path) -> Path:
    """A directory with a program in the place of ssh, for which every host is this one."""
    program = where / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(SSH)
    program.chmod(0o755)
    return program.parent


def is_installed(program: str) -> bool:
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is not None
