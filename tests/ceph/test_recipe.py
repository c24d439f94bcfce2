"""The README's recipe for a plex in a Ceph cluster, as it stands there."""

from pathlib import Path

import pytest

from tests.ceph.cluster import Cluster
from tests.e2e.harness import Daemon, needs_fuse, needs_program, write_at
from tests.e2e.test_far_recipes import SIZE, run

pytestmark = [needs_fuse, needs_program("ceph", "rbd")]


def test_from_nothing_to_a_running_mirror(
    daemon: Daemon, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CEPH_CONF", str(cluster.conf))
    daemon.make("data", SIZE, tmp_path / "a")
    places = {"/etc/ceph": str(tmp_path), "rbd:rbd/far?id=fmrd": f"rbd:rbd/far?id=fmrd&conf={cluster.conf}"}
    run(daemon, "in a Ceph cluster", **places)
    write_at(daemon.path("data"), 12345, b"on both" * 1000)
    daemon.in_sync("data")
    assert daemon.stop() == 0
    assert cluster.content("rbd:rbd/far", 0, SIZE) == (tmp_path / "a").read_bytes()
    assert "[client.fmrd]" in (tmp_path / "ceph.client.fmrd.keyring").read_text()
