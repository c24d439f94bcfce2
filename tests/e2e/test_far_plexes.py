"""A volume with one plex here and one on an NBD server: the server goes, work goes on, and it comes back."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import MIB, REGION, Daemon, needs_fuse, needs_program, read_at, same_bytes, tool, until, write_at
from tests.nbd_servers import Server, disk, nbdkit_file, serving, ssh_to_here

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
    task = daemon.attach("data", far.uri)
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


def test_its_copy_of_the_dco_may_lie_on_another_export_or_here(daemon: Daemon, far: Server, tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    with serving(nbdkit_file(tmp_path / "marks", 4 * MIB, "--filter=limit")) as marks:
        marks.query = "&x-fence=single"
        daemon.make("data", 20 * MIB, tmp_path / "near", f"{far.uri},dco={marks.uri}")
        daemon.in_sync("data")
        write_at(daemon.path("data"), 19 * MIB, b"far away" * 1000)
        daemon.restart()
        daemon.in_sync("data")
        daemon.json("plex", "det", "data", "data-02")
        write_at(daemon.path("data"), MIB, b"missed")
        assert daemon.attach("data", "data-02")["reason"]["code"] == "fast"
        daemon.json("plex", "dis", "data", "data-02")
        daemon.json("plex", "add", "data", f"{far.uri},dco={tmp_path / 'marks.dco'}", "--wait", "--force")
        assert daemon.states("data") == ["ACTIVE", "ACTIVE"]
        assert daemon.stop() == 0
        assert daemon.fmrctl("dump", marks.uri).returncode != 0, "it was wiped"
    assert same_bytes(tmp_path / "near", far.socket.parent / "disk.raw")


def test_what_is_dumped_is_what_lies_there(daemon: Daemon, far: Server, tmp_path: Path) -> None:
    daemon.make("data", SIZE, tmp_path / "near", far.uri)
    daemon.in_sync("data")
    daemon.stop()
    shown = daemon.ctl("dump", far.uri).json["dco"]
    assert [plex["path"] for plex in shown["volumes"][0]["plexes"]] == [str(tmp_path / "near"), far.uri]


def test_what_lies_there_is_not_taken_unless_that_is_asked_for(daemon: Daemon, far: Server, tmp_path: Path) -> None:
    tool("mkfs.ext4", "-q", "-F", "-L", "precious", far.socket.parent / "disk.raw")
    answer = daemon.ctl("make", "data", SIZE, tmp_path / "near", far.uri)
    assert answer.code == "refused_has_data" and "precious" in answer.err and far.uri in answer.err
    daemon.make("data", SIZE, tmp_path / "near", far.uri, options=("--from", far.uri))
    daemon.in_sync("data")
    assert tool("blkid", "-o", "value", "-s", "LABEL", tmp_path / "near").strip() == "precious"
    again = daemon.ctl("make", "other", SIZE, tmp_path / "third", far.uri, "--force")
    assert again.code == "refused_in_use"


def test_a_snapshot_may_lie_there(daemon: Daemon, far: Server, tmp_path: Path) -> None:
    daemon.make("data", SIZE, tmp_path / "near")
    write_at(daemon.path("data"), MIB, b"as it was" * 1000)
    daemon.json("snapstart", "data", far.uri, "--wait")
    daemon.json("snapshot", "data", "--name", "snap")
    write_at(daemon.path("data"), MIB, b"as it is " * 1000)
    assert read_at(daemon.path("snap"), MIB, 9000) == b"as it was" * 1000
    daemon.json("snapback", "snap", "--wait")
    daemon.json("snapabort", "data")
    daemon.json("snapshot", "data", "--name", "copied", "--instant", f"{far.uri}", "--force")
    write_at(daemon.path("data"), MIB, b"later yet" * 1000)
    assert read_at(daemon.path("copied"), MIB, 9000) == b"as it is " * 1000


def test_a_server_that_hangs_holds_nobody_up_for_long(daemon: Daemon, far: Server, tmp_path: Path) -> None:
    daemon.make("data", SIZE, tmp_path / "near", far.uri)
    daemon.in_sync("data")
    daemon.json("set", "data", "io_timeout=1")
    far.hang()
    write_at(daemon.path("data"), 3 * REGION, b"not there")
    until(lambda: daemon.states("data") == ["ACTIVE", "IOFAIL"], "the plex has failed")
    assert read_at(daemon.path("data"), 3 * REGION, 9) == b"not there"
    far.go_on()
    until(lambda: not daemon.ctl("plex", "att", "data", far.uri, "--settled", "--wait").status, "it is attached")
    daemon.in_sync("data")
    assert daemon.stop() == 0
    assert same_bytes(tmp_path / "near", far.socket.parent / "disk.raw", length=SIZE)


def test_another_disk_behind_the_same_name_is_a_stranger(daemon: Daemon, far: Server, tmp_path: Path) -> None:
    daemon.make("data", SIZE, tmp_path / "near", far.uri)
    daemon.in_sync("data")
    far.kill()
    write_at(daemon.path("data"), 3 * REGION, b"noticed")
    until(lambda: daemon.states("data") == ["ACTIVE", "IOFAIL"], "the plex has failed")
    image = far.socket.parent / "disk.raw"
    image.write_bytes(b"another" + bytes(DISK - 7))
    far.start()
    assert daemon.ctl("plex", "att", "data", far.uri, "--settled").code == "refused_unknown_plex"
    assert image.read_bytes()[:7] == b"another"
    assert daemon.attach("data", far.uri, "--settled", "--full")["state"] == "done"


def test_what_is_too_short_is_told_before_anything_is_made(daemon: Daemon, far: Server, tmp_path: Path) -> None:
    for plex in (far.uri, f"{tmp_path / 'other'},dco={far.uri}"):
        answer = daemon.ctl("make", "data", "1T" if "other" in plex else DISK, tmp_path / "near", plex, "--dry-run")
        assert answer.code == "plex_too_short" and far.uri in answer.err
    assert daemon.ctl("make", "data", DISK, tmp_path / "near", f"{far.uri},dco={tmp_path / 'dco'}").status == 0


def test_a_name_that_is_none_is_told_at_once(daemon: Daemon, tmp_path: Path) -> None:
    for wrong in ("nbd://host", "nbd://host/x?x-fence=singel", "nbd://me@host/x", "rsh://host/x"):
        assert daemon.ctl("make", "data", SIZE, tmp_path / "near", wrong).code == "bad_uri"
    assert daemon.ctl("make", "data", SIZE, "nbd://nowhere.invalid/x").code == "plex_missing"
    assert not daemon.json("print")["volumes"]


@needs_program("flock")
def test_a_file_on_another_host_by_ssh(stopped_daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the other host is this one, by a program in the place of ssh."""
    monkeypatch.setenv("PATH", f"{ssh_to_here(tmp_path)}:{os.environ['PATH']}")
    (tmp_path / "far").mkdir()
    uri = f"ssh://there{disk(tmp_path / 'far', DISK)}"
    daemon = stopped_daemon
    daemon.start()
    daemon.make("data", SIZE, tmp_path / "near", uri)
    daemon.in_sync("data")
    process = int((tmp_path / "bin" / "asked").read_text().splitlines()[-1].split()[0])
    os.kill(process, signal.SIGKILL)
    write_at(daemon.path("data"), 5 * REGION, b"while it was away")
    until(lambda: daemon.states("data") == ["ACTIVE", "IOFAIL"], "the plex has failed")
    assert daemon.attach("data", uri, "--settled")["state"] == "done"
    daemon.in_sync("data")
    assert daemon.plex("data", uri)["far"]["fence"] == "lock"
    assert daemon.stop() == 0
    assert same_bytes(tmp_path / "near", tmp_path / "far" / "disk.raw", length=SIZE)
