"""A look tells what is at a path, changes nothing, and never waits for fmrd itself."""

import errno
import os
import socket
from pathlib import Path

import pytest

from fmrd.backing.looking import look as looking
from fmrd.backing.looking.findings import Kind, Place
from fmrd.backing.looking.look import look
from fmrd.backing.looking.machine import Machine
from tests.backing import disks
from tests.backing.looking.machines import FakeMachine


def test_the_places(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nothing")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(tmp_path / "socket"))
    places = {name: look(str(tmp_path / name)) for name in ("file", "directory", "link", "dangling", "fifo", "socket")}
    assert {name: seen.place for name, seen in places.items()} == {
        "file": Place.FILE, "directory": Place.DIRECTORY, "link": Place.FILE, "dangling": Place.DANGLING,
        "fifo": Place.FIFO, "socket": Place.SOCKET,
    }  # fmt: skip
    assert look("/dev/null").place is Place.CHARACTER
    assert places["link"].real == str(tmp_path / "file")
    for name in ("directory", "dangling", "fifo", "socket"):
        assert [each.kind for each in places[name].impossible] == [Kind.NOT_A_PLEX] and not places[name].blank
    missing = look(str(tmp_path / "new"))
    assert (missing.place, missing.exists, missing.blank) == (Place.MISSING, False, True)


def test_a_directory_that_is_missing(tmp_path: Path) -> None:
    (found,) = look(str(tmp_path / "no" / "plex")).impossible
    assert (found.kind, found.where) == (Kind.NO_DIRECTORY, str(tmp_path / "no"))


def test_nothing_is_made_or_changed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 5000)
    before = os.stat(tmp_path / "file").st_mtime_ns
    look(str(tmp_path / "file"))
    look(str(tmp_path / "new"))
    assert sorted(os.listdir(tmp_path)) == ["file"]
    assert os.stat(tmp_path / "file").st_mtime_ns == before


def test_no_file_is_made_below_dev() -> None:
    (found,) = look("/dev/no-such-disk").impossible
    assert (found.kind, found.where) == (Kind.BELOW_DEV, "/dev")


def test_memory_that_is_mounted_below_dev_is_no_part_of_it(memory: Path) -> None:
    assert look(str(memory / "new")).blank


def test_a_file_that_lies_below_dev_already(fake: FakeMachine) -> None:
    (fake.root / "dev" / "vdd1").touch()
    (fake.root / "dev" / "sub").mkdir()
    for name in ("vdd1", "vdd2", "sub/vdd3"):
        seen = look(str(fake.root / "dev" / name), machine=fake.machine)
        assert [each.kind for each in seen.impossible] == [Kind.BELOW_DEV]
    fake.mount(str(fake.root / "dev" / "sub"), device="0:70", type="tmpfs", source="tmpfs")
    assert look(str(fake.root / "dev" / "sub" / "vdd3"), machine=fake.machine).impossible == ()


def test_a_dev_that_is_no_mount(fake: FakeMachine, tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    machine = Machine(fake.root / "sys", fake.root / "proc", tmp_path / "dev")
    assert [each.kind for each in look(str(tmp_path / "dev" / "sda"), machine=machine).impossible] == [Kind.BELOW_DEV]
    assert look(str(tmp_path / "sda"), machine=machine).blank


def test_a_dco_that_lies_on_the_own_mount_is_not_opened(
    fake: FakeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plex.dco").write_bytes(b"x")
    assert [each.kind for each in look(str(tmp_path / "plex"), "/own", machine=fake.machine).has_data] == [Kind.SIDECAR]
    fake.mount("/own", device="0:99", type="fuse.fmrd", source="fmrd")
    fake.mount(str(tmp_path / "plex.dco"), device="0:99", type="fuse.fmrd", source="fmrd")
    monkeypatch.delattr(os, "open")
    assert [each.kind for each in look(str(tmp_path / "plex"), "/own", machine=fake.machine).in_use] == [Kind.OWN_MOUNT]


def test_what_leads_to_the_own_mount_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system stands for fmrd's."""
    with disks.mounted(tmp_path, "ext4") as own, disks.loop_device(own, 1 << 20) as device:
        opened: list[str] = []
        real = os.open

        def record(path: str, *rest: int) -> int:
            opened.append(path)
            return real(path, *rest)

        monkeypatch.setattr(os, "open", record)
        for path in (device, f"{own}/loop.img", f"{own}/new"):
            seen = look(path, str(own))
            assert [each.kind for each in seen.in_use] == [Kind.OWN_MOUNT]
            assert (seen.place, seen.exists, seen.blank) == (Place.UNSEEN, False, False)
        assert not opened
        assert look(device).blank
        assert opened
        monkeypatch.undo()


def test_what_is_replaced_during_the_look_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    real = os.open

    def replaced(path: str, *rest: int) -> int:
        os.rename(path, f"{path}.old")
        os.mkfifo(path)
        return real(path, *rest)

    monkeypatch.setattr(os, "open", replaced)
    with pytest.raises(OSError, match="replaced") as caught:
        look(str(tmp_path / "file"))
    assert caught.value.errno == errno.ESTALE


def test_what_is_opened_later_can_be_compared(tmp_path: Path, loop: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "other").touch()
    seen = look(str(tmp_path / "file"))
    assert seen.is_same(os.stat(tmp_path / "file")) and look(loop).is_same(os.stat(loop))
    assert not seen.is_same(os.stat(tmp_path / "other")) and not look(loop).is_same(os.stat("/dev/null"))
    assert not look(str(tmp_path / "new")).is_same(os.stat(tmp_path / "file"))


@pytest.mark.parametrize("flag", [os.O_EXCL, os.O_RDONLY])
def test_want_of_descriptors_is_no_fact_about_a_disk(loop: str, monkeypatch: pytest.MonkeyPatch, flag: int) -> None:
    real = os.open

    def open(path: str, flags: int) -> int:
        if flags & flag == flag:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(path, flags)

    monkeypatch.setattr(os, "open", open)
    with pytest.raises(OSError, match="Too many"):
        look(loop)
    monkeypatch.undo()


def test_who_has_a_device_is_told_even_where_it_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise OSError(errno.EPERM, "Operation not permitted")

    with disks.mounted(tmp_path, "ext4") as where:
        device = disks.run("findmnt", "-n", "-o", "SOURCE", where)
        monkeypatch.setattr(looking, "_open", refused)
        seen = look(device)
    assert [each.kind for each in seen.in_use] == [Kind.MOUNTED] and not seen.zeros


def test_beside_what_a_link_names_only_a_dco_counts(tmp_path: Path) -> None:
    """The copy of the DCO would lie beside the link."""
    (tmp_path / "file").touch(mode=0o600)
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "file.dco").write_bytes(b"a report")
    assert not look(str(tmp_path / "link")).has_data
    (tmp_path / "link.dco").write_bytes(b"a report")
    assert [each.kind for each in look(str(tmp_path / "link")).has_data] == [Kind.SIDECAR]
