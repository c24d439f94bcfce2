from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ceph import cluster as clusters
from tests.ceph.cluster import Cluster
from tests.e2e.conftest import daemon, stopped_daemon
from tests.e2e.harness import DOORS

__all__ = ["daemon", "stopped_daemon"]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One for all of these tests, each of which has images of its own."""
    if missing := clusters.lacks():
        pytest.skip(f"a Ceph cluster needs {missing}")
    with clusters.running(Path(tmp_path_factory.mktemp("ceph"))) as running:
        yield running


@pytest.fixture
def door() -> str:
    """One is enough here: what a door does is the same for all plexes."""
    return DOORS[0]
