#!/usr/bin/env python3
"""Writes and reads on a volume with one plex here and one on an NBD server, 0, 1 and 10 ms (or --delays) away.

Beside it the plex here alone, and both plexes here. Of each delay there are three: the writes of both plexes are begun
together, as fmrd does it; in turn, as it once did (in_turn.py); and the far plex may lag (write_behind). The server is
nbdkit with a file in --dir, or in memory (--far memory: another machine's disk would not be this one's), on a unix
socket, with --filter=limit (the fence) and --filter=delay. Volumes are written through loop devices with direct I/O;
targets take turns. Then what a write at depth 1 takes there, and to the volume's own file, beside the round trip that
fmrd counts, and how much of it fmrd computes. What a full copy over the line takes is told next, and last what requests
take beside one that is under way (--parts chooses). Needs root, /dev/fuse, fio, nbdkit.
"""

import argparse
import json
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fio_doors import BIN, Job, fio, loop_device, measure, raw, run, serving, table

JOBS: dict[str, Job] = {
    "4K random write, depth 1": ("randwrite", "4k", 1, ()),
    "4K random write, depth 32": ("randwrite", "4k", 32, ()),
    "4K random read, depth 1": ("randread", "4k", 1, ()),
    "4K, depth 1, fsync each": ("randwrite", "4k", 1, ("--fsync=1",)),
    "1M sequential write": ("write", "1m", 4, ()),
}
BESIDE: dict[str, Job] = {
    "4K random write, depth 1": ("randwrite", "4k", 1, ()),
    "4K random write, depth 32": ("randwrite", "4k", 32, ()),
    "4K random read, depth 1": ("randread", "4k", 1, ()),
    "4K random read, depth 32": ("randread", "4k", 32, ()),
}
"""Beside a full copy. The application writes where it was copied and where it was not."""
DCO_MIB = 8
"""So much longer than the volume is the export: its DCO lies at its tail."""


@contextmanager
def export(where: Path, size_mib: int, delay: str, *, in_memory: bool = False) -> Iterator[str]:
    """The URI of an NBD export that answers after so long."""
    where.mkdir()
    socket = where / "socket"
    filters = ["--filter=limit"]
    length = size_mib + DCO_MIB
    parameters: list[object] = ["memory", f"{length}M"] if in_memory else ["file", raw(where / "disk", length)]
    if delay != "0":
        filters.append("--filter=delay")
        parameters += [f"rdelay={delay}", f"wdelay={delay}", f"delay-extents={delay}"]
    command = ["nbdkit", "-f", "-t", "64", "-U", socket, *filters, *parameters]
    with serving(command, socket.exists, where / "nbdkit.log"):
        yield f"nbd+unix:///?socket={socket}&x-fence=single"


@contextmanager
def volume(
    where: Path, size_mib: int, plexes: list[str], program: tuple[object, ...] = (), *settings: str
) -> Iterator[tuple[Path, int]]:
    """A started volume's file, all of its plexes in sync, and the process that serves it; how long that took goes to
    standard error.
    """
    where.mkdir()
    socket = ["--socket", where / "socket"]
    command: list[object] = [*(program or (BIN / "fmrd",)), "--state", where / "state", "--mount", where / "mount",
                             *socket, "--log-level", "warning"]  # fmt: skip

    def ready() -> bool:
        asked = [str(word) for word in (BIN / "fmrctl", *socket, "print")]
        return subprocess.run(asked, capture_output=True, check=False).returncode == 0

    with serving(command, ready, where / "fmrd.log") as process:
        began = time.monotonic()
        run(BIN / "fmrctl", *socket, "make", "bench", f"{size_mib}M", *plexes, "--wait")
        if settings:
            run(BIN / "fmrctl", *socket, "set", "bench", *settings)
        print(f"  {where.name}: made and in sync in {time.monotonic() - began:.2f} s", file=sys.stderr)
        yield where / "mount" / "bench", process.pid
        plex = run(BIN / "fmrctl", *socket, "print").splitlines()
        print(*(f"  {where.name}: {line}" for line in plex if line.startswith("plex ")), sep="\n", file=sys.stderr)


def one_by_one(device: Path, process: int, size_mib: int, count: int = 500) -> tuple[float, float]:
    """Seconds of a write of 4 KiB at a time, the median, and the processor time of that process for one, the mean."""
    block = mmap.mmap(-1, 4096)
    took = []
    descriptor = os.open(device, os.O_RDWR | os.O_DIRECT)
    try:
        busy = processor_seconds(process)
        for number in range(count):
            began = time.perf_counter()
            os.pwrite(descriptor, block, number * 7919 % (size_mib << 8) << 12)
            took.append(time.perf_counter() - began)
        return statistics.median(took), (processor_seconds(process) - busy) / count
    finally:
        os.close(descriptor)


def processor_seconds(process: int) -> float:
    """What all of its threads have computed."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def copies(where: Path, size_mib: int, delay: str, rounds: int) -> float:
    """MiB/s of a full copy to the far plex; the median."""
    found = []
    with export(where / f"copied-{delay}", size_mib, delay) as uri, ExitStack() as stack:
        near = where / f"near-{delay}"
        path, _ = stack.enter_context(volume(where / f"volume-{delay}", size_mib, [str(near), uri]))
        run("dd", "if=/dev/urandom", f"of={path}", "bs=1M", f"count={size_mib}", "oflag=direct", "conv=notrunc")
        socket = ["--socket", where / f"volume-{delay}" / "socket"]
        for _ in range(rounds):
            run(BIN / "fmrctl", *socket, "plex", "det", "bench", "bench-02")
            began = time.monotonic()
            run(BIN / "fmrctl", *socket, "plex", "att", "bench", "bench-02", "--full", "--wait")
            found.append(size_mib / (time.monotonic() - began))
    return statistics.median(found)


def lacked(command: tuple[object, ...], size_mib: int) -> float:
    """Which part of the volume the far plex lacks."""
    [volume] = json.loads(run(*command, "--json", "print", "bench"))["volumes"]
    return float(volume["plexes"][1]["dirty_bytes"]) / (size_mib << 20)


def beside_a_copy(where: Path, size_mib: int, delay: str, seconds: float, rounds: int) -> str:
    """What requests take while a full copy to the far plex is under way, beside both plexes in sync: a table. What a
    copy has left when the time of a job is over it need not copy. All of the volume was written shortly before either,
    for who writes first in an extent waits for its mark, on the far plex as well, copy or no copy.
    """
    with export(where / f"copied-{delay}", size_mib, delay) as uri, ExitStack() as stack:
        near, at = where / f"near-{delay}", where / f"volume-{delay}"
        path, _ = stack.enter_context(volume(at, size_mib, [str(near), uri]))
        run("dd", "if=/dev/urandom", f"of={path}", "bs=1M", f"count={size_mib}", "oflag=direct", "conv=notrunc")
        device = stack.enter_context(loop_device(path))
        command = (BIN / "fmrctl", "--socket", at / "socket")
        lines = [
            f"| beside a full copy, {delay} | p99 without | p99 | | rate | copied meanwhile |",
            "|---|" + "---|" * 5,
        ]
        for job, (kind, block, depth, options) in BESIDE.items():
            found = []
            for _ in range(rounds):
                fio(device, "write", "1m", 4, size_mib, 0)
                alone = fio(device, kind, block, depth, size_mib, seconds, options)
                run(*command, "plex", "det", "bench", "bench-02")
                fio(device, "write", "1m", 4, size_mib, 0)
                run(*command, "plex", "att", "bench", "bench-02", "--full")
                beside = fio(device, kind, block, depth, size_mib, seconds, options)
                found.append((alone, beside, 1 - lacked(command, size_mib)))
                run(*command, "plex", "det", "bench", "bench-02")
                run(*command, "plex", "att", "bench", "bench-02", "--wait")
            p99 = [statistics.median(each[side]["p99_us"] for each in found) for side in (0, 1)]
            rates = [statistics.median(each[side]["iops"] for each in found) for side in (0, 1)]
            part = statistics.median(each[2] for each in found)
            lines.append(
                f"| {job} | {p99[0]:.0f} us | {p99[1]:.0f} us | {p99[1] / p99[0]:.2f} "
                f"| {rates[1] / rates[0]:.2f} | {part:.0%} |"
            )
        return "\n".join(lines)


def writes(options: argparse.Namespace, delays: list[str]) -> None:
    """Writes and reads on all of these volumes, told."""
    with ExitStack() as stack:
        where = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.dir, prefix="fmrd-bench-")))
        made = {
            "near alone": stack.enter_context(volume(where / "alone", options.size, [str(where / "n1")])),
            "near and near": stack.enter_context(
                volume(where / "both", options.size, [str(where / "n2"), str(where / "n3")])
            ),
        }
        in_turn = (sys.executable, Path(__file__).with_name("in_turn.py"))
        kinds: dict[str, tuple[tuple[object, ...], tuple[str, ...]]] = {
            "": ((), ()), " in turn": (in_turn, ()), " behind": ((), (f"write_behind=bench-02:{options.size}M",)),
        }  # fmt: skip
        if options.against:
            kinds[" before"] = (("env", f"PYTHONPATH={options.against}", BIN / "fmrd"), ())
        for delay in delays:
            for name, (program, settings) in kinds.items():
                mark = f"{delay}{name.replace(' ', '-')}"
                in_memory = options.far == "memory"
                uri = stack.enter_context(export(where / f"far-{mark}", options.size, delay, in_memory=in_memory))
                plexes = [str(where / f"near-{mark}"), uri]
                made[f"near and far {delay}{name}"] = stack.enter_context(
                    volume(where / f"mixed-{mark}", options.size, plexes, program, *settings)
                )
        targets = {name: stack.enter_context(loop_device(path)) for name, (path, _) in made.items()}
        print(table(measure(targets, JOBS, options.size, options.seconds, options.rounds)))
        for name, device in targets.items():
            file, process = made[name]
            for what, path in (("the loop device", device), ("the file", file)):
                asked, cost = one_by_one(path, process, options.size)
                print(f"a 4K write to {what}, {name}: {asked * 1e6:.0f} us, fmrd computed {cost * 1e6:.0f} us")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default="/var/tmp", help="where the plexes lie (default: %(default)s)")
    parser.add_argument("--size", type=int, default=256, help="of the volume, in MiB (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2, help="of each job (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--delays", default="0,1ms,10ms", help="of the far plex (default: %(default)s)")
    parser.add_argument("--far", choices=("file", "memory"), default="file", help="what nbdkit serves")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="fmrd as it is there, too")
    parser.add_argument("--parts", default="writes,copies,beside", help="of all that (default: %(default)s)")
    parser.add_argument("--copy-size", type=int, default=1024, help="what is copied beside, MiB (default: %(default)s)")
    options = parser.parse_args()
    parts = options.parts.split(",")
    delays = options.delays.split(",")
    if "writes" in parts:
        writes(options, delays)
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="fmrd-bench-") as directory:
        for delay in delays if "copies" in parts else ():
            speed = copies(Path(directory), options.size, delay, options.rounds)
            print(f"a full copy to a far plex, {delay}: {speed:.0f} MiB/s")
        for delay in delays if "beside" in parts else ():
            where = Path(directory) / f"beside-{delay}"
            where.mkdir()
            print(beside_a_copy(where, options.copy_size, delay, options.seconds, options.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
