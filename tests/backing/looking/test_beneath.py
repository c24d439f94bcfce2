"""Every file system that a path lies on is found, through devices, loops, mappings and layers."""

from pathlib import Path

from fmrd.backing.looking.beneath import Beneath
from tests.backing.looking.machines import FakeMachine

ROOT = "254:0"


def beneath(fake: FakeMachine, path: object, own: str | None = None) -> set[str]:
    return Beneath(own, fake.machine).file_systems(str(path))


def test_a_file_lies_on_its_file_system_and_on_no_other(fake: FakeMachine, tmp_path: Path) -> None:
    disk = fake.disk("sdb")
    fake.mount("/srv", device=disk, type="ext4", source="/dev/sdb")
    fake.mount(str(tmp_path), device=disk, type="ext4", source="/dev/sdb", root="/bound")
    assert beneath(fake, tmp_path / "plex") == {disk}
    assert ROOT in beneath(fake, "/etc")
    assert Beneath(None, fake.machine).file_system_at(str(tmp_path)) == disk


def test_a_link_lies_where_it_leads(fake: FakeMachine, tmp_path: Path) -> None:
    disk = fake.disk("sdb")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "plex").touch()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "plex")
    fake.mount(str(tmp_path / "there"), device=disk, type="ext4", source="/dev/sdb")
    assert beneath(fake, tmp_path / "link") == {disk}


def test_through_a_loop_device_and_a_mapping(fake: FakeMachine, tmp_path: Path) -> None:
    """A plex on a mapping over a loop device, whose file lies on the file system in question."""
    disk = fake.disk("sdb")
    (tmp_path / "image").touch()
    fake.mount(str(tmp_path), device=disk, type="ext4", source="/dev/sdb")
    fake.disk("loop7", backing=str(tmp_path / "image"))
    mapping = fake.disk("dm-0", on=("loop7",))
    assert beneath(fake, fake.node("dm-0", mapping)) == {disk}


def test_a_device_lies_on_no_file_system(fake: FakeMachine) -> None:
    number = fake.disk("sdc")
    assert beneath(fake, fake.node("sdc", number)) == set()


def test_a_loop_file_system_lies_on_two(fake: FakeMachine, tmp_path: Path) -> None:
    disk = fake.disk("sdb")
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer" / "image").touch()
    (tmp_path / "inner").mkdir()
    fake.mount(str(tmp_path / "outer"), device=disk, type="ext4", source="/dev/sdb")
    loop = fake.disk("loop7", backing=str(tmp_path / "outer" / "image"))
    fake.mount(str(tmp_path / "inner"), device=loop, type="ext4", source="/dev/loop7")
    assert beneath(fake, tmp_path / "inner" / "plex") == {disk, loop}


def test_through_the_layers_of_an_overlay(fake: FakeMachine, tmp_path: Path) -> None:
    disk = fake.disk("sdb")
    for name in ("upper", "merged"):
        (tmp_path / name).mkdir()
    fake.mount(str(tmp_path / "upper"), device=disk, type="ext4", source="/dev/sdb")
    fake.mount(
        str(tmp_path / "merged"), device="0:70", type="overlay", source="overlay",
        options=f"rw,upperdir={tmp_path / 'upper'}",
    )  # fmt: skip
    assert beneath(fake, tmp_path / "merged" / "plex") == {"0:70", disk}


def test_what_leads_to_the_own_mount_ends_there(fake: FakeMachine, tmp_path: Path) -> None:
    own = "/run/fmrd/volumes"
    fake.mount(own, device="0:99", type="fuse.fmrd", source="fmrd")
    loop = fake.disk("loop3", backing=f"{own}/low")
    fake.mount(str(tmp_path), device=loop, type="ext4", source="/dev/loop3")
    assert beneath(fake, tmp_path / "x", own) == set()
    assert Beneath(own, fake.machine).file_system_at(str(tmp_path)) == loop


def test_of_what_cannot_be_followed_its_mount_counts(fake: FakeMachine, tmp_path: Path) -> None:
    """A disk whose file system gives errors."""
    disk = fake.disk("sdb")
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    fake.mount(str(tmp_path), device=disk, type="ext4", source="/dev/sdb")
    assert beneath(fake, tmp_path / "one") == {disk}
