"""The log: whoever logs never waits, and what was dropped is told."""

import logging
import os
import threading
from collections.abc import Iterator

import pytest

from fmrd.front.daemon import log
from fmrd.front.daemon.log import FORMAT, INDENT, OneLine, PatientLog
from tests.waiting import until

PIPE_BYTES = 4096
LINES = 20


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """(reading, writing), full."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    while True:
        try:
            os.write(writing, b"." * PIPE_BYTES)
        except BlockingIOError:
            break
    os.set_blocking(writing, True)
    yield reading, writing
    for each in (reading, writing):
        os.close(each)


def logged(handler: PatientLog, *lines: str) -> None:
    handler.setFormatter(logging.Formatter(FORMAT))
    for line in lines:
        handler.handle(logging.LogRecord("fmrd", logging.INFO, "", 0, line, None, None))


class Reader:
    """Reads all that comes, from now on."""

    def __init__(self, descriptor: int) -> None:
        self.text = ""
        self._descriptor = descriptor
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while data := os.read(self._descriptor, 1 << 16):
            self.text += data.decode()
            if "the end" in self.text:
                break


async def test_nobody_waits_for_a_log_that_nobody_reads_and_it_tells_what_was_dropped(pipe: tuple[int, int]) -> None:
    handler = PatientLog(pipe[1], LINES)
    sent = [f"line {number}" for number in range(10 * LINES)]
    logged(handler, sent[0])
    await until(handler._queue.empty)  # its thread has it, and stands
    logged(handler, *sent[1:])  # would wait for ever
    reader = Reader(pipe[0])
    await until(lambda: "dropped" in reader.text)
    logged(handler, "the end")
    await until(lambda: "the end" in reader.text)
    lines = reader.text.splitlines()
    kept = [line.rsplit(": ", 1)[1] for line in lines if ": line " in line]
    assert kept == sent[: len(kept)] and LINES <= len(kept) <= LINES + 1, "the first ones, in order"
    [told] = [line for line in lines if "dropped" in line]
    assert f"{len(sent) - len(kept)} line(s)" in told
    assert "the end" in lines[-1]
    handler.close()


async def test_the_end_of_the_process_waits_for_a_moment_and_not_for_ever(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "END_SECONDS", 0.01)
    stuck = PatientLog(pipe[1], LINES)
    logged(stuck, *map(str, range(2 * LINES)))
    stuck.close()
    monkeypatch.undo()
    reader = Reader(pipe[0])
    handler = PatientLog(pipe[1], LINES)
    logged(handler, "one", "two", "the end")
    handler.acquire()  # as logging does
    handler.close()
    handler.release()
    await until(lambda: "the end" in reader.text)


async def test_a_log_that_is_gone_ends_nothing(pipe: tuple[int, int]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    handler = PatientLog(writing, LINES)
    logged(handler, *map(str, range(3)))
    handler.close()
    os.close(writing)


FORGED = "/srv/a\x1b[2J\n2026-01-01 00:00:00,000 INFO fmrd: all is well\r\u202eb\udc80"
"""A path, as anybody may name a file."""


def test_what_is_logged_cannot_forge_a_line_nor_reach_a_terminal() -> None:
    line = OneLine(FORMAT).format(logging.LogRecord("fmrd", logging.INFO, "", 0, "plex %s failed", (FORGED,), None))
    assert line.isprintable() and r"/srv/a\x1b[2J\x0a2026" in line and r"\x0d\u202eb\x80 failed" in line


def test_nor_can_an_error_in_a_traceback() -> None:
    try:
        raise OSError(5, FORGED)
    except OSError as error:
        told = logging.LogRecord("fmrd", logging.ERROR, "", 0, "a bug", None, (OSError, error, error.__traceback__))
    first, *behind = OneLine(FORMAT).format(told).split("\n")
    assert first.endswith("ERROR fmrd: a bug") and behind
    assert all(line.startswith(INDENT) and line.isprintable() for line in behind)


def test_the_log_of_the_daemon_is_formatted_so(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[logging.Handler] = []
    monkeypatch.setattr(logging, "basicConfig", lambda handlers, level: made.extend(handlers))
    monkeypatch.setattr(log.sys, "excepthook", None)
    monkeypatch.setattr(log.threading, "excepthook", None)
    with open(os.devnull) as nowhere:
        monkeypatch.setattr(log.sys, "stderr", nowhere)
        log.log_to_standard_error("info")
    assert isinstance(made[0].formatter, OneLine)


async def test_where_no_thread_can_be_had_a_line_waits_for_the_next(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whoever logs hears nothing of it."""
    handler = PatientLog(pipe[1], LINES)
    with monkeypatch.context() as exhausted:
        exhausted.setattr(threading.Thread, "start", _no_thread)
        logged(handler, "first")
    reader = Reader(pipe[0])
    logged(handler, "the end")
    await until(lambda: "the end" in reader.text)
    handler.close()
    assert reader.text.index("first") < reader.text.index("the end")


def _no_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
