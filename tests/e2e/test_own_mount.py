"""What leads back to fmrd's own mount is refused by every verb, at any depth, and the daemon answers on."""

import os
from pathlib import Path

import pytest

from tests.e2e.harness import MIB, Daemon, Loops, needs_fuse, needs_loops, needs_program, read_at, tool, write_at

pytestmark = [needs_fuse, needs_loops, needs_program("mkfs.ext4")]


@pytest.fixture
def low(daemon: Daemon, tmp_path: Path) -> Path:
    """A volume 'low', and beside it 'data', which a plex is taken away from."""
    daemon.make("low", 64 * MIB, tmp_path / "low.img")
    daemon.make("data", 16 * MIB, tmp_path / "a.img", tmp_path / "b.img")
    return daemon.path("low")


def refused(daemon: Daemon, *words: object) -> str:
    answer = daemon.ctl(*words)
    assert (answer.status, answer.code) == (3, "refused_in_use"), f"{words}: {answer.json} {answer.err}"
    assert "own mount" in answer.err
    write_at(daemon.path("low"), 0, b"served")  # nobody waits for itself
    assert read_at(daemon.path("low"), 0, 6) == b"served"
    return answer.err


def every_verb(daemon: Daemon, path: Path) -> None:
    """All that take a path."""
    refused(daemon, "import", path)
    refused(daemon, "make", "new", 16 * MIB, path, "--force")
    refused(daemon, "make", "new", 16 * MIB, path, "--from", path)
    refused(daemon, "plex", "add", "data", path, "--force")
    refused(daemon, "snapstart", "data", path, "--force")
    refused(daemon, "snapshot", "data", "--instant", path, "--force")
    assert daemon.states("data") == ["ACTIVE", "ACTIVE"]


def test_a_volumes_own_file_is_no_plex(daemon: Daemon, low: Path) -> None:
    every_verb(daemon, low)


def test_nor_is_a_loop_device_on_it_nor_a_link_to_that(daemon: Daemon, loops: Loops, low: Path, tmp_path: Path) -> None:
    device = Path(loops.attach(low))
    every_verb(daemon, device)
    (tmp_path / "link").symlink_to(device)
    assert device.name in refused(daemon, "import", tmp_path / "link")


def test_nor_is_a_file_in_a_file_system_on_it(daemon: Daemon, loops: Loops, low: Path) -> None:
    device = loops.attach(low)
    tool("mkfs.ext4", "-q", device)
    where = loops.mount(device)
    (where / "plex").write_bytes(bytes(16 * MIB))
    every_verb_on(daemon, where / "plex")
    # and deeper: a loop device on a file there
    every_verb_on(daemon, Path(loops.attach(where / "plex", "--direct-io=off")))


def every_verb_on(daemon: Daemon, path: Path) -> None:
    """Without the write to the volume, which a file system lies on by now."""
    for words in (("import", path), ("make", "new", 16 * MIB, path, "--force"), ("plex", "add", "data", path)):
        answer = daemon.ctl(*words)
        assert (answer.status, answer.code) == (3, "refused_in_use"), f"{words}: {answer.json} {answer.err}"
    assert daemon.states("data") == ["ACTIVE", "ACTIVE"]


@pytest.mark.parametrize("whole", ["plex", "dco"])
def test_a_plex_that_leads_back_by_now_stays_out(daemon: Daemon, low: Path, tmp_path: Path, whole: str) -> None:
    """Its path, or that of its DCO, is a link to a volume: by attach, recover and start."""
    directory = tmp_path / "dco"
    directory.mkdir()
    daemon.make("extra", 16 * MIB, tmp_path / "c.img", f"{tmp_path / 'd.img'},dco={directory / 'd.dco'}")
    daemon.json("plex", "det", "extra", "extra-02")
    if whole == "plex":
        (tmp_path / "d.img").unlink()
        os.symlink(low, tmp_path / "d.img")
    else:
        directory.rename(tmp_path / "old")
        os.symlink(low.parent, directory)
    refused(daemon, "plex", "att", "extra", "extra-02")
    answer = daemon.ctl("recover", "extra")
    assert [each["code"] for each in answer.json["failed"]] == ["refused_in_use"]
    daemon.json("stop", "extra")
    daemon.json("start", "extra")
    assert daemon.states("extra") == ["ACTIVE", "STALE"]
    write_at(daemon.path("extra"), 0, b"one copy is enough")
    daemon.json("stop", "extra")
    daemon.json("remove", "extra")
    write_at(low, 0, b"served")
