"""May this process have a ring, and if not, why? The kernel may lack it, and an administrator may have forbidden it."""

import errno
from pathlib import Path

from fmrd.backing.ring import abi
from fmrd.backing.ring.ring import Ring

SWITCH = Path("/proc/sys/kernel/io_uring_disabled")
"""1: for all but a group and the privileged; 2: for everybody (from Linux 6.6 on)."""
_NAMES = {abi.READ: "read", abi.WRITE: "write", abi.FSYNC: "fsync"}


def open_ring(entries: int = 256) -> Ring | str:
    """A ring, or one sentence that says why there is none."""
    try:
        ring = Ring(entries)
    except OSError as error:
        return _reason(error)
    try:
        known = abi.operations(ring.fileno())
    except OSError as error:
        ring.close()
        return f"io_uring does not say what it can do: {error.strerror}"
    if missing := sorted(name for number, name in _NAMES.items() if number not in known):
        ring.close()
        return f"io_uring of this kernel cannot {', '.join(missing)}"
    return ring


def _reason(error: OSError) -> str:
    if error.errno == errno.EPERM:
        switch = _switch()
        if switch != "0":
            return f"io_uring is switched off (kernel.io_uring_disabled = {switch})"
        return "io_uring is not permitted to this process (seccomp, as in many containers, or a security module)"
    if error.errno == errno.ENOMEM:
        return "io_uring has no memory: RLIMIT_MEMLOCK or the memory limit of the control group is too low"
    if error.errno == errno.ENOSYS:
        return "this kernel has no io_uring, or one from before Linux 5.15"
    return f"io_uring cannot be set up: {error.strerror}"


def _switch() -> str:
    try:
        return SWITCH.read_text().strip()
    except OSError:
        return "0"
