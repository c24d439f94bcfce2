"""Where fmrd-vx makes plexes: VxVM takes space from the disks of a group, fmrd is told paths.

They are given by ``-o fmrd_paths=PATH,PATH...``, by the names of disks behind the volume's, or found: a file in a
directory of ``[vx.disks]`` (fmrd.conf) on which nothing of the volume lies yet, for a mirror on the same disk is none.
"""

import os
from collections.abc import Mapping, Sequence
from itertools import count

from fmrd.core.json_object import Json
from fmrd.errors import BadRequest, Failed
from fmrd.front.ctl import words
from fmrd.front.vx.typed import Typed

SUFFIX = ".plex"


def new_paths(typed: Typed, disks: Mapping[str, str], volume: str, named: Sequence[str], many: int,
              taken: Sequence[Json] = ()) -> list[str]:  # fmt: skip
    """Return ``many`` paths for new plexes of a volume. ``named``: disks, or paths of files or devices, as typed;
    ``taken``: its plexes, and those of its snapshots. BadRequest('bad_request'), Failed('no_disk').
    """
    given = [path for path in typed.options.get("fmrd_paths", "").split(",") if path]
    if given:
        if named or len(given) != many:
            raise BadRequest("bad_request", f"{typed.name}: {many} plex(es) are made, and {len(given)} path(s) given")
        return [words.path(path) for path in given]
    if named:
        if len(named) < many:
            raise Failed("no_disk", f"{typed.name}: {many} plex(es) want as many disks, {len(named)} named")
        return _all_on(disks, volume, named[:many])
    used = {os.path.dirname(plex["path"]) for plex in taken}
    free = [name for name, folder in disks.items() if os.path.normpath(folder) not in used]
    if len(free) < many:
        raise Failed(
            "no_disk",
            f"{typed.name}: {many} plex(es) want as many disks on which nothing of volume {volume} lies, and "
            f"[vx.disks] has {len(free)} of {len(disks)}",
            "-o fmrd_paths=PATH,PATH... names files or devices",
        )
    return _all_on(disks, volume, free[:many])


def disk_of(disks: Mapping[str, str], path: str) -> str:
    """Return the name of the disk that a plex lies on, '-' where the file of settings names none."""
    folder = os.path.dirname(path)
    return next((name for name, place in disks.items() if os.path.normpath(place) == folder), "-")


def _all_on(disks: Mapping[str, str], volume: str, wanted: Sequence[str]) -> list[str]:
    found: list[str] = []
    for disk in wanted:
        found.append(_on(disks, volume, disk, found))
    return found


def _on(disks: Mapping[str, str], volume: str, disk: str, before: Sequence[str]) -> str:
    """Where a new plex comes on a disk; its number is one that no file of this volume has on any disk."""
    if "/" in disk:
        return words.path(disk)
    if disk not in disks:
        known = ", ".join(disks) or "none"
        raise Failed("no_disk", f"there is no disk {disk} in [vx.disks] ({known})", "name a path, with a /")
    everywhere = [os.path.normpath(folder) for folder in disks.values()]
    for number in count(1):
        name = f"{volume}-{number:02d}{SUFFIX}"
        if not any(f"{folder}/{name}" in before or os.path.lexists(f"{folder}/{name}") for folder in everywhere):
            break
    return f"{os.path.normpath(disks[disk])}/{name}"
