"""What the kernel tells of its block devices, swap areas and locks, in sysfs and proc. No device is opened for it."""

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fmrd.backing.looking.mounts import Mounts, unescaped

_FSID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Block:
    """A block device, whole or a partition, by its directory in sysfs. ``number``: "major:minor"."""

    number: str
    directory: Path

    @property
    def name(self) -> str:
        """The kernel's, as in /dev. In sysfs a '/' in it is a '!'."""
        return self.directory.name.replace("!", "/")

    @property
    def is_partition(self) -> bool:
        return (self.directory / "partition").exists()

    @property
    def disk(self) -> "Block":
        """Itself, or the disk that it is a partition of."""
        if not self.is_partition:
            return self
        whole = self.directory.parent
        return Block(_word(whole / "dev"), whole)

    @property
    def partitions(self) -> list["Block"]:
        return [Block(_word(p.parent / "dev"), p.parent) for p in sorted(self.directory.glob("*/partition"))]

    @property
    def holders(self) -> list["Block"]:
        return self._named("holders")

    @property
    def lies_on(self) -> list["Block"]:
        """The devices that this one is made of: its disk, an array's members, what a mapping points to."""
        return ([self.disk] if self.is_partition else []) + self._named("slaves")

    def _named(self, folder: str) -> list["Block"]:
        try:
            names = sorted(os.listdir(self.directory / folder))
        except OSError:
            return []
        found = [Path(os.path.realpath(self.directory / folder / name)) for name in names]
        return [Block(_word(each / "dev"), each) for each in found]

    @property
    def backing_file(self) -> str | None:
        """Of a loop device, or of a zram device that writes back: a path, as the kernel knows it now; of a file
        that was deleted it ends with " (deleted)".
        """
        for name in ("loop/backing_file", "backing_dev"):
            with contextlib.suppress(OSError):
                text = os.fsdecode((self.directory / name).read_bytes()).removesuffix("\n")
                if text.startswith("/"):
                    return text
        return None

    @property
    def mapper_name(self) -> str:
        return _word(self.directory / "dm" / "name")

    @property
    def mapper_uuid(self) -> str:
        """It begins with whose it is: LVM-, CRYPT-, mpath-, part1-mpath-."""
        return _word(self.directory / "dm" / "uuid")

    @property
    def raid_level(self) -> str:
        """raid1, linear...; empty where it is no array of md."""
        return _word(self.directory / "md" / "level")


class Machine:
    """The roots can be others in a test. What changes from one moment to the next is read once in the life of one."""

    def __init__(self, sys: Path = Path("/sys"), proc: Path = Path("/proc"), dev: Path = Path("/dev")) -> None:
        self.sys, self.proc, self.dev = sys, proc, dev

    @cached_property
    def mounts(self) -> Mounts:
        return Mounts((self.proc / "self" / "mountinfo").read_bytes().split(b"\n"))

    def block(self, number: str) -> Block | None:
        """None where there is no such device (or no sysfs)."""
        directory = self.sys / "dev" / "block" / number
        return Block(number, Path(os.path.realpath(directory))) if directory.exists() else None

    @cached_property
    def swaps(self) -> list[str]:
        """The paths of swap areas in use, devices and files."""
        try:
            lines = (self.proc / "swaps").read_bytes().splitlines()[1:]
        except FileNotFoundError:  # a kernel without swap
            return []
        return [unescaped(line.split()[0]) for line in lines if line.strip()]

    @cached_property
    def loops(self) -> list[tuple[Block, str]]:
        """Every loop device that has something, and the path of what it has."""
        found = []
        for directory in sorted((self.sys / "block").glob("loop*")):
            block = Block(_word(directory / "dev"), Path(os.path.realpath(directory)))
            if (path := block.backing_file) is not None:
                found.append((block, path))
        return found

    def pooled_with(self, block: Block) -> list[Block]:
        """All devices of the mounted btrfs that this one belongs to: their numbers are not those of their mounts."""
        with contextlib.suppress(OSError):
            for pool in sorted((self.sys / "fs" / "btrfs").iterdir()):
                devices = pool / "devices"
                if _FSID.fullmatch(pool.name) and (devices / block.directory.name).exists():
                    found = [Path(os.path.realpath(each)) for each in sorted(devices.iterdir())]
                    return [Block(_word(each / "dev"), each) for each in found]
        return []

    def lock_holders(self, device: str, inode: int) -> Iterator[int]:
        """The processes (0 where it is not told) that hold a lock on a file; without taking one, which could turn away
        somebody who wants to at that moment.
        """
        major, minor = map(int, device.split(":"))
        wanted = f"{major:02x}:{minor:02x}:{inode}"
        try:
            lines = (self.proc / "locks").read_text().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            words = line.split()
            if len(words) >= 6 and words[1] in ("FLOCK", "POSIX", "OFDLCK") and words[5] == wanted:
                yield max(0, int(words[4]))


def number_of(device: int) -> str:
    """ "major:minor" of an st_dev or st_rdev."""
    return f"{os.major(device)}:{os.minor(device)}"


def is_block(status: os.stat_result) -> bool:
    return stat.S_ISBLK(status.st_mode)


def _word(path: Path) -> str:
    """The content of a file of sysfs; empty where there is none."""
    try:
        return os.fsdecode(path.read_bytes()).strip()
    except OSError:
        return ""
