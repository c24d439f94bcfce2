from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.backing import disks
from tests.engine.rig import Rig, daemon


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A daemon without volumes."""
    async with daemon(tmp_path) as running:
        yield running


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[str]:
    """A loop device of 4 MiB."""
    with disks.loop_device(tmp_path, 4 << 20) as device:
        yield device
