"""No command hangs on a daemon that is stopped, hangs, or is not there: each ends within --timeout, with status 4."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from fmrd.front.ctl.cli import cli
from tests.e2e.harness import Daemon, needs_fuse, until

pytestmark = needs_fuse

COMMANDS = """
apply {file}; changed data; events; grow data +1M; history; import X; loop data; make x 1M X; map data; mark data n;
nightly data; print; print d*; plex add data X; plex att data data-01 data-02; plex convert data data-02; plex det
data d*; plex dis data data-02; plex off data data-02; plex on data data-02; prune data --keep-last 1; receive data
--token; recover; refresh SNAP-data; remove data; rename data x; replace data data-02 X; restore data --from
SNAP-data; send SNAP-data --output {file}.s; set data rate=1; snapabort data; snapback SNAP-data; snapclear SNAP-data;
snapprint; snapshot data; snapstart data X; snapsync SNAP-data; snapwait data; start data; start --all; stat; status;
status -x d*; stop data; stop --all; store add s /s size=1G; store list; store print s; store remove s; store resize s
2G; task abort 1; task list; task list d*; task monitor; task monitor night; task pause 1; task resume night; task set
1 rate=1; top; undo data; unloop data; verify data"""
"""With what is needed to get as far as the daemon."""
ASK_NOBODY = {"dump", "explain", "install-units", "stream verify"}
REFUSE_JSON = {"cat"}
"""Writes a disk to standard output: tried below, as a program."""
SECONDS = 0.05
WITHIN_SECONDS = 10


@pytest.fixture
def door() -> str:
    """What answers on the socket is the same, whatever the door."""
    return "channel"


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    monkeypatch.setenv("FMRD_CONF", str(tmp_path / "fmrd.conf"))
    (tmp_path / "fmrd.d").mkdir()
    (tmp_path / "fmrd.d" / "data.toml").touch(0o600)
    (tmp_path / "fmrd.d" / "data.toml").write_text('[snapshot]\ntake = "refresh"\n')
    file = tmp_path / "file"
    file.write_text('[volumes.data]\nsize = "1M"\nplexes = ["/x"]\n')
    return [line.split() for line in COMMANDS.format(file=file).split(";")]


def commands(group: click.Group, before: tuple[str, ...] = ()) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*before, name))
        else:
            yield " ".join((*before, name))


def each_is_given_up(daemon: Daemon, words: list[list[str]]) -> None:
    for line in words:
        began = time.monotonic()
        told = daemon.ctl(*line, "--timeout", SECONDS)
        assert (told.status, time.monotonic() - began < WITHIN_SECONDS) == (4, True), (line, told)
    began = time.monotonic()
    read = daemon.fmrctl("cat", "data", "--timeout", str(SECONDS))
    assert (read.returncode, time.monotonic() - began < WITHIN_SECONDS) == (4, True)


def test_the_table_has_every_command(words: list[list[str]]) -> None:
    tried = {line[0] for line in words} | {" ".join(line[:2]) for line in words} | ASK_NOBODY | REFUSE_JSON
    assert set(commands(cli)) - tried == set()


def test_one_that_is_stopped(daemon: Daemon, words: list[list[str]], tmp_path: Path) -> None:
    """More ask it than its socket holds: who asked goes away, and what was asked stays there."""
    daemon.make("data", "1M", tmp_path / "a", tmp_path / "b")
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        each_is_given_up(daemon, words)
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    until(lambda: daemon.ctl("status").status != 4, "it goes on")


def test_one_that_is_not_there(stopped_daemon: Daemon, words: list[list[str]]) -> None:
    each_is_given_up(stopped_daemon, words)


def test_one_that_accepts_and_never_answers(stopped_daemon: Daemon, words: list[list[str]]) -> None:
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(os.fspath(stopped_daemon.socket))
        hung.listen(256)
        each_is_given_up(stopped_daemon, words)
