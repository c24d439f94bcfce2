"""A mounted file system is frozen (FIFREEZE, FITHAW) by a process of its own, which thaws it when this one is gone.

The kernel keeps a file system frozen until somebody thaws it, also after the death of whoever froze it. So a child does
both: it freezes, says so, and thaws when its standard input ends, by order or because the daemon was killed.
"""

import fcntl
import os
import select
import subprocess
import sys

from fmrd.backing.owning.under_way import has_ended

FIFREEZE = 0xC0045877
FITHAW = 0xC0045878
FROZEN = b"frozen\n"
LOOK_SECONDS = 0.2


class Freezer:
    """This is protocol.Freezer for real: one freeze of one mount point. Both calls block, and belong on a thread."""

    def __init__(self, mountpoint: str) -> None:
        self.mountpoint = mountpoint
        self._child: subprocess.Popen[bytes] | None = None

    def check(self) -> None:
        """OSError where it is no mount point."""
        if not os.path.ismount(self.mountpoint):
            raise OSError(f"{self.mountpoint} is not a mount point")

    def freeze(self) -> None:
        """Freeze it. OSError: it is no mount point, no file system that can be frozen, or frozen already."""
        self.check()
        self._child = child = subprocess.Popen(
            [sys.executable, "-I", "-m", "fmrd.backing.freezing", self.mountpoint],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert child.stdout is not None and child.stderr is not None
        if child.stdout.readline() != FROZEN:
            problem = child.stderr.read().decode(errors="replace").strip()
            raise OSError(problem or "the freezing process ended")

    def thaw(self) -> None:
        """Thaw it; where nothing was frozen nothing is done. OSError where it may still be frozen."""
        child, self._child = self._child, None
        if child is None:
            return
        _, problem = child.communicate()
        if child.returncode and problem:
            raise OSError(problem.decode(errors="replace").strip())


def wait_for_the_end(order: int, parent: int) -> None:
    """Of the order to keep it frozen, or of the parent: one that was left behind, with a call that hangs, keeps its end
    of the pipe open.
    """
    while not select.select([order], [], [], LOOK_SECONDS)[0]:
        if has_ended(parent):
            return


def main(mountpoint: str) -> int:
    """Be the child: keep it frozen from the line it prints to the end of its standard input. Return the exit status."""
    directory = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(directory, FIFREEZE, 0)
    except OSError as error:
        print(f"{error.strerror}", file=sys.stderr)
        return 1
    try:
        os.write(1, FROZEN)
        wait_for_the_end(0, os.getppid())
    finally:
        fcntl.ioctl(directory, FITHAW, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
