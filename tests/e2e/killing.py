"""fio with verify on ext4 on a loop device, under a daemon that is killed again and again and started by its keeper.

``python -m tests.e2e.killing SECONDS`` (scripts/soak --keeper) kills it every second, by the clock, and detaches and
attaches a plex meanwhile.
"""

import signal
import subprocess
import sys
import time
from collections import Counter

from tests.e2e.harness import Daemon, Loops, same_bytes, tool, until
from tests.e2e.soak import scratch

FIO = (
    "fio", "--name=killing", "--ioengine=libaio", "--direct=1", "--rw=randwrite", "--bs=4k", "--iodepth=32",
    "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", "--randrepeat=1",
)  # fmt: skip
STOPPED_BY_SIGNAL = 128
"""fio's exit status when it was asked to end."""


class Killing:
    """``counts``: what happened so far. What went wrong is an AssertionError."""

    def __init__(self, daemon: Daemon, loops: Loops, *, size_mib: int) -> None:
        self.daemon = daemon
        self.loops = loops
        self.size_mib = size_mib
        self.counts: Counter[str] = Counter()
        self.plexes = [daemon.base / f"{letter}.img" for letter in "ab"]
        self._output = daemon.base / "fio.log"
        self._fio: subprocess.Popen[bytes] | None = None
        self._task = 0

    def start(self, file_mib: int) -> None:
        """fio writes and verifies from now on."""
        self.daemon.make("data", f"{self.size_mib}M", *self.plexes)
        self.daemon.json("set", "data", "io_timeout=60")  # a busy machine is no broken disk
        self._device = self.loops.attach(self.daemon.path("data"))
        tool("mkfs.ext4", "-q", self._device)
        self._where = self.loops.mount(self._device)
        self._job = [*FIO, f"--filename={self._where / 'file'}", f"--size={file_mib}M"]
        with open(self._output, "wb") as output:
            endless = [*self._job, "--time_based", "--runtime=100000", "--verify_backlog=256"]
            self._fio = subprocess.Popen(endless, stdout=output, stderr=output, cwd=self.daemon.base)

    def kill(self) -> None:
        self._works()
        self.daemon.kill_serving()
        self.counts["kills"] += 1

    def det(self) -> None:
        self.daemon.json("plex", "det", "data", "data-02")
        self.counts["det"] += 1

    def att(self) -> None:
        """Unless a daemon has attached it at its start: as it does."""
        if self.daemon.plex("data", "data-02")["state"] == "ACTIVE" or not self._copying():
            self.daemon.json("plex", "att", "data", "data-02")
        self.counts["att"] += 1

    def _copying(self) -> bool:
        return bool(self.daemon.json("print", "data")["tasks"])

    def finish(self) -> None:
        """fio ended without an error, and so does one last job, verified by another daemon than it was written by."""
        self._works()
        assert self._fio is not None
        self._fio.send_signal(signal.SIGINT)
        status = self._fio.wait(timeout=120)
        self._fio = None
        self._check(status in (0, STOPPED_BY_SIGNAL), self._output.read_text(errors="replace"))
        self._run("--do_verify=0")
        self.daemon.kill_serving()
        self._run("--verify_only")
        self.loops.umount(self._where)
        tool("e2fsck", "-fn", self._device)
        self.loops.detach(self._device)
        self.daemon.in_sync("data")
        self.daemon.json("stop", "data")
        assert same_bytes(*self.plexes), "PLEXES DIFFER"

    def _run(self, *more: str) -> None:
        done = subprocess.run([*self._job, *more], capture_output=True, text=True, check=False, timeout=300)
        self._check(done.returncode == 0, done.stdout + done.stderr)

    def _works(self) -> None:
        assert self._fio is not None and self._fio.poll() is None, self._output.read_text(errors="replace")

    def _check(self, ended_well: bool, output: str) -> None:
        bad = not ended_well or "verify:" in output or "err= 0" not in output
        assert not bad, f"FIO FOUND A DIFFERENCE OR AN ERROR, {dict(self.counts)}:\n{output}\n{self.daemon.log()}"

    def clean_up(self) -> None:
        if self._fio is not None:
            self._fio.kill()
            self._fio.wait()


def by_the_clock(due: float) -> None:
    until(lambda: time.monotonic() >= due, "the clock goes on")


def main(seconds: float) -> None:
    with scratch("fmrd-killing.", keeper=True) as (daemon, loops, stack):
        killing = Killing(daemon, loops, size_mib=512)
        stack.callback(killing.clean_up)
        print(f"killing fmrd every second for {seconds:g} s in {daemon.base}", flush=True)
        killing.start(file_mib=128)
        began = time.monotonic()
        steps = [killing.det, killing.att, lambda: None]
        while time.monotonic() < began + seconds:
            by_the_clock(began + killing.counts["kills"] + 1)
            killing.kill()
            steps[killing.counts["kills"] % len(steps)]()
        killing.finish()
    done = ", ".join(f"{count} {what}" for what, count in sorted(killing.counts.items()))
    print(f"{done}; no I/O error, no verify error, fsck clean, plexes the same")


if __name__ == "__main__":
    main(float(sys.argv[1]))
