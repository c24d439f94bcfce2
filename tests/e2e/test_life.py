"""A volume's life through the kernel: make, print, use, grow, stop, start, remove, and what a file of it allows."""

import contextlib
import errno
import mmap
import os
import time
from pathlib import Path

import pytest

from tests.e2e.harness import (
    MIB,
    Daemon,
    needs_fuse,
    needs_program,
    open_file,
    read_at,
    same_bytes,
    tool,
    until,
    write_at,
)

pytestmark = needs_fuse


@pytest.fixture
def plexes(tmp_path: Path) -> list[Path]:
    return [tmp_path / "a.img", tmp_path / "b.img"]


@pytest.fixture
def data(daemon: Daemon, plexes: list[Path]) -> Path:
    """A volume of 16 MiB on two plexes; its file."""
    daemon.make("data", "16M", *plexes)
    return daemon.path("data")


def test_a_new_volume_is_a_private_file_of_its_length(daemon: Daemon, data: Path) -> None:
    status = data.stat()
    assert (status.st_size, status.st_mode & 0o7777) == (16 * MIB, 0o600)
    assert os.listdir(daemon.mount) == ["data"]
    assert daemon.volume("data")["path"] == str(data)


def test_what_is_written_is_read_and_lies_on_every_plex(data: Path, plexes: list[Path]) -> None:
    write_at(data, 5_000_000, b"on both" * 1000)
    assert read_at(data, 5_000_000, 7000) == b"on both" * 1000
    assert [read_at(plex, 5_000_000, 7000) for plex in plexes] == [b"on both" * 1000] * 2
    assert same_bytes(data, *plexes)


def test_it_ends_like_a_device(data: Path) -> None:
    with open_file(data, os.O_RDWR) as file:
        assert os.pread(file, 100, 16 * MIB) == b""
        assert os.pwrite(file, bytes(8192), 16 * MIB - 4096) == 4096
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            os.pwrite(file, b"x", 16 * MIB)
    assert data.stat().st_size == 16 * MIB


def test_nobody_truncates_it(data: Path) -> None:
    write_at(data, 0, b"still here")
    with open_file(data, os.O_RDWR | os.O_TRUNC):
        pass
    assert (data.stat().st_size, read_at(data, 0, 10)) == (16 * MIB, b"still here")
    with pytest.raises(PermissionError):
        os.truncate(data, 4096)
    os.truncate(data, 16 * MIB)


def test_an_open_that_would_truncate_ends_nobody_elses_reads(data: Path) -> None:
    page = mmap.mmap(-1, 4096)
    with open_file(data, os.O_RDWR | os.O_DIRECT) as held, open_file(data, os.O_RDWR | os.O_TRUNC):
        until(lambda: os.preadv(held, [page], 0) == 4096, "the kernel knows the length again")


def test_files_come_and_go_by_fmrctl_alone(daemon: Daemon, data: Path) -> None:
    for attempt in (
        lambda: (daemon.mount / "new").touch(),
        lambda: (daemon.mount / "new").mkdir(),
        data.unlink,
        lambda: data.rename(daemon.mount / "other"),
        lambda: data.chmod(0o666),
    ):
        with pytest.raises(PermissionError):
            attempt()
    assert os.listdir(daemon.mount) == ["data"]


def test_it_can_be_mapped(data: Path, plexes: list[Path]) -> None:
    with open_file(data, os.O_RDWR) as file, mmap.mmap(file, 16 * MIB) as mapped:
        mapped[4096:4102] = b"mapped"
        mapped.flush()
        os.fsync(file)
    assert [read_at(plex, 4096, 6) for plex in plexes] == [b"mapped"] * 2


def test_what_was_mapped_and_not_synced_survives_an_orderly_stop(
    daemon: Daemon, data: Path, plexes: list[Path]
) -> None:
    file = os.open(data, os.O_RDWR)
    with mmap.mmap(file, 16 * MIB) as mapped:
        mapped[4096:4102] = b"mapped"
        assert daemon.stop() == 0
    with contextlib.suppress(OSError):  # the mount is gone
        os.close(file)
    assert [read_at(plex, 4096, 6) for plex in plexes] == [b"mapped"] * 2


def test_direct_and_cached_access_agree(data: Path) -> None:
    page = mmap.mmap(-1, 4096)
    page[:] = b"d" * 4096
    assert read_at(data, 0, 4096) == bytes(4096)
    with open_file(data, os.O_RDWR | os.O_DIRECT) as file:
        assert os.pwritev(file, [page], 0) == 4096
    assert read_at(data, 0, 4096) == b"d" * 4096


def test_statfs_shows_a_full_file_system_of_volumes(daemon: Daemon, data: Path) -> None:
    found = os.statvfs(daemon.mount)
    assert (found.f_blocks * found.f_frsize, found.f_bavail, found.f_files) == (16 * MIB, 0, 1)


def test_a_longer_volume_is_seen_at_once(daemon: Daemon, data: Path) -> None:
    with open_file(data, os.O_RDWR) as file:
        assert daemon.json("grow", "data", "32M")["volume"]["length_bytes"] == 32 * MIB
        assert os.fstat(file).st_size == data.stat().st_size == os.lseek(file, 0, os.SEEK_END) == 32 * MIB
        assert os.pwrite(file, b"new end", 32 * MIB - 7) == 7
    assert read_at(data, 32 * MIB - 7, 100) == b"new end"


def test_a_stopped_volume_disappears_and_comes_back_with_its_data(daemon: Daemon, data: Path) -> None:
    write_at(data, 0, b"kept")
    assert daemon.json("stop", "data")["volume"]["state"] == "CLEAN"
    assert not data.exists() and os.listdir(daemon.mount) == []
    daemon.json("start", "data")
    assert read_at(data, 0, 4) == b"kept"


def test_a_volume_in_use_is_not_stopped(daemon: Daemon, data: Path) -> None:
    with open_file(data, os.O_RDONLY):
        refused = daemon.ctl("stop", "data")
        assert (refused.status, refused.code) == (3, "volume_open")
        assert daemon.ctl("remove", "data").code == "volume_open"
        assert daemon.volume("data")["open_count"] == 1
    daemon.json("stop", "data")


def test_a_removed_volume_leaves_its_plexes_unless_told_otherwise(
    daemon: Daemon, data: Path, plexes: list[Path]
) -> None:
    write_at(data, 0, b"mine")
    daemon.json("remove", "data")
    assert daemon.json("print")["volumes"] == [] and not data.exists()
    assert [read_at(plex, 0, 4) for plex in plexes] == [b"mine"] * 2
    assert daemon.ctl("make", "data", "16M", *plexes, "--from", plexes[0]).code == "refused_has_data"
    daemon.make("data", "16M", *plexes, options=("--from", plexes[0], "--force", "--wait"))
    assert read_at(data, 0, 4) == b"mine"
    daemon.json("remove", "data", "--erase")
    assert not any(path.exists() for path in plexes)


def times(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_ctime_ns


def test_its_time_of_change_is_that_of_the_last_write(daemon: Daemon, data: Path) -> None:
    began = time.time_ns()
    assert times(data) == times(data), "nobody wrote"
    assert min(times(data)) <= began
    seen = times(data)
    with open_file(data, os.O_RDWR) as file, mmap.mmap(file, 1 << 20) as mapped:
        for write in (
            lambda: os.pwrite(file, b"first", 0),  # waits for its mark
            lambda: os.pwrite(file, b"again", 0),  # waits for nothing
            lambda: os.pwrite(file, b"large" * (1 << 20), 8 << 20),
            lambda: (mapped.write(b"mapped"), mapped.flush()),
        ):
            before = time.time_ns()
            write()
            now = times(data)
            assert now[0] == now[1] >= before and now > seen
            seen = now
            os.pread(file, 4096, 0)
            os.fsync(file)
            assert times(data) == seen, "reading and syncing change nothing"
    started = time.time_ns()
    daemon.restart()
    assert times(data)[0] >= started, "what was written before is not known any more"


@needs_program("cp", "fallocate")
def test_who_copies_what_is_newer_copies_it(daemon: Daemon, data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    tool("cp", "-u", "--preserve=timestamps", data, copy)
    write_at(data, MIB, b"newer")
    tool("cp", "-u", "--preserve=timestamps", data, copy)
    assert read_at(copy, MIB, 5) == b"newer"
    if daemon.door == "channel":
        tool("fallocate", "--punch-hole", "--offset", str(MIB), "--length", str(MIB), data)
        tool("cp", "-u", "--preserve=timestamps", data, copy)
        assert read_at(copy, MIB, 5) == bytes(5)
