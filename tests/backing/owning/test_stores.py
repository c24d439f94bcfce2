"""Directories of stores, and the file that remembers them, for real."""

import os
from pathlib import Path

import pytest

from fmrd.backing import libc
from fmrd.backing.owning import stores
from fmrd.errors import Refused


def test_a_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    stores.prepare(str(tmp_path / "far" / "below"))
    assert (tmp_path / "far" / "below").stat().st_mode & 0o777 == 0o700
    assert not list((tmp_path / "far" / "below").iterdir()), "nothing is left of the attempt"


def test_one_that_was_made_is_there_to_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots are promised in it."""
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd)))
    stores.prepare(str(tmp_path / "far" / "below"))
    assert synced == [str(tmp_path), str(tmp_path / "far")], "the names of both"


def test_one_that_others_may_change_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(Refused, match="has mode 0777"):
        stores.prepare(str(tmp_path / "open"))
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(Refused, match="leads elsewhere"):
        stores.prepare(str(tmp_path / "link"))


def test_one_whose_file_system_gives_no_room_back_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*_: object) -> None:
        raise OSError(95, "not supported")

    monkeypatch.setattr(libc, "fallocate", cannot)
    with pytest.raises(OSError, match="cannot give room back"):
        stores.prepare(str(tmp_path / "s"))


def test_files_are_measured_by_what_is_allocated(tmp_path: Path) -> None:
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 20)
    (tmp_path / "data").write_bytes(b"1" * 65536)
    (tmp_path / "below").mkdir()
    (tmp_path / "link").symlink_to("/etc/passwd")
    found = stores.files(str(tmp_path))
    assert found.keys() == {str(tmp_path / "sparse"), str(tmp_path / "data")}
    assert found[str(tmp_path / "sparse")] == 0 and found[str(tmp_path / "data")] >= 65536
    with pytest.raises(FileNotFoundError):
        stores.files(str(tmp_path / "gone"))


def test_what_is_remembered_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stores.read(tmp_path) is None
    stores.write(tmp_path, b"one")
    assert stores.read(tmp_path) == b"one" and (tmp_path / "stores").stat().st_mode & 0o777 == 0o600
    (tmp_path / "stores.new").write_bytes(b"left by a kill")
    stores.write(tmp_path, b"two")
    assert stores.read(tmp_path) == b"two" and not (tmp_path / "stores.new").exists()
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd)))
    monkeypatch.setattr(os, "rename", lambda *paths: synced.append("rename"))
    stores.write(tmp_path, b"three")
    assert synced[:2] == [str(tmp_path / "stores.new"), "rename"], "the bytes before the name"
    assert synced[2:] == [str(tmp_path)], "and then the name"


def test_a_file_that_is_too_long_is_not_read_whole(tmp_path: Path) -> None:
    (tmp_path / "stores").write_bytes(bytes(stores.MOST_BYTES + 10))
    found = stores.read(tmp_path)
    assert found is not None and len(found) == stores.MOST_BYTES + 1
    (tmp_path / "stores").unlink()
    (tmp_path / "stores").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic"):
        stores.read(tmp_path)
