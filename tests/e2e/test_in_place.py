"""A write that is tried in place never waits for a disk, whatever that does (backing/descriptor.py)."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fmrd.backing.plexfile import PlexFile, create_plex
from fmrd.backing.ring.ring import Ring
from tests.backing import disks
from tests.e2e.harness import MIB
from tests.e2e.nbd import Disk, nbd_disk

BLOCK = 4096
LENGTH = 8 * MIB


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[tuple[Disk, PlexFile]]:
    """A disk that hangs when it is told to, and a file on an XFS on it, all of it there."""
    disks.require_loop()
    for program in ("nbdfuse", "nbdkit", "mkfs.xfs"):
        if not shutil.which(program):
            pytest.skip(f"needs {program}")
    with ExitStack() as stack:
        nbd = tmp_path / "nbd"
        disk = stack.enter_context(nbd_disk(nbd, "file", str(nbd / "disk.raw"), size=320 * MIB))
        device = stack.enter_context(disks.attached(disk.path))
        where = stack.enter_context(disks.made_on(device, tmp_path, "xfs"))
        try:
            ring = Ring(8)
        except OSError as error:
            pytest.skip(f"needs io_uring: {error}")
        stack.callback(ring.close)
        plex = create_plex(str(where / "plex"), LENGTH)
        plex.ring = ring
        stack.callback(plex.close)
        plex.pwrite(0, b"o" * LENGTH)
        plex.fdatasync()
        stack.callback(disk.go_on)
        yield disk, plex


def test_a_disk_that_hangs_keeps_nobody_waiting(hanging: tuple[Disk, PlexFile]) -> None:
    """What would have to be read first is not taken; what is in the page cache is, or is not. Each is told at once."""
    disk, plex = hanging
    os.posix_fadvise(plex.fd, LENGTH // 2, LENGTH // 2, os.POSIX_FADV_DONTNEED)
    disk.hang()
    late: list[bool] = []

    def go_on() -> None:
        late.append(True)
        disk.go_on()

    timer = threading.Timer(10, go_on)
    timer.start()
    told = [plex.pwrite_now(offset, b"n" * (BLOCK // 8)) for offset in range(0, LENGTH, BLOCK)]
    timer.cancel()
    timer.join()
    if None in told:
        pytest.skip("needs a kernel that does not wait for a frozen file system (6.12)")
    assert not late, "it waits for the disk"
    assert not any(told[len(told) // 2 :])
