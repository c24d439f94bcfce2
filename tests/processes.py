"""Processes that are left behind: all but one thread has ended, as after a kill while a call of it hangs."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator

_PROGRAM = """
import ctypes, os, sys, threading
from fmrd.backing.owning.under_way import Process, Writing, identity

def write():
    with Writing(identity(os.stat(sys.argv[1]))):
        print(Process.this(), flush=True)
        threading.Event().wait()

def listen():
    import socket
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[2])
    listener.listen()
    return listener

kept = listen() if len(sys.argv) > 2 else None
threading.Thread(target=write).start()
sys.stdin.readline()
ctypes.CDLL(None).pthread_exit(None)
"""


@contextlib.contextmanager
def left_behind(path: object, socket: object = None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that writes to ``path``, and how it says who it is. It listens on ``socket``."""
    words = [sys.executable, "-c", _PROGRAM, str(path), *([] if socket is None else [str(socket)])]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def end_first_thread(process: "subprocess.Popen[str]") -> None:
    """Returns when it has ended."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    while True:
        with open(f"/proc/{process.pid}/stat") as file:
            if file.read().rpartition(")")[2].split()[0] == "Z":
                return
