"""fio with verify on ext4 on a loop device, under a daemon that is killed again and again and started by its keeper.

``python -m tests.e2e.killing SECONDS`` (scripts/soak --keeper) kills it every second, by the clock, and detaches and
attaches a plex meanwhile.
"""

import sys
import time
from collections import Counter

from tests.e2e.harness import Daemon, Loops, same_bytes, until
from tests.e2e.soak import scratch
from tests.e2e.verified import Verified


class Killing:
    """``counts``: what happened so far. What went wrong is an AssertionError."""

    def __init__(self, daemon: Daemon, loops: Loops, *, size_mib: int, file_mib: int) -> None:
        self.daemon = daemon
        self.counts: Counter[str] = Counter()
        self.plexes = [daemon.base / f"{letter}.img" for letter in "ab"]
        self._size = f"{size_mib}M"
        self._disk = Verified(daemon, loops, "data", kind="ext4", file_mib=file_mib)

    def start(self) -> None:
        """fio writes and verifies from now on."""
        self.daemon.make("data", self._size, *self.plexes)
        self.daemon.json("set", "data", "io_timeout=60")  # a busy machine is no broken disk
        self._disk.make()
        self._disk.mount()
        self._disk.go()

    def kill(self) -> None:
        self._disk.works()
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
        self._disk.rest()
        self._disk.write_all()
        self.daemon.kill_serving()
        self._disk.verify_all()
        self._disk.umount()
        self.daemon.in_sync("data")
        self.daemon.json("stop", "data")
        assert same_bytes(*self.plexes), "PLEXES DIFFER"

    def clean_up(self) -> None:
        self._disk.clean_up()


def by_the_clock(due: float) -> None:
    until(lambda: time.monotonic() >= due, "the clock goes on")


def main(seconds: float) -> None:
    with scratch("fmrd-killing.", keeper=True) as (daemon, loops, stack):
        killing = Killing(daemon, loops, size_mib=512, file_mib=128)
        stack.callback(killing.clean_up)
        print(f"killing fmrd every second for {seconds:g} s in {daemon.base}", flush=True)
        killing.start()
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
