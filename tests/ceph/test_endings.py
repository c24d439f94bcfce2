"""A daemon ends while the cluster does not answer, or just as it answers again: in time, in order, and without a crash
in a library whose threads are at work yet.
"""

from pathlib import Path

import pytest

from tests.ceph.cluster import Cluster
from tests.e2e.harness import MIB, REGION, Daemon, needs_fuse, until, write_at

pytestmark = needs_fuse
SIZE, DISK = 8 * MIB, 12 * MIB


@pytest.mark.parametrize("goes_on", [False, True])
def test_fmrd_stops_in_order_though_calls_of_librbd_are_under_way(
    daemon: Daemon, cluster: Cluster, tmp_path: Path, *, goes_on: bool
) -> None:
    uri = cluster.image(DISK)
    daemon.make("data", SIZE, tmp_path / "near", uri)
    daemon.in_sync("data")
    daemon.json("set", "data", "io_timeout=1")
    cluster.hang()
    write_at(daemon.path("data"), 3 * REGION, b"not there")
    until(lambda: daemon.states("data") == ["ACTIVE", "IOFAIL"], "the plex has failed")
    if goes_on:
        cluster.go_on()
    assert daemon.stop() == 0
    cluster.go_on()
