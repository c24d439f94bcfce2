#!/usr/bin/env python3
"""What a ring makes of pairs of buffered writes, against writing in place and against a hop to a thread.

    .venv/bin/python benchmarks/ring.py --dir DIR [--seconds S] [--rounds N] [--json FILE]

A pair is the same bytes to two files, as a mirror writes them, at a random place of 32 MiB that lie in the page cache.
"depth" pairs are under way at a time; each begins when one has ended. "worker" is the ring with ``in_worker``, "tried"
the one without; "trio" has trio wait for the ring, as a daemon does. Beside pairs a second stands the processor time of
a pair, kernel and workers included: it is worth something on a busy machine, too. Medians of interleaved rounds.

The last lines are what Python costs: requests to a descriptor that is closed, pushed, handed over and reaped.
"""

import argparse
import json
import mmap
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from fmrd.backing.ring.buffers import Pool
from fmrd.backing.ring.probe import open_ring
from fmrd.backing.ring.ring import Ring

SPAN = 32 << 20
Figures = dict[str, float]


@contextmanager
def files(directory: Path) -> Iterator[tuple[int, int]]:
    with tempfile.TemporaryFile(dir=directory) as one, tempfile.TemporaryFile(dir=directory) as other:
        for file in (one, other):
            for _ in range(SPAN >> 20):
                file.write(os.urandom(1 << 20))
            file.flush()
        yield one.fileno(), other.fileno()


class Load:
    """Places to write to, and when it is enough."""

    def __init__(self, length: int, seconds: float) -> None:
        buffer = Pool(max(length, mmap.PAGESIZE), 1).take()
        assert buffer is not None
        self.buffer, self.length, self.pairs = buffer, length, 0
        self._random = random.Random(1)
        self._until = time.perf_counter() + seconds

    def place(self) -> int:
        return self._random.randrange(SPAN // self.length) * self.length

    def goes_on(self) -> bool:
        return time.perf_counter() < self._until


def in_place(pair: tuple[int, int], load: Load, depth: int) -> None:
    while load.goes_on():
        at = load.place()
        for file in pair:
            os.pwrite(file, load.buffer.memory[: load.length], at)
        load.pairs += 1


def by_thread(pair: tuple[int, int], load: Load, depth: int) -> None:
    async def one() -> None:
        while load.goes_on():
            at, data = load.place(), load.buffer.memory[: load.length]
            async with trio.open_nursery() as nursery:
                for file in pair:
                    nursery.start_soon(trio.to_thread.run_sync, os.pwrite, file, data, at)
            load.pairs += 1

    async def all_of_them() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(depth):
                nursery.start_soon(one)

    trio.run(all_of_them)


class Pairs:
    """Pairs through a ring."""

    def __init__(self, ring: Ring, pair: tuple[int, int], load: Load, in_worker: bool) -> None:
        self._ring, self._pair, self._load, self._in_worker = ring, pair, load, in_worker

    def begin(self) -> None:
        left, load = 2, self._load
        at = load.place()

        def ended(result: int) -> None:
            nonlocal left
            assert result == load.length, result
            left -= 1
            if not left:
                load.pairs += 1
                if load.goes_on():
                    self.begin()

        for file in self._pair:
            self._ring.write(file, load.buffer.address, load.length, at, ended, load.buffer, self._in_worker)


def by_ring(ring: Ring, in_worker: bool) -> Callable[[tuple[int, int], Load, int], None]:
    def run(pair: tuple[int, int], load: Load, depth: int) -> None:
        pairs = Pairs(ring, pair, load, in_worker)
        for _ in range(depth):
            pairs.begin()
        while ring.outstanding:
            ring.wait(60)

    return run


def by_ring_and_trio(ring: Ring, in_worker: bool) -> Callable[[tuple[int, int], Load, int], None]:
    def run(pair: tuple[int, int], load: Load, depth: int) -> None:
        pairs = Pairs(ring, pair, load, in_worker)

        async def main() -> None:
            for _ in range(depth):
                pairs.begin()
            while ring.outstanding:
                ring.submit()
                if not ring.reap():
                    await trio.lowlevel.wait_readable(ring.fileno())
                    ring.reap()

        trio.run(main)

    return run


def python_alone(ring: Ring, seconds: float, batch: int) -> float:
    """Microseconds a request."""
    count = 0

    def ended(result: int) -> None:
        nonlocal count
        count += 1

    began, used = time.perf_counter(), time.process_time()
    while time.perf_counter() < began + seconds:
        for _ in range(batch):
            ring.write(-1, 0, 1, 0, ended, None)
        ring.submit()
        ring.reap()
    return (time.process_time() - used) / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, required=True, help="where the two files lie")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ring = open_ring()
    if isinstance(ring, str):
        raise SystemExit(ring)
    ways = {
        "in place": in_place,
        "thread": by_thread,
        "tried": by_ring(ring, False),
        "worker": by_ring(ring, True),
        "tried, trio": by_ring_and_trio(ring, False),
        "worker, trio": by_ring_and_trio(ring, True),
    }
    found: dict[str, Figures] = {}
    with files(options.dir) as pair:
        for length in (4096, 65536):
            for depth in (1, 32):
                rounds: dict[str, list[Figures]] = {name: [] for name in ways}
                names = list(ways)
                for turn in range(options.rounds):
                    for name in names[turn % len(names) :] + names[: turn % len(names)]:
                        load = Load(length, options.seconds)
                        began, used = time.perf_counter(), time.process_time()
                        ways[name](pair, load, depth)
                        took, cost = time.perf_counter() - began, time.process_time() - used
                        rounds[name].append({"pairs": load.pairs / took, "cost": cost / load.pairs * 1e6})
                print(f"\n{length >> 10} KiB, depth {depth}      pairs/s   us of processor a pair")
                for name, many in rounds.items():
                    middle = {key: statistics.median(each[key] for each in many) for key in many[0]}
                    found[f"{length} {depth} {name}"] = middle
                    print(f"  {name:18} {middle['pairs']:10,.0f} {middle['cost']:10.1f}")
    for batch in (1, 32):
        alone = statistics.median(python_alone(ring, options.seconds, batch) for _ in range(options.rounds))
        found[f"python {batch}"] = {"cost": alone}
        print(f"\na request that does nothing, {batch} at a time: {alone:.2f} us")
    ring.close()
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
