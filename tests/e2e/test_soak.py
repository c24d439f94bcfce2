"""A bounded run of the soak: events at random under load, through both doors, and every byte is looked at."""

from contextlib import ExitStack

from tests.e2e.harness import Daemon, Loops, needs_fuse, needs_loops, needs_program
from tests.e2e.soak import Soak

pytestmark = [
    needs_fuse, needs_loops,
    needs_program("fio", "cmp", "nbdkit", "nbdfuse", "mkfs.ext4", "e2fsck", "mkfs.xfs", "xfs_repair"),
]  # fmt: skip

STEPS = 40


def test_volumes_and_snapshots_in_use_survive_what_happens_to_them(stopped_daemon: Daemon, loops: Loops) -> None:
    stopped_daemon.start()
    with ExitStack() as stack:
        soak = Soak(stopped_daemon, loops, stack, file_mib=4, seed=1)
        soak.make()
        soak.round(STEPS)
    assert soak.counts["round"] == 1 and soak.counts["blocks checked"] and soak.counts["plexes checked"]
