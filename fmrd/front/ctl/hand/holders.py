"""Who has a volume open: loop devices, what is mounted on them, programs. Looked up by fmrctl, which may wait."""

import contextlib
import os
from collections.abc import Iterator, Set
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
    """Return a word for each who has the file open: ``/dev/loop0, mounted on /srv/data, used by process 123 (rsync)``,
    ``process 123 (rsync)``.
    """
    points = mounted()
    everywhere = {point for each in points.values() for point in each}
    users = list(_processes())
    found = []
    for loop in loops_on(path):
        where = list(dict.fromkeys(point for key in loop.keys for point in points.get(key, [])))
        on = f", mounted on {' and '.join(map(printable, where[:MOST_NAMED]))}" if where else ""
        by = [user.name for user in users if where and user.is_below(set(where), everywhere)]
        found.append(f"{loop.device}{on}{f', used by {_some(by)}' if by else ''}")
    found += [user.name for user in users if path in user.links]
    more = len(found) - MOST_NAMED
    return found if more <= 0 else [*found[:MOST_NAMED], f"{more} more"]


def _some(names: list[str]) -> str:
    more = [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return " and ".join([*names[:MOST_NAMED], *more])


def mounted() -> dict[str, list[str]]:
    """Device number, or its path below /dev (btrfs has numbers of its own) -> where it is mounted."""
    found: dict[str, list[str]] = {}
    for mount in Mounts((PROC / "self" / "mountinfo").read_bytes().splitlines()).all:
        for key in {mount.device, mount.source}:
            found.setdefault(key, []).append(mount.point)
    return found


@dataclass(frozen=True)
class User:
    """A process, and all that it has open, its working directory and its program: paths as it sees them."""

    name: str
    links: frozenset[str]

    def is_below(self, points: Set[str], everywhere: Set[str]) -> bool:
        """Tell whether something of it lies on what is mounted at one of ``points``, and not on what is mounted further
        down; ``everywhere`` is where anything is.
        """
        return any(_point_of(link, everywhere) in points for link in self.links)


def _point_of(link: str, everywhere: Set[str]) -> str:
    """Return where that is mounted on which a path lies; '' for what is no path."""
    while link.startswith("/"):
        if link in everywhere or link == "/":
            return link
        link = os.path.dirname(link)
    return ""


def _processes() -> Iterator[User]:
    """All of them; what others have open only root may see. Nothing is opened or asked there: that could hang."""
    for directory in PROC.glob("[0-9]*"):
        links = frozenset(_links_of(directory))
        if links:
            yield User(f"process {directory.name} ({printable(_text(directory / 'comm'), 32)})", links)


def _links_of(directory: Path) -> Iterator[str]:
    for name in ("cwd", "root", "exe"):
        with contextlib.suppress(OSError):  # it is gone, or somebody else's
            yield os.readlink(directory / name)
    with contextlib.suppress(OSError):
        for entry in (directory / "fd").iterdir():
            with contextlib.suppress(OSError):  # that descriptor is closed already
                yield os.readlink(entry)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
