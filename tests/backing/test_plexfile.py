"""The data of a plex: whole reads and writes or an error, one owner, a stamp that sees changes."""

import errno
import fcntl
import os
from pathlib import Path
from unittest.mock import MagicMock, Mock

import pytest

from fmrd.backing import plexfile
from fmrd.backing.looking.look import look
from fmrd.backing.owning.disk_below import disk_of
from fmrd.backing.plexfile import PlexFile, create_plex, open_plex, take_plex
from fmrd.core.stamps import Stamp
from fmrd.errors import BadRequest, Failed, PlexChanged, Refused
from tests.backing import disks

KIB = 1024


def test_a_new_plex_is_sparse_zeros_for_its_owner_alone(tmp_path: Path) -> None:
    plex = create_plex(str(tmp_path / "p"), 1 << 30)
    assert plex.length == 1 << 30 and not plex.is_block
    assert plex.pread((1 << 30) - 4096, 4096) == bytes(4096)
    assert disks.allocated_bytes(plex.path) == 0
    assert os.stat(plex.path).st_mode & 0o777 == 0o600
    plex.close()


def test_an_existing_file_is_never_made_into_a_new_plex(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"precious")
    with pytest.raises(Failed, match="plex_exists"):
        create_plex(str(tmp_path / "p"), 4096)
    assert (tmp_path / "p").read_bytes() == b"precious"


def test_a_file_that_was_cut_is_an_error_not_a_short_read(tmp_path: Path) -> None:
    plex = create_plex(str(tmp_path / "p"), 64 * KIB)
    os.truncate(plex.path, 10_000)
    assert plex.pread(0, 10_000) == bytes(10_000)
    for read in (lambda: plex.pread(4096, 8192), lambda: plex.pread_into(4096, memoryview(bytearray(8192)))):
        with pytest.raises(OSError, match="changed by somebody else") as caught:
            read()
        assert caught.value.errno == errno.EIO
    with pytest.raises(PlexChanged):
        plex.pwrite(60 * KIB, bytes(4 * KIB))  # up to its end: that would seem to mend it
    assert os.stat(plex.path).st_size == 10_000
    plex.close()


def test_a_write_that_takes_no_byte_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plex = create_plex(str(tmp_path / "p"), 64 * KIB)
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: 0)
    with pytest.raises(OSError, match="took no byte at 123"):
        plex.pwrite(123, b"x")
    plex.close()


@pytest.mark.parametrize("where", ["on a disk", "in memory"])
def test_short_system_calls_are_finished(
    tmp_path: Path, memory: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    plex = create_plex(str((tmp_path if where == "on a disk" else memory) / "p"), 64 * KIB)
    pread, pwrite = os.pread, os.pwrite
    monkeypatch.setattr(os, "pread", lambda fd, length, at: pread(fd, min(length, 1000), at))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, memoryview(data)[:1000], at))
    data = os.urandom(9_999)
    plex.pwrite(123, data)
    assert plex.pread(123, len(data)) == data
    plex.close()


def is_dropped(plex: PlexFile) -> bool:
    os.posix_fadvise(plex.fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return not plex.pread_now(8 * KIB, memoryview(bytearray(16 * KIB)))


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_what_is_cached_can_be_read_without_a_wait_and_nothing_else(tmp_path: Path, kind: str) -> None:
    with disks.mounted(tmp_path, kind) as where:
        plex = create_plex(str(where / "p"), 64 * KIB)
        data = os.urandom(64 * KIB)
        plex.pwrite(0, data)
        buffer = memoryview(bytearray(16 * KIB))
        assert plex.pread_now(8 * KIB, buffer)
        assert bytes(buffer) == data[8 * KIB : 24 * KIB]
        plex.fdatasync()
        assert any(is_dropped(plex) for _ in range(1000)), "the page cache lets go of it"
        plex.pread(8 * KIB, 4 * KIB)
        assert plex.pread_now(8 * KIB, buffer[: 4 * KIB])
        plex.close()


def test_a_file_that_was_cut_is_nothing_that_can_be_read_at_once(tmp_path: Path) -> None:
    plex = create_plex(str(tmp_path / "p"), 64 * KIB)
    os.truncate(plex.path, 10_000)
    assert not plex.pread_now(4096, memoryview(bytearray(8192)))
    plex.close()


def test_a_file_system_that_cannot_tell_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def preadv(*_: object) -> int:
        asked.append(1)
        raise OSError(errno.EOPNOTSUPP, "not here")

    plex = create_plex(str(tmp_path / "p"), 64 * KIB)
    monkeypatch.setattr(os, "preadv", preadv)
    assert not any(plex.pread_now(0, memoryview(bytearray(512))) for _ in range(3))
    assert asked == [1]
    monkeypatch.undo()
    plex.close()


def test_a_full_disk_is_an_error_and_tells_so(tmp_path: Path) -> None:
    with disks.mounted(tmp_path, "ext4") as where:
        plex = create_plex(str(where / "p"), 1 << 30)
        with pytest.raises(OSError, match="No space") as caught:
            plex.pwrite(0, bytes(2 * disks.SIZES["ext4"]))
        assert caught.value.errno == errno.ENOSPC
        plex.close()


def test_one_owner_even_within_a_process(tmp_path: Path) -> None:
    path = str(tmp_path / "p")
    first = create_plex(path, 4096)
    with pytest.raises(Failed, match="plex_busy"):
        open_plex(path, 0)
    first.close()
    second = open_plex(path, 0)
    second.close()


def test_a_borrowed_descriptor_neither_needs_nor_loses_the_lock(tmp_path: Path) -> None:
    plex = create_plex(str(tmp_path / "p"), 4096)
    borrowed = plex.borrow()
    plex.give_back(borrowed)
    os.fstat(borrowed)  # it stays open
    assert plex.borrow() == borrowed, "it is used again"
    os.close(borrowed)
    with pytest.raises(Failed, match="plex_busy"):
        open_plex(plex.path, 0)
    plex.close()


def test_spare_descriptors_are_one_threads_at_a_time(tmp_path: Path) -> None:
    plex = create_plex(str(tmp_path / "p"), 4096)
    lock = plex._spare_lock = MagicMock()
    plex.give_back(plex.borrow())
    plex.close()
    assert lock.__enter__.call_count == lock.__exit__.call_count == 3


def test_what_comes_after_the_close_reaches_no_other_file(tmp_path: Path) -> None:
    plex = create_plex(str(tmp_path / "p"), 4096)
    borrowed = plex.borrow()
    plex.close()
    plex.close()
    plex.give_back(borrowed)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(borrowed)
    other = create_plex(str(tmp_path / "q"), 4096)  # takes the lowest free number, so the one just closed
    with pytest.raises(OSError, match="Bad file descriptor"):
        plex.pwrite(0, b"x" * 4096)
    assert other.pread(0, 4096) == bytes(4096)
    other.close()


def test_a_block_device_has_one_owner_and_keeps_its_tail(loop: str) -> None:
    plex = open_plex(loop, 1 << 20)
    assert plex.is_block and plex.length == 3 << 20
    assert plex.stamp() == Stamp(0, 0, 0)
    with pytest.raises(Failed, match="plex_busy"):
        open_plex(loop, 0)
    plex.extend(3 << 20)
    with pytest.raises(OSError, match="usable bytes") as caught:
        plex.extend((3 << 20) + 4096)
    assert caught.value.errno == errno.ENOSPC
    plex.close()
    open_plex(loop, 0).close()


def test_a_mounted_device_is_in_use(tmp_path: Path) -> None:
    with disks.mounted(tmp_path, "ext4") as where:
        device = disks.run("findmnt", "-n", "-o", "SOURCE", where)
        with pytest.raises(Failed, match="plex_busy"):
            open_plex(device, 0)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["directory", "fifo"])
def test_what_is_no_disk_is_refused(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]  # either callable
    make(tmp_path / "p")
    with pytest.raises(BadRequest, match="not_a_plex"):
        open_plex(str(tmp_path / "p"), 0)


def test_a_missing_plex_has_its_own_code(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="plex_missing"):
        open_plex(str(tmp_path / "p"), 0)


def test_extend_only_ever_lengthens(tmp_path: Path) -> None:
    plex = create_plex(str(tmp_path / "p"), 8192)
    plex.extend(4096)
    assert (plex.length, os.stat(plex.path).st_size) == (8192, 8192)
    plex.extend(16384)
    assert (plex.length, os.stat(plex.path).st_size) == (16384, 16384)
    plex.close()


def test_a_stamp_sees_a_write_a_new_length_and_another_file(tmp_path: Path) -> None:
    plex = create_plex(str(tmp_path / "p"), 8192)
    stamps = [plex.stamp()]
    plex.pwrite(0, b"x")
    stamps.append(plex.stamp())
    os.truncate(plex.path, 4096)
    stamps.append(plex.stamp())
    plex.close()
    os.link(plex.path, tmp_path / "kept")  # its inode stays in use
    os.unlink(plex.path)
    other = create_plex(plex.path, 4096)
    stamps.append(other.stamp())
    other.close()
    assert len(set(stamps)) == 4


def test_memory_never_blocks_and_disks_do(tmp_path: Path, memory: Path) -> None:
    with_hops, without = create_plex(str(tmp_path / "p"), 4096), create_plex(str(memory / "p"), 4096)
    if with_hops.file_system == without.file_system:
        pytest.skip("needs a temporary directory that is not in memory")
    assert without.inline and not with_hops.inline
    with_hops.close()
    without.close()


def test_a_loop_device_lies_on_the_disk_of_its_file(tmp_path: Path, loop: str) -> None:
    assert disk_of(os.stat(loop)) == disk_of(os.stat(tmp_path))


def test_what_has_no_device_is_known_by_its_number(memory: Path) -> None:
    assert disk_of(os.stat(memory)).startswith("dev:")


def test_a_plex_that_cannot_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: str) -> None:
        raise OSError(errno.EIO, "the directory cannot be written")

    monkeypatch.setattr(plexfile, "sync_directory", full)
    with pytest.raises(OSError, match="directory"):
        create_plex(str(tmp_path / "p"), 4096)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("mode", "code", "taken"),
    [(0o600, errno.EPERM, True), (0o666, errno.EPERM, False), (0o666, errno.ENOSYS, True), (0o644, None, True)],
)
def test_a_file_that_is_taken_is_ours_alone_where_its_file_system_keeps_modes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, code: int | None, taken: bool
) -> None:
    path = tmp_path / "p"
    path.touch()
    path.chmod(mode)
    if code is not None:
        monkeypatch.setattr(os, "fchmod", Mock(side_effect=OSError(code, os.strerror(code))))
    if not taken:
        with pytest.raises(Refused, match="refused_unsafe"):
            take_plex(str(path), 0, look(str(path)))
        return
    take_plex(str(path), 0, look(str(path))).close()
    assert code is not None or path.stat().st_mode & 0o777 == 0o600


def clone(tmp_path: Path) -> None:
    plexfile.clone(str(tmp_path / "p"), str(tmp_path / "q"))


def test_a_clone_is_there_to_stay_before_anybody_hears_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    real = os.fsync
    monkeypatch.setattr(fcntl, "ioctl", lambda *_: done.append("shared"))
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd)))
    (tmp_path / "p").write_bytes(b"x")
    clone(tmp_path)
    assert done == ["shared", str(tmp_path / "q"), str(tmp_path)]


def test_a_clone_takes_the_place_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "ioctl", lambda *_: None)
    for name, content in (("p", b"x"), ("q", b"precious")):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(FileExistsError):
        clone(tmp_path)
    assert (tmp_path / "q").read_bytes() == b"precious"


def test_how_a_plex_is_left_is_on_its_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the times of its file, which an fdatasync may leave out."""
    plex = create_plex(str(tmp_path / "p"), 4096)
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd)))
    plex.fsync()
    assert synced == [plex.path]
    plex.close()
