"""The disk below a file or a device: which one it is, and what it asks of writers."""

import contextlib
import os
import re
import stat

NO_WAIT_FOR_A_THAW = (6, 12)
"""The first kernel in which a write that must not wait does not wait for a frozen file system either (io_uring)."""


def never_waits(device: int) -> bool:
    """Tell whether a write that must not wait never does, of a file system there that can tell."""
    version = tuple(int(each) for each in re.findall(r"\d+", os.uname().release)[:2])
    return version >= NO_WAIT_FOR_A_THAW and not keeps_pages_stable(device)


def keeps_pages_stable(device: int) -> bool:
    """Tell whether a page on its way to this disk must not change (checksums below the file system): then a write waits
    for the disk also where it was asked not to. Of what has no disk of its own (btrfs) False.
    """
    for attribute in ("queue", "../queue"):  # of the device, or of the one that it is a partition of
        with (
            contextlib.suppress(OSError),
            open(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/{attribute}/stable_writes") as file,
        ):
            return file.read().strip() != "0"
    return False


def disk_of(status: os.stat_result) -> str:
    """Return the whole disk behind a file's file system or a device, by its kernel name where there is one: through
    partitions, loop devices, and device-mapper targets that lie on a single device.
    """
    device = status.st_rdev if stat.S_ISBLK(status.st_mode) else status.st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        where = os.path.realpath(f"/sys/dev/block/{number}", strict=True)
    except OSError:
        return f"dev:{number}"
    if os.path.exists(os.path.join(where, "partition")):
        where = os.path.dirname(where)
    with contextlib.suppress(OSError):
        below = os.listdir(os.path.join(where, "slaves"))
        if len(below) == 1:
            return disk_of(os.stat(f"/dev/{below[0]}"))
        with open(os.path.join(where, "loop", "backing_file")) as file:
            return disk_of(os.stat(file.read().rstrip("\n")))
    return os.path.basename(where)
