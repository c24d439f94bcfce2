"""A plex has data and holes; this module finds them, and makes zeros of a range."""

import errno
import os

from fmrd.backing import libc
from fmrd.backing.descriptor import Descriptor

_ZEROS = memoryview(bytes(1 << 16))
_CANNOT = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV})


def segments(plex: Descriptor, start: int, stop: int) -> list[tuple[int, int, bool]]:
    """Return (start, stop, whether it is data) over a range. A block device, or a file system that cannot say, has no
    holes.

    The last stretch of data is remembered in ``plex.known_data``: tmpfs looks at every page up to the next hole, which
    for one region of a large file took 300 times as long as its copy. Data that became a hole since is copied as zeros.
    """
    if plex.is_block:
        return [(start, stop, True)]
    found: list[tuple[int, int, bool]] = []
    at = start
    while at < stop:
        try:
            data = min(os.lseek(plex.fd, at, os.SEEK_DATA), stop)
        except OSError as error:
            if error.errno != errno.ENXIO:
                return [*found, (at, stop, True)]
            data = stop
        if data > at:
            found.append((at, data, False))
        if data < stop:
            hole = os.lseek(plex.fd, data, os.SEEK_HOLE)
            plex.known_data = (data, hole)
            at = min(hole, stop)
            found.append((data, at, True))
        else:
            at = stop
    return found


def make_zero(plex: Descriptor, start: int, stop: int, *, punch: bool) -> int:
    """Make zeros: a hole where one can be (``punch``), else blocks that read as zeros, else written ones. Return the
    bytes that were written.
    """
    plex.known_data = (0, 0)
    mode = libc.PUNCH_HOLE if punch else libc.ZERO_RANGE
    try:
        plex.fallocate(mode | libc.KEEP_SIZE, start, stop - start)
        return 0
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    for at in range(start, stop, len(_ZEROS)):
        plex.pwrite(at, _ZEROS[: min(len(_ZEROS), stop - at)])
    return stop - start


def is_hole(descriptor: int) -> bool:
    """Does a file have no data at all? A file system that cannot tell says that all of it is data."""
    if os.fstat(descriptor).st_size == 0:
        return True
    try:
        os.lseek(descriptor, 0, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return True
        if error.errno != errno.EINVAL:
            raise
    return False
