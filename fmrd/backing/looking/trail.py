"""From a path, or a device, down to all that it lies on: does it lead back to fmrd's own mount?

Whoever opens, or even stats, what lies on that mount waits for fmrd; where fmrd itself does, both wait for ever. So
each step is decided before it is taken, by paths, mountinfo and sysfs, and the walk ends at the first thing that leads
there. Not followed: pools of ZFS, network block devices and network file systems, whose other end the kernel does not
know.
"""

import errno
import os
import stat
from dataclasses import dataclass, field

from fmrd.backing.looking.machine import Block, Machine, number_of
from fmrd.backing.looking.mounts import Mount
from fmrd.core.printable import printable

MOST_LINKS = 40
"""As the kernel follows."""


@dataclass(frozen=True)
class Step:
    """An entry of a directory on the way; ``entry`` is None for what is missing."""

    directory: str
    holds: os.stat_result
    entry: os.stat_result | None


@dataclass
class Resolved:
    """A path without links, as far as it could be followed."""

    path: str
    status: os.stat_result | None = None
    """Of what lies there; None where nothing does, or where nobody may look (``chain``)."""
    mount: Mount | None = None
    steps: list[Step] = field(default_factory=list)
    chain: list[str] = field(default_factory=list)
    """Not empty: it leads to the own mount, through these."""
    stops_at: str = ""
    """Not empty: this directory of the path is missing, or is none."""
    dangling: bool = False
    """The last name is a link, to something that is missing."""


class Trail:
    """``own``: fmrd's mount point, or None for whoever has none. Asked within one thread."""

    def __init__(self, machine: Machine, own: str | None) -> None:
        self._machine = machine
        self._mounts = machine.mounts
        self._own_point: str | None = None
        self._own_devices: set[str] = set()
        self._known: dict[str, list[str]] = {}
        if own is not None:
            parent, name = os.path.split(os.path.abspath(own))
            self._own_point = os.path.join(self.resolve(parent).path, name)
            here = [mount for mount in self._mounts.all if mount.point == self._own_point]
            self._own_devices = {mount.device for mount in here if mount.type.startswith("fuse")}
            self._known.clear()

    def resolve(self, path: str) -> Resolved:
        """OSError for what cannot be followed: EACCES, ELOOP, EIO... ``path`` is absolute."""
        found = Resolved("/", os.lstat("/"), self._mounts.root)
        left = path.split("/")[::-1]
        statuses = {"/": os.lstat("/")}
        links = 0
        while left:
            name = left.pop()
            if name in ("", "."):
                continue
            if name == "..":
                found.path = os.path.dirname(found.path)
                found.status, found.mount = statuses[found.path], self._mounts.holding(found.path)
                continue
            there = os.path.join(found.path, name)
            mount = self._mounts.entered(found.mount, there)
            rest = [each for each in reversed(left) if each not in ("", ".")]
            if chain := self._chain_at(there, found.mount, mount):
                found.path, found.status, found.chain = os.path.normpath("/".join([there, *rest])), None, chain
                return found
            try:
                status = os.lstat(there)
            except (FileNotFoundError, NotADirectoryError) as error:
                return self._ended(found, there, rest, statuses[found.path], error)
            found.steps.append(Step(found.path, statuses[found.path], status))
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                found.dangling = found.dangling or not rest
                target = os.readlink(there)
                left += target.split("/")[::-1]
                if target.startswith("/"):
                    found.path, found.mount = "/", self._mounts.root
                continue
            statuses[there] = status
            found.path, found.status, found.mount = there, status, mount
        found.dangling = False
        return found

    def _ended(
        self, found: Resolved, there: str, rest: list[str], holds: os.stat_result, error: OSError
    ) -> Resolved:  # fmt: skip
        """Nothing is at ``there``, of which ``rest`` is wanted."""
        if rest or isinstance(error, NotADirectoryError):
            found.stops_at = there if isinstance(error, FileNotFoundError) else found.path
        else:
            found.steps.append(Step(found.path, holds, None))
        found.path, found.status = os.path.normpath("/".join([there, *rest])), None
        if self._own_point is not None and self._is_below(found.path):
            found.chain = [self._own_point]
        return found

    def _chain_at(self, there: str, outside: Mount | None, mount: Mount | None) -> list[str]:
        if self._own_point is not None and self._is_below(there):
            return [self._own_point]
        return self._chain_of_mount(mount) if mount is not None and mount is not outside else []

    def _is_below(self, path: str) -> bool:
        """Is it the own mount point, or below it by its name?"""
        return self._own_point is not None and f"{path}/".startswith(f"{self._own_point}/")

    def chain_of_path(self, path: str) -> list[str]:
        """What ``path`` leads through to the own mount, itself first; empty where it does not lead there."""
        found = self.resolve(path)
        if found.chain:
            return [found.path] if self._is_below(found.path) else [found.path, *found.chain]
        if found.status is None or not stat.S_ISBLK(found.status.st_mode):
            return []
        return self.chain_of_device(number_of(found.status.st_rdev))

    def chain_of_device(self, number: str) -> list[str]:
        """The same; the device is called by its kernel name."""
        block = self._machine.block(number)
        return [] if block is None else self._chain_of_block(block)

    def _chain_of_block(self, block: Block) -> list[str]:
        if block.number not in self._known:
            self._known[block.number] = []  # who comes by again on the way goes in a circle
            below = next(filter(None, map(self._chain_of_block, block.lies_on)), [])
            if not below and (path := block.backing_file) is not None:
                below = self.chain_of_path(path)
            self._known[block.number] = [f"/dev/{block.name}", *below] if below else []
        return self._known[block.number]

    def _chain_of_mount(self, mount: Mount) -> list[str]:
        """What a file system lies on; the own one is its own chain."""
        if mount.device in self._own_devices:
            return [self._own_point or mount.point]
        if not mount.device.startswith("0:"):
            return self.chain_of_device(mount.device)
        key = f"mount {mount.number}"
        if key not in self._known:
            self._known[key] = []
            self._known[key] = next(filter(None, map(self._chain_of_source, mount.lies_on)), [])
        return self._known[key]

    def _chain_of_source(self, path: str) -> list[str]:
        """Of what a mount names: a path, or a device whose pool has others."""
        chain = self.chain_of_path(path)
        if chain:
            return chain
        status = self.resolve(path).status
        if status is None or not stat.S_ISBLK(status.st_mode):
            return []
        block = self._machine.block(number_of(status.st_rdev))
        return next(filter(None, map(self._chain_of_block, self._machine.pooled_with(block))), []) if block else []


def leads_to(path: str, mount: str, machine: Machine | None = None) -> str | None:
    """How ``path`` (absolute) leads back to what is mounted on ``mount``, in words; None where it does not.

    Nothing that lies there is opened or even looked at. OSError where the path cannot be followed.
    """
    chain = Trail(machine or Machine(), mount).chain_of_path(path)
    return in_words(chain) if chain else None


def in_words(chain: list[str]) -> str:
    names = [printable(name) for name in chain]
    if len(names) == 1:
        return f"{names[0]} lies in fmrd's own mount"
    return f"it leads back to fmrd's own mount: {', which lies on '.join(names)}"
