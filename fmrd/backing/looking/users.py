"""Who has a device or a file now: mounts, swap, holders, loop devices, locks.

A disk is in use where one of its partitions is; a partition, where the whole disk is. Users of a loop device use what
it lies on. Mounts of other mount namespaces show only as an owner (O_EXCL) that nobody names.
"""

import os
import re
import shlex
from collections.abc import Iterator
from functools import cached_property

from fmrd.backing.looking.findings import Finding, Kind
from fmrd.backing.looking.machine import Block, Machine, is_block, number_of
from fmrd.backing.looking.trail import Resolved, Trail
from fmrd.core.printable import printable

MOST_NAMED = 3
_INNER_OF_LVM = re.compile(r"LVM-\w{64}-\w+")
"""The dm uuid of a part of a logical volume (a pool's data, a mirror's log); libblkid looks at none of them."""
_POOLS = ("btrfs", "bcachefs")
"""Their mounts have a number of their own, and name one of their devices."""


class Users:
    def __init__(self, machine: Machine, trail: Trail) -> None:
        self._machine = machine
        self._trail = trail

    def of_device(self, block: Block) -> list[Finding]:
        """Of itself, its partitions, its disk, and loop devices over any of these."""
        return list(self._of_device(block, "", set()))

    def of_file(self, file: Resolved) -> list[Finding]:
        """``file`` has a status."""
        found = []
        if any(self._is_file(path, file) for path in self._machine.swaps):
            found.append(
                Finding(Kind.SWAP, "swap space in use", where=file.path, mend=f"swapoff {shlex.quote(file.path)}")
            )
        seen: set[str] = set()
        for loop, path in self._machine.loops:
            if self._is_file(path, file):
                found += self._of_loop(loop, "", seen)
        return found + self.locks(file)

    def locks(self, file: Resolved) -> list[Finding]:
        """Locks that others hold on a file. btrfs tells them by a number that is not the file's, so none is seen there;
        fmrd's own lock decides when the file is opened.
        """
        status = file.status
        if status is None or file.mount is None or number_of(status.st_dev) != file.mount.device:
            return []
        pids = sorted(set(self._machine.lock_holders(file.mount.device, status.st_ino)))
        if not pids:
            return []
        who = ", ".join(f"process {pid}" for pid in pids[:MOST_NAMED] if pid) or "somebody"
        return [Finding(Kind.LOCKED, f"locked by {who}", where=who)]

    def _of_device(self, block: Block, prefix: str, seen: set[str]) -> Iterator[Finding]:
        whole = block.disk
        family = [(block, prefix), *((part, f"{prefix}partition {part.name}: ") for part in block.partitions)]
        if block.is_partition:
            family.append((whole, f"{prefix}the whole disk {whole.name}: "))
        for each, words in family:
            if each.number not in seen:
                seen.add(each.number)
                yield from self._of_one(each, words, seen)

    def _of_one(self, block: Block, prefix: str, seen: set[str]) -> Iterator[Finding]:
        points = self._mounted.get(block.number, [])
        if points:
            more = f" and {len(points) - MOST_NAMED} more" if len(points) > MOST_NAMED else ""
            where = ", ".join(printable(point) for point in points[:MOST_NAMED]) + more
            mend = f"umount {shlex.quote(points[0])}" if points[0] != "/" else ""
            yield Finding(Kind.MOUNTED, f"{prefix}mounted on {where}", where=points[0], mend=mend)
        elif self._machine.pooled_with(block):
            yield Finding(Kind.MOUNTED, f"{prefix}a device of a mounted btrfs", type="btrfs")
        if block.number in self._swaps:
            name = f"/dev/{block.name}"
            yield Finding(Kind.SWAP, f"{prefix}swap space in use", where=name, mend=f"swapoff {name}")
        if _INNER_OF_LVM.fullmatch(block.mapper_uuid):
            name = block.mapper_name
            yield Finding(Kind.LVM, f"{prefix}an inner volume of LVM ('{name}')", label=name)
        for holder in block.holders:
            yield _held(holder, prefix)
        for loop, path in self._machine.loops:
            if self._device_at(path) == block.number:
                yield from self._of_loop(loop, prefix, seen)

    def _of_loop(self, loop: Block, prefix: str, seen: set[str]) -> Iterator[Finding]:
        name = f"/dev/{loop.name}"
        mend = f"losetup --detach {name}"
        yield Finding(Kind.LOOP_BACKING, f"{prefix}the loop device {name} lies on it", where=name, mend=mend)
        yield from self._of_device(loop, f"{prefix}{name}: ", seen)

    @cached_property
    def _mounted(self) -> dict[str, list[str]]:
        """Device number -> where it is mounted."""
        found: dict[str, list[str]] = {}
        for mount in self._machine.mounts.all:
            numbers = {mount.device}
            if mount.type in _POOLS:
                devices = {number for path in mount.lies_on if (number := self._device_at(path))}
                blocks = [block for number in devices if (block := self._machine.block(number))]
                numbers |= devices | {b.number for block in blocks for b in self._machine.pooled_with(block)}
            for number in numbers:
                found.setdefault(number, []).append(mount.point)
        return found

    @cached_property
    def _swaps(self) -> set[str]:
        return {number for path in self._machine.swaps if (number := self._device_at(path))}

    def _device_at(self, path: str) -> str:
        """Its number; empty for what is no device. Asked of names below /dev alone: others may lie where nobody may
        look, and no device is named elsewhere.
        """
        if not path.startswith(f"{self._machine.dev}/"):
            return ""
        try:
            status = self._trail.resolve(path).status
        except OSError:
            return ""
        return number_of(status.st_rdev) if status is not None and is_block(status) else ""

    def _is_file(self, path: str, file: Resolved) -> bool:
        """Does ``path``, as the kernel tells it (so without links), name that file? What lies on another file system
        is not looked at.
        """
        if path == file.path:
            return True
        mount = self._machine.mounts.holding(path)
        if mount is None or file.mount is None or mount.device != file.mount.device or file.status is None:
            return False
        try:
            return os.path.samestat(os.lstat(path), file.status)
        except OSError:
            return False


def _held(holder: Block, prefix: str) -> Finding:
    """Who holds a device: an array, a mapping, a cache."""
    name = holder.mapper_name
    uuid = holder.mapper_uuid
    if holder.raid_level:
        level = holder.raid_level
        return Finding(
            Kind.MD, f"{prefix}a member of the array {holder.name} ({level})", type=level, where=f"/dev/{holder.name}"
        )
    if uuid.startswith("LVM-"):
        return Finding(Kind.LVM, f"{prefix}in use by LVM for '{name}'", label=name, where=f"/dev/{holder.name}")
    if uuid.startswith("CRYPT-"):
        return Finding(Kind.LUKS, f"{prefix}opened by dm-crypt as '{name}'", label=name, where=f"/dev/{holder.name}")
    called = f"{holder.name} ('{name}')" if name else holder.name
    return Finding(Kind.HOLDER, f"{prefix}held by {called}", label=name, where=f"/dev/{holder.name}")
