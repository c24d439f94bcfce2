"""A mounted file system is frozen (FIFREEZE, FITHAW) by a process of its own, which thaws it when this one is gone.

The kernel keeps a file system frozen until somebody thaws it, also after the death of whoever froze it. So a child does
both: it freezes, says so, and thaws when its standard input ends, by order or because the daemon was killed. What fmrd
itself has to write meanwhile must not lie on it: the volume that is held for the freeze would wait for it.
"""

import fcntl
import os
import select
import subprocess
import sys
from collections.abc import Mapping

from fmrd.backing.looking.beneath import Beneath
from fmrd.backing.owning.under_way import has_ended
from fmrd.core.printable import printable
from fmrd.errors import Refused

FIFREEZE = 0xC0045877
FITHAW = 0xC0045878
FROZEN = b"frozen\n"
LOOK_SECONDS = 0.2


class Freezer:
    """This is protocol.Freezer for real: one freeze of one mount point. Both calls block, and belong on a thread.
    ``needed``: path -> what of fmrd's lies there. ``own``: fmrd's mount point.
    """

    def __init__(self, mountpoint: str, needed: Mapping[str, str] | None = None, own: str | None = None) -> None:
        self.mountpoint = mountpoint
        self._needed = needed or {}
        self._own = own
        self._child: subprocess.Popen[bytes] | None = None

    def check(self) -> None:
        """OSError where it is no mount point; Refused('refused_freeze') where fmrd itself would stand still."""
        if not os.path.ismount(self.mountpoint):
            raise OSError(f"{self.mountpoint} is not a mount point")
        self._must_not_hold_us_up()

    def freeze(self) -> None:
        """Freeze it. OSError: it is no file system that can be frozen, or frozen already; and as ``check``."""
        self.check()
        self._child = child = subprocess.Popen(
            [sys.executable, "-I", "-m", "fmrd.backing.freezing", self.mountpoint],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert child.stdout is not None and child.stderr is not None
        if child.stdout.readline() != FROZEN:
            problem = child.stderr.read().decode(errors="replace").strip()
            raise OSError(problem or "the freezing process ended")

    def _must_not_hold_us_up(self) -> None:
        beneath = Beneath(self._own)
        frozen = beneath.file_system_at(self.mountpoint)
        held = [
            f"{what} ({printable(path)})" for path, what in self._needed.items() if frozen in beneath.file_systems(path)
        ]
        if held:
            raise Refused(
                "refused_freeze",
                f"{self.mountpoint} is not frozen: on that file system lies {', and '.join(held)}, so the volume would "
                "wait for itself",
                "snapshot without --freeze, or with what lies there moved to another file system",
            )

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
