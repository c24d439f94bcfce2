"""What is on a device or in a file, from a descriptor: signatures, a DCO of fmrd, or nothing.

A device is blank where nothing is recognised: other bytes have no name, and whoever reuses a disk wrote some. Whether
its first and last MiB are zeros is told beside that. A file is blank where it is all hole, or empty. A few
MiB are read.
"""

import errno
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from uuid import UUID

from fmrd.backing import locator
from fmrd.backing.holes import is_hole
from fmrd.backing.looking import blkid
from fmrd.backing.looking.blkid import CannotProbe, Values
from fmrd.backing.looking.findings import LABEL_CHARACTERS, Finding, Kind
from fmrd.backing.looking.machine import Block
from fmrd.core.printable import printable

END_BYTES = 1 << 20
"""Looked at from both ends of a device, whether they are zeros."""

RECORD_MAGIC = b"FMRD-DCO"
RECORD_HEADER = struct.Struct("<8sIIQQQQ16sIIII16s28xI")
RECORD_SLOT_BYTES = 128 << 10
"""As fmrd.dco.layout has them, which serves those who understand a DCO; here it is only recognised."""
_FAMILY, _CRC = 7, -1

_GPT_MAGIC = b"EFI PART"
_SECTOR_BYTES = (512, 4096)

_KINDS = {
    "crypto_LUKS": Kind.LUKS,
    "linux_raid_member": Kind.MD,
    "swap": Kind.SWAP,
    "swsuspend": Kind.SWAP,
    "zfs_member": Kind.ZFS,
}
_WORDS = {
    Kind.FILESYSTEM: "{type} file system",
    Kind.LUKS: "container of dm-crypt ({type})",
    Kind.LVM: "physical volume of LVM ({type})",
    Kind.MD: "member of an array ({type})",
    Kind.SIGNATURE: "signature of {type}",
    Kind.SWAP: "swap space ({type})",
    Kind.ZFS: "member of a ZFS pool ({type})",
}


def of_file(descriptor: int) -> tuple[list[Finding], list[Finding]]:
    """(what would be lost, the DCO that it is or names) of a file that is not all hole."""
    size = os.fstat(descriptor).st_size
    found = [*_recognised(descriptor, size), Finding(Kind.NOT_EMPTY, f"a file that is not empty ({size} bytes)")]
    try:
        return found, member(descriptor)
    except OSError as error:
        return [*found, _unreadable(error)], []


def of_device(descriptor: int, block: Block | None) -> tuple[list[Finding], list[Finding], bool]:
    """(what would be lost, the DCO that is on it, whether both ends are zeros)."""
    size = os.lseek(descriptor, 0, os.SEEK_END)
    if size == 0:  # no medium, or a loop device that has nothing
        return [], [], True
    found = list(_recognised(descriptor, size))
    parts = block.partitions if block is not None else []
    if parts and not any(each.kind is Kind.PARTITION_TABLE for each in found):
        names = ", ".join(part.name for part in parts[:3])
        found.append(Finding(Kind.PARTITION_TABLE, f"a disk with partitions, as the kernel knows it ({names})"))
    try:
        zeros = all(not any(os.pread(descriptor, END_BYTES, at)) for at in (0, max(0, size - END_BYTES)))
        return found, member(descriptor), zeros
    except OSError as error:
        return [*found, _unreadable(error)], [], False


def member(descriptor: int) -> list[Finding]:
    """The DCO of fmrd that a device or file carries: as its own content, or named by its last block."""
    area = locator.locate(f"/proc/self/fd/{descriptor}")  # by its path it could be another one by now
    places = [0, *([area[0]] if area is not None else [])]
    for base in places:
        for slot in range(2):
            family = _family(os.pread(descriptor, RECORD_HEADER.size, base + slot * RECORD_SLOT_BYTES))
            if family is not None:
                what = "a plex of fmrd" if base or area is not None else "a copy of the DCO of fmrd"
                return [Finding(Kind.FMRD_MEMBER, f"{what} ({_of_family(family)})", uuid=family)]
    if area is not None:
        return [Finding(Kind.FMRD_MEMBER, "a device with an area for a DCO of fmrd, that holds no sound record")]
    return []


def _family(header: bytes) -> str | None:
    """The family of a record's header; empty where its checksum is wrong, None where it is no header."""
    if len(header) < RECORD_HEADER.size or not header.startswith(RECORD_MAGIC):
        return None
    values = RECORD_HEADER.unpack(header)
    return str(UUID(bytes=values[_FAMILY])) if zlib.crc32(header[:-4]) == values[_CRC] else ""


def _of_family(family: str) -> str:
    return f"family {family}" if family else "damaged"


def of_sidecar(path: str) -> tuple[list[Finding], list[Finding]]:
    """The same two of a file PATH.dco, for the plex beside it. Most often there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return [], []
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):  # a link; a socket
            raise
        return [_no_sidecar(path, "no regular file")], []
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return [_no_sidecar(path, "no regular file")], []
        if is_hole(descriptor):
            return [], []
        found = member(descriptor)
        if not found:
            return [_no_sidecar(path, "a file that is not empty, and no DCO of fmrd")], []
        words = f"a plex of fmrd ({_of_family(found[0].uuid)}), by the DCO {printable(path)} beside it"
        return [], [Finding(Kind.FMRD_MEMBER, words, uuid=found[0].uuid, where=path)]
    finally:
        os.close(descriptor)


def _no_sidecar(path: str, what: str) -> Finding:
    return Finding(Kind.SIDECAR, f"its copy of the DCO would be {printable(path)}, which is {what}", where=path)


def _recognised(descriptor: int, size: int) -> Iterator[Finding]:
    try:
        found = [finding for values in blkid.signatures(descriptor) for finding in _of(values)]
        yield from found
        if not any(each.kind is Kind.PARTITION_TABLE for each in found) and (end := _end_with_gpt(descriptor, size)):
            yield Finding(Kind.PARTITION_TABLE, f"GPT partition table ({end})", type="gpt")
    except (OSError, CannotProbe) as error:
        yield _unreadable(error)


def _end_with_gpt(descriptor: int, size: int) -> str:
    """libblkid looks with the sector size of the device; an image of a disk may have another."""
    for sector in _SECTOR_BYTES:
        for at, which in ((sector, "its header"), (size - sector, "its backup header")):
            if at >= 0 and os.pread(descriptor, len(_GPT_MAGIC), at) == _GPT_MAGIC:
                return which
    return ""


def _of(values: Values) -> Iterator[Finding]:
    """A disk may hold a partition table and a file system at once."""
    if table := values.get("PTTYPE"):
        words = f"{printable(table).upper()} partition table" if table == "gpt" else f"partition table ({table})"
        uuid = values.get("PTUUID", "")
        yield Finding(Kind.PARTITION_TABLE, words + (f", UUID {uuid}" if uuid else ""), type=table, uuid=uuid)
    if name := values.get("TYPE"):
        label, uuid = values.get("LABEL", ""), values.get("UUID", "")
        kind = _KINDS.get(name, Kind.LVM if name.startswith("LVM") else Kind.SIGNATURE)
        if kind is Kind.SIGNATURE and values.get("USAGE") == "filesystem":
            kind = Kind.FILESYSTEM
        words = _WORDS[kind].format(type=name)
        if values is blkid.UNCLEAR:
            words = "several signatures that contradict each other"
        words += (f" '{printable(label, LABEL_CHARACTERS)}'" if label else "") + (f", UUID {uuid}" if uuid else "")
        yield Finding(kind, words, type=name, label=label, uuid=uuid)


def _unreadable(error: Exception) -> Finding:
    return Finding(Kind.UNREADABLE, f"it cannot be looked at: {error}")
