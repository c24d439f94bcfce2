"""The mounts of this process, from /proc/self/mountinfo; nothing is asked of the file systems themselves.

stat() and open() may wait for whoever serves a file system, and that may be the caller. What is mounted where, the
kernel tells without asking them.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """A line of mountinfo. ``device`` is "major:minor"; a major of 0 is a file system without a device of its own."""

    number: int
    parent: int
    device: str
    root: str
    point: str
    type: str
    source: str
    options: str

    @property
    def lies_on(self) -> list[str]:
        """Paths it says it lies on, where its device does not tell: the source, an overlay's layers."""
        if self.type == "overlay":
            words = [word.partition("=") for word in self.options.split(",")]
            layers = [value for key, _, value in words if key in ("upperdir", "workdir", "lowerdir")]
            return [path for layer in layers for path in layer.split(":") if path.startswith("/")]
        sources = self.source.split(":") if self.type == "bcachefs" else [self.source]
        return [path for path in sources if path.startswith("/")]


class Mounts:
    """All of them, in the kernel's order."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self.all = [mount for line in lines if (mount := parse(line)) is not None]
        numbers = {mount.number for mount in self.all}
        self._children: dict[tuple[int, str], Mount] = {}
        roots = []
        for mount in self.all:
            if mount.parent in numbers and mount.parent != mount.number:
                self._children[mount.parent, mount.point] = mount
            elif mount.point == "/":
                roots.append(mount)
        self.root = self.entered(roots[-1], "/") if roots else None

    def entered(self, here: Mount | None, path: str) -> Mount | None:
        """The mount that ``path`` lies in, whose directory lies in ``here``: another one where something is mounted
        on it. None where mountinfo does not tell (a changed root).
        """
        if here is None:
            return next((mount for mount in reversed(self.all) if mount.point == path), None)
        while (above := self._children.get((here.number, path))) is not None:
            here = above
        return here

    def holding(self, path: str) -> Mount | None:
        """The mount that a path without links lies in."""
        here, at = self.root, ""
        for part in path.split("/")[1:]:
            at += f"/{part}"
            here = self.entered(here, at)
        return here


def parse(line: bytes) -> Mount | None:
    """None for what is no line of mountinfo."""
    front, mark, back = line.rstrip(b"\n").partition(b" - ")
    words, behind = front.split(b" "), back.split(b" ")
    if not mark or len(words) < 6 or len(behind) < 3:
        return None
    return Mount(
        int(words[0]), int(words[1]), words[2].decode(), unescaped(words[3]), unescaped(words[4]),
        behind[0].decode(), unescaped(behind[1]), unescaped(b" ".join(behind[2:])),
    )  # fmt: skip


def unescaped(word: bytes) -> str:
    """The kernel writes blanks, line ends and backslashes in octal."""
    return os.fsdecode(_OCTAL.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), word))
