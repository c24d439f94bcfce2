"""Whatever lies on a disk is recognised, at its beginning and at its end; what is blank is blank."""

import errno
import os
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from uuid import UUID

import pytest

from fmrd.backing import dcofile
from fmrd.backing.looking import blkid, contents
from fmrd.backing.looking.findings import Finding, Kind, Seen
from fmrd.backing.looking.look import look
from fmrd.dco import layout
from tests.backing import disks
from tests.backing.looking import superblocks
from tests.backing.looking.machines import FakeMachine
from tests.backing.looking.superblocks import UUID_TEXT, Pieces

MIB = 1 << 20
SIZE = 64 * MIB
MOST_READ = 8 * MIB
FAMILY = "11111111-2222-3333-4444-555555555555"


def image(tmp_path: Path, pieces: Pieces, size: int = SIZE) -> str:
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.truncate(size)
        for at, data in pieces.items():
            file.seek(at)
            file.write(data)
    return str(path)


def signature(seen: Seen) -> Finding:
    """The only one; a file with anything in it is not empty besides."""
    (found,) = (each for each in seen.has_data if each.kind is not Kind.NOT_EMPTY)
    return found


MADE = {
    "ext4": (["mkfs.ext4", "-q", "-F", "-L", "a\x1b[31mb"], Kind.FILESYSTEM, "ext4", "a\\x1b[31mb"),
    "xfs": (["mkfs.xfs", "-q", "-f", "-L", "data"], Kind.FILESYSTEM, "xfs", "data"),
    "btrfs": (["mkfs.btrfs", "-q", "-f", "-L", "two words"], Kind.FILESYSTEM, "btrfs", "two words"),
    "swap": (["mkswap", "-q", "-L", "spare"], Kind.SWAP, "swap", "spare"),
}


@pytest.mark.parametrize("name", MADE)
def test_what_a_tool_made(tmp_path: Path, name: str) -> None:
    command, kind, type, label = MADE[name]
    if not shutil.which(command[0]):
        pytest.skip(f"needs {command[0]}")
    path = image(tmp_path, {}, 320 * MIB)
    disks.run(*command, path)
    seen = look(path)
    found = signature(seen)
    assert (found.kind, found.type, found.label) == (kind, type, label)
    assert len(found.uuid) == 36 and found.sentence.endswith(f"'{label}', UUID {found.uuid}")
    assert not seen.blank and not seen.in_use
    assert seen.has_data[-1].kind is Kind.NOT_EMPTY


@pytest.mark.parametrize("table", ["gpt", "dos"])
def test_a_partition_table(tmp_path: Path, table: str) -> None:
    if not shutil.which("sfdisk"):
        pytest.skip("needs sfdisk")
    path = image(tmp_path, {})
    subprocess.run(["sfdisk", "-q", path], input=f"label: {table}\n,8M\n", text=True, check=True, capture_output=True)
    found = signature(look(path))
    assert (found.kind, found.type) == (Kind.PARTITION_TABLE, table) and found.uuid in found.sentence
    if table == "gpt":
        with open(path, "r+b") as file:
            file.write(bytes(MIB))
        left = signature(look(path))
        assert (left.type, left.uuid) == ("gpt", found.uuid), "its backup"


BY_HAND = {
    "luks1": (superblocks.luks(1), Kind.LUKS, "crypto_LUKS", UUID_TEXT),
    "luks2": (superblocks.luks(2), Kind.LUKS, "crypto_LUKS", UUID_TEXT),
    "lvm": (superblocks.lvm(), Kind.LVM, "LVM2_member", "abcdef-ghij-klmn-opqr-stuv-wxyz-012345"),
    "md 0.90": (superblocks.md_old(SIZE), Kind.MD, "linux_raid_member", None),
    "md 1.0": (superblocks.md(SIZE, 0), Kind.MD, "linux_raid_member", UUID_TEXT),
    "md 1.1": (superblocks.md(SIZE, 1), Kind.MD, "linux_raid_member", UUID_TEXT),
    "md 1.2": (superblocks.md(SIZE, 2), Kind.MD, "linux_raid_member", UUID_TEXT),
    "zfs": (superblocks.zfs(SIZE), Kind.ZFS, "zfs_member", None),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_what_was_made_by_hand(tmp_path: Path, name: str) -> None:
    pieces, kind, type, uuid = BY_HAND[name]
    found = signature(look(image(tmp_path, pieces)))
    assert (found.kind, found.type) == (kind, type)
    assert uuid is None or found.uuid == uuid


@pytest.mark.parametrize("at", [512, 4096, SIZE - 512, SIZE - 4096])
def test_a_header_of_gpt_for_other_sectors_than_these(tmp_path: Path, at: int) -> None:
    found = signature(look(image(tmp_path, {at: b"EFI PART" + bytes(84)})))
    assert (found.kind, found.type) == (Kind.PARTITION_TABLE, "gpt")


def test_signatures_that_contradict_each_other_are_told_each(tmp_path: Path) -> None:
    seen = look(image(tmp_path, superblocks.ext2_over_swap()))
    assert [(each.kind, each.type) for each in seen.has_data[:-1]] == [(Kind.SWAP, "swap"), (Kind.FILESYSTEM, "ext2")]


def test_a_file_is_blank_where_it_has_no_data(tmp_path: Path) -> None:
    for size in (0, 1, SIZE):
        seen = look(image(tmp_path, {}, size))
        assert seen.blank and seen.zeros and seen.size == size
    seen = look(image(tmp_path, {40 * MIB: b"x"}))
    assert [each.kind for each in seen.has_data] == [Kind.NOT_EMPTY] and not seen.zeros
    assert seen.has_data[0].sentence == f"a file that is not empty ({SIZE} bytes)"


def test_a_file_whose_blocks_are_only_reserved_is_blank(tmp_path: Path) -> None:
    path = image(tmp_path, {}, 0)
    with open(path, "r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, MIB)
        except OSError:
            pytest.skip("needs a file system with fallocate")
        if os.fstat(file.fileno()).st_blocks == 0 or not contents.is_hole(file.fileno()):
            pytest.skip("needs a file system that tells reserved blocks from written ones")
    assert look(path).blank


def test_a_file_system_that_cannot_tell_says_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = image(tmp_path, {})
    real = os.lseek

    def lseek(descriptor: int, at: int, how: int) -> int:
        if how == os.SEEK_DATA:
            raise OSError(errno.EINVAL, "not here")
        return real(descriptor, at, how)

    monkeypatch.setattr(os, "lseek", lseek)
    assert [each.kind for each in look(path).has_data] == [Kind.NOT_EMPTY]
    os.truncate(path, 0)
    assert look(path).blank


@pytest.mark.parametrize(("at", "zeros"), [(None, True), (0, False), (MIB - 1, False), (2 * MIB, True), (-1, False)])
def test_a_device_is_blank_where_nothing_is_recognised(loop: str, at: int | None, zeros: bool) -> None:
    size = 4 * MIB
    if at is not None:
        descriptor = os.open(loop, os.O_RDWR)
        os.pwrite(descriptor, b"x", at % size)
        os.close(descriptor)
    seen = look(loop)
    assert (seen.blank, seen.zeros, seen.size) == (True, zeros, size)


def test_a_device_that_holds_something(tmp_path: Path, loop: str) -> None:
    disks.run("mkfs.ext4", "-q", "-L", "data", loop)
    found = signature(look(loop))
    assert (found.type, found.label) == ("ext4", "data")


def test_a_device_without_a_medium_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(blkid, "signatures")  # what it says of no bytes at all is not asked
    with disks.loop_device(tmp_path, 0) as device:
        seen = look(device)
    assert (seen.blank, seen.size) == (True, 0)


def test_partitions_that_only_the_kernel_still_knows(loop: str, fake: FakeMachine) -> None:
    block = fake.machine.block(fake.disk("sda"))
    fake.disk("sda1", of="sda")
    descriptor = os.open(loop, os.O_RDONLY)
    try:
        (found,), members, _ = contents.of_device(descriptor, block)
    finally:
        os.close(descriptor)
    assert found.kind is Kind.PARTITION_TABLE and found.sentence.endswith("(sda1)") and not members


def test_a_long_label_has_an_end(tmp_path: Path) -> None:
    if not shutil.which("mkfs.btrfs"):
        pytest.skip("needs mkfs.btrfs")
    path = image(tmp_path, {}, 128 * MIB)
    disks.run("mkfs.btrfs", "-q", "-f", "-L", "x" * 255, path)
    found = signature(look(path))
    assert found.label == "x" * 79 + "…" and f"'{found.label}', UUID {found.uuid}" in found.sentence


def header(family: str = FAMILY) -> bytes:
    fields = (layout.RECORD_MAGIC, 1, 40, 0, 0, 0, 7, UUID(family).bytes, 0, 0, 0, 0, bytes(16))
    data = layout._RECORD.pack(*fields, 0)
    return layout._RECORD.pack(*fields, zlib.crc32(data[:-4]))


def test_the_header_of_a_record_is_the_one_that_is_written() -> None:
    assert contents.RECORD_HEADER.format == layout._RECORD.format
    assert contents.RECORD_MAGIC == layout.RECORD_MAGIC
    assert contents.RECORD_SLOT_BYTES == layout.RECORD_SLOT_BYTES
    assert struct.calcsize(layout._RECORD.format) == layout.HEADER_BYTES


@pytest.mark.parametrize("slot", [0, 1])
def test_a_plex_of_fmrd_on_a_device(loop: str, slot: int) -> None:
    area = dcofile.create_tail(loop, MIB)
    assert [(each.kind, each.uuid) for each in look(loop).in_use] == [(Kind.FMRD_MEMBER, "")], "an area, and no record"
    area.write(layout.record_offset(slot), header() + bytes(4096 - layout.HEADER_BYTES))
    area.close()
    (found,) = look(loop).in_use
    assert (found.kind, found.uuid) == (Kind.FMRD_MEMBER, FAMILY)
    assert found.sentence == f"a plex of fmrd (family {FAMILY})"
    dcofile.wipe_tail(loop)
    assert look(loop).blank


@pytest.mark.parametrize("slot", [0, 1])
def test_a_copy_of_the_dco_itself(tmp_path: Path, slot: int) -> None:
    (found,) = look(image(tmp_path, {slot * layout.RECORD_SLOT_BYTES: header()})).in_use
    assert found.sentence == f"a copy of the DCO of fmrd (family {FAMILY})"
    (found,) = look(image(tmp_path, {slot * layout.RECORD_SLOT_BYTES: header()[:-1] + b"x"})).in_use
    assert (found.sentence, found.uuid) == ("a copy of the DCO of fmrd (damaged)", "")


def test_the_dco_beside_a_file_counts_even_where_the_file_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "plex"
    (tmp_path / "plex.dco").write_bytes(header() + bytes(4096))
    for _ in range(2):
        for sidecar in (True, False):
            seen = look(str(path), sidecar=sidecar)
            (found,) = seen.in_use
            assert (found.kind, found.uuid, found.where) == (Kind.FMRD_MEMBER, FAMILY, f"{path}.dco")
            assert seen.has_data == ()
        path.touch()
    (tmp_path / "link").symlink_to("plex")
    assert len(look(str(tmp_path / "link")).in_use) == 1, "it is beside what the link names"


def test_a_stranger_where_the_dco_would_lie(tmp_path: Path) -> None:
    path, beside = tmp_path / "report", tmp_path / "report.dco"

    def kinds(**asked: bool) -> list[Kind]:
        return [each.kind for each in look(str(path), **asked).has_data]

    beside.touch()
    assert kinds() == []
    beside.write_bytes(b"precious")
    assert kinds() == [Kind.SIDECAR] and kinds(sidecar=False) == []
    beside.unlink()
    (tmp_path / "empty").touch()
    beside.symlink_to("empty")
    assert kinds() == [Kind.SIDECAR] and kinds(sidecar=False) == []
    beside.unlink()
    os.mkfifo(beside)
    assert kinds() == [Kind.SIDECAR]


@pytest.mark.parametrize("fails", [1, contents.RECORD_HEADER.size, contents.END_BYTES])
def test_what_cannot_be_read_is_not_blank(
    loop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    """Every read fails, or the larger ones do."""
    real = os.pread

    def pread(descriptor: int, length: int, at: int) -> bytes:
        if length >= fails:
            raise OSError(errno.EIO, "Input/output error")
        return real(descriptor, length, at)

    path = image(tmp_path, {0: b"x"})
    monkeypatch.setattr(os, "pread", pread)
    seen = look(loop)
    assert Kind.UNREADABLE in [each.kind for each in seen.has_data] and not seen.blank and not seen.zeros
    unreadable = Kind.UNREADABLE in [each.kind for each in look(path).has_data]
    assert unreadable == (fails < contents.END_BYTES), "of a file no ends are read"


def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blkid, "_library", lambda: None)


def test_without_the_library_the_program_looks(tmp_path: Path, loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which("blkid"):
        pytest.skip("needs blkid")
    without_library(monkeypatch)
    assert look(loop).blank
    disks.run("mkfs.ext4", "-q", "-L", 'a "b" $C \\d', loop)
    found = signature(look(loop))
    assert (found.type, found.label, len(found.uuid)) == ("ext4", 'a "b" $C \\d', 36)
    contradicting = look(image(tmp_path, superblocks.ext2_over_swap()))
    assert contradicting.has_data[0].sentence == "several signatures that contradict each other"


def test_with_neither_it_is_not_blank(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without_library(monkeypatch)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    seen = look(loop)
    assert [each.kind for each in seen.has_data] == [Kind.UNREADABLE] and not seen.blank
    assert "neither libblkid.so.1 nor the program blkid" in seen.has_data[0].sentence


def test_a_program_that_fails_says_nothing_of_the_disk(
    tmp_path: Path, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_library(monkeypatch)
    program = tmp_path / "blkid"
    monkeypatch.setattr(shutil, "which", lambda *_, **__: str(program))
    for words, status in (("echo no such device >&2", 2), ("", 4), ("", 0)):
        program.write_text(f"#!/bin/sh\n{words}\nexit {status}\n")
        program.chmod(0o700)
        assert [each.kind for each in look(loop).has_data] == [Kind.UNREADABLE]


def test_a_look_reads_a_few_mib(tmp_path: Path) -> None:
    """Of the largest thing a test can have: sparse, with something at both ends."""
    io = Path("/proc/thread-self/io")
    if not io.exists():
        pytest.skip("needs a kernel that counts what a thread reads")
    path = image(tmp_path, superblocks.md_old(1 << 40) | {0: b"x"}, 1 << 40)
    with disks.loop_device(tmp_path, 64 << 30) as device:
        for each in (path, device):
            before = int(io.read_text().split()[1])
            look(each)
            assert int(io.read_text().split()[1]) - before < MOST_READ
