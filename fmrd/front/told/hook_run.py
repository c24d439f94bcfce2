"""One run of a hook: a process in a session of its own, whose input lies ready and whose output is cut off.

Where systemd started fmrd, it starts hooks as well (systemd-run), beside fmrd and not below it: they need a network and
sendmail, and the unit of fmrd allows neither.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import trio

from fmrd.core.printable import printable

OUTPUT_BYTES = 4096
"""So much of what a hook prints is looked at; then its pipe is closed."""
MARK = "FMRD_HOOK_RUN"
"""In the environment of a hook, and so of all that it starts."""
ROUNDS = 5
SYSTEMD = Path("/run/systemd/system")
"""There where systemd runs."""
LATE = "was killed: "
"""So begins what is said of one that took too long."""
KILL_SECONDS = 5.0
"""How long a process that was killed may take to be gone."""


async def carry_out(path: Path, environment: Mapping[str, str], stdin: bytes, seconds: float) -> str | None:
    """Run it; return what was wrong, None for nothing. Whatever it started is killed with it, at its end or after so
    many seconds, and when this is cancelled.
    """
    command = _command(path, environment, seconds)
    run = uuid.uuid4().hex
    environment = {**environment, MARK: run}
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    output = trio.lowlevel.FdStream(ours)
    async with output:
        try:
            with _input(stdin) as ready:
                start = partial(_start, command, environment, ready, theirs)
                process = await trio.to_thread.run_sync(start)
        except OSError as error:
            return f"cannot be run: {error.strerror}"
        finally:
            os.close(theirs)
        return await _attend(process, run, ours, output, seconds)


def _command(path: Path, environment: Mapping[str, str], seconds: float) -> list[str]:
    program = shutil.which("systemd-run", path=environment.get("PATH"))
    if "INVOCATION_ID" not in os.environ or os.geteuid() != 0 or not SYSTEMD.is_dir() or program is None:
        return [str(path)]
    told = [f"--setenv={name}={value}" for name, value in environment.items()]
    limits = [f"--property=RuntimeMaxSec={seconds:g}", "--property=TimeoutStopSec=1", "--property=WorkingDirectory=/"]
    return [program, "--quiet", "--collect", "--pipe", "--wait", *limits, *told, str(path)]


def _start(command: list[str], environment: Mapping[str, str], stdin: int, output: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command, stdin=stdin, stdout=output, stderr=output, env=dict(environment), cwd="/", start_new_session=True
    )


async def _attend(
    process: "subprocess.Popen[bytes]", run: str, descriptor: int, output: trio.lowlevel.FdStream, seconds: float
) -> str | None:
    try:
        ended = os.pidfd_open(process.pid)
    except OSError:  # no more descriptors: it cannot be watched, so it must not run
        os.killpg(process.pid, signal.SIGKILL)
        with trio.move_on_after(KILL_SECONDS, shield=True):
            await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
        raise
    said = bytearray()
    late = False
    try:
        with trio.move_on_after(seconds) as patience:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_read, output, said)
                await trio.lowlevel.wait_readable(ended)
                nursery.cancel_scope.cancel()
        late = patience.cancelled_caught
        with contextlib.suppress(OSError):
            said += os.read(descriptor, OUTPUT_BYTES) if len(said) < OUTPUT_BYTES else b""
        with trio.CancelScope(shield=True):
            left = 0 if late else len(await trio.to_thread.run_sync(_others_of, process.pid, run))
    finally:
        with trio.CancelScope(shield=True):
            await _kill(process, run, ended)
        os.close(ended)
    words = printable(" ".join(said.decode(errors="replace").split()), 300)
    why = f" ({words})" if words else ""
    if late:
        return f"{LATE}it had not ended after {seconds:g} s{why}"
    if process.returncode:
        return f"failed with status {process.returncode}{why}"
    return f"left {left} process(es) behind, which were killed" if left else None


async def _read(output: trio.lowlevel.FdStream, said: bytearray) -> None:
    """As much as is looked at. Who prints more gets a broken pipe."""
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while len(said) < OUTPUT_BYTES and (data := await output.receive_some(OUTPUT_BYTES)):
            said += data
    if len(said) >= OUTPUT_BYTES:
        await output.aclose()


async def _kill(process: "subprocess.Popen[bytes]", run: str, ended: int) -> None:
    """Its whole group, while its number is still its own: it is reaped only afterwards; and those that left it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(OSError, RuntimeError):  # no more threads
        await trio.to_thread.run_sync(_kill_all, run)
    with trio.move_on_after(KILL_SECONDS):
        await trio.lowlevel.wait_readable(ended)
    if process.poll() is None:  # in a call that does not end: nobody waits for it
        process.returncode = -signal.SIGKILL


def _others_of(leader: int, run: str) -> list[int]:
    """Return the processes that a run has started: in the group of its leader, or of its mark. In a thread."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = Path("/proc", name, "stat").read_text(errors="replace").rpartition(")")[2].split()
            if int(name) != leader and fields[0] != "Z" and (int(fields[2]) == leader or _is_of(name, run)):
                found.append(int(name))
    return found


def _is_of(process: str, run: str) -> bool:
    """By what it was given at its start, which stays with it in whatever session and group it is."""
    return f"{MARK}={run}".encode() in Path("/proc", process, "environ").read_bytes().split(b"\0")


def _kill_all(run: str) -> None:
    """Of that mark, also those that others of them start meanwhile. In a thread."""
    for _ in range(ROUNDS):
        strays = _others_of(-1, run)
        for each in strays:
            with contextlib.suppress(OSError, ValueError):
                held = os.pidfd_open(each)
                try:
                    if _is_of(str(each), run):  # asked again, for the number may be another's by now
                        signal.pidfd_send_signal(held, signal.SIGKILL)
                finally:
                    os.close(held)
        if not strays:
            return


@contextlib.contextmanager
def _input(data: bytes) -> Iterator[int]:
    """A file in memory: nobody has to be there to feed a pipe."""
    descriptor = os.memfd_create("fmrd event", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)
