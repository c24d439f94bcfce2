"""The same figures as a file, for a collector that reads files (node_exporter's textfile collector)."""

import contextlib
import logging
import os
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

    async def run(self) -> None:
        """Write it until cancelled."""
        try:
            while True:
                text, _ = await self._write("")
                try:
                    await trio.to_thread.run_sync(partial(_replace, self._path, text), abandon_on_cancel=True)
                except OSError as error:
                    if not self._failed:
                        log.warning("metrics are not written to %s: %s", self._path, error)
                    self._failed = True
                else:
                    self._failed = False
                await trio.sleep(PERIOD_SECONDS)
        finally:
            with trio.move_on_after(END_SECONDS, shield=True), contextlib.suppress(OSError):
                await trio.to_thread.run_sync(self._path.unlink, abandon_on_cancel=True)


def _replace(path: Path, text: bytes) -> None:
    """Whoever reads it has the old one or the new one. It is no secret of this user's, so all may read it."""
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o644)  # whatever the umask: that of fmrd's unit leaves all to root alone
        file.write(text)
    new.rename(path)
