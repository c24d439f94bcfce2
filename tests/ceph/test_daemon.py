"""A volume with one plex here and one in a Ceph cluster, by the real daemon."""

import os
import shutil
from pathlib import Path

import pytest

from tests.ceph.cluster import Cluster
from tests.e2e.harness import MIB, REGION, Daemon, needs_fuse, read_at, until, write_at

pytestmark = needs_fuse
SIZE = 8 * MIB
DISK = 12 * MIB


@pytest.fixture
def uri(cluster: Cluster) -> str:
    return cluster.image(DISK)


def is_same(cluster: Cluster, uri: str, near: Path) -> bool:
    return cluster.content(uri, 0, SIZE) == near.read_bytes()


def test_it_is_detached_and_attached_and_only_what_it_missed_is_copied(
    daemon: Daemon, cluster: Cluster, uri: str, tmp_path: Path
) -> None:
    daemon.make("data", SIZE, tmp_path / "near", uri)
    write_at(daemon.path("data"), 0, os.urandom(MIB))
    daemon.in_sync("data")
    daemon.json("plex", "det", "data", uri)
    write_at(daemon.path("data"), 40 * REGION, b"missed" * 1000)
    task = daemon.attach("data", uri)
    assert (task["state"], task["reason"]["code"]) == ("done", "fast")
    assert task["copied_bytes"] <= 2 * REGION
    far = daemon.plex("data", uri)["far"]
    assert (far["transport"], far["fence"]) == ("rbd", "lock")
    assert daemon.stop() == 0
    assert is_same(cluster, uri, tmp_path / "near")


def test_after_a_kill_it_is_there_again_at_once_and_joins_by_itself(
    daemon: Daemon, cluster: Cluster, uri: str, tmp_path: Path
) -> None:
    """The lock of the dead one is broken, so nobody has to say that nothing is under way."""
    daemon.make("data", SIZE, tmp_path / "near", uri)
    daemon.in_sync("data")
    write_at(daemon.path("data"), MIB, b"kept" * 1000)
    daemon.kill()
    daemon.restart()
    until(lambda: daemon.states("data") == ["ACTIVE", "ACTIVE"], "both are there")
    daemon.in_sync("data")
    assert read_at(daemon.path("data"), MIB, 4000) == b"kept" * 1000
    daemon.json("stop", "data")
    daemon.stop()
    assert is_same(cluster, uri, tmp_path / "near")
    shutil.rmtree(daemon.state)
    (tmp_path / "near").unlink()
    daemon.start()
    daemon.json("import", uri, "--force")
    assert read_at(daemon.path("data"), MIB, 4000) == b"kept" * 1000


def test_a_cluster_that_hangs_holds_nobody_up_and_its_plex_comes_back_by_itself(
    daemon: Daemon, cluster: Cluster, uri: str, tmp_path: Path
) -> None:
    daemon.make("data", SIZE, tmp_path / "near", uri)
    daemon.in_sync("data")
    daemon.json("set", "data", "io_timeout=1")
    cluster.hang()
    write_at(daemon.path("data"), 3 * REGION, b"not there")
    until(lambda: daemon.states("data") == ["ACTIVE", "IOFAIL"], "the plex has failed")
    assert read_at(daemon.path("data"), 3 * REGION, 9) == b"not there"
    cluster.go_on()
    until(lambda: daemon.states("data") == ["ACTIVE", "ACTIVE"], "it came back by itself")
    daemon.in_sync("data")
    assert daemon.stop() == 0
    assert is_same(cluster, uri, tmp_path / "near")


def test_what_others_have_is_not_taken_and_what_is_dumped_lies_there(
    daemon: Daemon, cluster: Cluster, uri: str, tmp_path: Path
) -> None:
    with cluster.opened(uri) as other:
        other.lock_acquire(0)
        answer = daemon.ctl("make", "data", SIZE, tmp_path / "near", uri)
        assert answer.code == "plex_busy" and "exclusive lock" in answer.err
    daemon.make("data", SIZE, tmp_path / "near", uri)
    daemon.in_sync("data")
    shown = daemon.ctl("dump", uri).json["dco"]
    assert [plex["path"] for plex in shown["volumes"][0]["plexes"]] == [str(tmp_path / "near"), uri]
    for wrong in ("rbd:", "rbd:pool", "rbd:pool/image@snap", "rbd:pool/image?key=x"):
        assert daemon.ctl("make", "other", SIZE, tmp_path / "other", wrong).code == "bad_uri"
