#!/usr/bin/env python3
"""What an instant snapshot costs its original: 4 KiB random writes, depth 32, before it is taken, and twice after it.

A full volume of two plexes behind a loop device with direct I/O, the snapshot on the same file system. Each round makes
a volume of its own, and has three windows of so many seconds: without a snapshot, just after one was taken, and the
next one. ``--against CHECKOUT``: each round has one of that checkout's fmrd, too, so that what else the machine does
meets both alike. Needs root, /dev/fuse, fio. Told are medians of requests a second and of the 99th percentile.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from fio_doors import BIN, fio, loop_device, run, volume

WINDOWS = ("before", "first", "next")
"""Before the snapshot, just after it, and after that."""
Figures = dict[str, dict[str, float]]


def measure(checkout: Path, where: Path, options: argparse.Namespace) -> Figures:
    """One volume of fmrd as it is in that checkout, by window."""
    program = ("env", f"PYTHONPATH={checkout}", BIN / "fmrd")
    found: Figures = {}
    with volume(where, options.size, options.door, program=program) as file, loop_device(file) as device:
        fio(device, "write", "1m", 4, options.size, 0)
        for number, window in enumerate(WINDOWS):
            if window == "first":
                command = ["--socket", where / "socket", "snapshot", "bench", "--instant", where / "snapshot"]
                run(BIN / "fmrctl", *command)
            seed = (f"--randseed={number + 1}", "--ramp_time=0")
            found[window] = fio(device, "randwrite", "4k", options.depth, options.size, options.seconds, seed)
        lost = json.loads(run(BIN / "fmrctl", "--json", "--socket", where / "socket", "print"))
    if any(each["lost"] for each in lost["volumes"]):
        raise RuntimeError("the snapshot has lost something: its disk is too slow for these figures to mean anything")
    return found


def table(rounds: dict[str, list[Figures]]) -> str:
    lines = ["| fmrd | before | first | next | p99, first / before |", "|---|---|---|---|---|"]
    for name, all_of_it in rounds.items():
        mid = {w: {k: statistics.median(f[w][k] for f in all_of_it) for k in all_of_it[0][w]} for w in WINDOWS}
        cells = []
        for window in WINDOWS:
            rate, share = mid[window]["iops"], mid[window]["iops"] / mid["before"]["iops"]
            cells.append(f"{rate:.0f} ({share:.2f}), p99 {mid[window]['p99_us'] / 1000:.1f} ms")
        worse = mid["first"]["p99_us"] / mid["before"]["p99_us"]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {worse:.1f} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default="/var/tmp", help="where everything lies (default: %(default)s)")
    parser.add_argument("--size", type=int, default=1024, help="of the volume, in MiB (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=8, help="of each window (default: %(default)s)")
    parser.add_argument("--depth", type=int, default=32, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--door", default="channel", help="(default: %(default)s)")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="compare with fmrd as it is there")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args()
    if os.geteuid():
        parser.error("needs root, for the loop device")
    checkouts = {"as it is": Path(__file__).resolve().parent.parent}
    if options.against is not None:
        checkouts = {"as it was": options.against.resolve()} | checkouts
    rounds: dict[str, list[Figures]] = {name: [] for name in checkouts}
    for turn in range(options.rounds):
        names = list(checkouts)
        for name in names if turn % 2 == 0 else names[::-1]:  # who comes first meets a machine that rested
            with tempfile.TemporaryDirectory(dir=options.dir, prefix="fmrd-bench-") as directory:
                figures = measure(checkouts[name], Path(directory) / "it", options)
            rounds[name].append(figures)
            told = ", ".join(f"{w} {f['iops']:.0f}/s p99 {f['p99_us'] / 1000:.1f} ms" for w, f in figures.items())
            print(f"  {name}: {told}", file=sys.stderr)
    print(table(rounds))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(rounds, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
