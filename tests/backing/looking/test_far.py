"""Which backings lie behind a network or a server, at any depth, by what mountinfo and sysfs tell."""

import os
import stat

import pytest

from fmrd.backing.looking.far import way_to
from tests.backing.looking.machines import FakeMachine


def of_file(device: str) -> os.stat_result:
    """The status of a file on that device."""
    major, minor = map(int, device.split(":"))
    return os.stat_result((stat.S_IFREG | 0o600, 7, os.makedev(major, minor), 1, 0, 0, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        ("nfs4", "NFS"), ("cifs", "SMB"), ("fuse.sshfs", "FUSE"), ("fuseblk", "FUSE"), ("9p", "9P"), ("ceph", "CephFS"),
        ("virtiofs", "a shared folder"), ("tmpfs", ""), ("ext4", ""), ("zfs", ""),
    ],
)  # fmt: skip
def test_a_file_by_its_file_system(fake: FakeMachine, kind: str, way: str) -> None:
    fake.mount("/srv", device="0:77", type=kind, source="host:/export")
    assert way_to(of_file("0:77"), fake.machine) == way


def test_a_file_by_the_device_under_its_file_system(fake: FakeMachine) -> None:
    fake.disk("nbd0")
    mapped = fake.disk("dm-0", on=("nbd0",))
    fake.mount("/srv", device=mapped, type="xfs", source="/dev/mapper/x")
    assert way_to(of_file(mapped), fake.machine) == "nbd"


def test_a_file_on_btrfs_by_its_source(fake: FakeMachine) -> None:
    node = fake.node("rbd0", fake.disk("rbd0"))
    fake.mount("/srv", device="0:78", type="btrfs", source=node)
    assert way_to(of_file("0:78"), fake.machine) == "Ceph RBD"


def test_a_loop_device_by_its_file(fake: FakeMachine) -> None:
    fake.mount("/net", device="0:79", type="nfs", source="host:/export")
    fake.mount("/home", device="0:80", type="tmpfs", source="none")
    for name, backing, way in (("loop1", "/net/disk.img", "NFS"), ("loop2", "/home/disk.img", "")):
        node = fake.node(name, fake.disk(name, backing=backing))
        assert way_to(os.stat(node), fake.machine) == way


def test_a_partition_and_an_array_by_their_disks(fake: FakeMachine) -> None:
    fake.disk("drbd1")
    part = fake.node("drbd1p1", fake.disk("drbd1p1", of="drbd1"))
    fake.disk("sda")
    array = fake.node("md0", fake.disk("md0", on=("sda", "drbd1p1")))
    plain = fake.node("md1", fake.disk("md1", on=("sda",)))
    assert [way_to(os.stat(node), fake.machine) for node in (part, array, plain)] == ["DRBD", "DRBD", ""]


def test_a_disk_by_its_bus(fake: FakeMachine) -> None:
    devices = fake.root / "sys" / "devices"
    target = devices / "platform" / "host3" / "session1" / "target3:0:0" / "3:0:0:0"
    target.mkdir(parents=True)
    scsi, fabric, local = (fake.node(name, fake.disk(name)) for name in ("sdb", "nvme1n1", "nvme0n1"))
    (devices / "sdb" / "device").symlink_to(target)
    for name, transport in (("nvme1n1", "tcp"), ("nvme0n1", "pcie")):
        (devices / name / "device").mkdir()
        (devices / name / "device" / "transport").write_text(transport + "\n")
    ways = [way_to(os.stat(node), fake.machine) for node in (scsi, fabric, local)]
    assert ways == ["iSCSI", "NVMe over tcp", ""]


def test_a_circle_ends(fake: FakeMachine) -> None:
    """A loop device that says it lies on a file system that lies on it."""
    number = fake.disk("loop3", backing="/srv/image")
    fake.mount("/srv", device=number, type="ext4", source="/dev/loop3")
    assert way_to(of_file(number), fake.machine) == ""


def test_a_real_machine() -> None:
    """What is in memory is not far, by the mounts that there really are."""
    assert way_to(os.stat("/proc/self/status")) == "" == way_to(os.stat("/dev/shm"))
