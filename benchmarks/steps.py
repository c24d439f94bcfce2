#!/usr/bin/env python3
"""How long one request takes in the engine alone, in nanoseconds, without kernel and door: the least of many tries.

    PYTHONPATH=CHECKOUT .venv/bin/python benchmarks/steps.py [--dir /var/tmp]

Prints one line of JSON. Run it on two checkouts in turn (measuring.py does) and the difference is what a change costs a
request, also on a machine that is busy: the least of many tries has met nobody else. Quick requests are those in memory
(--dir /dev/shm); elsewhere a write goes through io_uring, and what is timed is 32 of them from the first to the end of
the last.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter_ns

import trio

from fmrd.backing.calls.ring_calls import system_calls
from fmrd.backing.host import LinuxHost
from fmrd.engine.context import Context
from fmrd.engine.registry import Registry
from fmrd.engine.served import answer_to
from fmrd.engine.verbs.verbs import Verbs

SIZE = 64 << 20
BATCH = 200
AT_ONCE = 32


def least(step: Callable[[int], object], tries: int) -> float:
    """Nanoseconds a call, of the fastest batch."""
    found = []
    for _ in range(tries):
        began = perf_counter_ns()
        for n in range(BATCH):
            step(n)
        found.append((perf_counter_ns() - began) / BATCH)
    return min(found)


async def in_memory(registry: Registry, tries: int) -> dict[str, float]:
    served = registry.find("bench")
    assert served is not None
    buffer, data = memoryview(bytearray(4096)), b"x" * 4096
    await answer_to(partial(served.write_now, 0, data))  # its extent is hot from now on
    return {
        "read": least(lambda n: served.read_now(4096 * n, buffer, bool), tries),
        "write": least(lambda n: served.write_now(4096 * n, data, bool), tries),
    }


async def on_a_disk(registry: Registry, idle: object, tries: int) -> dict[str, float]:
    served = registry.find("bench")
    assert served is not None
    data, found = b"x" * 4096, []
    told: list[object] = []
    await answer_to(partial(served.write_now, 0, data))
    for _ in range(tries):
        told.clear()
        began = perf_counter_ns()
        idle.begin_step()  # type: ignore[attr-defined]  # as the door does
        for n in range(AT_ONCE):
            served.write_now(4096 * n, data, told.append)
        while len(told) < AT_ONCE:
            idle.use()  # type: ignore[attr-defined]  # as above
        idle.end_step()  # type: ignore[attr-defined]  # as above
        found.append((perf_counter_ns() - began) / AT_ONCE)
        await trio.lowlevel.checkpoint()
    return {"write": min(found)}


async def measured(where: Path, tries: int) -> dict[str, float]:
    system = system_calls()
    registry = Registry(Context(LinuxHost(where / "state", where / "mount", system.ring), system), str(where / "mount"))
    async with trio.open_nursery() as nursery:
        await nursery.start(registry.run)
        plexes = [{"path": str(where / letter)} for letter in "ab"]
        await Verbs(registry).make(volume="bench", size_bytes=SIZE, plexes=plexes)
        inline = all(disk.inline for disk in registry.service("bench").mirror.opened.values())
        found = await (in_memory(registry, tries) if inline else on_a_disk(registry, system.idle, tries))
        await registry.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default="/dev/shm", help="where the plexes lie (default: %(default)s)")
    parser.add_argument("--tries", type=int, default=500, help="(default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="fmrd-steps-") as where:
        print(json.dumps(trio.run(partial(measured, Path(where), options.tries))))


if __name__ == "__main__":
    main()
