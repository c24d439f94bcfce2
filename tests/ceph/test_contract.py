"""The same tests as for every other kind of storage, asked of an image."""

import pytest

from tests.backing import test_contract as contract
from tests.backing.storages import SIZE
from tests.ceph.cluster import Cluster

globals().update({name: each for name, each in vars(contract).items() if name.startswith("test_") or name == "state"})


@pytest.fixture
def path(cluster: Cluster) -> str:
    return cluster.image(SIZE)
