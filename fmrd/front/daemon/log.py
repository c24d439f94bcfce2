"""The log on standard error: perhaps a pipe that nobody reads, or a file on a disk that hangs: nobody waits for it.

Whatever is logged is escaped here: names, paths and errors that others wrote can neither forge a line nor reach the
terminal of whoever reads it. Lines go through a bounded queue to a thread that writes them. Where it does not get on,
lines are dropped and counted, and the log says how many as soon as it goes on.
"""

import contextlib
import logging
import os
import queue
import select
import sys
import threading
import time
from types import TracebackType

from fmrd.core.printable import escaped

LINES = 256
"""Kept for a log that does not take them now."""
END_SECONDS = 2.0
"""How long the end of the process waits for what is queued."""
INDENT = "    "
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class OneLine(logging.Formatter):
    """A record is one line; a traceback behind it is indented, so that no line of it is taken for a record."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        record.asctime = self.formatTime(record)
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        behind = [f"{INDENT}{escaped(line)}" for line in trace.splitlines()]
        return "\n".join([escaped(self.formatMessage(record)), *behind])


class PatientLog(logging.Handler):
    """``descriptor`` is written by a thread, which begins with the first line."""

    def __init__(self, descriptor: int, lines: int = LINES) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._queue: queue.Queue[str | None] = queue.Queue(lines)
        self._lost = 0
        self._counting = threading.Lock()
        """Not the handler's own lock: logging holds that while it closes us, and so while our thread has work to do."""
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Under the handler's lock, under which nothing ever waits."""
        try:
            line = self.format(record) + "\n"
        except Exception:
            self.handleError(record)
            return
        if self._thread is None:
            self._begin()
        with self._counting:
            try:
                if self._lost:
                    self._queue.put_nowait(self._confession())
                    self._lost = 0
                self._queue.put_nowait(line)
            except queue.Full:
                self._lost += 1

    def _begin(self) -> None:
        """Where no thread can be had now, the line waits in the queue for the next one's."""
        thread = threading.Thread(target=self._run, name="fmrd log", daemon=True)
        with contextlib.suppress(RuntimeError):
            thread.start()
            self._thread = thread

    def close(self) -> None:
        """At the end of the process, by logging itself."""
        thread, self._thread = self._thread, None
        if thread is not None:
            until = time.monotonic() + END_SECONDS
            try:
                self._queue.put(None, timeout=END_SECONDS)
            except queue.Full:
                pass
            else:
                thread.join(max(0.0, until - time.monotonic()))
        super().close()

    def _confession(self) -> str:
        text = f"{self._lost} line(s) of this log were dropped: nobody took them"
        return self.format(logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)) + "\n"

    def _run(self) -> None:
        while (line := self._queue.get()) is not None:
            self._write(line)
            with self._counting:
                last = self._confession() if self._lost and self._queue.empty() else ""
                self._lost = 0 if last else self._lost
            self._write(last)

    def _write(self, line: str) -> None:
        """However long it takes. A log that is gone takes everything."""
        data = line.encode(errors="backslashreplace")
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # whoever shares it made it so
                select.select([], [self._descriptor], [])
            except OSError:
                return


def log_to_standard_error(level: str) -> None:
    """Also what would end the process, or a thread, as a traceback."""
    handler = PatientLog(sys.stderr.fileno())
    handler.setFormatter(OneLine(FORMAT))
    logging.basicConfig(handlers=[handler], level=level.upper())
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _uncaught(kind: type[BaseException], value: BaseException | None, trace: TracebackType | None) -> None:
    error = value if value is not None else kind()
    logging.getLogger("fmrd").critical("a bug: %s", kind.__name__, exc_info=(type(error), error, trace))
