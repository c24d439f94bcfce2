#!/usr/bin/env python3
"""Uniform random writes of 4 KiB over a volume of which the dirty region log holds no more than a part, or just all.

A sparse volume of two plexes on a disk, through a loop device with direct I/O, beside qemu-storage-daemon's quorum of
two files, which keeps no log. Each target is told as it is from its first write on, and when it has warmed up; targets
take turns, so that what else the machine does meets all of them alike. A log cools while others have theirs: within 20
seconds it forgets what is idle, and the warm-up should be longer than that. "hot" is fmrd again, right after such a
turn, over the first GiB. ``--against CHECKOUT``: fmrd as it is there, too. ``--recovery``: instead, fmrd is killed with
its log full of extents that hold data, and what the next start copies is told, and for how long. Needs root, /dev/fuse,
fio.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fio_doors import BIN, fio, loop_device, quorum, run, volume

EXTENT_MIB = 4
HOT_MIB = 1024
PATIENCE_SECONDS = 600
Figures = dict[str, float]


def turn(path: Path, depth: int, size_mib: int, warm_up: float, seconds: float, seed: int) -> Figures:
    """One job of fio, with places of its own."""
    timed = ("--time_based", f"--runtime={seconds * 1000:.0f}ms", f"--ramp_time={warm_up * 1000:.0f}ms")
    return fio(path, "randwrite", "4k", depth, size_mib, 0, (f"--randseed={seed}", *timed))


def load(options: argparse.Namespace, depth: int) -> None:
    size_mib = options.size << 10
    with ExitStack() as stack:
        where = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.dir, prefix="fmrd-bench-")))
        targets: dict[str, Path] = {}
        if options.against:
            program = ("env", f"PYTHONPATH={options.against}", BIN / "fmrd")
            targets["before"] = stack.enter_context(volume(where / "before", size_mib, "channel", program=program))
        targets["fmrd"] = stack.enter_context(volume(where / "fmrd", size_mib, "channel"))
        if options.extents:
            run(BIN / "fmrctl", "--socket", where / "fmrd" / "socket", "set", "bench", f"drl_extents={options.extents}")
        if shutil.which("qemu-storage-daemon"):
            targets["qemu quorum"] = stack.enter_context(quorum(where, size_mib))
        targets = {name: stack.enter_context(loop_device(path)) for name, path in targets.items()}
        first = {name: turn(path, depth, size_mib, 0, options.seconds, 1) for name, path in targets.items()}
        warm: dict[str, list[Figures]] = {"hot": [], **{name: [] for name in targets}}
        for number in range(options.rounds):
            for name, path in targets.items():
                warm[name].append(turn(path, depth, size_mib, options.warm_up, options.seconds, number + 2))
                if name == "fmrd":
                    warm["hot"].append(turn(path, depth, HOT_MIB, 1, options.seconds, number + 2))
                print(f"  {name}: {warm[name][-1]['iops']:.0f}", file=sys.stderr, flush=True)
        tell(options, depth, first, warm)


def tell(options: argparse.Namespace, depth: int, first: dict[str, Figures], warm: dict[str, list[Figures]]) -> None:
    for when, found in (("first writes", {name: [each] for name, each in first.items()}), ("warm", warm)):
        median = {
            name: {key: statistics.median(each[key] for each in figures) for key in figures[0]}
            for name, figures in found.items()
        }
        base = median[list(median)[-1]]["iops"]
        cells = [
            f"{name} {each['iops']:.0f}, p99 {each['p99_us'] / 1000:.1f} ms, longest {each['max_us'] / 1000:.0f} ms"
            f" ({each['iops'] / base:.2f})"
            for name, each in median.items()
        ]
        print(f"| {options.size} GiB, depth {depth}, {when} | " + " | ".join(cells) + " |", flush=True)


def recovery(options: argparse.Namespace) -> None:
    """All of a volume is written, and every extent of it dirty when fmrd is killed."""
    size_mib = options.size << 10
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="fmrd-bench-") as directory:
        where = Path(directory)
        socket = ("--socket", where / "socket")
        command = [BIN / "fmrd", "--state", where / "state", "--mount", where / "mount", *socket, "--door", "channel"]

        def shown() -> dict[str, Any] | None:
            """The volume, nothing where there is none, None where nobody answers yet."""
            asked = [str(word) for word in (BIN / "fmrctl", "--json", *socket, "print")]
            found = subprocess.run(asked, capture_output=True, check=False)
            if found.returncode:
                return None
            volumes = json.loads(found.stdout)["volumes"]
            return dict(volumes[0]) if volumes else {}

        def start() -> "subprocess.Popen[bytes]":
            with (where / "log").open("ab") as log:
                process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log)
            until = time.monotonic() + PATIENCE_SECONDS
            while (found := shown()) is None or found.get("kstate") == "DISABLED":
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"fmrd did not come up (see {where / 'log'})")
                time.sleep(0.05)
            return process

        process = start()
        run(BIN / "fmrctl", *socket, "make", "bench", f"{size_mib}M", where / "a", where / "b")
        file = where / "mount" / "bench"
        fio(file, "write", "1m", 4, size_mib, 0)
        extents = size_mib // EXTENT_MIB
        fio(file, "randwrite", "4k", 32, size_mib, 0, ("--number_ios=" + str(12 * extents),))
        process.kill()
        process.wait()
        began = time.monotonic()
        process = start()
        while (found := shown()) is None or found.get("state") != "ACTIVE":
            time.sleep(0.05)
        seconds = time.monotonic() - began
        tasks = json.loads(run(BIN / "fmrctl", "--json", *socket, "task", "list", "--all"))["tasks"]
        copied = sum(task["total_bytes"] for task in tasks) / (1 << 30)
        print(f"| recovery of a full log | {copied:.2f} of {options.size} GiB in {seconds:.1f} s |")
        process.terminate()
        process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default="/var/tmp", help="where the plexes lie (default: %(default)s)")
    parser.add_argument("--size", type=int, default=64, help="of the volume, in GiB (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4, help="of each turn (default: %(default)s)")
    parser.add_argument("--warm-up", type=float, default=12, help="before it, in seconds (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--depths", default="32,1", help="(default: %(default)s)")
    parser.add_argument("--extents", type=int, help="the setting drl_extents (default: as it is made)")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="fmrd as it is there, too")
    parser.add_argument("--recovery", action="store_true", help="what a crash costs; --size 4 is enough")
    options = parser.parse_args()
    if options.recovery:
        recovery(options)
        return 0
    for depth in options.depths.split(","):
        load(options, int(depth))
    return 0


if __name__ == "__main__":
    sys.exit(main())
