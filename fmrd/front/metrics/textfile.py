"""The same figures as a file, for a collector that reads files (node_exporter's textfile collector)."""

import contextlib
import logging
import os
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import trio

log = logging.getLogger(__name__)

PERIOD_SECONDS = 15.0
END_SECONDS = 2.0
"""So long the end of the daemon waits for the file to go."""


class TextFile:
    """A text file is written anew every PERIOD_SECONDS, whole or not at all, and is gone after an orderly stop. It is
    written by a thread: a disk that hangs holds up nothing but the next version.
    """

    def __init__(self, path: Path, write: Callable[[str], Awaitable[tuple[bytes, str]]]) -> None:
        self._path = path
        self._write = write
        self._failed = False
        self._lock = threading.Lock()
        self._gone = False
        """A thread that nobody waits for any more writes nothing then."""

    async def run(self) -> None:
        """Write it until cancelled."""
        try:
            while True:
                try:
                    text, _ = await self._write("")
                    await trio.to_thread.run_sync(partial(self._replace, text), abandon_on_cancel=True)
                except Exception as error:  # a full disk, or a bug: neither ends the daemon
                    if not self._failed:
                        log.warning("metrics are not written to %s: %r", self._path, error)
                    self._failed = True
                else:
                    self._failed = False
                await trio.sleep(PERIOD_SECONDS)
        finally:
            with trio.move_on_after(END_SECONDS, shield=True), contextlib.suppress(OSError):
                await trio.to_thread.run_sync(self._remove, abandon_on_cancel=True)

    def _replace(self, text: bytes) -> None:
        """On a thread. Whoever reads the file has the old one or the new one, and all may: it holds no secret."""
        new = self._path.with_name(f".{self._path.name}.new")
        with self._lock:
            if self._gone:
                return
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            with open(descriptor, "wb") as file:
                os.fchmod(descriptor, 0o644)  # whatever the umask: that of fmrd's unit leaves all to root alone
                file.write(text)
            new.rename(self._path)

    def _remove(self) -> None:
        with self._lock:
            self._gone = True
            self._path.unlink()
