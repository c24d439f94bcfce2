"""Whether a file could be made or written there is found out, and nothing is left of it."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fmrd.backing.looking.trying import room, try_clone, try_out
from tests.backing import disks

MIB = 1 << 20


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A place to mount on."""
    if os.geteuid():
        pytest.skip("mounting needs root")
    where = tmp_path / "mounted"
    where.mkdir()
    yield where
    disks.run("umount", where)


def refused(path: Path, length: int = MIB, *, allocated: bool = False) -> int:
    with pytest.raises(OSError, match=str(path)) as caught:
        try_out(str(path), length, allocated=allocated)
    return caught.value.errno or 0


def test_what_can_be_made_or_written(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"kept")
    (tmp_path / "link").symlink_to("there")
    for name in ("new", "there", "link"):
        try_out(str(tmp_path / name), 1 << 40)
        try_out(str(tmp_path / name), MIB, allocated=True)
    assert (tmp_path / "there").read_bytes() == b"kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "there"]


def test_a_length_that_the_file_system_has_not(tmp_path: Path) -> None:
    assert refused(tmp_path / "new", (1 << 63) - 1) in (errno.EFBIG, errno.EINVAL)
    assert refused(tmp_path / "new", 1 << 60, allocated=True) == errno.ENOSPC


def test_a_file_system_without_unnamed_files(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def open_named(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", open_named)
    disks.run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", mounted)
    try_out(str(mounted / "new"), MIB)
    disks.run("mount", "-o", "remount,ro", mounted)
    assert refused(mounted / "new") == errno.EROFS


def test_what_a_directory_says_is_what_whoever_makes_a_file_would_hear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_quota(path: str, flags: int, mode: int = 0o777) -> int:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "open", out_of_quota)
    assert refused(tmp_path / "new") == errno.EDQUOT


def test_a_file_system_that_says_nothing_of_its_room(mounted: Path) -> None:
    disks.run("mount", "-t", "ramfs", "ramfs", mounted)
    try_out(str(mounted / "new"), MIB, allocated=True)
    (mounted / "there").touch()
    assert room(str(mounted / "there")) is None, "and that is not: nothing is free"


def test_a_clone_that_cannot_be(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * MIB)
    (tmp_path / "there").touch()
    with pytest.raises(FileExistsError):
        try_clone(str(source), str(tmp_path / "there"))
    assert (tmp_path / "there").read_bytes() == b""


def test_a_clone_that_can_be(tmp_path: Path) -> None:
    with disks.mounted(tmp_path, "xfs") as where:
        (where / "source").write_bytes(b"x" * MIB)
        try_clone(str(where / "source"), str(where / "clone"))
        assert os.listdir(where) == ["source"]
    with disks.mounted(tmp_path, "ext4") as where:
        (where / "source").write_bytes(b"x" * MIB)
        with pytest.raises(OSError, match=r"supported|Invalid"):
            try_clone(str(where / "source"), str(where / "clone"))
