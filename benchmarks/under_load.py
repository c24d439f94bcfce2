#!/usr/bin/env python3
"""What the application pays while fmrd does more than serve it: tracking, a resync, a disk that stands still.

- tracking: a volume of two plexes, and the same with a third that is detached, so that the DRL and its map are kept,
  against a daemon of the same code that skips both. The ratio of requests a second.
- resync: a healthy volume, and while one of its plexes is copied in full. The ratio of the 99th percentiles. The
  application stays on extents that are hot by then, for what a first touch costs is another question.
- slow: a volume alone, and while a plex of another one lies on a disk that stands still for half of the time, and that
  volume is written to. The longest request, and the ratio of requests a second.

Plexes lie in memory. Needs root, /dev/fuse, fio. Rounds are interleaved; medians are told.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fio_doors import BIN, fio, run, volume

from fmrd.front.client import Client

JOBS = {
    "4K write, depth 1": ("randwrite", "4k", 1),
    "4K write, depth 32": ("randwrite", "4k", 32),
    "4K read, depth 32": ("randread", "4k", 32),
}
UNTRACKED = "--serve-untracked"
HOT_MIB = 256
FIO_STARTS_SECONDS = 1.0
"""With half a second in which it does not measure yet."""
Figures = dict[str, float]


def untracked(arguments: list[str]) -> None:
    """fmrd without a dirty region log, for comparison: nothing of it would survive a crash."""
    from fmrd.core.maps.drl import DirtyRegionLog
    from fmrd.engine.serving.quick import Quick
    from fmrd.front.daemon.daemon import main as fmrd

    Quick._is_hot = lambda *_: True  # type: ignore[method-assign]  # that is the point
    DirtyRegionLog.touch = lambda *_: True  # type: ignore[method-assign]  # that is the point
    sys.argv = ["fmrd", *arguments]
    fmrd()


def fmrctl(file: Path, *words: object) -> str:
    return run(BIN / "fmrctl", "--json", "--socket", file.parent.parent / "socket", *words)


def medians(found: dict[str, list[Figures]]) -> dict[str, Figures]:
    return {
        name: {key: statistics.median(each[key] for each in many) for key in many[0]} for name, many in found.items()
    }


def interleaved(targets: dict[str, Callable[[], Figures]], rounds: int) -> dict[str, Figures]:
    """Each round begins with another target: who comes first meets a machine that rested."""
    found: dict[str, list[Figures]] = {name: [] for name in targets}
    names = list(targets)
    for turn in range(rounds):
        for index in range(len(names)):
            name = names[(turn + index) % len(names)]
            found[name].append(targets[name]())
    return medians(found)


def tracking(where: Path, seconds: float, rounds: int) -> None:
    with ExitStack() as stack:
        program = (sys.executable, __file__, UNTRACKED)
        files = {
            "skipped": stack.enter_context(volume(where / "without", HOT_MIB, "channel", program=program)),
            "DRL": stack.enter_context(volume(where / "log", HOT_MIB, "channel")),
            "DRL and map": stack.enter_context(volume(where / "with", HOT_MIB, "channel", plexes="abc")),
        }
        fmrctl(files["DRL and map"], "plex", "det", "bench", "bench-03")
        for file in files.values():
            fio(file, "write", "1m", 4, HOT_MIB, 0)
        for job, (kind, block, depth) in JOBS.items():

            def measure(file: Path, kind: str = kind, block: str = block, depth: int = depth) -> Figures:
                return fio(file, kind, block, depth, HOT_MIB, seconds)

            got = interleaved({name: lambda file=file: measure(file) for name, file in files.items()}, rounds)
            base = got["skipped"]["iops"]
            told = ", ".join(f"{name} {each['iops'] / base:.3f}" for name, each in got.items())
            print(f"tracking, {job}: requests a second, {told} ({base:.0f})", flush=True)


def resync(where: Path, seconds: float, rounds: int, size_mib: int = 6144) -> None:
    with volume(where / "resync", size_mib, "channel") as file:
        fio(file, "write", "1m", 4, size_mib, 0)
        for job, (kind, block, depth) in JOBS.items():

            def alone(kind: str = kind, block: str = block, depth: int = depth) -> Figures:
                return fio(file, kind, block, depth, HOT_MIB, seconds)

            def beside(alone: Callable[[], Figures] = alone) -> Figures:
                fmrctl(file, "plex", "det", "bench", "bench-02")
                fio(file, "write", "1m", 4, HOT_MIB, 0)  # a detach lets the log go: make its extents hot again
                task = json.loads(fmrctl(file, "plex", "att", "bench", "bench-02", "--full"))["task"]
                with copying(file, task["id"], seconds) as rates:
                    figures = alone()
                figures["copied_mib"] = rates[0]
                fmrctl(file, "plex", "att", "bench", "bench-02", "--wait")
                return figures

            fio(file, "write", "1m", 4, HOT_MIB, 0)
            got = interleaved({"alone": lambda alone=alone: {**alone(), "copied_mib": 0.0}, "beside": beside}, rounds)
            one, two = got["alone"], got["beside"]
            print(
                f"resync, {job}: p99 {one['p99_us']:.0f}, {two['p99_us']:.0f} us: {two['p99_us'] / one['p99_us']:.2f}; "
                f"requests a second {two['iops'] / one['iops']:.2f}; {two['copied_mib']:.0f} MiB/s copied",
                flush=True,
            )


@contextmanager
def copying(file: Path, task_id: int, seconds: float) -> Iterator[list[float]]:
    """The MiB a second that a task copies while fio is at work in the block: not while it starts and ends."""
    client = Client(file.parent.parent / "socket")
    looks: list[tuple[float, int]] = []

    def look() -> None:
        now = next(t for t in client.ask("task_list", all=True)["tasks"] if t["id"] == task_id)
        if now["state"] == "running":
            looks.append((time.monotonic(), now["done_bytes"]))

    timers = [threading.Timer(FIO_STARTS_SECONDS + part * seconds, look) for part in (0, 0.5)]
    rates: list[float] = []
    for timer in timers:
        timer.start()
    yield rates
    for timer in timers:
        timer.join()
    if len(looks) < 2:
        raise RuntimeError("the copy ended before fio did")
    (began, before), (ended, after) = looks
    rates.append((after - before) / (1 << 20) / (ended - began))


@contextmanager
def standing_still(process: int) -> Iterator[None]:
    """Half a second in every second."""
    over = threading.Event()

    def go() -> None:
        while True:
            os.kill(process, signal.SIGSTOP)
            over.wait(0.5)
            os.kill(process, signal.SIGCONT)
            if over.wait(0.5):
                return

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def slow(where: Path, seconds: float, rounds: int) -> None:
    with ExitStack() as stack:
        disk = stack.enter_context(volume(where / "disk", HOT_MIB, "channel"))
        file = stack.enter_context(volume(where / "slow", HOT_MIB, "channel"))
        [process] = run("pgrep", "-f", "--", f"--mount {where / 'disk' / 'mount'}").split()
        other = [disk, f"{where / 'slow' / 'other'},dco={where / 'slow' / 'other.dco'}"]
        fmrctl(file, "make", "other", f"{HOT_MIB}M", f"{disk},dco={where / 'slow' / 'disk.dco'}", other[1], "--force")
        fmrctl(file, "task", "monitor")
        fio(file, "write", "1m", 4, HOT_MIB, 0)
        for job, (kind, block, depth) in JOBS.items():

            def alone(kind: str = kind, block: str = block, depth: int = depth) -> Figures:
                return fio(file, kind, block, depth, HOT_MIB, seconds)

            def beside(alone: Callable[[], Figures] = alone) -> Figures:
                command = f"fio --name=other --filename={file.parent / 'other'} --rw=randwrite --bs=4k --iodepth=4"
                writer = subprocess.Popen(
                    [*command.split(), "--ioengine=libaio", "--direct=1", f"--size={HOT_MIB}m", "--time_based",
                     "--runtime=1000", "--allow_file_create=0"], stdout=subprocess.DEVNULL,
                )  # fmt: skip
                try:
                    with standing_still(int(process)):
                        return alone()
                finally:
                    writer.terminate()
                    writer.wait()

            got = interleaved({"alone": alone, "beside": beside}, rounds)
            one, two = got["alone"], got["beside"]
            print(
                f"slow, {job}: longest request {one['max_us'] / 1000:.1f}, {two['max_us'] / 1000:.1f} ms; "
                f"requests a second {two['iops'] / one['iops']:.2f}",
                flush=True,
            )


def main() -> int:
    if sys.argv[1:2] == [UNTRACKED]:
        untracked(sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default="/dev/shm", help="where the plexes lie (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each job (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--only", choices=["tracking", "resync", "slow"])
    options = parser.parse_args()
    for part in (tracking, resync, slow):
        if options.only in (None, part.__name__):
            with tempfile.TemporaryDirectory(dir=options.dir, prefix="fmrd-bench-") as where:
                part(Path(where), options.seconds, options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
