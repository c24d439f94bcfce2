"""fmrd --keeper where whoever starts it keeps descriptors itself (systemd): a process that can always end.

systemd learns of a service's end when the last thread of its main process has gone, and one that waits for a disk does
not go, whatever ended fmrd. So fmrd is the child of this process: it speaks with systemd directly, and has what systemd
kept for it. Signals are passed on to it; this one ends as it did, waits for nothing that hangs, and takes it with it
when it is killed itself. The standard library only, one thread, no descriptor of the mount.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from fmrd.backing.owning.under_way import has_ended

FIRST_DESCRIPTOR = 3
LOOK_SECONDS, LEFT_LOOKS = 0.5, 2
"""How often the child is looked at, and how often it may be found ended before its last threads count as hung."""
_PR_SET_PDEATHSIG = 1
_PASSED_ON = (signal.SIGTERM, signal.SIGINT)


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Does whoever started this process have a descriptor store?"""
    return bool(environment.get("NOTIFY_SOCKET")) and environment.get("FDSTORE", "0") != "0"


def say(text: str) -> None:
    """Tell it without waiting: what standard error does not take now is dropped. A pipe with room takes a line
    whole.
    """
    with contextlib.suppress(OSError, ValueError):
        descriptor = sys.stderr.fileno()
        if select.select([], [descriptor], [], 0)[1]:
            os.write(descriptor, f"fmrd keeper: {text}\n".encode()[: select.PIPE_BUF])


def run(command: Sequence[str]) -> int:
    """Run ``command`` as the child until it has ended; return an exit status."""
    handed = int(os.environ.get("LISTEN_FDS", "0")) if os.environ.get("LISTEN_PID") == str(os.getpid()) else 0
    signals, wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    for number in (*_PASSED_ON, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _become(command, parent, handed)
    os.closerange(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + handed)  # they end when the child, or systemd, lets go of them
    looks, told = 0, False
    while True:
        select.select([signals], [], [], LOOK_SECONDS)
        told = _pass_on(signals, child) or told
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        looks = looks + 1 if has_ended(child) else 0
        if looks > LEFT_LOOKS:
            say(f"process {child} has ended but for calls that hang on a disk: it is left behind")
            return 0 if told else 128 + signal.SIGKILL


def _become(command: Sequence[str], parent: int, handed: int) -> NoReturn:
    try:
        os.setpgid(0, 0)  # a terminal's Ctrl-C is passed on, and twice means at once
        signal.set_wakeup_fd(-1)
        for number in (*_PASSED_ON, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        # It would serve on beside the next one, and keep that from its state directory.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == parent:
            os.execve(command[0], [*command], os.environ | ({"LISTEN_PID": str(os.getpid())} if handed else {}))
    except OSError as error:
        say(f"{command[0]} cannot be run: {error}")
    finally:
        os._exit(127)


def _pass_on(signals: int, child: int) -> bool:
    """Has one come?"""
    with contextlib.suppress(BlockingIOError):
        ends = [number for number in os.read(signals, select.PIPE_BUF) if number in _PASSED_ON]
        for number in ends:
            os.kill(child, number)
        return bool(ends)
    return False


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
