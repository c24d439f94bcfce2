from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engine.rig import Rig, daemon


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A daemon without volumes."""
    async with daemon(tmp_path) as running:
        yield running
