"""Who has a disk or a file is told, whatever the way they have it."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fmrd.backing.looking.findings import Finding, Kind
from fmrd.backing.looking.look import look
from fmrd.backing.looking.machine import Machine
from fmrd.backing.looking.trail import Trail
from fmrd.backing.looking.users import Users
from tests.backing import disks
from tests.backing.looking.machines import FakeMachine

POOL = "12345678-1234-1234-1234-123456789abc"
HALF = "a" * 32


def users(fake: FakeMachine, number: str) -> list[Finding]:
    machine = fake.machine
    block = machine.block(number)
    assert block is not None
    return Users(machine, Trail(machine, None)).of_device(block)


def kinds(found: list[Finding] | tuple[Finding, ...]) -> list[Kind]:
    return [each.kind for each in found]


def test_a_disk_that_nobody_has(fake: FakeMachine) -> None:
    assert users(fake, fake.disk("sda")) == []


def test_mounted_as_often_as_it_is(fake: FakeMachine) -> None:
    sda = fake.disk("sda")
    for point in ("/srv", "/a\\040b", "/c", "/d"):
        fake.mount(point, device=sda, type="ext4", source="/dev/sda")
    (found,) = users(fake, sda)
    assert (found.kind, found.where, found.mend) == (Kind.MOUNTED, "/srv", "umount /srv")
    assert found.sentence == "mounted on /srv, /a b, /c and 1 more"


def test_a_disk_is_in_use_where_its_partition_is_and_a_partition_where_its_disk_is(fake: FakeMachine) -> None:
    sda, sda1, sda2 = fake.disk("sda"), fake.disk("sda1", of="sda"), fake.disk("sda2", of="sda")
    fake.mount("/srv", device=sda1, type="ext4", source="/dev/sda1")
    (found,) = users(fake, sda)
    assert found.sentence == "partition sda1: mounted on /srv"
    assert users(fake, sda2) == [], "its neighbour is none of its business"
    fake.disk("md0", on=("sda",), level="raid1")
    assert [each.sentence for each in users(fake, sda2)] == [
        "the whole disk sda: a member of the array md0 (raid1)",
    ]


@pytest.mark.parametrize(
    ("mapper", "level", "kind", "words"),
    [
        (("", ""), "raid5", Kind.MD, "a member of the array dm-0 (raid5)"),
        (("vg-root", f"LVM-{HALF}{HALF}"), "", Kind.LVM, "in use by LVM for 'vg-root'"),
        (("secret", "CRYPT-LUKS2-0123-secret"), "", Kind.LUKS, "opened by dm-crypt as 'secret'"),
        (("mpatha", "mpath-3600"), "", Kind.HOLDER, "held by dm-0 ('mpatha')"),
        (("", ""), "", Kind.HOLDER, "held by dm-0"),
        (("a\x1b[31m", "other"), "", Kind.HOLDER, "held by dm-0 ('a\\x1b[31m')"),
    ],
)
def test_who_holds_it(fake: FakeMachine, mapper: tuple[str, str], level: str, kind: Kind, words: str) -> None:
    sda = fake.disk("sda")
    fake.disk("dm-0", on=("sda",), mapper=mapper, level=level)
    (found,) = users(fake, sda)
    assert (found.kind, found.sentence, found.where) == (kind, words, "/dev/dm-0")


def test_an_inner_part_of_a_logical_volume_is_no_free_disk(fake: FakeMachine) -> None:
    """libblkid does not look at those, so that they would seem to be blank."""
    inner = fake.disk("dm-0", mapper=("vg-pool_tdata", f"LVM-{HALF}{HALF}-tdata"))
    assert kinds(users(fake, inner)) == [Kind.LVM]
    assert users(fake, fake.disk("dm-1", mapper=("vg-data", f"LVM-{HALF}{HALF}"))) == []


def test_each_device_of_a_mounted_pool(fake: FakeMachine) -> None:
    sda, sdb, sdc = fake.disk("sda"), fake.disk("sdb"), fake.disk("sdc")
    fake.pool(POOL, "sda", "sdb")
    assert [each.sentence for each in users(fake, sda)] == ["a device of a mounted btrfs"], "mounted somewhere else"
    fake.mount("/pool", device="0:60", type="btrfs", source=fake.node("sda", sda))
    for each in (sda, sdb):
        assert [found.sentence for found in users(fake, each)] == ["mounted on /pool"]
    assert users(fake, sdc) == []


def test_swap_on_it(fake: FakeMachine) -> None:
    sda = fake.disk("sda")
    fake.swaps(fake.node("sda", sda))
    (found,) = users(fake, sda)
    assert (found.kind, found.mend) == (Kind.SWAP, "swapoff /dev/sda")


def test_a_loop_device_over_it_and_who_has_that(fake: FakeMachine) -> None:
    sda = fake.disk("sda")
    loop = fake.disk("loop0", backing=fake.node("sda", sda))
    fake.mount("/srv", device=loop, type="ext4", source="/dev/loop0")
    assert [each.sentence for each in users(fake, sda)] == [
        "the loop device /dev/loop0 lies on it",
        "/dev/loop0: mounted on /srv",
    ]


def test_circles_end(fake: FakeMachine) -> None:
    first = fake.disk("loop0", backing=f"{fake.root}/dev/loop1")
    second = fake.disk("loop1", backing=fake.node("loop0", first))
    fake.node("loop1", second)
    assert kinds(users(fake, first)) == [Kind.LOOP_BACKING, Kind.LOOP_BACKING]


def test_a_file_that_is_locked_is_found_without_a_lock(fake: FakeMachine, tmp_path: Path) -> None:
    (tmp_path / "plex").touch()
    status = os.stat(tmp_path / "plex")
    major, minor = os.major(status.st_dev), os.minor(status.st_dev)
    fake.mount(str(tmp_path), device=f"{major}:{minor}", type="ext4", source="x")
    assert look(str(tmp_path / "plex"), machine=fake.machine).in_use == ()
    fake.lock(f"1: FLOCK  ADVISORY  WRITE 77 {major:02x}:{minor:02x}:{status.st_ino + 1} 0 EOF")
    fake.lock(f"2: -> FLOCK  ADVISORY  WRITE 79 {major:02x}:{minor:02x}:{status.st_ino} 0 EOF")
    fake.lock(f"2: LEASE  ACTIVE    READ  78 {major:02x}:{minor:02x}:{status.st_ino} 0 EOF")
    assert look(str(tmp_path / "plex"), machine=fake.machine).in_use == ()
    fake.lock(f"3: OFDLCK ADVISORY  READ  -1 {major:02x}:{minor:02x}:{status.st_ino} 100 101")
    (found,) = look(str(tmp_path / "plex"), machine=fake.machine).in_use
    assert found.sentence == "locked by somebody"
    fake.lock(f"4: POSIX  ADVISORY  READ  78 {major:02x}:{minor:02x}:{status.st_ino} 0 EOF")
    (found,) = look(str(tmp_path / "plex"), machine=fake.machine).in_use
    assert found.sentence == "locked by process 78"


def test_a_machine_that_tells_little(fake: FakeMachine, tmp_path: Path) -> None:
    """A kernel without swap; a changed root, of whose mounts nothing is known."""
    sda = fake.disk("sda")
    (fake.root / "proc" / "swaps").unlink()
    assert users(fake, sda) == []
    (tmp_path / "plex").touch()
    fake.disk("loop0", backing=f"{tmp_path}/plex")
    (fake.root / "proc" / "self" / "mountinfo").write_text("")
    assert kinds(look(str(tmp_path / "plex"), machine=fake.machine).in_use) == [Kind.LOOP_BACKING]


# The kernel of this machine.


def test_a_real_lock(tmp_path: Path) -> None:
    if str(os.getpid()) not in proc_locks(tmp_path):
        pytest.skip("needs a file system whose locks the kernel lists by the number of its mount")
    with (tmp_path / "plex").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (found,) = look(str(tmp_path / "plex")).in_use
        assert found.sentence == f"locked by process {os.getpid()}"
    assert look(str(tmp_path / "plex")).in_use == ()


def proc_locks(tmp_path: Path) -> str:
    with (tmp_path / "probe").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        mount = Machine().mounts.holding(str(tmp_path))
        status = os.fstat(file.fileno())
        told = mount is not None and mount.device == f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
        return Path("/proc/locks").read_text() if told else ""


def test_a_mounted_device_and_the_file_below_it(tmp_path: Path) -> None:
    with disks.mounted(tmp_path, "ext4") as where:
        device = disks.run("findmnt", "-n", "-o", "SOURCE", where)
        (found,) = look(device).in_use
        assert (found.kind, found.where) == (Kind.MOUNTED, str(where))
        assert [each.sentence for each in look(f"{tmp_path}/ext4.img").in_use] == [
            f"the loop device {device} lies on it",
            f"{device}: mounted on {where}",
        ]
    assert look(f"{tmp_path}/ext4.img").in_use == ()


def test_a_mounted_btrfs_of_two_devices(tmp_path: Path) -> None:
    if not shutil.which("mkfs.btrfs"):
        pytest.skip("needs mkfs.btrfs")
    size = disks.SIZES["btrfs"]
    where = tmp_path / "pool"
    where.mkdir()
    with disks.loop_device(tmp_path, size, "a") as first, disks.loop_device(tmp_path, size, "b") as second:
        disks.run(*disks.MAKERS["btrfs"], first, second)
        disks.run("mount", "-t", "btrfs", first, where)
        try:
            for device in (first, second):
                assert kinds(look(device).in_use) == [Kind.MOUNTED]
        finally:
            disks.run("umount", where)
        assert look(first).in_use == ()


def test_a_file_under_a_loop_device_by_any_of_its_names(tmp_path: Path) -> None:
    with disks.loop_device(tmp_path, 1 << 20) as device:
        os.link(tmp_path / "loop.img", tmp_path / "other")
        for name in ("loop.img", "other"):
            (found,) = look(str(tmp_path / name)).in_use
            assert (found.kind, found.where) == (Kind.LOOP_BACKING, device)
        os.unlink(tmp_path / "loop.img")
        (tmp_path / "loop.img").touch()
        assert look(str(tmp_path / "loop.img")).in_use == (), "another file of its name"


def test_a_device_that_somebody_has_without_saying_so(loop: str) -> None:
    descriptor = os.open(loop, os.O_RDONLY | os.O_EXCL)
    try:
        assert kinds(look(loop).in_use) == [Kind.BUSY]
    finally:
        os.close(descriptor)
    assert look(loop).in_use == ()


@pytest.mark.parametrize("kind", ["device", "file"])
def test_real_swap_space(tmp_path: Path, kind: str) -> None:
    if not (shutil.which("mkswap") and shutil.which("swapon")):
        pytest.skip("needs mkswap and swapon")
    (tmp_path / "swap").write_bytes(bytes(1 << 20))
    os.chmod(tmp_path / "swap", 0o600)
    with disks.loop_device(tmp_path, 1 << 20) as device:
        path = device if kind == "device" else str(tmp_path / "swap")
        disks.run("mkswap", "-q", path)
        if subprocess.run(["swapon", path], capture_output=True, check=False).returncode:
            pytest.skip("needs a kernel, and a file system, that take swap space there")
        try:
            assert Kind.SWAP in kinds(look(path).in_use)
        finally:
            disks.run("swapoff", path)
        assert look(path).in_use == ()


def test_a_loop_device_over_a_plex_of_fmrd_or_a_locked_file(tmp_path: Path) -> None:
    with disks.loop_device(tmp_path, 1 << 20) as device:
        assert look(device).blank
        (tmp_path / "loop.img.dco").write_bytes(b"FMRD-DCO" + bytes(4088))
        (found,) = look(device).in_use
        assert found.kind is Kind.FMRD_MEMBER
        assert found.sentence.startswith(f"it lies on the file {tmp_path}/loop.img: a plex of fmrd")
