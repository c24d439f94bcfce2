"""What all tests share: how they are dealt out to pytest-xdist's workers (scripts/test runs two), and counted."""

import os
from pathlib import Path

import pytest

from tests.tiers import pytest_terminal_summary  # noqa: F401  (pytest looks for its hooks here)

os.environ["FMRD_CONF"] = "/nonexistent/fmrd.conf"  # what this machine has set is nothing to a test

_HERE = Path(__file__).parent
_MACHINE = (_HERE / "e2e", _HERE / "prometheus")
"""Tests that mount, attach loop devices and load both cores. Side by side they would only wait for each other."""
_CLUSTER = _HERE / "ceph"
"""Tests that share one cluster."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in _MACHINE):
            item.add_marker(pytest.mark.xdist_group("machine"))
        if item.path.is_relative_to(_CLUSTER):
            item.add_marker(pytest.mark.xdist_group("ceph"))
