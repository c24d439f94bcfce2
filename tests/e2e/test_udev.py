"""udev/probe: a disk that is a plex is recognised, whatever lies in the plex, and nothing else is."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmrd.backing import locator
from fmrd.dco import layout
from tests.e2e.harness import MIB, Daemon, Loops, needs_fuse, needs_loops, needs_program, tool

PROBE = Path(__file__).parents[2] / "udev" / "probe"
pytestmark = needs_program("python3")


@pytest.fixture
def door() -> str:
    """A door has no part in this."""
    return "channel"


def probe(path: str | Path) -> dict[str, str]:
    """What udev would be told of it; it must end well."""
    done = subprocess.run([PROBE, path], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


@needs_fuse
@needs_loops
@needs_program("mkfs.ext4")
def test_a_plex_says_which_it_is_though_a_file_system_lies_in_it(daemon: Daemon, loops: Loops) -> None:
    disks = [loops.disk(name, 32 * MIB) for name in ("one", "two")]
    daemon.make("data", "16M", *disks)
    device = loops.attach(daemon.path("data"))
    tool("mkfs.ext4", "-q", device)
    for disk, plex in zip(disks, daemon.volume("data")["plexes"], strict=True):
        said = probe(disk)
        assert (said["FMRD_MEMBER"], said["FMRD_PLEX"]) == ("1", plex["uuid"])
        assert said["FMRD_FAMILY"]
    assert probe(device) == {}, "the volume itself is no plex"
    loops.detach(device)
    daemon.stop()
    assert probe(disks[0])["FMRD_PLEX"] == said["FMRD_PLEX"] or probe(disks[1]) == said


@needs_loops
@needs_program("mkfs.ext4")
def test_a_disk_with_something_else_says_nothing(loops: Loops, tmp_path: Path) -> None:
    disk = loops.disk("disk", 32 * MIB)
    assert probe(disk) == {}
    tool("mkfs.ext4", "-q", disk)
    assert probe(disk) == {}


def test_what_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    assert probe(tmp_path / "none") == probe(tmp_path) == {}
    (tmp_path / "short").write_bytes(b"x" * 100)
    assert probe(tmp_path / "short") == {}


def _disk(path: Path, tail: bytes, record: bytes = b"") -> Path:
    """A file as a disk of 1 MiB, with the area of a DCO before its last block."""
    with open(path, "wb") as file:
        file.truncate(MIB)
        os.pwrite(file.fileno(), record, MIB // 2)
        os.pwrite(file.fileno(), tail, MIB - 4096)
    return path


def test_an_area_without_a_record_is_a_member_all_the_same(tmp_path: Path) -> None:
    tail = locator.pack(MIB // 2, MIB // 2 - 4096)
    said = {"FMRD_MEMBER": "1", "FMRD_FAMILY": "", "FMRD_PLEX": ""}
    assert probe(_disk(tmp_path / "d", tail)) == said
    assert probe(_disk(tmp_path / "d", tail, layout.RECORD_MAGIC + bytes(120))) == said, "without a sound checksum"
    assert probe(_disk(tmp_path / "d", tail[:-1] + bytes([tail[-1] ^ 1]))) == {}
    assert probe(_disk(tmp_path / "d", locator.pack(MIB // 2, MIB))) == {}, "longer than the disk"


@given(st.binary(max_size=128), st.binary(max_size=36))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_lies_there_it_ends_well(tmp_path: Path, record: bytes, tail: bytes) -> None:
    probe(_disk(tmp_path / "d", b"FMRDtail" + tail, layout.RECORD_MAGIC + record))
    probe(_disk(tmp_path / "d", locator.pack(MIB // 2, 4096), layout.RECORD_MAGIC + record))
