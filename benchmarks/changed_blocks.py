#!/usr/bin/env python3
"""What it costs to know, and to send, what changed: beside reading all of both snapshots, as any comparison must.

A sparse volume of two plexes, of which so many regions are written with 4 KiB each, scattered; then so many others,
between two instant snapshots. Told are seconds, medians of rounds: of 'changed', of 'send --since' (its bytes beside
those that changed), and of 'cat' of both snapshots to nowhere. Needs /dev/fuse.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fio_doors import BIN, run, volume

REGION = 64 << 10
PIECE = 4096


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
        found["changed"], _ = seconds_of(socket, "changed", "two", "--since", "one")
        found["send"], size = seconds_of(socket, "send", "two", "--since", "one")
        found["sent / changed"] = size / (options.regions * REGION)
        found["cat of both"] = sum(seconds_of(socket, "cat", name)[0] for name in ("one", "two"))
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default="/var/tmp", help="where everything lies (default: %(default)s)")
    parser.add_argument("--size", type=int, default=16384, help="of the volume, in MiB (default: %(default)s)")
    parser.add_argument("--regions", type=int, default=1000, help="that change (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rounds = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(dir=options.dir) as directory:
            rounds.append(measure(Path(directory) / "round", options))
    middle = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    print("| " + " | ".join(middle) + " | cat of both / send |")
    print("|" + "---|" * (len(middle) + 1))
    print("| " + " | ".join(f"{each:.2f}" for each in middle.values()), end="")
    print(f" | {middle['cat of both'] / middle['send']:.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
