"""Whether a program may be run, or a file that names some may be heeded: nobody but root, or the own user, could have
put it there.
"""

import os
import stat
from pathlib import Path


def why_not(path: Path) -> str | None:
    """Return why a hook is not run, or None where it may be. All of it is looked at: the file, and each directory on
    the way to it, after every link.
    """
    try:
        real = Path(os.path.realpath(path, strict=True))
        status = real.stat()
        why = whose(path)
    except OSError as error:  # whoever installs a new one takes the old one away at any moment
        return f"is not run: {error.strerror}"
    if not stat.S_ISREG(status.st_mode):
        return "is not run: it is no file"
    if not status.st_mode & stat.S_IXUSR:
        return f"is not run: it is not executable (chmod 755 {path})"
    return None if why is None else f"is not run: {why}"


def whose(path: Path) -> str | None:
    """Return who else could have written a file, or put it there, as a sentence; None for nobody. OSError."""
    real = Path(os.path.realpath(path, strict=True))
    return next(filter(None, list(map(_open_to_others, (real, *real.parents, path.parent)))), None)


def _open_to_others(path: Path) -> str | None:
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid not in (0, os.geteuid()):
        return f"{path} belongs to user {status.st_uid}, neither root nor fmrd's own"
    sticky = stat.S_ISDIR(status.st_mode) and mode & stat.S_ISVTX  # what is ours there, others cannot replace
    if mode & 0o022 and not sticky:
        return f"others may write {path} (mode {mode:04o}: chmod go-w)"
    return None
