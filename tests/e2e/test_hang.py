"""A disk that hangs, not just fails: a plex that lies on another daemon's volume, and that daemon is stopped cold."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import REGION, Daemon, needs_fuse, open_file, read_at, same_bytes, until, write_at

pytestmark = needs_fuse

ANSWER_SECONDS = 1.0
"""How soon the control socket answers, whatever hangs."""


@pytest.fixture
def backing(tmp_path: Path) -> Iterator[Daemon]:
    """The daemon under the plex; SIGSTOP makes the plex hang."""
    (tmp_path / "backing").mkdir()
    made = Daemon(tmp_path / "backing")
    made.start()
    made.make("disk", "16M", tmp_path / "disk.img")
    yield made
    made.clean_up()


def signal_to(daemon: Daemon, number: signal.Signals) -> None:
    assert daemon.process is not None
    daemon.process.send_signal(number)


def test_a_plex_that_hangs_is_detached_and_the_volume_goes_on(
    backing: Daemon, stopped_daemon: Daemon, tmp_path: Path
) -> None:
    daemon = stopped_daemon
    daemon.start()
    hanging, sound = backing.path("disk"), tmp_path / "b.img"
    daemon.make("data", "16M", f"{hanging},dco={tmp_path / 'a.dco'}", sound, options=("--force", "--wait"))
    daemon.json("set", "data", "io_timeout=3")
    signal_to(backing, signal.SIGSTOP)
    try:
        write_at(daemon.path("data"), 5 * REGION, b"the volume goes on")
        began = time.monotonic()
        states = daemon.states("data")
        assert time.monotonic() - began < ANSWER_SECONDS
        assert states == ["IOFAIL", "ACTIVE"]
        assert daemon.ctl("plex", "att", "data", "data-01").code == "plex_hung"
        assert read_at(daemon.path("data"), 5 * REGION, 18) == b"the volume goes on"
    finally:
        signal_to(backing, signal.SIGCONT)
    task = until(
        lambda: daemon.ctl("plex", "att", "data", "data-01", "--wait").json.get("task", {}), "it answers again"
    )
    assert (task["state"], task["total_regions"] < 256) == ("done", True)
    assert same_bytes(hanging, sound)
    daemon.stop()


def test_the_socket_answers_while_a_disk_hangs(backing: Daemon, stopped_daemon: Daemon, tmp_path: Path) -> None:
    daemon = stopped_daemon
    daemon.start()
    daemon.make("data", "16M", f"{backing.path('disk')},dco={tmp_path / 'a.dco'}", options=("--force",))
    daemon.stop()
    signal_to(backing, signal.SIGSTOP)
    try:
        daemon.start(wait=False)
        until(lambda: daemon.ctl("print", "data").status == 0, "the socket is there, and the home copy was read")
        for words in (("print",), ("task", "list"), ("print", "data")):
            began = time.monotonic()
            daemon.json(*words)
            assert time.monotonic() - began < ANSWER_SECONDS, words
        daemon.make("other", "4M", tmp_path / "other.img")
        write_at(daemon.path("other"), 0, b"not affected")
    finally:
        signal_to(backing, signal.SIGCONT)
    until(lambda: daemon.volume("data")["kstate"] == "ENABLED", "the volume opens when its disk answers")
    daemon.stop()


def test_a_daemon_that_stood_still_itself_blames_no_disk(
    backing: Daemon, stopped_daemon: Daemon, tmp_path: Path
) -> None:
    """Both stand still, for longer than io_timeout; when they go on, the disk answers soon enough."""
    daemon = stopped_daemon
    daemon.start()
    plex = f"{backing.path('disk')},dco={tmp_path / 'a.dco'}"
    daemon.make("data", "16M", plex, tmp_path / "b.img", options=("--force", "--wait"))
    daemon.json("set", "data", "io_timeout=3")
    signal_to(backing, signal.SIGSTOP)
    with open_file(daemon.path("data"), os.O_RDWR) as file:
        writing = threading.Thread(target=os.pwrite, args=(file, b"slow" * REGION, 0))
        writing.start()
        until(lambda: daemon.volume("data")["plexes"][0]["state"] == "ACTIVE", "it serves")
        signal_to(daemon, signal.SIGSTOP)
        began = time.monotonic()
        until(lambda: time.monotonic() > began + 6, "twice io_timeout")
        signal_to(daemon, signal.SIGCONT)
        until(lambda: "itself stood still" in daemon.log(), "it has noticed")
        signal_to(backing, signal.SIGCONT)
        writing.join()
    assert daemon.states("data") == ["ACTIVE", "ACTIVE"]
    daemon.stop()
