"""fio with verify through a loop device, plexes that come and go, a daemon that is killed: all plexes end the same."""

from collections.abc import Iterator

import pytest

from tests.e2e.harness import Daemon, Loops, needs_fuse, needs_loops, needs_program
from tests.e2e.soak import Soak

pytestmark = [needs_fuse, needs_loops, needs_program("fio", "cmp")]

ROUNDS = 3


@pytest.fixture
def soak(daemon: Daemon, loops: Loops) -> Iterator[Soak]:
    made = Soak(daemon, loops, size_mib=48, seed=1)
    yield made
    made.clean_up()


def test_fio_verifies_while_plexes_come_and_go_and_the_daemon_is_killed(soak: Soak) -> None:
    soak.make()
    for _ in range(ROUNDS):
        soak.round(io_mib=24)
    soak.finish()
    assert soak.counts["kills"] == ROUNDS and soak.counts["verify passes"] == 2 * ROUNDS
    assert soak.counts["detaches"] >= 2 * ROUNDS, soak.counts
