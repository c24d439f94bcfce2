"""Zeros made of a range, and where holes are, on real file systems and devices."""

import errno
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fmrd.backing import libc
from fmrd.backing.plexfile import PlexFile, create_plex, open_plex
from tests.backing.disks import allocated_bytes, mounted

BLOCK = 4096
LENGTH = 256 * BLOCK
KINDS = ["ext4", "xfs", "btrfs", "tmpfs"]


@pytest.fixture(params=KINDS)
def plex(request: pytest.FixtureRequest, tmp_path: Path, memory: Path) -> Iterator[PlexFile]:
    """Full of data, on a file system of each kind."""
    with ExitStack() as stack:
        directory = memory if request.param == "tmpfs" else stack.enter_context(mounted(tmp_path, request.param))
        made = create_plex(str(directory / "plex"), LENGTH)
        stack.callback(made.close)
        made.pwrite(0, b"d" * LENGTH)
        made.fdatasync()
        yield made


@pytest.mark.parametrize("punch", [True, False])
@pytest.mark.parametrize(("start", "stop"), [(0, LENGTH), (3 * BLOCK + 512, 9 * BLOCK + 1), (BLOCK, BLOCK + 1)])
def test_exactly_the_range_reads_as_zeros(plex: PlexFile, start: int, stop: int, punch: bool) -> None:
    plex.make_zero(start, stop - start, punch=punch)
    assert plex.pread(0, LENGTH) == b"d" * start + bytes(stop - start) + b"d" * (LENGTH - stop)
    assert plex.length == LENGTH


def test_a_punched_range_gives_its_blocks_back(plex: PlexFile) -> None:
    before = allocated_bytes(plex.path)
    plex.make_zero(64 * BLOCK, 128 * BLOCK, punch=True)
    plex.fdatasync()
    assert before - allocated_bytes(plex.path) >= 120 * BLOCK


@pytest.mark.parametrize("punch", [True, False])
def test_what_was_known_to_be_data_is_not_known_once_zeros_were_made(plex: PlexFile, punch: bool) -> None:
    plex.data_until(0, LENGTH)
    assert plex.is_known_data(0, LENGTH)
    plex.make_zero(64 * BLOCK, BLOCK, punch=punch)
    assert not plex.is_known_data(64 * BLOCK, 65 * BLOCK)


def test_a_hole_punched_into_known_data_stays_one_in_a_copy(plex: PlexFile) -> None:
    plex.data_until(0, LENGTH)
    plex.make_zero(64 * BLOCK, 128 * BLOCK, punch=True)
    target = create_plex(plex.path + "-copy", LENGTH)
    try:
        assert target.copy_from(plex, 0, LENGTH) == 128 * BLOCK
        target.fdatasync()
        assert allocated_bytes(target.path) < 140 * BLOCK
        assert target.pread(0, LENGTH) == plex.pread(0, LENGTH)
    finally:
        target.close()


def test_data_and_holes_are_told_up_to_where_they_end(plex: PlexFile) -> None:
    plex.make_zero(64 * BLOCK, 128 * BLOCK, punch=True)
    assert plex.data_until(0, LENGTH) == (True, 64 * BLOCK)
    assert plex.data_until(64 * BLOCK, LENGTH) == (False, 192 * BLOCK)
    assert plex.data_until(70 * BLOCK, 80 * BLOCK) == (False, 80 * BLOCK)
    assert plex.data_until(200 * BLOCK, LENGTH) == (True, LENGTH)


def test_zeros_are_written_where_nothing_else_makes_them(plex: PlexFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "no such thing here")

    monkeypatch.setattr(libc, "fallocate", cannot)
    plex.make_zero(BLOCK, 100 * BLOCK + 7, punch=True)
    assert plex.pread(0, LENGTH) == b"d" * BLOCK + bytes(100 * BLOCK + 7) + b"d" * (155 * BLOCK - 7)


def test_an_error_of_the_disk_is_not_written_over(plex: PlexFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: int) -> None:
        raise OSError(errno.EIO, "a bad block")

    monkeypatch.setattr(libc, "fallocate", fails)
    with pytest.raises(OSError, match="a bad block"):
        plex.make_zero(0, BLOCK, punch=True)
    assert plex.pread(0, BLOCK) == b"d" * BLOCK


def test_a_device_is_all_data_and_takes_zeros(loop: str) -> None:
    device = open_plex(loop, tail_bytes=0)
    try:
        device.pwrite(0, b"d" * (8 * BLOCK))
        device.make_zero(BLOCK, 2 * BLOCK, punch=True)
        assert device.pread(0, 8 * BLOCK) == b"d" * BLOCK + bytes(2 * BLOCK) + b"d" * (5 * BLOCK)
        assert device.data_until(BLOCK, 8 * BLOCK) == (True, 8 * BLOCK)
    finally:
        device.close()
