"""Disks that fail on order, by other people's tools: a file on nbdfuse over nbdkit, with filters."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.harness import MIB, until


@dataclass(frozen=True)
class Disk:
    """``path`` is what a plex lies on. The trigger files of its filters are in ``where``."""

    path: Path
    where: Path
    nbdfuse: int

    def fail(self, trigger: str) -> None:
        (self.where / trigger).touch()

    def heal(self, trigger: str) -> None:
        (self.where / trigger).unlink(missing_ok=True)

    def hang(self) -> None:
        """No request is answered, until it goes on. Nobody who waits for one can be killed."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def vanish(self) -> None:
        """Every request fails from now on, those under way too."""
        self._signal(signal.SIGKILL)
        os.kill(self.nbdfuse, signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(OSError):  # it vanished
            for child in Path(f"/proc/{self.nbdfuse}/task/{self.nbdfuse}/children").read_text().split():
                os.kill(int(child), number)


@contextmanager
def nbd_disk(where: Path, *filters: str, size: int = 16 * MIB) -> Iterator[Disk]:
    """A disk of that size behind nbdkit's filters, on ``where / "disk.raw"``."""
    where.mkdir()
    (where / "mount").mkdir()
    with (where / "disk.raw").open("wb") as file:
        file.truncate(size)
    command = ["nbdfuse", str(where / "mount" / "disk"), "--command", "nbdkit", "-s", "--exit-with-parent", *filters]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        disk = Disk(where / "mount" / "disk", where, process.pid)
        try:
            until(disk.path.exists, "nbdfuse serves")
            yield disk
        finally:
            disk.go_on()
            subprocess.run(["fusermount3", "-u", "-z", where / "mount"], check=False, capture_output=True)
            disk.vanish()  # whatever it is doing
            process.wait(20)


def failing(where: Path, *kinds: str) -> tuple[str, ...]:
    """Filters for a disk on which each kind of request (``pread``, ``pwrite``) fails while its trigger ``KIND`` is
    there.
    """
    orders = [word for kind in kinds for word in (f"error-{kind}-rate=100%", f"error-{kind}-file={where / kind}")]
    return ("--filter=error", "file", str(where / "disk.raw"), *orders)
