"""One copy of the DCO: whole blocks, durable, in a file or at the tail of a device."""

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fmrd.backing import dcofile, libc
from fmrd.backing.dcofile import DcoFile, create_file, create_tail, open_file, open_tail, wipe_tail
from fmrd.backing.locator import locate
from fmrd.backing.owning.under_way import Process
from fmrd.backing.plexfile import open_plex
from fmrd.errors import Failed, Refused
from tests.backing import disks

BLOCK = 4096


def flags(file: DcoFile) -> int:
    return fcntl.fcntl(file._fd, fcntl.F_GETFL)


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that refuses O_DIRECT when a file is opened."""
    real = os.open

    def without_direct(path: str, how: int, mode: int = 0o777) -> int:
        if how & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(path, how, mode)

    monkeypatch.setattr(os, "open", without_direct)


def test_a_new_copy_is_preallocated_zeros(tmp_path: Path) -> None:
    file = create_file(str(tmp_path / "p.dco"), 64 * BLOCK)
    assert flags(file) & os.O_DIRECT and flags(file) & os.O_DSYNC
    assert file.length == os.stat(file.path).st_size == 64 * BLOCK
    assert disks.allocated_bytes(file.path) >= 64 * BLOCK
    assert os.stat(file.path).st_mode & 0o777 == 0o600
    assert file.read(0, 64 * BLOCK) == bytes(64 * BLOCK)
    file.close()


def test_a_large_copy_is_preallocated_without_being_written(tmp_path: Path) -> None:
    file = create_file(str(tmp_path / "p.dco"), dcofile.ZEROED_BYTES + BLOCK)
    assert disks.allocated_bytes(file.path) >= file.length
    assert file.read(file.length - BLOCK, BLOCK) == bytes(BLOCK)
    file.close()


def test_zeros_are_written_where_nothing_can_be_preallocated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(libc, "fallocate", refuse)
    monkeypatch.setattr(dcofile, "ZEROED_BYTES", 0)
    file = create_file(str(tmp_path / "p.dco"), 300 * BLOCK)
    assert disks.allocated_bytes(file.path) >= 300 * BLOCK
    file.close()


def test_an_empty_file_that_lies_there_is_used(tmp_path: Path) -> None:
    path = tmp_path / "p.dco"
    path.touch(mode=0o666)
    create_file(str(path), 4 * BLOCK).close()
    assert (path.stat().st_size, path.stat().st_mode & 0o777) == (4 * BLOCK, 0o600)


def test_what_lies_there_is_replaced_on_request_alone(tmp_path: Path) -> None:
    path = tmp_path / "p.dco"
    path.write_bytes(b"old" * 10_000)
    path.chmod(0o644)
    with pytest.raises(Refused, match="refused_has_data"):
        create_file(str(path), 4 * BLOCK)
    assert path.read_bytes() == b"old" * 10_000 and path.stat().st_mode & 0o777 == 0o644
    file = create_file(str(path), 4 * BLOCK, replace=True)
    assert path.read_bytes() == bytes(4 * BLOCK)
    assert path.stat().st_mode & 0o777 == 0o600
    file.close()


def test_what_is_written_is_read_by_any_offset_and_beyond_the_end_are_zeros(tmp_path: Path) -> None:
    file = create_file(str(tmp_path / "p.dco"), 4 * BLOCK)
    data = os.urandom(2 * BLOCK)
    file.write(BLOCK, data)
    assert file.read(BLOCK + 17, 5000) == data[17:5017]
    assert file.read(0, 6 * BLOCK) == bytes(BLOCK) + data + bytes(3 * BLOCK)
    file.close()
    again = open_file(file.path)
    assert again is not None and again.read(BLOCK, 2 * BLOCK) == data
    again.close()


def test_more_than_the_buffer_holds_goes_in_pieces(tmp_path: Path) -> None:
    data = os.urandom((2 << 20) + BLOCK)
    file = create_file(str(tmp_path / "p.dco"), len(data))
    file.write(0, data)
    assert file.read(0, len(data)) == data
    file.close()


def test_a_write_beyond_the_end_is_refused(tmp_path: Path) -> None:
    file = create_file(str(tmp_path / "p.dco"), 4 * BLOCK)
    with pytest.raises(OSError, match="no room") as caught:
        file.write(4 * BLOCK, bytes(BLOCK))
    assert caught.value.errno == errno.ENOSPC and os.stat(file.path).st_size == 4 * BLOCK
    file.close()


def test_where_o_direct_is_refused_the_page_cache_serves(tmp_path: Path, refusing: None) -> None:
    file = create_file(str(tmp_path / "p.dco"), 4 * BLOCK)
    assert not file.direct and flags(file) & os.O_DSYNC and not flags(file) & os.O_DIRECT
    file.write(0, b"x" * BLOCK)
    assert file.read(0, BLOCK) == b"x" * BLOCK
    file.close()


@pytest.mark.parametrize("first", ["read", "write"])
def test_where_o_direct_is_refused_at_the_first_use_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    file = create_file(str(tmp_path / "p.dco"), 4 * BLOCK)
    preadv, pwrite = os.preadv, os.pwrite

    def check(fd: int) -> None:
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "preadv", lambda fd, *args: (check(fd), preadv(fd, *args))[1])
    monkeypatch.setattr(os, "pwrite", lambda fd, *args: (check(fd), pwrite(fd, *args))[1])
    if first == "read":
        assert file.read(0, BLOCK) == bytes(BLOCK)
    file.write(0, b"x" * BLOCK)
    assert not file.direct and file.read(0, BLOCK) == b"x" * BLOCK
    file.close()


@pytest.mark.parametrize("call", ["preadv", "pwrite"])
def test_an_error_of_the_disk_is_told_and_o_direct_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Asked again through the page cache it might seem to be over."""
    file = create_file(str(tmp_path / "p.dco"), BLOCK)
    failures = [OSError(errno.EIO, "no such sector")]
    real = getattr(os, call)

    def once(*arguments: object) -> int:
        if failures:
            raise failures.pop()
        return int(real(*arguments))

    monkeypatch.setattr(os, call, once)
    with pytest.raises(OSError, match="no such sector"):
        file.read(0, BLOCK) if call == "preadv" else file.write(0, bytes(BLOCK))
    assert file.direct and not failures
    file.close()


def test_a_short_write_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = create_file(str(tmp_path / "p.dco"), 2 * BLOCK)
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:BLOCK], at))
    with pytest.raises(OSError, match="took 4096 of 8192 bytes"):
        file.write(0, bytes(2 * BLOCK))
    file.close()


def test_one_call_at_a_time_and_of_writes_the_next_process_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They share a buffer, so two at once would mix."""
    file = create_file(str(tmp_path / "p.dco"), BLOCK)
    thread = f"/proc/{os.getpid()}/task/{threading.get_native_id()}"
    seen: list[tuple[bool, bool]] = []

    def watched(name: str) -> Callable[..., int]:
        real = getattr(os, name)

        def call(*arguments: object) -> int:
            seen.append((file._lock.locked(), file.file in (Process.this()._writes(thread) or ())))
            return int(real(*arguments))

        return call

    for name in ("preadv", "pwrite"):
        monkeypatch.setattr(os, name, watched(name))
    file.read(0, BLOCK)
    file.write(0, bytes(BLOCK))
    assert seen == [(True, False), (True, True)]
    file.close()


def test_what_was_only_allocated_is_there_to_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes that follow make their bytes durable, which lie nowhere without it."""
    file = create_file(str(tmp_path / "p.dco"), BLOCK)
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_size), real(fd))[1])
    monkeypatch.setattr(dcofile, "ZEROED_BYTES", 0)
    file.extend(4 * BLOCK)
    file.reserve(8 * BLOCK, [(6 * BLOCK, 2 * BLOCK)])
    assert synced == [4 * BLOCK, 8 * BLOCK] and file.length == 8 * BLOCK
    file.close()


def test_extend_keeps_what_is_there(tmp_path: Path) -> None:
    file = create_file(str(tmp_path / "p.dco"), 4 * BLOCK)
    file.write(3 * BLOCK, b"x" * BLOCK)
    file.extend(2 * BLOCK)
    assert file.length == 4 * BLOCK
    file.extend(8 * BLOCK)
    assert file.length == os.stat(file.path).st_size == 8 * BLOCK
    assert file.read(3 * BLOCK, 5 * BLOCK) == b"x" * BLOCK + bytes(4 * BLOCK)
    file.close()


def test_a_copy_cut_within_a_block_is_read_and_extended(tmp_path: Path) -> None:
    path = str(tmp_path / "p.dco")
    file = create_file(path, 4 * BLOCK)
    file.write(0, b"x" * 2 * BLOCK)
    file.close()
    os.truncate(path, BLOCK + 100)
    cut = open_file(path)
    assert cut is not None and cut.read(0, 2 * BLOCK) == b"x" * (BLOCK + 100) + bytes(BLOCK - 100)
    cut.extend(4 * BLOCK)
    assert cut.read(0, 4 * BLOCK) == b"x" * BLOCK + bytes(3 * BLOCK)
    cut.close()


def test_what_is_cut_off_while_it_is_open_reads_as_zeros(tmp_path: Path) -> None:
    file = create_file(str(tmp_path / "p.dco"), 4 * BLOCK)
    file.write(0, b"x" * 4 * BLOCK)
    os.truncate(file.path, BLOCK)
    assert file.read(0, 4 * BLOCK) == b"x" * BLOCK + bytes(3 * BLOCK)
    file.close()


def test_a_full_disk_keeps_the_old_length(tmp_path: Path) -> None:
    with disks.mounted(tmp_path, "ext4") as where:
        file = create_file(str(where / "p.dco"), 4 * BLOCK)
        with pytest.raises(OSError, match="No space"):
            file.extend(disks.SIZES["ext4"])
        assert file.length == 4 * BLOCK
        file.write(0, b"x" * BLOCK)
        file.close()


def test_a_link_in_place_of_a_copy_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "p.dco").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        create_file(str(tmp_path / "p.dco"), BLOCK)
    with pytest.raises(Failed, match="dco_missing"):
        open_file(str(tmp_path / "p.dco"))
    with pytest.raises(OSError, match="symbolic links"):
        DcoFile(str(tmp_path / "p.dco"))
    assert victim.read_bytes() == b"precious"


def test_what_is_no_file_does_not_become_a_copy(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.dco")
    with pytest.raises(Failed, match="dco_missing"):
        create_file(str(tmp_path / "p.dco"), BLOCK, replace=True)


def test_no_copy_is_no_error(tmp_path: Path) -> None:
    assert open_file(str(tmp_path / "p.dco")) is None


def test_close_twice_does_no_harm(tmp_path: Path) -> None:
    file = create_file(str(tmp_path / "p.dco"), BLOCK)
    file.close()
    other = create_file(str(tmp_path / "q.dco"), BLOCK)
    file.close()
    assert other.read(0, BLOCK) == bytes(BLOCK)
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.write(0, b"x" * BLOCK)
    other.close()


# At the tail of a device


@pytest.mark.parametrize("size", [4 << 20, (4 << 20) + 512, (4 << 20) + 3584], ids=lambda size: f"+{size % 4096}")
def test_the_tail_of_a_device_holds_a_copy_whatever_its_size(tmp_path: Path, size: int) -> None:
    length = 16 * BLOCK
    with disks.loop_device(tmp_path, size) as device:
        assert locate(device) is None and open_tail(device) is None
        area = create_tail(device, length)
        base, found, _ = locate(device) or (0, 0, 0)
        assert (found, base % BLOCK) == (length, 0)
        assert 0 <= size - (base + length + BLOCK) < BLOCK, "the area, the locator, and less than a block behind them"
        data = os.urandom(length)
        area.write(0, data)
        area.close()
        again = open_tail(device)
        assert again is not None and again.length == length
        assert again.read(0, length) == data
        again.close()
        with open(device, "rb") as raw:
            raw.seek(base)
            assert raw.read(length) == data


def test_the_tail_stays_clear_of_the_data(loop: str) -> None:
    length = 16 * BLOCK
    area = create_tail(loop, length)
    base, _, at = locate(loop) or (0, 0, 0)
    plex = open_plex(loop, (4 << 20) - base)
    plex.pwrite(0, b"d" * plex.length)
    plex.fdatasync()
    area.write(0, b"a" * length)
    assert plex.pread(plex.length - BLOCK, BLOCK) == b"d" * BLOCK
    assert area.read(0, length) == b"a" * length
    assert locate(loop) == (base, length, at)
    area.close()
    plex.close()


def test_a_tail_cannot_grow(loop: str) -> None:
    area = create_tail(loop, 16 * BLOCK)
    area.extend(16 * BLOCK)
    area.reserve(16 * BLOCK, [])
    for grow in (area.extend, lambda length: area.reserve(length, [])):
        with pytest.raises(OSError, match="cannot grow") as caught:
            grow(17 * BLOCK)
        assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match="no room"):
        area.write(16 * BLOCK, bytes(BLOCK))
    area.close()


def test_a_device_too_short_for_its_copy_is_refused(loop: str) -> None:
    with pytest.raises(Failed, match="plex_too_short"):
        create_tail(loop, 4 << 20)
    assert locate(loop) is None


@pytest.mark.parametrize("byte", [0, 8, 20, 28, 33], ids=["magic", "version", "offset", "length", "checksum"])
def test_a_locator_with_any_byte_changed_is_none(loop: str, byte: int) -> None:
    create_tail(loop, 16 * BLOCK).close()
    at = (4 << 20) - BLOCK + byte
    with open(loop, "r+b") as raw:
        raw.seek(at)
        old = raw.read(1)[0]
        raw.seek(at)
        raw.write(bytes([old ^ 0x40]))
    assert locate(loop) is None


def test_a_wiped_tail_is_gone(loop: str) -> None:
    create_tail(loop, 16 * BLOCK).close()
    wipe_tail(loop)
    assert locate(loop) is None and open_tail(loop) is None
    wipe_tail(loop)


def test_a_device_may_be_named_by_a_link(tmp_path: Path, loop: str) -> None:
    link = tmp_path / "by-id"
    link.symlink_to(loop)
    create_tail(str(link), 16 * BLOCK).close()
    area = open_tail(str(link))
    assert area is not None
    area.close()


def test_one_that_cannot_be_opened_again_gives_up_its_descriptor_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems take O_DIRECT and refuse it at the first read; by then this file has gone."""
    file = create_file(str(tmp_path / "p.dco"), BLOCK)
    file.direct = True
    os.unlink(file.path)

    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    with monkeypatch.context() as patched:
        patched.setattr(os, "preadv", refuse)
        with pytest.raises(FileNotFoundError):
            file.read(0, BLOCK)
    other = create_file(str(tmp_path / "q.dco"), BLOCK)
    file.close()
    assert other.read(0, BLOCK) == bytes(BLOCK)
    other.close()
