"""All kinds of storage that a plex may lie on, as a test wants one: its path, and what makes it go away afterwards."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests import ssh_server
from tests.backing import disks
from tests.nbd_servers import SERVERS, disk, is_installed, serving, ssh_to_here

SIZE = 8 << 20
LOCAL = ("file", "tmpfs", "loop")
ALL = (*LOCAL, *SERVERS, "ssh", "sshd")


@contextmanager
def storage(kind: str, where: Path) -> Iterator[str]:
    """The path, or URI, of SIZE bytes of it, all zeros. A kind that this machine does not have is skipped."""
    if kind == "file":
        yield _file(where)
    elif kind == "tmpfs":
        if not Path("/dev/shm").is_dir():
            pytest.skip("needs /dev/shm")
        with TemporaryDirectory(dir="/dev/shm", prefix="fmrd-test-") as memory:
            yield _file(Path(memory))
    elif kind == "loop":
        with disks.loop_device(where, SIZE) as device:
            yield device
    elif kind == "ssh":
        if not (is_installed("nbdkit") and is_installed("flock")):
            pytest.skip("needs nbdkit and flock")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", f"{ssh_to_here(where)}:{os.environ['PATH']}")
            yield f"ssh://here{disk(where, SIZE)}"
    elif kind == "sshd":
        if missing := ssh_server.lacks():
            pytest.skip(f"needs {missing}")
        with ssh_server.sshd(where / "sshd") as (host, ssh), pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", f"{ssh}:{os.environ['PATH']}")
            yield f"ssh://{host}{disk(where, SIZE)}"
    else:
        program, make = SERVERS[kind]
        if not is_installed(program):
            pytest.skip(f"{program} is not installed")
        with serving(make(where, SIZE)) as server:
            yield server.uri


def _file(where: Path) -> str:
    path = where / "plex"
    with open(path, "wb") as file:
        os.truncate(file.fileno(), SIZE)
    return str(path)
