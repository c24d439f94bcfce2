"""Directories that are fmrd's own: nobody else looks into them, whatever the umask."""

import logging
import os
import stat
from collections.abc import Collection
from pathlib import Path

from fmrd.backing.plexfile import sync_directory

log = logging.getLogger(__name__)

MODE = 0o700
_OTHERS = 0o077


def make(path: Path) -> None:
    """The directory, and the parents that are missing, durably: what is promised below would be lost with a name. What
    is there stays as it is. OSError says what cannot be.
    """
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for each in reversed(missing):
        each.mkdir(mode=MODE, exist_ok=True)
        each.chmod(MODE)  # a umask can take away, and from the owner too
        sync_directory(str(each))
    if not path.is_dir():
        raise NotADirectoryError(f"{path} is not a directory")


def mend(path: Path, *, but_for: Collection[str] | None = None) -> None:
    """Others may look into a directory that was made by an older fmrd, or by hand: no longer, and that is told. With
    ``but_for`` it is left alone, and told, where it holds anything else: it is not fmrd's alone, /tmp for one.
    """
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    if not mode & _OTHERS:
        return
    if status.st_uid != os.geteuid() or (but_for is not None and not set(os.listdir(path)) <= set(but_for)):
        log.warning("%s is open to others (mode %04o), and holds more than fmrd's own: left as it is", path, mode)
        return
    path.chmod(mode & ~_OTHERS)
    log.warning("%s was open to others (mode %04o): that is over", path, mode)
