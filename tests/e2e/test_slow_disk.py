"""A disk that is slow by order: stat and fio agree on how slow, and it is named before anything hangs."""

import json
from pathlib import Path

import pytest

from tests.e2e.harness import Daemon, needs_fuse, needs_program, tool, until
from tests.e2e.nbd import nbd_disk
from tests.e2e.test_faults import forget

pytestmark = [needs_fuse, needs_program("nbdkit", "nbdfuse", "fusermount3", "fio")]
DELAY_MS = 25


def delayed(where: Path) -> tuple[str, ...]:
    """Filters for a disk on which reads and writes take so long."""
    return ("--filter=delay", "file", str(where / "disk.raw"), f"delay-read={DELAY_MS}ms", f"delay-write={DELAY_MS}ms")


@pytest.mark.parametrize("kind", ["write", "read"])
def test_stat_agrees_with_what_fio_measures(daemon: Daemon, tmp_path: Path, kind: str) -> None:
    """Of direct requests, of which the kernel's own part is small beside the disk's."""
    where = tmp_path / "nbd"
    with nbd_disk(where, *delayed(where)) as disk:
        daemon.make("data", "16M", f"{disk.path},dco={tmp_path / 'dco'}", options=("--force",))
        job = (
            "fio",
            "--name=job",
            f"--filename={daemon.path('data')}",
            f"--rw=rand{kind}",
            "--bs=4k",
            "--direct=1",
            "--ioengine=psync",
            "--number_ios=60",
            "--size=16m",
            "--allow_file_create=0",
            "--output-format=json",
        )  # fmt: skip
        tool(*job, "--randseed=1")  # every extent is in the log now
        forget(disk.path)  # else reads end in the page cache
        [before, *_] = daemon.json("stat", "data")["figures"]
        [run] = json.loads(tool(*job, "--randseed=2"))["jobs"]
        [after, *_] = daemon.json("stat", "data")["figures"]
        count = after[f"{kind}s"] - before[f"{kind}s"]
        assert count >= 60
        total = after[f"{kind}s"] * after[f"{kind}_seconds"] - before[f"{kind}s"] * before[f"{kind}_seconds"]
        assert total / count == pytest.approx(run[kind]["lat_ns"]["mean"] / 1e9, rel=0.1)
        daemon.stop()


def test_a_plex_that_is_slow_is_named_long_before_it_hangs(daemon: Daemon, tmp_path: Path) -> None:
    where = tmp_path / "nbd"
    with nbd_disk(where, *delayed(where)) as disk:
        daemon.make("data", "16M", tmp_path / "a", f"{disk.path},dco={tmp_path / 'dco'}", options=("--force", "--wait"))

        def named() -> bool:
            tool("fio", "--name=job", f"--filename={daemon.path('data')}", "--rw=randwrite", "--bs=4k", "--direct=1",
                 "--ioengine=psync", "--number_ios=40", "--size=16m", "--allow_file_create=0")  # fmt: skip
            return daemon.plex("data", "data-02")["slow"] is not None

        until(named, "data-02 is named", 120)
        sentence = daemon.plex("data", "data-02")["slow"]
        assert sentence.startswith("a write takes ") and " on its peers" in sentence
        assert daemon.plex("data", "data-01")["slow"] is None
        [told] = [each for each in daemon.json("events", "--no-follow")["events"] if each["kind"] == "slow_plex"]
        assert told["plex"] == "data-02" and " is slow: " in told["message"] and "fmrctl plex det" in told["action"]
        assert told["message"] in daemon.log()
        for verb in ("stat", "print"):  # its figures are those of each period
            assert "plex data-02 is slow: a write takes " in daemon.fmrctl(verb, "data").stdout
        daemon.stop()
