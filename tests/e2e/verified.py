"""A file system on a loop device on a volume, and a fio there that writes and verifies what it wrote."""

import signal
import subprocess

from tests.e2e.harness import Daemon, Loops, tool

FIO = (
    "fio", "--name=verified", "--ioengine=libaio", "--direct=1", "--rw=randwrite", "--bs=4k", "--iodepth=32",
    "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", "--randrepeat=1",
)  # fmt: skip
CHECKS = {"ext4": ("e2fsck", "-fn"), "xfs": ("xfs_repair", "-n")}
STOPPED_BY_SIGNAL = 128
"""fio's exit status when it was asked to end."""


class Verified:
    """What went wrong is an AssertionError with fio's words and the daemon's log."""

    def __init__(self, daemon: Daemon, loops: Loops, volume: str, *, kind: str, file_mib: int) -> None:
        self.daemon = daemon
        self.loops = loops
        self.volume = volume
        self.kind = kind
        self._size = f"--size={file_mib}M"
        self._output = daemon.base / f"fio-{volume}.log"
        self._fio: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        device = self.loops.attach(self.daemon.path(self.volume))
        tool(f"mkfs.{self.kind}", "-q", device)
        self.loops.detach(device)

    def mount(self) -> None:
        self.device = self.loops.attach(self.daemon.path(self.volume))
        self.where = self.loops.mount(self.device)

    def umount(self) -> None:
        """And the file system is clean."""
        self.loops.umount(self.where)
        tool(*CHECKS[self.kind], self.device)
        self.loops.detach(self.device)

    def go(self) -> None:
        """fio writes and verifies from now on."""
        with open(self._output, "wb") as output:
            endless = [*self._job(), "--time_based", "--runtime=100000", "--verify_backlog=256"]
            self._fio = subprocess.Popen(endless, stdout=output, stderr=output, cwd=self.daemon.base)

    def works(self) -> None:
        assert self._fio is not None and self._fio.poll() is None, self._told(self._output.read_text(errors="replace"))

    def rest(self) -> None:
        """fio ends, and had no error."""
        self.works()
        assert self._fio is not None
        self._fio.send_signal(signal.SIGINT)
        status = self._fio.wait(timeout=120)
        self._fio = None
        self._check(status in (0, STOPPED_BY_SIGNAL), self._output.read_text(errors="replace"))

    def write_all(self) -> None:
        self._run("--do_verify=0")

    def verify_all(self) -> None:
        """What ``write_all`` wrote."""
        self._run("--verify_only")

    def clean_up(self) -> None:
        if self._fio is not None:
            self._fio.kill()
            self._fio.wait()
            self._fio = None

    def _job(self) -> list[str]:
        return [*FIO, f"--filename={self.where / 'file'}", self._size]

    def _run(self, *more: str) -> None:
        done = subprocess.run([*self._job(), *more], capture_output=True, text=True, check=False, timeout=300)
        self._check(done.returncode == 0, done.stdout + done.stderr)

    def _check(self, ended_well: bool, output: str) -> None:
        assert ended_well and "verify:" not in output and "err= 0" in output, self._told(output)

    def _told(self, output: str) -> str:
        return f"FIO FOUND A DIFFERENCE OR AN ERROR on {self.volume}:\n{output}\n{self.daemon.log()}"
