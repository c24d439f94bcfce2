"""From a path down to every file system that it lies on: which freeze would keep it from being written?

Through links, loop devices, mappings, arrays, pools and layers. A file system is named as in mountinfo, "major:minor":
that of a btrfs is the same there for all its subvolumes, and in stat() is not. What leads to fmrd's own mount ends
there, since what is on the other side of that is asked for by its own path.
"""

import os
import stat
from collections.abc import Iterator

from fmrd.backing.looking.machine import Block, Machine, number_of
from fmrd.backing.looking.mounts import Mount
from fmrd.backing.looking.trail import Trail


class Beneath:
    """``own``: fmrd's mount point. Asked within one thread; it blocks as long as a path's file system does."""

    def __init__(self, own: str | None, machine: Machine | None = None) -> None:
        self._machine = machine or Machine()
        self._trail = Trail(self._machine, own)

    def file_system_at(self, mountpoint: str) -> str:
        """The number of what is mounted there."""
        mount = self._machine.mounts.holding(os.path.realpath(mountpoint))
        return mount.device if mount is not None else number_of(os.stat(mountpoint).st_dev)

    def file_systems(self, path: str) -> set[str]:
        """The numbers of all that ``path`` (absolute) lies on, as far as that can be told."""
        return set(self._of_path(path, set()))

    def _of_path(self, path: str, seen: set[str]) -> Iterator[str]:
        try:
            found = self._trail.resolve(path)
            mount, status = found.mount, found.status
            if found.chain:
                return
        except OSError:  # a disk that fails, or that we may not look at: where it is mounted is known all the same
            mount, status = self._machine.mounts.holding(os.path.abspath(path)), None
        if status is not None and stat.S_ISBLK(status.st_mode):
            block = self._machine.block(number_of(status.st_rdev))
            if block is not None:
                yield from self._of_block(block, seen)
        elif mount is not None:
            yield from self._of_mount(mount, seen)

    def _of_mount(self, mount: Mount, seen: set[str]) -> Iterator[str]:
        if mount.device in seen:
            return
        seen.add(mount.device)
        yield mount.device
        block = self._machine.block(mount.device)
        if block is not None:
            yield from self._of_block(block, seen)
        for path in mount.lies_on if block is None else ():
            yield from self._of_path(path, seen)

    def _of_block(self, block: Block, seen: set[str]) -> Iterator[str]:
        if f"block {block.number}" in seen:
            return
        seen.add(f"block {block.number}")
        for below in (*block.lies_on, *self._machine.pooled_with(block)):
            yield from self._of_block(below, seen)
        if (path := block.backing_file) is not None:
            yield from self._of_path(path, seen)
