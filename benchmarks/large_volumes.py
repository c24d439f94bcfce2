"""What a large volume costs: time to make and to start it, how long the daemon's loop was held, memory, room on disk.

No door, no socket: the engine alone, on sparse files. Each size in a process of its own, whose memory is then known.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import trio
import trio.lowlevel

from fmrd.backing.calls.threaded_calls import ThreadedCalls
from fmrd.backing.host import LinuxHost
from fmrd.engine.context import Context
from fmrd.engine.registry import Registry
from fmrd.engine.verbs.verbs import Verbs

TIB = 1 << 40
SIZES = {"1T/64K": (TIB, 64 << 10), "8T/64K": (8 * TIB, 64 << 10), "1T/4K": (TIB, 4 << 10)}
"""Length and region size; the last two have as many regions as 8 and 16 TiB at 64K."""


@dataclass
class Figures:
    size: str
    make_seconds: float
    make_held_ms: float
    start_seconds: float
    start_held_ms: float
    memory_mib: float
    """Of the started volume, without that of an empty daemon."""
    home_length_mib: float
    home_allocated_mib: float


class Holds:
    """Measures the longest time in which no other task got its turn."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def run(self) -> None:
        last = time.monotonic()
        while True:
            await trio.sleep(0.001)
            now = time.monotonic()
            self.longest = max(self.longest, now - last)
            last = now

    def taken(self) -> float:
        longest, self.longest = self.longest, 0.0
        return longest * 1000


async def measure(name: str, directory: Path) -> Figures:
    length, region = SIZES[name]
    registry = Registry(Context(LinuxHost(directory / "state"), ThreadedCalls()))
    verbs, holds = Verbs(registry), Holds()
    async with trio.open_nursery() as nursery:
        await nursery.start(registry.run)
        nursery.start_soon(holds.run)
        before = memory_mib()
        plexes = [{"path": str(directory / letter)} for letter in "ab"]
        began = time.monotonic()
        await verbs.make(volume="data", size_bytes=length, region_size_bytes=region, plexes=plexes)
        make = time.monotonic() - began, holds.taken()
        await verbs.stop(volume="data")
        holds.taken()
        began = time.monotonic()
        await verbs.start(volume="data")
        start = time.monotonic() - began, holds.taken()
        await trio.lowlevel.checkpoint()
        status = (directory / "state" / "volumes" / "data.dco").stat()
        figures = Figures(
            name, *make, *start, memory_mib() - before, status.st_size / 2**20, status.st_blocks * 512 / 2**20
        )
        await registry.close()
        nursery.cancel_scope.cancel()
    return figures


def memory_mib() -> float:
    """Resident now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


@click.command()
@click.option("--dir", "directory", type=click.Path(path_type=Path), help="Where the files lie; sparse.")
@click.option("--size", type=click.Choice(list(SIZES)), multiple=True, default=list(SIZES))
@click.option("--json", "results", type=click.Path(path_type=Path))
@click.option("--one", hidden=True)
def main(directory: Path | None, size: tuple[str, ...], results: Path | None, one: str | None) -> None:
    """Print a table of what volumes of these sizes cost, with two plexes each."""
    if one is not None:
        assert directory is not None
        print(json.dumps(asdict(trio.run(measure, one, directory))))
        return
    found = []
    for each in size:
        with tempfile.TemporaryDirectory(dir=directory) as where:
            command = [sys.executable, __file__, "--dir", where, "--one", each]
            found.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    print(f"{'size':8}{'make s':>8}{'held ms':>9}{'start s':>9}{'held ms':>9}{'memory':>8}{'home':>8}{'on disk':>9}")
    for f in found:
        print(
            f"{f['size']:8}{f['make_seconds']:8.1f}{f['make_held_ms']:9.0f}{f['start_seconds']:9.1f}"
            f"{f['start_held_ms']:9.0f}{f['memory_mib']:8.0f}{f['home_length_mib']:8.0f}{f['home_allocated_mib']:9.0f}"
        )
    if results is not None:
        results.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
