"""Where does an error not end a call? On a local disk the errno of a write says that it is over. Behind a network or a
server process it says that nobody waits any more: what was sent may be carried out later, over newer bytes.

The kernel tells by mountinfo and sysfs, and no file system is asked for it: one of these may not answer.
"""

import os
import stat

from fmrd.backing.looking.machine import Block, Machine, number_of

_FILE_SYSTEMS = {
    "9p": "9P", "afs": "AFS", "beegfs": "BeeGFS", "ceph": "CephFS", "cifs": "SMB", "fuse": "FUSE", "fuseblk": "FUSE",
    "gfs2": "GFS2", "glusterfs": "GlusterFS", "gpfs": "GPFS", "lustre": "Lustre", "ncpfs": "NCP", "nfs": "NFS",
    "nfs4": "NFS", "ocfs2": "OCFS2", "orangefs": "OrangeFS", "smb3": "SMB", "vboxsf": "a shared folder",
    "virtiofs": "a shared folder",
}  # fmt: skip
"""By the type that mountinfo names, without what stands behind a dot."""

_DEVICES = {"nbd": "nbd", "rbd": "Ceph RBD", "drbd": "DRBD", "etherd": "AoE"}
"""By how their names begin."""


def way_to(status: os.stat_result, machine: Machine | None = None) -> str:
    """Return what lies between here and the bytes of a file or device, such as "NFS"; "" for what is local."""
    machine = machine if machine is not None else Machine()
    if stat.S_ISBLK(status.st_mode):
        return _by_device(machine, machine.block(number_of(status.st_rdev)), set())
    return _by_mount(machine, number_of(status.st_dev), set())


def _by_mount(machine: Machine, number: str, seen: set[str]) -> str:
    for mount in machine.mounts.all:
        if mount.device == number:
            if (kind := _FILE_SYSTEMS.get(mount.type.partition(".")[0])) is not None:
                return kind
            below = [machine.block(number), *(_device_at(machine, path) for path in mount.lies_on)]
            return next((way for each in below if (way := _by_device(machine, each, seen))), "")
    return _by_device(machine, machine.block(number), seen)


def _device_at(machine: Machine, path: str) -> Block | None:
    """What a file system without a device number of its own says it is mounted from."""
    if not path.startswith(f"{machine.dev}/"):
        return None
    try:
        status = os.stat(path)
    except OSError:
        return None
    return machine.block(number_of(status.st_rdev)) if stat.S_ISBLK(status.st_mode) else None


def _by_device(machine: Machine, block: Block | None, seen: set[str]) -> str:
    if block is None or block.number in seen:
        return ""
    seen.add(block.number)
    if (way := _own_way(block)) or (block.is_partition and (way := _own_way(block.disk))):
        return way
    if (path := block.backing_file) is not None and (mount := machine.mounts.holding(path)) is not None:
        return _by_mount(machine, mount.device, seen)
    return next((way for each in block.lies_on if (way := _by_device(machine, each, seen))), "")


def _own_way(block: Block) -> str:
    for start, kind in _DEVICES.items():
        if block.name.startswith(start):
            return kind
    bus = os.path.realpath(block.directory / "device")
    if "/session" in bus:  # of an initiator: .../host3/session1/target3:0:0/...
        return "iSCSI"
    try:
        transport = (block.directory / "device" / "transport").read_text().strip()
    except OSError:
        return ""
    return f"NVMe over {transport}" if transport in ("tcp", "rdma", "fc") else ""
