"""Copies between plexes: equal bytes, holes kept, blocks never shared, and the side that failed is told."""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmrd.backing import copying, libc
from fmrd.backing.plexfile import PlexFile, create_plex, open_plex
from fmrd.backing.protocol import SourceError
from tests.backing import disks

BLOCK = 4096
LENGTH = 32 * BLOCK


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[PlexFile, PlexFile]]:
    source, target = create_plex(str(tmp_path / "s"), LENGTH), create_plex(str(tmp_path / "t"), LENGTH)
    yield source, target
    source.close()
    target.close()


def content(plex: PlexFile) -> bytes:
    return plex.pread(0, plex.length)


parts = st.lists(st.tuples(st.integers(0, LENGTH - 1), st.integers(1, 3 * BLOCK)), max_size=5)


@settings(max_examples=60, deadline=None)
@given(sources=parts, targets=parts, start=st.integers(0, LENGTH - 1), size=st.integers(1, LENGTH))
def test_any_range_over_any_data_and_holes_becomes_equal(
    sources: list[tuple[int, int]], targets: list[tuple[int, int]], start: int, size: int
) -> None:
    with TemporaryDirectory() as where:
        source, target = create_plex(f"{where}/s", LENGTH), create_plex(f"{where}/t", LENGTH)
        for plex, writes, byte in ((source, sources, b"s"), (target, targets, b"t")):
            for at, length in writes:
                plex.pwrite(at, byte * min(length, LENGTH - at))
        stop = min(start + size, LENGTH)
        before, given_ = content(target), content(source)
        written = target.copy_from(source, start, stop - start)
        assert content(target) == before[:start] + given_[start:stop] + before[stop:]
        assert content(source) == given_
        assert written == sum(b - a for a, b, is_data in copying.segments(source, start, stop) if is_data)
        source.close()
        target.close()


def test_a_hole_stays_a_hole(pair: tuple[PlexFile, PlexFile]) -> None:
    source, target = pair
    target.pwrite(0, b"t" * LENGTH)
    source.pwrite(8 * BLOCK, b"s" * BLOCK)
    assert target.copy_from(source, 0, LENGTH) == BLOCK
    assert content(target) == content(source)
    assert copying.segments(target, 0, LENGTH) == copying.segments(source, 0, LENGTH)


def test_a_hole_over_a_hole_asks_nothing_of_the_disk(
    pair: tuple[PlexFile, PlexFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = pair

    def never(*_: int) -> None:
        raise AssertionError("nothing had to be punched")

    monkeypatch.setattr(libc, "fallocate", never)
    assert target.copy_from(source, 0, LENGTH) == 0


def test_where_no_hole_can_be_made_zeros_are_written(
    pair: tuple[PlexFile, PlexFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = pair

    def refuse(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(libc, "fallocate", refuse)
    target.pwrite(0, b"t" * LENGTH)
    assert target.copy_from(source, BLOCK, 4 * BLOCK) == 4 * BLOCK
    assert content(target) == b"t" * BLOCK + bytes(4 * BLOCK) + b"t" * (LENGTH - 5 * BLOCK)


@pytest.mark.parametrize("source_kind", ["memory", "ext4", "xfs", "btrfs", "device"])
@pytest.mark.parametrize("target_kind", ["memory", "ext4", "xfs", "btrfs", "device"])
def test_from_every_kind_of_backing_to_every_other(
    tmp_path: Path, memory: Path, source_kind: str, target_kind: str
) -> None:
    """Within xfs and btrfs the kernel would share the blocks, if it were let."""
    length = 1 << 20
    with ExitStack() as stack:
        kinds = {source_kind, target_kind}
        places = {k: stack.enter_context(disks.mounted(tmp_path, k)) for k in kinds & set(disks.MAKERS)}
        places["memory"] = memory

        def plex(kind: str, name: str) -> PlexFile:
            if kind == "device":
                device = stack.enter_context(disks.loop_device(tmp_path, length, f"{name}.img"))
                found = open_plex(device, 0)
            else:
                found = create_plex(str(places[kind] / name), length)
            stack.callback(found.close)
            return found

        source, target = plex(source_kind, "s"), plex(target_kind, "t")
        source.pwrite(100_000, os.urandom(300_000))
        source.pwrite(700_000, os.urandom(BLOCK))
        source.fdatasync()
        target.pwrite(0, b"t" * length)
        written = target.copy_from(source, 4096, length - 8192)
        target.fdatasync()
        assert content(target) == b"t" * 4096 + content(source)[4096:-4096] + b"t" * 4096
        if source_kind != "device":
            assert written < 500_000, "holes cost nothing"
        if target_kind != "device":
            assert disks.allocated_bytes(target.path) < 500_000 or source_kind == "device", "holes stay holes"
        for each, kind in ((source, source_kind), (target, target_kind)):
            if kind in ("xfs", "btrfs", "ext4"):
                assert disks.shared_extents(Path(each.path)) == []


def test_the_check_for_shared_blocks_sees_them(tmp_path: Path) -> None:
    with disks.mounted(tmp_path, "xfs") as where:
        (where / "s").write_bytes(os.urandom(1 << 20))
        disks.run("cp", "--reflink=always", where / "s", where / "t")
        assert disks.shared_extents(where / "t")


def test_a_source_that_was_cut_is_its_own_error_and_no_zeros(pair: tuple[PlexFile, PlexFile]) -> None:
    source, target = pair
    target.pwrite(0, b"t" * LENGTH)
    os.truncate(source.path, 8 * BLOCK)
    with pytest.raises(SourceError, match="changed by somebody else: it is 32768 bytes long") as caught:
        target.copy_from(source, 4 * BLOCK, 8 * BLOCK)
    assert caught.value.error.errno == errno.EIO
    assert content(target) == b"t" * LENGTH


def failing(monkeypatch: pytest.MonkeyPatch, name: str, descriptor: int, code: int) -> None:
    """os.NAME fails whenever ``descriptor`` is among its arguments."""
    real = getattr(os, name)

    def call(*args: object) -> object:
        if descriptor in args:
            raise OSError(code, os.strerror(code))
        return real(*args)

    monkeypatch.setattr(os, name, call)


def test_a_source_that_cannot_be_read_is_its_own_error(
    pair: tuple[PlexFile, PlexFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = pair
    source.pwrite(0, b"s" * LENGTH)
    for name in ("copy_file_range", "sendfile", "preadv"):
        failing(monkeypatch, name, source.fd, errno.EIO)
    with pytest.raises(SourceError, match="Input/output error"):
        target.copy_from(source, 0, LENGTH)


def test_a_target_that_cannot_be_written_is_a_plain_error(
    pair: tuple[PlexFile, PlexFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = pair
    source.pwrite(0, b"s" * LENGTH)
    for name in ("copy_file_range", "pwrite"):
        failing(monkeypatch, name, target.fd, errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        target.copy_from(source, 0, LENGTH)


def test_a_full_target_is_a_plain_error(tmp_path: Path) -> None:
    size = 2 * disks.SIZES["ext4"]
    source = create_plex(str(tmp_path / "s"), size)
    source.pwrite(0, bytes(size))
    with disks.mounted(tmp_path, "ext4") as where:
        target = create_plex(str(where / "t"), size)
        with pytest.raises(OSError, match="No space") as caught:
            target.copy_from(source, 0, size)
        assert caught.value.errno == errno.ENOSPC
        target.close()
    source.close()


@pytest.mark.parametrize(
    "refused", [("copy_file_range",), ("copy_file_range", "sendfile")], ids=["sendfile", "by hand"]
)
def test_where_the_kernel_does_not_copy_others_means_do(
    pair: tuple[PlexFile, PlexFile], monkeypatch: pytest.MonkeyPatch, refused: tuple[str, ...]
) -> None:
    source, target = pair
    source.pwrite(0, os.urandom(LENGTH))
    for name in refused:
        failing(monkeypatch, name, source.fd, errno.EXDEV)
    assert target.copy_from(source, 3, LENGTH - 7) == LENGTH - 7
    assert content(target)[3:-4] == content(source)[3:-4]


def test_short_copies_are_finished(pair: tuple[PlexFile, PlexFile], monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = pair
    source.pwrite(0, os.urandom(LENGTH))
    real = os.copy_file_range
    monkeypatch.setattr(os, "copy_file_range", lambda s, t, n, a, b: real(s, t, min(n, 5000), a, b))
    target.copy_from(source, 0, LENGTH)
    assert content(target) == content(source)
