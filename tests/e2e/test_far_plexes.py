"""A volume with one plex here and one on an NBD server: the server goes, work goes on, and it comes back."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import MIB, REGION, Daemon, needs_fuse, needs_program, read_at, same_bytes, until, write_at
from tests.nbd_servers import Server, nbdkit_file, serving

pytestmark = [needs_fuse, needs_program("nbdkit")]
SIZE = 16 * MIB
DISK = 20 * MIB


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Server]:
    """A file on nbdkit, which takes one client at a time."""
    where = tmp_path / "far"
    where.mkdir()
    server = nbdkit_file(where, DISK, "--filter=limit")
    server.query = "&x-fence=single"
    with serving(server):
        yield server


def test_the_server_goes_and_comes_back_and_only_what_was_missed_is_copied(
    daemon: Daemon, far: Server, tmp_path: Path
) -> None:
    daemon.make("data", SIZE, tmp_path / "near", far.uri)
    content = os.urandom(4 * MIB)
    write_at(daemon.path("data"), 0, content)
    daemon.in_sync("data")
    until(lambda: not daemon.volume("data")["drl"]["dirty_extents"], "all that was written is durable on both")

    far.kill()
    write_at(daemon.path("data"), 8 * REGION, b"while it was away" * 1000)
    until(lambda: daemon.states("data") == ["ACTIVE", "IOFAIL"], "the plex has failed")
    assert str(far.socket) in daemon.volume("data")["plexes"][1]["reason"]["message"]
    write_at(daemon.path("data"), 100 * REGION, b"more" * 1000)

    far.start()
    task = daemon.attach("data", far.uri, "--settled")
    assert (task["state"], task["reason"]["code"]) == ("done", "fast")
    assert task["copied_bytes"] <= 4 * MIB + REGION, "the extent that was being written when it went, and a region"
    daemon.in_sync("data")
    assert read_at(daemon.path("data"), 0, 8 * REGION) == content[: 8 * REGION]
    assert daemon.stop() == 0
    assert same_bytes(tmp_path / "near", far.socket.parent / "disk.raw", length=SIZE)


def test_it_is_found_again_after_a_restart_and_by_an_import(daemon: Daemon, far: Server, tmp_path: Path) -> None:
    daemon.make("data", SIZE, tmp_path / "near", far.uri)
    write_at(daemon.path("data"), MIB, b"kept" * 1000)
    daemon.in_sync("data")
    daemon.restart()
    assert daemon.states("data") == ["ACTIVE", "ACTIVE"]
    assert read_at(daemon.path("data"), MIB, 4000) == b"kept" * 1000
    daemon.json("stop", "data")
    daemon.stop()
    shutil.rmtree(daemon.state)
    (tmp_path / "near").unlink()
    daemon.start()
    daemon.json("import", far.uri, "--force")
    assert read_at(daemon.path("data"), MIB, 4000) == b"kept" * 1000
