"""Standard error is a pipe that nobody reads: the daemon and its volumes go on, and what was dropped is told."""

import fcntl
import os
import threading
from pathlib import Path

from tests.e2e.harness import MIB, Daemon, needs_fuse, read_at, until, write_at

pytestmark = needs_fuse

ROUNDS = 400
PIPE_BYTES = 4096
"""So small that it is full after a dozen rounds, and the daemon's own queue before the last one."""


def test_a_daemon_whose_log_nobody_reads_serves_on(stopped_daemon: Daemon, tmp_path: Path) -> None:
    daemon = stopped_daemon
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    daemon.start(stderr=writing)
    os.close(writing)
    daemon.make("data", 4 * MIB, tmp_path / "a", tmp_path / "b")
    for _ in range(ROUNDS):
        daemon.ask("plex_det", volume="data", plex="data-02")
        daemon.ask("plex_att", volume="data", plex="data-02")
    write_at(daemon.path("data"), 0, b"served")
    assert read_at(daemon.path("data"), 0, 6) == b"served"
    told = bytearray()

    def read() -> None:
        while data := os.read(reading, 1 << 16):
            told.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    until(lambda: b"line(s) of this log were dropped" in told, "the log says what is missing")
    assert daemon.stop() == 0
    reader.join()
    os.close(reading)
    assert b"stopping in order" in told


def test_a_log_that_nobody_reads_does_not_hold_up_the_end(stopped_daemon: Daemon, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    os.write(writing, b"." * PIPE_BYTES)
    stopped_daemon.start(stderr=writing)
    os.close(writing)
    assert stopped_daemon.stop() == 0
    os.close(reading)
