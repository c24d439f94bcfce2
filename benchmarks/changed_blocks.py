#!/usr/bin/env python3
"""What it costs to know, and to send, what changed: beside reading all of both snapshots, as any comparison must.

A sparse volume of two plexes, of which so many regions are written with 4 KiB each, scattered; then so many others,
between two instant snapshots. Told are seconds, medians of rounds: of 'changed' (and the processor time of both fmrctl
and fmrd), of 'send --since' (its bytes beside those that changed), and of 'cat' of both snapshots to nowhere. Then what
others do who know nothing of what changed, from the second snapshot onto a copy of the first: 'rsync --inplace', and a
comparison as blocksync's: digests of all blocks of 1 MiB on both sides, and those that differ are written. These read
all of it, so for a volume of a tebibyte they are left out by --no-full. Needs /dev/fuse, and rsync where that is asked.
"""

import argparse
import hashlib
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from fio_doors import BIN, run, volume
from measuring import process_of

REGION = 64 << 10
PIECE = 4096
BLOCK = 1 << 20


def write(file: Path, regions: list[int]) -> None:
    descriptor = os.open(file, os.O_RDWR)
    try:
        for region in regions:
            os.pwrite(descriptor, os.urandom(PIECE), region * REGION)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def seconds_of(socket: Path, *words: str) -> tuple[float, int]:
    """(Seconds, bytes of standard output) of one fmrctl."""
    command = [str(BIN / "fmrctl"), "--socket", str(socket), *words]
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0) as program:
        assert program.stdout is not None
        size = 0
        while data := program.stdout.read(1 << 20):
            size += len(data)
    if program.returncode:
        raise RuntimeError(f"fmrctl {' '.join(words)} ended with {program.returncode}")
    return time.monotonic() - began, size


def measure(where: Path, options: argparse.Namespace) -> dict[str, float]:
    draw = random.Random(1)
    with volume(where, options.size, "channel") as file:
        socket = where / "socket"
        for name in ("one", "two"):
            write(file, sorted(draw.sample(range((options.size << 20) // REGION), options.regions)))
            run(BIN / "fmrctl", "--socket", socket, "snapshot", "bench", "--instant", where / name, "--name", name)
        found: dict[str, float] = {}
        before = spent(process_of(where))
        found["changed"], _ = seconds_of(socket, "changed", "two", "--since", "one")
        found["its processor time"] = spent(process_of(where)) - before
        found["send"], size = seconds_of(socket, "send", "two", "--since", "one")
        found["sent / changed"] = size / (options.regions * REGION)
        if options.full:
            found["cat of both"] = sum(seconds_of(socket, "cat", name)[0] for name in ("one", "two"))
            found |= full(where, file.parent / "one", file.parent / "two")
        return found


def spent(process: int) -> float:
    """Processor seconds of a process, and of children of ours that have ended."""
    stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    own = os.times()
    return sum(map(int, stat[11:13])) / os.sysconf("SC_CLK_TCK") + own.children_user + own.children_system


def full(where: Path, one: Path, two: Path) -> dict[str, float]:
    """What a comparison of all bytes takes, onto copies of the first snapshot."""
    found = {}
    rsync = shutil.which("rsync")
    works: dict[str, Callable[[Path], None]] = {"blocksync": partial(blocksync, two)}
    if rsync is not None:
        words = (rsync, "--inplace", "--no-whole-file", "--ignore-times", two)
        works["rsync --inplace"] = partial(run, *words)
    for name, work in works.items():
        copy = where / "copy"
        run("cp", "--sparse=always", one, copy)
        began = time.monotonic()
        work(copy)
        os.sync()
        found[name] = time.monotonic() - began
        run("cmp", two, copy)
        copy.unlink()
    return found


def blocksync(source: Path, target: Path) -> None:
    """Both sides at once, as on two machines; what differs is read again, and written."""

    def digests(path: Path) -> list[bytes]:
        with path.open("rb", buffering=0) as file:
            return [hashlib.sha256(block).digest() for block in iter(partial(file.read, BLOCK), b"")]

    with ThreadPoolExecutor(2) as sides:
        ours, theirs = sides.map(digests, (source, target))
    with source.open("rb", buffering=0) as file, target.open("r+b", buffering=0) as other:
        for number, (here, there) in enumerate(zip(ours, theirs, strict=True)):
            if here != there:
                os.pwrite(other.fileno(), os.pread(file.fileno(), BLOCK, number * BLOCK), number * BLOCK)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default="/var/tmp", help="where everything lies (default: %(default)s)")
    parser.add_argument("--size", type=int, default=16384, help="of the volume, in MiB (default: %(default)s)")
    parser.add_argument("--regions", type=int, default=1000, help="that change (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-full", dest="full", action="store_false", help="nothing that reads all of the volume")
    options = parser.parse_args()
    rounds = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(dir=options.dir) as directory:
            rounds.append(measure(Path(directory) / "round", options))
    middle = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    print("| " + " | ".join(middle) + " |")
    print("|" + "---|" * len(middle))
    print("| " + " | ".join(f"{each:.2f}" for each in middle.values()) + " |")
    for name in ("cat of both", "rsync --inplace", "blocksync"):
        if name in middle:
            print(f"{name} takes {middle[name] / middle['send']:.1f} times as long as send")
    return 0


if __name__ == "__main__":
    sys.exit(main())
