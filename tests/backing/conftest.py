from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from fmrd.backing.calls.ring_calls import RingCalls
from fmrd.backing.ring.probe import open_ring
from fmrd.backing.ring.ring import Ring
from tests.backing import disks


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory on tmpfs."""
    if not Path("/dev/shm").is_dir():
        pytest.skip("needs /dev/shm")
    with TemporaryDirectory(dir="/dev/shm", prefix="fmrd-test-") as path:
        yield Path(path)


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[str]:
    """A loop device of 4 MiB."""
    with disks.loop_device(tmp_path, 4 << 20) as device:
        yield device


@pytest.fixture
def calls() -> Iterator[RingCalls]:
    """System calls by a ring of its own."""
    ring = open_ring(8)
    if not isinstance(ring, Ring):
        pytest.skip(ring)
    yield RingCalls(ring)
    ring.close()
