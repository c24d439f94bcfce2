"""What many snapshots cost: the room of the DCO, the time of a start, and the time of a write, which marks every map.

No door, no socket: the engine alone, on sparse files. The start is that of a daemon, until all of the family is open.
"""

import gc
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import trio

from fmrd.backing.calls.threaded_calls import ThreadedCalls
from fmrd.backing.host import LinuxHost
from fmrd.engine.context import Context
from fmrd.engine.registry import Registry
from fmrd.engine.serving import requests
from fmrd.engine.verbs.verbs import Verbs

MIB = 1 << 20
TIB = 1 << 40
WRITES = 2000
WRITTEN = 256 * MIB
"""Length of the volume that is written to, whose snapshots are broken off."""


@dataclass
class Figures:
    kind: str
    snapshots: int
    columns: int
    home_length_mib: float
    home_allocated_mib: float
    copies_allocated_mib: float
    """Of all plexes together."""
    take_seconds: float
    """The last snapshot."""
    start_seconds: float
    memory_mib: float


@asynccontextmanager
async def daemon(directory: Path) -> AsyncIterator[Registry]:
    registry = Registry(Context(LinuxHost(directory / "state"), ThreadedCalls()))
    async with trio.open_nursery() as nursery:
        await nursery.start(registry.run)
        arrived = registry.arriving.arrived
        while registry.arriving.may_come():
            await arrived.wait()
            arrived = registry.arriving.arrived
        yield registry
        await registry.close()
        nursery.cancel_scope.cancel()


async def take(verbs: Verbs, directory: Path, kind: str, number: int) -> None:
    path, name = str(directory / f"s{number}"), f"snap{number}"
    if kind == "instant":
        await verbs.snapshot(volumes=["data"], name=name, instant=path)
        return
    if kind == "converted":  # all plexes are new and the same, so nothing is copied
        await verbs.plex_convert(volume="data", plex=path)
    else:
        await verbs.snapstart(volume="data", path=path)
        await verbs.snapwait(volume="data")
    await verbs.snapshot(volumes=["data"], name=name)


async def large(kind: str, count: int, directory: Path, length: int) -> Figures:
    took = 0.0
    async with daemon(directory) as registry:
        verbs = Verbs(registry)
        names = ["a", "b", *(f"s{number}" for number in range(count) if kind == "converted")]
        plexes = [{"path": str(directory / name)} for name in names]
        await verbs.make(volume="data", size_bytes=length, plexes=plexes)
        for number in range(count):
            began = time.monotonic()
            await take(verbs, directory, kind, number)
            took = time.monotonic() - began
            print(f"{kind} {number + 1}: {took:.1f} s", file=sys.stderr, flush=True)
        family = registry.service("data").mirror.store.family
        columns = sum(len(volume.columns()) for volume in family.volumes)
    gc.collect()
    before, began = memory_mib(), time.monotonic()
    async with daemon(directory) as registry:
        started = time.monotonic() - began
        bad = [unit.name for unit in registry.units.values() if unit.service is None]
        assert not bad and len(registry.units) == count + 1, bad
        memory = memory_mib() - before
    home = (directory / "state" / "volumes" / "data.dco").stat()
    copies = sum(path.stat().st_blocks for path in directory.glob("*.dco"))  # noqa: ASYNC240  # nothing else runs
    return Figures(
        kind, count, columns, home.st_size / MIB, home.st_blocks * 512 / MIB, copies * 512 / MIB, took, started,
        memory,
    )  # fmt: skip


async def writes(count: int, directory: Path) -> tuple[float, float]:
    """(a write that is the first to its region, one to a region that all maps have), in microseconds, medians."""
    async with daemon(directory) as registry:
        verbs = Verbs(registry)
        await verbs.make(volume="data", size_bytes=WRITTEN, plexes=[{"path": str(directory / name)} for name in "ab"])
        for number in range(count):
            await take(verbs, directory, "break-off", number)
        mirror = registry.service("data").running.mirror
        regions = list(range(WRITTEN >> 16))
        random.Random(1).shuffle(regions)
        await requests.write(mirror, 0, bytes(4096))
        found = []
        for turn in (regions[:WRITES], (regions * 2)[:WRITES]):
            times = []
            for region in turn:
                began = time.perf_counter()
                await requests.write(mirror, region << 16, bytes(4096))
                times.append(time.perf_counter() - began)
            found.append(statistics.median(times) * 1e6)
        return found[0], found[1]


def memory_mib() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / MIB


@click.command()
@click.option("--dir", "directory", type=click.Path(path_type=Path), help="Where the files lie; sparse.")
@click.option("--length", default=TIB, show_default=True, help="Of the large volume, in bytes.")
@click.option("--counts", default="0,9,64", show_default=True, help="How many instant snapshots.")
@click.option("--converted", default="9,35", show_default=True, help="How many broken off of plexes that were made so.")
@click.option("--one", nargs=2, hidden=True)
def main(directory: Path | None, length: int, counts: str, converted: str, one: tuple[str, int] | None) -> None:
    """Print what snapshots of a volume cost."""
    if one is not None:
        assert directory is not None
        kind, count = one[0], int(one[1])
        if kind == "writes":
            print(json.dumps(trio.run(writes, count, directory)))
        else:
            print(json.dumps(asdict(trio.run(large, kind, count, directory, length))))
        return
    wanted = [("instant", each) for each in counts.split(",")] + [("converted", each) for each in converted.split(",")]
    titles = ("kind", "snapshots", "columns", "home MiB", "on disk", "copies", "take s", "start s", "memory MiB")
    print("".join(f"{title:>11}" for title in titles))
    for kind, each in wanted:
        f = Figures(**run(directory, kind, each, length))
        numbers = [f.home_length_mib, f.home_allocated_mib, f.copies_allocated_mib]
        print(
            f"{f.kind:>11}{f.snapshots:11}{f.columns:11}" + "".join(f"{each:11.0f}" for each in numbers)
            + f"{f.take_seconds:11.1f}{f.start_seconds:11.1f}{f.memory_mib:11.0f}",
            flush=True,
        )  # fmt: skip
    for each in counts.split(","):
        first, again = run(directory, "writes", each, length)
        print(f"{each} broken off: a first write {first:.0f} us, another one {again:.0f} us", flush=True)


def run(directory: Path | None, kind: str, count: str, length: int) -> Any:
    """In a process of its own, whose memory is then known."""
    with tempfile.TemporaryDirectory(dir=directory) as place:
        command = [sys.executable, __file__, "--dir", place, "--length", str(length), "--one", kind, count]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


if __name__ == "__main__":
    main()
