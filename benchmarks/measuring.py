#!/usr/bin/env python3
"""What counting, timing and telling cost a request: this fmrd, and the same scraped once a second, beside one without.

    git worktree add ../fmrd-before COMMIT
    .venv/bin/python benchmarks/measuring.py --before ../fmrd-before [--dir /var/tmp] [--loop]

``--before`` is a checkout from before fmrd counted anything, or any other (no .venv is needed there). Each round gives
every daemon the same requests by fio, in turn, another one first each time. Two figures are told: the processor time of
the daemon for a request, which what else the machine does touches least, and requests a second. Each is the median over
the rounds of the ratio to the daemon before, with the quartiles: a difference within these is none. Before
that, what a request costs in the engine alone, by steps.py: the least of many tries, which other work on the machine
does not change. Needs root, /dev/fuse, fio, losetup.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fio_doors import fio, loop_device, volume

HERE = Path(__file__).resolve().parents[1]
PORT = 19723
JOBS = {
    "4K random read, depth 1": ("randread", "4k", 1),
    "4K random read, depth 32": ("randread", "4k", 32),
    "4K random write, depth 1": ("randwrite", "4k", 1),
    "4K random write, depth 32": ("randwrite", "4k", 32),
    "1M sequential write": ("write", "1m", 4),
}


@dataclass
class Target:
    """A daemon and its volume."""

    path: Path
    process: int

    def processor_seconds(self) -> float:
        """Of all its threads, since it began."""
        threads = Path(f"/proc/{self.process}/task").iterdir()
        return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9


@contextmanager
def daemon(where: Path, size_mib: int, checkout: Path, *options: object, loop: bool) -> Iterator[Target]:
    """The fmrd of a checkout, run by this Python."""
    program = ("env", f"PYTHONPATH={checkout}", sys.executable, "-m", "fmrd.front.daemon.daemon", *options)
    with ExitStack() as stack:
        path = stack.enter_context(volume(where, size_mib, "channel", program=program))
        yield Target(stack.enter_context(loop_device(path)) if loop else path, process_of(where))


def process_of(where: Path) -> int:
    """Whose --state lies there."""
    wanted = os.fsencode(where / "state")
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if wanted in words:
                return int(entry.name)
    raise RuntimeError(f"no fmrd on {where}")


@contextmanager
def scraped(every_seconds: float) -> Iterator[None]:
    """Somebody asks for the metrics, until the block ends."""
    ended = threading.Event()

    def scrape() -> None:
        while not ended.wait(every_seconds):
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=30) as answer:
                answer.read()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


Figures = dict[str, dict[str, list[float]]]
"""Target -> figure -> one value a round."""


def measure(targets: dict[str, Target], job: tuple[str, str, int], mib: int, rounds: int, size_mib: int) -> Figures:
    kind, block, depth = job
    found: Figures = {name: {"us": [], "iops": []} for name in targets}
    names = list(targets)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            target = targets[name]
            before = target.processor_seconds()
            figures = fio(target.path, kind, block, depth, size_mib, 0, (f"--io_size={mib}m",))
            requests = (mib << 20) / (4096 if block == "4k" else 1 << 20)
            found[name]["us"].append((target.processor_seconds() - before) / requests * 1e6)
            found[name]["iops"].append(figures["iops"])
    return found


def ratios(found: Figures, name: str, first: str, figure: str) -> str:
    """The median of the rounds' ratios, the quartiles, and the median itself."""
    pairs = zip(found[name][figure], found[first][figure], strict=True)
    each = [here / there for here, there in pairs]
    low, middle, high = statistics.quantiles(each, n=4) if len(each) > 1 else each * 3
    return f"{middle:.3f} ({low:.3f} to {high:.3f}; {statistics.median(found[name][figure]):.4g})"


def steps(checkout: Path, where: str) -> dict[str, float]:
    """Nanoseconds that a request takes in the engine of a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    command = [sys.executable, "-P", HERE / "benchmarks" / "steps.py", "--dir", where]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compare_steps(before: Path, where: str, rounds: int) -> None:
    """In turn, and of each the least."""
    found = [(steps(before, where), steps(HERE, where)) for _ in range(rounds)]
    for kind in found[0][0]:
        then, now = min(each[kind] for each, _ in found), min(each[kind] for _, each in found)
        print(f"a {kind} in the engine: {then:.0f} ns before, {now:.0f} ns counted: {now - then:+.0f} ns")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--before", type=Path, required=True, metavar="CHECKOUT", help="fmrd as it is there comes first"
    )
    parser.add_argument("--dir", default="/dev/shm", help="where the plexes lie (default: %(default)s)")
    parser.add_argument("--size", type=int, default=128, help="of the volume, in MiB (default: %(default)s)")
    parser.add_argument("--mib", type=int, default=128, help="of each job in each round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=11, help="(default: %(default)s)")
    parser.add_argument("--loop", action="store_true", help="each through a loop device of its own")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args()
    if os.geteuid():
        parser.error("needs root, for the loop device")
    told = {}
    compare_steps(options.before.resolve(), options.dir, options.rounds)
    with ExitStack() as stack:
        where = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.dir, prefix="fmrd-bench-")))
        checkouts: dict[str, tuple[Path, tuple[object, ...]]] = {
            "before": (options.before.resolve(), ()),
            "counted": (HERE, ()),
            "scraped": (HERE, ("--metrics", f"127.0.0.1:{PORT}")),
        }
        targets = {
            name: stack.enter_context(daemon(where / name, options.size, checkout, *words, loop=options.loop))
            for name, (checkout, words) in checkouts.items()
        }
        for target in targets.values():
            fio(target.path, "write", "1m", 4, options.size, 0)
        stack.enter_context(scraped(1.0))
        print("| job | processor time a request, to before (us) | | requests a second, to before | |")
        print("|---|---|---|---|---|")
        print("| | counted | and scraped | counted | and scraped |")
        for name, job in JOBS.items():
            mib = options.mib if job[1] == "4k" else 16 * options.mib
            found = told[name] = measure(targets, job, mib, options.rounds, options.size)
            cells = [
                ratios(found, who, "before", figure) for figure in ("us", "iops") for who in ("counted", "scraped")
            ]
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
