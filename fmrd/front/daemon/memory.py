"""The daemon's memory: a daemon under a loop device must not wait for what only its own writes can free, and should not
spend its time on searching for garbage.
"""

import ctypes
import gc
import logging
import os
import resource

log = logging.getLogger(__name__)

PR_SET_IO_FLUSHER = 57
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4
CAP_IPC_LOCK = 14
MADE = 10_000
"""Python searches young objects for cycles once so many more were made than have gone: requests under way are fewer,
mostly.
"""
_libc = ctypes.CDLL(None, use_errno=True)


def prepare_memory() -> None:
    """Of the daemon, when all is imported and before it serves."""
    stay_out_of_memory_pressure()
    collect_rarely()


def collect_rarely() -> None:
    """Leave what is there now out of every search for cycles of garbage, and search more rarely.

    As it comes, Python searches after 700 objects. A write under way is some thirty, none of them in a cycle, so that
    32 at once set it off again and again, and now and then it went through all that was ever imported.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(MADE, *gc.get_threshold()[1:])


def stay_out_of_memory_pressure() -> None:
    """Mark the process as one that flushes I/O, and lock its memory, as far as it is allowed; what is not is logged."""
    if _libc.prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0:
        log.info("not marked as an I/O flusher (%s): avoid swap on volumes", os.strerror(ctypes.get_errno()))
    if not _may_lock():
        log.info("memory is not locked: neither CAP_IPC_LOCK nor an unlimited RLIMIT_MEMLOCK")
    elif _libc.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0:
        log.info("memory is not locked: %s", os.strerror(ctypes.get_errno()))


def _may_lock() -> bool:
    """Under a limit, locking succeeds now and the next thread's stack fails: then better not at all."""
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        return True
    with open("/proc/self/status") as status:
        effective = next((line.split()[1] for line in status if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) >> CAP_IPC_LOCK & 1)
