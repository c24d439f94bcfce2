"""Writes that a file system takes at once, or says that it would have to wait."""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from fmrd.backing.owning import disk_below
from fmrd.backing.plexfile import PlexFile, create_plex
from fmrd.backing.ring.ring import Ring
from tests.backing import disks
from tests.waiting import until

BLOCK = 4096


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    with disks.mounted(tmp_path, "xfs") as where:
        yield where


@pytest.fixture
def ring() -> Iterator[Ring]:
    try:
        made = Ring(8)
    except OSError as error:
        pytest.skip(f"needs io_uring: {error}")
    yield made
    made.close()


@pytest.fixture
def plex(place: Path, ring: Ring) -> Iterator[PlexFile]:
    """Its first blocks are there, so that nothing has to be found for them."""
    made = create_plex(str(place / "plex"), 64 * BLOCK)
    made.ring = ring
    try:
        made.pwrite(0, b"o" * 16 * BLOCK)
        if made.pwrite_now(0, b"o" * BLOCK) is None:
            pytest.skip("needs a kernel that does not wait for a frozen file system (6.12)")
        yield made
    finally:
        made.close()


def telling(ring: Ring, monkeypatch: pytest.MonkeyPatch, result: int) -> None:
    monkeypatch.setattr(ring, "write_now", lambda *_: result)


async def test_what_is_in_the_page_cache_is_written_there(plex: PlexFile) -> None:
    """In the tick of the kernel in which the file's time of change was written: in the next that has to wait."""

    def soon_after_another() -> bool:
        plex.pwrite(0, b"o" * BLOCK)
        return plex.pwrite_now(BLOCK, b"n" * 2 * BLOCK) is True

    await until(soon_after_another)
    assert plex.pread(0, 4 * BLOCK) == b"o" * BLOCK + b"n" * 2 * BLOCK + b"o" * BLOCK


def test_others_in_the_ring_are_told_of_their_own(plex: PlexFile, ring: Ring) -> None:
    told: list[int] = []
    ring.fdatasync(plex.fd, told.append)
    assert plex.pwrite_now(BLOCK, b"n" * BLOCK) is not None and told == []
    while not told:
        ring.wait(1)
    assert told == [0] and not ring.outstanding


def test_who_would_have_to_wait_is_told_so_and_asked_the_next_time(
    plex: PlexFile, ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    for code in (errno.EAGAIN, errno.EIO, errno.ENOSPC):
        with monkeypatch.context() as patch:
            telling(ring, patch, -code)
            assert plex.pwrite_now(0, b"n" * BLOCK) is False
        assert plex.pwrite_now(0, b"n" * BLOCK) is not None


def test_a_part_of_it_is_not_all_of_it(plex: PlexFile, ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    telling(ring, monkeypatch, 512)
    assert plex.pwrite_now(0, b"n" * BLOCK) is False


def test_a_kernel_that_cannot_tell_is_not_asked_again(
    plex: PlexFile, ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        telling(ring, patch, -errno.EOPNOTSUPP)
        assert plex.pwrite_now(0, b"n" * BLOCK) is False
    assert plex.pwrite_now(0, b"n" * BLOCK) is None


def test_a_file_system_that_is_frozen_is_not_waited_for(plex: PlexFile, place: Path) -> None:
    """By whoever takes a snapshot below it, or by a device-mapper that is suspended."""
    thaws: list[str] = []

    def thaw() -> None:
        thaws.append(disks.run("fsfreeze", "-u", place))

    disks.run("fsfreeze", "-f", place)
    late = threading.Timer(10, thaw)
    late.start()
    taken = plex.pwrite_now(0, b"n" * BLOCK)
    late.cancel()
    late.join()
    assert taken is False and not thaws, "it waits for the thaw"
    thaw()
    assert plex.pread(0, BLOCK) == b"o" * BLOCK


def test_a_file_that_others_cut_is_not_made_longer(plex: PlexFile) -> None:
    os.truncate(plex.path, 8 * BLOCK)
    assert plex.pwrite_now(63 * BLOCK, b"n" * BLOCK) is False
    assert os.stat(plex.path).st_size == 8 * BLOCK


@pytest.mark.parametrize("kind", ["ext4", "btrfs", "memory", "device"])
def test_where_a_write_may_wait_all_the_same_it_is_never_tried(
    kind: str, tmp_path: Path, memory: Path, loop: str, ring: Ring
) -> None:
    if kind in ("ext4", "btrfs"):
        with disks.mounted(tmp_path, kind) as where:
            assert _tries(create_plex(str(where / "plex"), 4 * BLOCK), ring) is None
    elif kind == "memory":
        assert _tries(create_plex(str(memory / "plex"), 4 * BLOCK), ring) is None
    else:
        assert _tries(PlexFile(loop, os.open(loop, os.O_RDWR), 0), ring) is None


def _tries(plex: PlexFile, ring: Ring) -> bool | None:
    plex.ring = ring
    try:
        return plex.pwrite_now(0, b"n" * BLOCK)
    finally:
        plex.close()


@pytest.mark.parametrize(("attribute", "told", "stable"), [
    ("queue", "1\n", True), ("../queue", "1\n", True), ("queue", "0\n", False), ("none", "1\n", False),
])  # fmt: skip
def test_a_disk_that_keeps_pages_stable_would_be_waited_for(
    attribute: str, told: str, stable: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The kernel does so whatever was asked of it."""
    real, asked = open, []

    def opened(path: str) -> AbstractContextManager[Any]:
        asked.append(path)
        if path != f"/sys/dev/block/253:7/{attribute}/stable_writes":
            raise FileNotFoundError(path)
        (tmp_path / "told").write_text(told)
        return real(tmp_path / "told")

    monkeypatch.setattr(disk_below, "open", opened, raising=False)
    assert disk_below.keeps_pages_stable(os.makedev(253, 7)) is stable
    assert asked


@pytest.mark.parametrize(("release", "never"), [("6.1.0-amd64", False), ("6.12.41+deb13", True), ("7.0", True)])
def test_older_kernels_wait_for_a_thaw(release: str, never: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    told = os.uname()
    monkeypatch.setattr(os, "uname", lambda: type(told)((*told[:2], release, *told[3:])))
    assert disk_below.never_waits(0) is never
