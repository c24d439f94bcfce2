"""A machine made of files, as the kernel would show it: sysfs and proc of disks, arrays and mappings that nobody has.

Device nodes are real ones (so they need root), of numbers that no driver has: whoever opened one would be told so.
"""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fmrd.backing.looking.machine import Machine

MAJOR = 240
"""Reserved for local use."""


@dataclass
class FakeMachine:
    root: Path
    _mounts: list[str] = field(default_factory=list)
    _points: list[str] = field(default_factory=list)
    _locks: list[str] = field(default_factory=list)
    _devices: int = 0

    def __post_init__(self) -> None:
        for folder in ("sys/block", "sys/dev/block", "sys/fs/btrfs", "proc/self", "dev"):
            (self.root / folder).mkdir(parents=True)
        self.swaps()
        self.mount("/", device="254:0", type="ext4", source="/dev/root")
        self.mount(str(self.root / "dev"), device="0:6", type="devtmpfs", source="devtmpfs")

    @property
    def machine(self) -> Machine:
        """As it is now."""
        return Machine(self.root / "sys", self.root / "proc", self.root / "dev")

    def disk(
        self, name: str, *, of: str = "", on: tuple[str, ...] = (), backing: str = "",
        mapper: tuple[str, str] = ("", ""), level: str = "",
    ) -> str:  # fmt: skip
        """A block device; returns its number. ``of``: the disk that it is a partition of; ``on``: what it is made of;
        ``mapper``: its name and uuid; ``level``: of an array.
        """
        directory = self.root / "sys" / "devices" / of / name
        directory.mkdir(parents=True)
        number, self._devices = f"{MAJOR}:{self._devices}", self._devices + 1
        (directory / "dev").write_text(number + "\n")
        (self.root / "sys" / "dev" / "block" / number).symlink_to(directory)
        (directory / "holders").mkdir()
        if of:
            (directory / "partition").write_text("1\n")
        else:
            (directory / "slaves").mkdir()
            (self.root / "sys" / "block" / name).symlink_to(directory)
        for each in on:
            below = next((self.root / "sys" / "devices").rglob(f"{each}/dev")).parent
            (directory / "slaves" / each).symlink_to(below)
            (below / "holders" / name).symlink_to(directory)
        contents = {"loop/backing_file": backing, "md/level": level, "dm/name": mapper[0], "dm/uuid": mapper[1]}
        for file, text in contents.items():
            if text:
                (directory / file).parent.mkdir(exist_ok=True)
                (directory / file).write_text(text + "\n")
        return number

    def node(self, name: str, number: str) -> str:
        """Its path in /dev."""
        if os.geteuid():
            pytest.skip("needs root, to make device nodes")
        major, minor = map(int, number.split(":"))
        path = self.root / "dev" / name
        os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(major, minor))
        return str(path)

    def mount(self, point: str, *, device: str, type: str, source: str, root: str = "/", options: str = "rw") -> None:
        """On top of what is mounted already."""
        number = 20 + len(self._mounts)
        below = [n for n, where in enumerate(self._points, 20) if f"{point}/".startswith(f"{where.rstrip('/')}/")]
        parent = below[-1] if below else 1
        self._points.append(point)
        self._mounts.append(f"{number} {parent} {device} {root} {point} rw shared:1 - {type} {source} {options}")
        (self.root / "proc" / "self" / "mountinfo").write_text("\n".join(self._mounts) + "\n")

    def swaps(self, *paths: str) -> None:
        lines = ["Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority", *(f"{path} partition 1 0 -2" for path in paths)]
        (self.root / "proc" / "swaps").write_text("\n".join(lines) + "\n")

    def lock(self, line: str) -> None:
        self._locks.append(line)
        (self.root / "proc" / "locks").write_text("\n".join(self._locks) + "\n")

    def pool(self, uuid: str, *names: str) -> None:
        """A mounted btrfs over these."""
        devices = self.root / "sys" / "fs" / "btrfs" / uuid / "devices"
        devices.mkdir(parents=True)
        for name in names:
            (devices / name).symlink_to(self.root / "sys" / "devices" / name)
