"""Programs of others are run to their end, and no longer: what they leave behind may hold their output open for as long
as it likes, and may say as much as it likes.
"""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from fmrd.core.printable import printable

CHUNK_BYTES = 64 << 10
"""What a pipe holds."""
KEPT_BYTES = 64 << 10
TAIL_BYTES = 4 << 10
TAIL_CHARACTERS = 300


@dataclass
class Ran:
    """How it ended: its status, what it said first, and the end of all that it said, also as errors."""

    status: int = 0
    said: bytes = b""
    tail: bytes = b""

    def hear(self, chunk: bytes, *, error: bool) -> None:
        if not error:
            self.said = (self.said + chunk)[:KEPT_BYTES]
        self.tail = (self.tail + chunk)[-TAIL_BYTES:]

    @property
    def last(self) -> str:
        """To be shown."""
        return tail_of(self.tail)


def tail_of(output: bytes) -> str:
    """Return the end of what a program said, to be shown."""
    return printable(output.decode(errors="replace").strip()[-TAIL_CHARACTERS:], TAIL_CHARACTERS)


def run(
    command: Sequence[str], seconds: float, environment: Mapping[str, str] | None = None, *, apart: bool = False
) -> Ran:
    """Run it, without standard input; ``apart``: in a session of its own, which is killed whole. TimeoutError where it
    was killed, for it took longer than that; OSError where it cannot be begun.
    """
    ran, until = Ran(), time.monotonic() + seconds
    with ExitStack() as stack:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
            start_new_session=apart,
        )  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        pipes = {process.stdout.fileno(): False, process.stderr.fileno(): True}
        stack.callback(process.stdout.close)
        stack.callback(process.stderr.close)
        ended = os.pidfd_open(process.pid)
        stack.callback(os.close, ended)
        looked = stack.enter_context(selectors.DefaultSelector())
        for descriptor in (*pipes, ended):
            os.set_blocking(descriptor, False)
            looked.register(descriptor, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in looked.select(max(0.0, until - time.monotonic()))}
            for pipe in pipes if ended in ready else pipes.keys() & ready:  # who has ended said all that before
                with suppress(BlockingIOError):
                    chunk = os.read(pipe, CHUNK_BYTES)
                    ran.hear(chunk, error=pipes[pipe])
                    if not chunk and pipe in looked.get_map():
                        looked.unregister(pipe)
            if ended in ready:
                ran.status = process.wait()
                return ran
            if time.monotonic() >= until:
                with suppress(ProcessLookupError):
                    (os.killpg if apart else os.kill)(process.pid, signal.SIGKILL)
                process.wait()
                raise TimeoutError(f"{command[0]} was killed: it took {seconds:g} s")
