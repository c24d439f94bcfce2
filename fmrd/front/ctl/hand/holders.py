"""Who has a volume open: loop devices, what is mounted on them, programs. Looked up by fmrctl, which may wait."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fmrd.backing.looking.mounts import Mounts
from fmrd.core.printable import printable

SYS_BLOCK = Path("/sys/block")
PROC = Path("/proc")
MOST_NAMED = 5


@dataclass(frozen=True)
class Loop:
    """A loop device on a volume's file."""

    name: str
    keys: tuple[str, ...]
    """Numbers and paths of the device and its partitions, as ``7:0`` and ``/dev/loop0``."""
    read_only: bool = False
    whole: bool = True
    """It shows all of the file, not what lies behind an offset."""

    @property
    def device(self) -> str:
        return f"/dev/{self.name}"


def loops_on(path: str) -> list[Loop]:
    """Return the loop devices on that file, as the kernel names it."""
    wanted = os.path.realpath(os.path.dirname(path)) + "/" + os.path.basename(path)
    found = []
    for entry in sorted(SYS_BLOCK.glob("loop*"), key=lambda each: (len(each.name), each.name)):
        if _text(entry / "loop" / "backing_file") == wanted:
            parts = [entry, *sorted(entry.glob(f"{entry.name}p*"))]
            keys = [key for part in parts for key in (_text(part / "dev"), f"/dev/{part.name}")]
            part = {_text(entry / "loop" / name) for name in ("offset", "sizelimit")}
            found.append(Loop(entry.name, tuple(keys), _text(entry / "ro") == "1", part <= {"0", ""}))
    return found


def holders(path: str) -> list[str]:
    """Return a word for each who has the file open: ``/dev/loop0, mounted on /srv/data``, ``process 123 (rsync)``."""
    points = mounted()
    found = []
    for loop in loops_on(path):
        where = list(dict.fromkeys(point for key in loop.keys for point in points.get(key, [])))
        on = f", mounted on {' and '.join(map(printable, where[:MOST_NAMED]))}" if where else ""
        found.append(f"{loop.device}{on}")
    found += [f"process {number} ({name})" for number, name in _processes(path)]
    more = len(found) - MOST_NAMED
    return found if more <= 0 else [*found[:MOST_NAMED], f"{more} more"]


def mounted() -> dict[str, list[str]]:
    """Device number, or its path below /dev (btrfs has numbers of its own) -> where it is mounted."""
    found: dict[str, list[str]] = {}
    for mount in Mounts((PROC / "self" / "mountinfo").read_bytes().splitlines()).all:
        for key in {mount.device, mount.source}:
            found.setdefault(key, []).append(mount.point)
    return found


def _processes(path: str) -> Iterator[tuple[int, str]]:
    """Those that have it open themselves; others' descriptors only root may see."""
    for directory in PROC.glob("[0-9]*/fd"):
        if path in _links_in(directory):
            yield int(directory.parent.name), printable(_text(directory.parent / "comm"), 32)


def _links_in(directory: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for entry in directory.iterdir():
            with contextlib.suppress(OSError):  # that descriptor is closed already
                yield os.readlink(entry)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
