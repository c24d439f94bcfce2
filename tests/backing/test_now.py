"""Writes that a file system takes at once, or says that it would have to wait."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from fmrd.backing.owning import disk_below
from fmrd.backing.plexfile import PlexFile, create_plex
from tests.backing import disks

BLOCK = 4096


@pytest.fixture
def plex(tmp_path: Path) -> Iterator[PlexFile]:
    """Its first blocks are there, so that nothing has to be found for them."""
    with disks.mounted(tmp_path, "xfs") as where:
        made = create_plex(str(where / "plex"), 64 * BLOCK)
        try:
            made.pwrite(0, b"o" * 16 * BLOCK)
            yield made
        finally:
            made.close()


def refusing(code: int) -> Callable[..., int]:
    def pwritev(*_: Any) -> int:
        raise OSError(code, os.strerror(code))

    return pwritev


def test_what_is_in_the_page_cache_is_written_there(plex: PlexFile) -> None:
    assert plex.pwrite_now(BLOCK, b"n" * 2 * BLOCK) is True
    assert plex.pread(0, 4 * BLOCK) == b"o" * BLOCK + b"n" * 2 * BLOCK + b"o" * BLOCK


def test_who_would_have_to_wait_is_told_so_and_asked_the_next_time(
    plex: PlexFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    for code in (errno.EAGAIN, errno.EIO, errno.ENOSPC):
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwritev", refusing(code))
            assert plex.pwrite_now(0, b"n" * BLOCK) is False
        assert plex.pwrite_now(0, b"n" * BLOCK) is True


def test_a_part_of_it_is_not_all_of_it(plex: PlexFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwritev", lambda *_: 512)
    assert plex.pwrite_now(0, b"n" * BLOCK) is False


def test_a_kernel_that_cannot_tell_is_not_asked_again(plex: PlexFile, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", refusing(errno.EOPNOTSUPP))
        assert plex.pwrite_now(0, b"n" * BLOCK) is False
    assert plex.pwrite_now(0, b"n" * BLOCK) is None


def test_a_file_that_others_cut_is_not_made_longer(plex: PlexFile) -> None:
    os.truncate(plex.path, 8 * BLOCK)
    assert plex.pwrite_now(63 * BLOCK, b"n" * BLOCK) is False
    assert os.stat(plex.path).st_size == 8 * BLOCK


def test_btrfs_takes_it_or_does_not(tmp_path: Path) -> None:
    """It may lack room for what it would note of it, and the next time has it."""
    with disks.mounted(tmp_path, "btrfs") as where:
        made = create_plex(str(where / "plex"), 16 * BLOCK)
        made.pwrite(0, b"o" * 16 * BLOCK)
        for number in range(16):
            data = bytes([number]) * BLOCK
            taken = made.pwrite_now(number * BLOCK, data)
            assert taken is not None and (not taken or made.pread(number * BLOCK, BLOCK) == data)
        made.close()


@pytest.mark.parametrize("kind", ["ext4", "memory", "device"])
def test_where_a_write_may_wait_all_the_same_it_is_never_tried(
    kind: str, tmp_path: Path, memory: Path, loop: str
) -> None:
    if kind == "ext4":
        with disks.mounted(tmp_path, kind) as where:
            assert _tries(create_plex(str(where / "plex"), 4 * BLOCK)) is None
    elif kind == "memory":
        assert _tries(create_plex(str(memory / "plex"), 4 * BLOCK)) is None
    else:
        assert _tries(PlexFile(loop, os.open(loop, os.O_RDWR), 0)) is None


def _tries(plex: PlexFile) -> bool | None:
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
