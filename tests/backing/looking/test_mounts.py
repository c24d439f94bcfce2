"""Which mount a path lies in, without asking any file system."""

import pytest

from fmrd.backing.looking.mounts import Mounts, parse

ROOT = b"20 1 254:0 / / rw - ext4 /dev/root rw"


def held(path: str, *lines: bytes) -> str:
    mount = Mounts(lines).holding(path)
    return "" if mount is None else mount.source


def test_a_line_is_understood() -> None:
    mount = parse(
        b"36 35 98:0 /mnt1 /a\\040b\\134c rw,noatime master:1 shared:2 - fuse.x na\\011me rw,errors=continue\n"
    )
    assert mount is not None
    assert (mount.number, mount.parent, mount.device, mount.root) == (36, 35, "98:0", "/mnt1")
    assert (mount.point, mount.type, mount.source) == ("/a b\\c", "fuse.x", "na\tme")
    assert mount.options == "rw,errors=continue"


@pytest.mark.parametrize("line", [b"", b"nonsense", b"36 35 98:0 / - ext4 x rw"])
def test_what_is_no_line_is_none(line: bytes) -> None:
    assert parse(line) is None


def test_a_path_lies_in_the_innermost_mount() -> None:
    lines = (ROOT, b"21 20 8:1 / /srv rw - xfs B rw", b"22 21 8:2 / /srv/deep rw - xfs C rw")
    assert held("/srv/deep/x", *lines) == "C"
    assert held("/srv/deeper", *lines) == "B"
    assert held("/srvx", *lines) == "/dev/root"


def test_the_last_one_lies_on_top() -> None:
    lines = (ROOT, b"21 20 8:1 / /srv rw - xfs B rw", b"22 21 8:2 / /srv rw - xfs C rw")
    assert held("/srv/x", *lines) == "C"


def test_what_something_was_mounted_over_counts_no_more() -> None:
    """/srv/deep was mounted first, then its parent directory was covered."""
    lines = (ROOT, b"21 20 8:1 / /srv/deep rw - xfs B rw", b"22 20 8:2 / /srv rw - xfs C rw")
    assert held("/srv/deep/x", *lines) == "C"


def test_a_root_that_is_no_mount_is_unknown_and_what_lies_below_is_not() -> None:
    lines = (b"21 20 8:1 / /srv rw - xfs B rw",)
    assert held("/etc", *lines) == ""
    assert held("/srv/x", *lines) == "B"


def test_an_overlay_lies_on_its_layers() -> None:
    mount = parse(b"36 35 0:50 / /x rw - overlay overlay rw,lowerdir=/a:/b,upperdir=/c,workdir=/d")
    assert mount is not None and mount.lies_on == ["/a", "/b", "/c", "/d"]


def test_a_source_that_is_no_path_is_nothing_it_lies_on() -> None:
    mount = parse(b"36 35 0:50 / /x rw - nfs4 server:/export rw")
    assert mount is not None and mount.lies_on == []
