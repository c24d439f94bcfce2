"""A disk hangs: its requests take no worker from another disk, and a kill frees what others wait for.

A file system that is frozen stands for it: a write to it sleeps uninterruptibly until it is thawed.
"""

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fmrd.backing.owning.under_way import Process, has_ended, identity
from fmrd.backing.ring.buffers import address_of
from fmrd.backing.ring.ring import Ring
from tests.backing.disks import loop_device, mounted, run
from tests.backing.ring.conftest import MakeRing
from tests.e2e.harness import needs_loops, until

LATE_SECONDS = 30.0
DATA = b"z" * 4096

_PROGRAM = """
import os, sys
from fmrd.backing.owning.locking import Lock
from fmrd.backing.owning.under_way import Process
from fmrd.backing.ring.buffers import address_of
from fmrd.backing.ring.ring import Ring

lock = Lock(os.open(sys.argv[1], os.O_RDWR))
hung = os.open(sys.argv[2], os.O_RDWR)
data = b"z" * 4096
ring = Ring(16)
print(Process.this(), flush=True)
sys.stdin.readline()
for number in range(8):
    ring.write(hung, address_of(data), 4096, 4096 * number, lambda _: None, data)
ring.submit()
print("handed over", flush=True)
sys.stdin.readline()
"""


_SYNCS = """
import os, sys
from fmrd.backing.owning.under_way import HandedOver, Process, identity
from fmrd.backing.ring.buffers import address_of
from fmrd.backing.ring.ring import Ring

good, hung = (os.open(path, os.O_RDWR) for path in sys.argv[1:3])
os.pwrite(hung, b"z" * 4096, 0)
data = b"z" * 4096
ring = Ring(16)
write = HandedOver(identity(os.fstat(good)))
write.enter()
print(Process.this(), flush=True)
sys.stdin.readline()
if sys.argv[3] == "fdatasync":
    ring.fdatasync(hung, lambda _: None)
else:
    ring.write(hung, address_of(data), 4096, 8192, lambda _: None, data, True)
ring.submit()
print("handed over", flush=True)
sys.stdin.readline()
"""
"""Of a write that is noted as handed over nobody has heard when it ends."""


def kill(child: "subprocess.Popen[str]") -> None:
    child.kill()


def kill_a_thread(child: "subprocess.Popen[str]") -> None:
    """As a control group is killed: nothing is left of the signal."""
    assert ctypes.CDLL(None).tgkill(child.pid, child.pid, signal.SIGKILL) == 0


def leave(child: "subprocess.Popen[str]") -> None:
    """It ends by itself."""
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


@contextlib.contextmanager
def frozen(where: Path) -> Iterator[None]:
    if not shutil.which("fsfreeze"):
        pytest.skip("needs fsfreeze")
    run("fsfreeze", "-f", where)
    try:
        yield
    finally:
        run("fsfreeze", "-u", where)


@contextlib.contextmanager
def hanging(where: Path, program: str, *words: str) -> Iterator[tuple["subprocess.Popen[str]", Process]]:
    """A process of that program, which has handed over what hangs until the block ends."""
    command = [sys.executable, "-c", program, *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None and child.stdout is not None
        process = Process.parse(child.stdout.readline())
        assert process is not None
        with frozen(where):
            child.stdin.write("\n")
            child.stdin.flush()
            assert child.stdout.readline() == "handed over\n"
            until(lambda: _sleeps_for_good(child.pid), "a worker hangs")
            yield child, process
        child.wait(LATE_SECONDS)
    assert not process.threads()


def opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT)


def let_end(ring: Ring, left: int) -> None:
    while ring.outstanding > left:
        assert ring.wait(LATE_SECONDS), f"{ring.outstanding - left} do not end"


def test_a_disk_that_hangs_takes_no_worker_from_another(make_ring: MakeRing, tmp_path: Path) -> None:
    """More requests hang than the kernel would let workers be, on more files than that."""
    ring = make_ring(64)
    with mounted(tmp_path, "ext4") as where:
        good = [opened(tmp_path / f"good {number}") for number in range(100)]
        bad = [opened(where / f"bad {number}") for number in range(16)]
        results: list[int] = []
        hung: list[int] = []
        with frozen(where):
            for number in range(160):
                ring.write(bad[number % 16], address_of(DATA), 4096, 4096 * number, hung.append, DATA, True)
            ring.submit()
            for file in good:
                ring.write(file, address_of(DATA), 4096, 0, results.append, DATA, True)
            let_end(ring, left=160)
            for file in good:
                ring.fdatasync(file, results.append)
            let_end(ring, left=160)
            assert not hung
        assert results == [4096] * 100 + [0] * 100
        let_end(ring, left=0)
        assert hung == [4096] * 160
        for file in good + bad:
            os.close(file)


@needs_loops
@pytest.mark.parametrize("what", ["fdatasync", "write"])
def test_what_was_written_elsewhere_is_over_though_an_fdatasync_hangs(
    make_ring: MakeRing, tmp_path: Path, what: str
) -> None:
    """Of a write that hangs nobody can tell where it goes."""
    make_ring(2)
    good = tmp_path / "good"
    os.close(opened(good))
    with mounted(tmp_path, "ext4") as where, loop_device(where, 1 << 20) as device:
        os.close(opened(where / "hung"))
        hung = device if what == "fdatasync" else str(where / "hung")
        with hanging(where, _SYNCS, str(good), hung, what) as (child, process):
            assert process.may_write(identity(good.stat())), "it may have more to write"
            child.kill()
            until(lambda: has_ended(child.pid), "nobody answers there any more")
            assert child.poll() is None and process.threads(), "it has not ended"
            if what == "fdatasync":
                until(lambda: not process.may_write(identity(good.stat())), "and nothing else is under way")
            else:
                assert process.may_write(identity(good.stat()))


@pytest.mark.parametrize("end", [kill, kill_a_thread, leave])
def test_an_end_frees_locks_though_a_request_hangs(
    make_ring: MakeRing, tmp_path: Path, end: Callable[["subprocess.Popen[str]"], None]
) -> None:
    make_ring(2)
    lock = opened(tmp_path / "lock")
    with mounted(tmp_path, "ext4") as where:
        os.close(opened(where / "hung"))
        with hanging(where, _PROGRAM, str(tmp_path / "lock"), str(where / "hung")) as (child, process):
            assert not _takes(lock) and not has_ended(child.pid)
            end(child)
            until(lambda: _takes(lock), "the lock is free")
            until(lambda: has_ended(child.pid), "nobody answers there any more")
            assert child.poll() is None and process.threads(), "its request has not ended"
        assert (where / "hung").stat().st_size <= 4096, "what waited for its turn is never carried out"
    os.close(lock)


def _takes(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(lock, fcntl.LOCK_UN)
    return True


def _sleeps_for_good(process: int) -> bool:
    states = [
        (task / "stat").read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{process}/task").iterdir()
    ]
    return "D" in states
