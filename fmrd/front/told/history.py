"""The history: events in a file of the state directory, over restarts, and bounded: two files of a megabyte each.

A thread writes; who tells an event waits for nobody. So what is lost is: what the thread could not write before a kill,
what came while the disk did not take more than the queue holds (it is counted, and that is written), and after a power
loss what the kernel had not written yet. Reading it needs no disk: the newest lines are kept in memory.
"""

import contextlib
import errno
import json
import logging
import os
import queue
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from fmrd.core.json_object import Json
from fmrd.engine.events.ring import KINDS, Event

log = logging.getLogger(__name__)

NAME = "history"
FILE_BYTES = 1 << 20
WAITING = 1000
"""Lines kept for a disk that does not take them now."""
REMEMBERED = 4000
"""Lines that can be asked for."""
MOST_LINE_BYTES = 16 << 10
END_SECONDS = 2.0


class History:
    """``run`` is not needed: a thread begins with the first event. ``close`` at the end of the daemon."""

    def __init__(self, state: Path, file_bytes: int = FILE_BYTES) -> None:
        self._path = state / NAME
        self._file_bytes = file_bytes
        self._queue: queue.Queue[bytes | None] = queue.Queue(WAITING)
        self._lost = 0
        self._failed = False
        self._thread: threading.Thread | None = None
        self._lines: deque[bytes] = deque(self._read(), REMEMBERED)
        self._torn = bool(self._lines) and not self._lines[-1].endswith(b"\n")
        """The last line in the file has no end: a power loss, or a full disk."""

    def add(self, event: Event) -> None:
        """A listener of Events."""
        line = json.dumps(event.json(), separators=(",", ":")).encode() + b"\n"
        if len(line) > MOST_LINE_BYTES:
            return
        self._lines.append(line)
        if self._thread is None:
            self._begin()
        try:
            if self._lost:
                gap = event.json() | {"kind": "events_missed", "message": f"{self._lost} event(s) were not written"}
                self._queue.put_nowait(json.dumps(gap, separators=(",", ":")).encode() + b"\n")
                self._lost = 0
            self._queue.put_nowait(line)
        except queue.Full:
            self._lost += 1

    def found(self, volume: str | None = None, most: int = REMEMBERED) -> list[Json]:
        """Return the newest events, oldest first, of one volume or of all. It takes a while: call it off the loop."""
        shown: deque[Json] = deque(maxlen=most)
        for line in list(self._lines):
            event = _parsed(line)
            if event is not None and volume in (None, event["volume"]):
                shown.append(event)
        return list(shown)

    def close(self) -> None:
        """Give the thread a moment for what is queued."""
        thread, self._thread = self._thread, None
        if thread is not None:
            with contextlib.suppress(queue.Full):
                self._queue.put(None, timeout=END_SECONDS)
                thread.join(END_SECONDS)

    def _read(self) -> Iterator[bytes]:
        for path in (self._older, self._path):
            try:
                with open(path, "rb") as file:
                    yield from file.read(2 * self._file_bytes).splitlines(keepends=True)
            except FileNotFoundError:
                continue
            except OSError as error:  # volumes are served without it
                log.warning("%s cannot be read, and what happened earlier is missing: %s", path, error)

    @property
    def _older(self) -> Path:
        return self._path.with_suffix(".1")

    def _begin(self) -> None:
        thread = threading.Thread(target=self._run, name="fmrd history", daemon=True)
        with contextlib.suppress(RuntimeError):  # none can be had now: the next event tries again
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        while (line := self._queue.get()) is not None:
            try:
                self._write(b"\n" + line if self._torn else line)
                self._failed = self._torn = False
            except OSError as error:
                if not self._failed:
                    log.warning("%s cannot be written, and lacks what happens now: %s", self._path, error)
                self._failed = True

    def _write(self, line: bytes) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size + len(line) <= self._file_bytes:
                if os.write(descriptor, line) < len(line):
                    self._torn = True
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return
        finally:
            os.close(descriptor)
        os.replace(self._path, self._older)
        self._write(line)


def _parsed(line: bytes) -> Json | None:
    """None for what is no event of this program: torn by a power loss, or of another version."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    words = ("cursor", "kind", "level", "message", "action")
    if not isinstance(event, dict) or not all(isinstance(event.get(word), str) for word in words):
        return None
    time, sound = event.get("time"), event["kind"] in KINDS and event.get("volume", 0) is None
    sound = sound or (event["kind"] in KINDS and isinstance(event.get("volume"), str))
    return event if sound and isinstance(time, int | float) and 0 <= time < 1 << 40 else None
