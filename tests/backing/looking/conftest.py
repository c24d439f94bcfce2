from pathlib import Path

import pytest

from tests.backing.looking.machines import FakeMachine


@pytest.fixture
def fake(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path / "machine")
