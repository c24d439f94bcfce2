"""What leads back to fmrd's own mount is found at any depth, and nothing on it is asked for that."""

import errno
import os
from pathlib import Path

import pytest

from fmrd.backing.looking.trail import Trail, leads_to
from tests.backing import disks
from tests.backing.looking.machines import FakeMachine

OWN = "/run/fmrd/volumes"
LOW = f"{OWN}/low"


@pytest.fixture
def mounted(fake: FakeMachine) -> FakeMachine:
    fake.mount(OWN, device="0:99", type="fuse.fmrd", source="fmrd")
    return fake


def test_what_lies_on_it(mounted: FakeMachine) -> None:
    assert leads_to(LOW, OWN, mounted.machine) == f"{LOW} lies in fmrd's own mount"
    assert leads_to("/run/../run/fmrd//volumes/./low/..//low", OWN, mounted.machine) is not None
    assert leads_to(OWN, OWN, mounted.machine) is not None


def test_its_name_counts_before_it_is_mounted(fake: FakeMachine) -> None:
    assert leads_to(LOW, OWN, fake.machine) is not None
    assert leads_to(OWN + "x/low", OWN, fake.machine) is None


def test_a_link_to_it(mounted: FakeMachine, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(LOW)
    (tmp_path / "again").symlink_to("link")
    assert leads_to(str(tmp_path / "again"), OWN, mounted.machine) is not None
    (tmp_path / "directory").symlink_to(OWN)
    assert leads_to(str(tmp_path / "directory" / "low"), OWN, mounted.machine) is not None


def test_nothing_on_it_is_asked(mounted: FakeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor on a file system that lies on it."""
    mounted.mount("/srv", device=mounted.disk("loop3", backing=LOW), type="ext4", source="/dev/loop3")
    (tmp_path / "link").symlink_to("/srv/x")
    asked: list[str] = []
    for name in ("lstat", "stat", "readlink", "open", "listdir"):
        real = getattr(os, name)

        def call(path, *rest, real=real, **more):  # type: ignore[no-untyped-def]  # any of these
            asked.append(os.fspath(path))
            return real(path, *rest, **more)

        monkeypatch.setattr(os, name, call)
    for path in (LOW, str(tmp_path / "link"), "/srv/x", "/srv"):
        assert leads_to(path, OWN, mounted.machine)
    assert asked and not [path for path in asked if path.startswith((OWN, "/srv"))]


def test_a_bind_mount_of_it(mounted: FakeMachine, tmp_path: Path) -> None:
    mounted.mount(str(tmp_path / "bound"), device="0:99", type="fuse.fmrd", source="fmrd", root="/low")
    assert leads_to(str(tmp_path / "bound"), OWN, mounted.machine) is not None


def test_a_file_system_of_another_program_is_not_its_own(mounted: FakeMachine, tmp_path: Path) -> None:
    mounted.mount(str(tmp_path / "theirs"), device="0:50", type="fuse.sshfs", source="host:")
    (tmp_path / "theirs").mkdir()
    assert leads_to(str(tmp_path / "theirs" / "x"), OWN, mounted.machine) is None


def test_one_that_a_dead_fmrd_left_below_the_new_one(mounted: FakeMachine, tmp_path: Path) -> None:
    mounted.mount(OWN, device="0:100", type="fuse.fmrd", source="fmrd")
    for device in ("0:99", "0:100"):
        mounted.mount(str(tmp_path / device), device=device, type="fuse.fmrd", source="fmrd")
        assert leads_to(str(tmp_path / device / "low"), OWN, mounted.machine) is not None


def test_a_disk_that_fmrd_is_mounted_over_is_not_its_own(fake: FakeMachine, tmp_path: Path) -> None:
    for point in (OWN, str(tmp_path / "elsewhere")):
        fake.mount(point, device="8:1", type="ext4", source="/dev/sda1")
    fake.mount(OWN, device="0:99", type="fuse.fmrd", source="fmrd")
    assert leads_to(str(tmp_path / "elsewhere" / "plex"), OWN, fake.machine) is None


def chain(fake: FakeMachine, number: str) -> list[str]:
    return Trail(fake.machine, OWN).chain_of_device(number)


def test_a_device_over_it_at_any_depth(mounted: FakeMachine) -> None:
    loop = mounted.disk("loop3", backing=LOW)
    part = mounted.disk("loop3p1", of="loop3")
    mounted.disk("sda")
    array = mounted.disk("md0", on=("sda", "loop3p1"), level="raid1")
    mapping = mounted.disk("dm-0", on=("md0",), mapper=("vg-data", "LVM-x"))
    assert chain(mounted, loop) == ["/dev/loop3", LOW]
    assert chain(mounted, part) == ["/dev/loop3p1", "/dev/loop3", LOW]
    assert chain(mounted, array) == ["/dev/md0", "/dev/loop3p1", "/dev/loop3", LOW]
    assert chain(mounted, mapping) == ["/dev/dm-0", "/dev/md0", "/dev/loop3p1", "/dev/loop3", LOW]


def test_other_devices_lead_nowhere(mounted: FakeMachine, tmp_path: Path) -> None:
    mounted.disk("sda")
    assert chain(mounted, mounted.disk("md0", on=("sda",), level="raid1")) == []
    assert chain(mounted, mounted.disk("loop1", backing=str(tmp_path / "file"))) == []
    assert chain(mounted, "240:77") == []
    assert leads_to(str(tmp_path), OWN, mounted.machine) is None


def test_a_file_in_a_file_system_over_it(mounted: FakeMachine, tmp_path: Path) -> None:
    outer = mounted.disk("loop3", backing=LOW)
    mounted.mount(str(tmp_path / "outer"), device=outer, type="ext4", source="/dev/loop3")
    inner = mounted.disk("loop4", backing=f"{tmp_path}/outer/image")
    mounted.mount(str(tmp_path / "inner"), device=inner, type="xfs", source="/dev/loop4")
    words = leads_to(f"{tmp_path}/inner/plex", OWN, mounted.machine)
    assert words is not None
    names = [f"{tmp_path}/inner/plex", "/dev/loop4", f"{tmp_path}/outer/image", "/dev/loop3", LOW]
    assert words == f"it leads back to fmrd's own mount: {', which lies on '.join(names)}"


def test_a_pool_one_of_whose_devices_lies_on_it(mounted: FakeMachine, tmp_path: Path) -> None:
    node = mounted.node("sda", mounted.disk("sda"))
    mounted.disk("loop3", backing=LOW)
    mounted.mount(str(tmp_path / "pool"), device="0:60", type="btrfs", source=node)
    assert leads_to(f"{tmp_path}/pool/plex", OWN, mounted.machine) is None
    mounted.pool("12345678-1234-1234-1234-123456789abc", "sda", "loop3")
    assert "/dev/loop3" in (leads_to(f"{tmp_path}/pool/plex", OWN, mounted.machine) or "")


@pytest.mark.parametrize("options", [f"rw,lowerdir=/usr,upperdir={OWN}/up,workdir=/w", f"rw,lowerdir=/usr:{OWN}"])
def test_an_overlay_one_of_whose_layers_lies_on_it(mounted: FakeMachine, tmp_path: Path, options: str) -> None:
    mounted.mount(str(tmp_path / "over"), device="0:61", type="overlay", source="overlay", options=options)
    assert leads_to(f"{tmp_path}/over/plex", OWN, mounted.machine) is not None


def test_a_file_system_of_a_program_over_it(mounted: FakeMachine, tmp_path: Path) -> None:
    mounted.mount(str(tmp_path / "ntfs"), device="0:62", type="fuse.ntfs", source=LOW)
    assert leads_to(f"{tmp_path}/ntfs/plex", OWN, mounted.machine) is not None


def test_circles_end(mounted: FakeMachine, tmp_path: Path) -> None:
    mounted.mount(str(tmp_path / "a"), device="0:63", type="overlay", source="o", options=f"lowerdir={tmp_path}/b")
    mounted.mount(str(tmp_path / "b"), device="0:64", type="overlay", source="o", options=f"lowerdir={tmp_path}/a")
    assert leads_to(str(tmp_path / "a" / "x"), OWN, mounted.machine) is None
    loop = mounted.disk("loop0", backing=f"{mounted.root}/dev/loop1")
    mounted.node("loop1", mounted.disk("loop1", backing=mounted.node("loop0", loop)))
    assert chain(mounted, loop) == []
    (tmp_path / "x").symlink_to("y")
    (tmp_path / "y").symlink_to("x")
    with pytest.raises(OSError, match="symbolic links") as caught:
        leads_to(str(tmp_path / "x"), OWN, mounted.machine)
    assert caught.value.errno == errno.ELOOP


def test_links_and_missing_directories_are_followed_as_the_kernel_does(tmp_path: Path, fake: FakeMachine) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("real/../real")
    trail = Trail(fake.machine, None)
    found = trail.resolve(f"{tmp_path}/link/./../real//file")
    assert found.path == f"{tmp_path}/real/file" and found.status is not None and not found.dangling
    assert trail.resolve(f"{tmp_path}/link/new").path == f"{tmp_path}/real/new"
    assert trail.resolve(f"{tmp_path}/no/new").stops_at == f"{tmp_path}/no"
    assert trail.resolve(f"{tmp_path}/real/file/new").stops_at == f"{tmp_path}/real/file"
    assert not trail.resolve(f"{tmp_path}/link/new").dangling
    (tmp_path / "dangling").symlink_to("real/nothing")
    assert trail.resolve(f"{tmp_path}/dangling").dangling
    (tmp_path / "real" / "nothing").touch()
    assert not trail.resolve(f"{tmp_path}/dangling").dangling


def test_on_a_real_machine_at_any_depth(tmp_path: Path) -> None:
    """A file system stands for fmrd's mount: what counts is what lies on what."""
    upper = tmp_path / "upper"
    upper.mkdir()
    with disks.mounted(tmp_path, "xfs") as own, disks.loop_device(own, disks.SIZES["ext4"]) as low:
        assert leads_to(f"{own}/plex", str(own)) == f"{own}/plex lies in fmrd's own mount"
        disks.run(*disks.MAKERS["ext4"], low)
        disks.run("mount", low, upper)
        try:
            with disks.loop_device(upper, 1 << 20) as top:
                names = [top, f"{upper}/loop.img", low, f"{own}/loop.img"]
                assert leads_to(top, str(own)) == f"it leads back to fmrd's own mount: {', which lies on '.join(names)}"
        finally:
            disks.run("umount", upper)
        assert leads_to(f"{upper}/plex", str(own)) is None
        with disks.loop_device(tmp_path, 1 << 20) as other:
            assert leads_to(other, str(own)) is None
