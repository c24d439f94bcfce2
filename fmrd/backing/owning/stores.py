"""Directories that snapshots share, and the file in the state directory that remembers them."""

import contextlib
import errno
import os
import stat
from pathlib import Path

from fmrd.backing import libc, private
from fmrd.backing.plexfile import sync_directory
from fmrd.errors import Refused

NAME = "stores"
NEW = "stores.new"
"""The next one, before it counts."""
MOST_BYTES = 1 << 20
"""More is not read: whoever decodes it refuses that."""
_TRIED_BYTES = 64 << 10
_OTHERS_WRITE = 0o022


def read(state: Path) -> bytes | None:
    """As protocol.Host.read_stores."""
    try:
        descriptor = os.open(state / NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:
        return file.read(MOST_BYTES + 1)


def write(state: Path, data: bytes) -> None:
    """As protocol.Host.write_stores."""
    new = state / NEW
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, state / NAME)
    sync_directory(str(state / NAME))


def prepare(directory: str, *, make: bool = True) -> None:
    """As protocol.Host.prepare_store."""
    path = Path(directory)
    made = False
    for each in (*reversed(path.parents), path):
        if not made and not os.path.lexists(each):
            if not make:
                return
            made = True
        if made:  # below what nobody else may touch, or first: what others made there meanwhile is an error
            each.mkdir(mode=private.MODE)
            each.chmod(private.MODE)  # a umask can take away, and from the owner too
            sync_directory(str(each))
        _must_be_safe(each, last=each == path)
    if make:
        _try_punching(directory)


def _must_be_safe(path: Path, *, last: bool) -> None:
    """Refused('refused_unsafe') where others may put something in the place of what lies in that directory. In one for
    all, as /tmp, nobody moves what is not theirs; a store itself (``last``) is none.
    """
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        raise Refused("refused_unsafe", f"{path} leads elsewhere: {os.path.realpath(path)}", "name that")
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    mode, ours = stat.S_IMODE(status.st_mode), status.st_uid in (0, os.geteuid())
    if ours and not mode & (_OTHERS_WRITE if last else stat.S_IWOTH):
        return
    if ours and not last and mode & stat.S_ISVTX:
        return
    who = f"has mode {mode:04o}" if ours else "belongs to somebody else"
    raise Refused(
        "refused_unsafe", f"{path} {who}: others may put something in the place of its files",
        f"a directory of fmrd's own, with mode 0700: chmod go-w {path}",
    )  # fmt: skip


def _try_punching(directory: str) -> None:
    """What is given up must leave room for others. Nothing is left of the attempt."""
    try:
        descriptor = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OSError(error.errno, f"no file can be made there to try: {os.strerror(error.errno or 0)}") from error
    try:
        os.pwrite(descriptor, b"\1" * _TRIED_BYTES, 0)
        libc.fallocate(descriptor, libc.PUNCH_HOLE | libc.KEEP_SIZE, 0, _TRIED_BYTES)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise OSError(error.errno, "its file system cannot give room back (punch holes)") from error
        raise
    finally:
        os.close(descriptor)


def files(directory: str) -> dict[str, int]:
    """As protocol.Host.store_files."""
    found = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # it went just now
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    found[entry.path] = status.st_blocks * 512
    return found
