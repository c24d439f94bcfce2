"""Programs of Prometheus, which scripts/prometheus has fetched where they are not installed; and a daemon to scrape."""

import pytest

from tests.e2e.conftest import stopped_daemon  # noqa: F401  (a fixture)


@pytest.fixture
def door() -> str:
    """What is told is the same, whatever the door."""
    return "channel"
