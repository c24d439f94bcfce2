#!/usr/bin/env python3
"""Resync against a plain in-kernel copy of the same runs, interleaved, in one process.

For scattered and for contiguous dirty regions: detach a plex, write to those regions, attach it, and take the time of
the copy task, its checkpoints and its last fdatasync included. Then copy the same runs between plain files on the same
file system with copy_file_range (sendfile where that might share blocks), ending in fdatasync. What counts is the
ratio.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import trio

from fmrd.backing import libc
from fmrd.backing.calls.threaded_calls import ThreadedCalls
from fmrd.backing.host import LinuxHost
from fmrd.engine.context import Context
from fmrd.engine.registry import Registry
from fmrd.engine.served import Served, answer_to
from fmrd.engine.verbs.verbs import Verbs

MIB = 1 << 20
REGION = 64 << 10
GOAL = 0.80
Run = tuple[int, int]


def patterns(size: int, dirty: int) -> dict[str, list[Run]]:
    """(offset, length) in bytes of the runs of each pattern; ``dirty`` bytes in all."""
    step = size // (dirty // REGION)
    return {
        "scattered": [(at // REGION * REGION, REGION) for at in range(0, step * (dirty // REGION), step)],
        "contiguous": [(size // 8 // REGION * REGION, dirty)],
    }


def plain_copy(source: int, target: int, runs: list[Run], *, may_share: bool) -> float:
    """Seconds."""
    began = time.perf_counter()
    for offset, length in runs:
        done = 0
        if may_share:
            os.lseek(target, offset, os.SEEK_SET)
        while done < length:
            if may_share:
                done += os.sendfile(target, source, offset + done, length - done)
            else:
                done += os.copy_file_range(source, target, length - done, offset + done, offset + done)
    os.fdatasync(target)
    return time.perf_counter() - began


async def resync(verbs: Verbs, served: Served, runs: list[Run]) -> tuple[float, float]:
    """(seconds of the copy task, seconds from the attach to its end)."""
    await verbs.plex_det(volume="bench", plex="bench-02")
    for offset, length in runs:
        for at in range(offset, offset + length, REGION):
            await answer_to(partial(served.write_now, at, os.urandom(4096)))
    await answer_to(served.flush_now)
    began = time.perf_counter()
    task = (await verbs.plex_att(volume="bench", plex="bench-02"))["task"]
    assert task["reason"]["code"] == "fast", task
    joined = time.perf_counter()
    task = (await verbs.task_wait(id=task["id"]))["task"]
    ended = time.perf_counter()
    assert task["state"] == "done" and task["done_bytes"] == sum(length for _, length in runs), task
    return ended - joined, ended - began


def fill(path: Path, size: int) -> None:
    with path.open("wb") as file:
        chunk = os.urandom(MIB)
        for _ in range(size // MIB):
            file.write(chunk)
        os.fsync(file.fileno())


async def measure(directory: Path, size: int, dirty: int, rounds: int) -> list[dict[str, object]]:
    for name in ("source", "plain"):
        fill(directory / name, size)
    source, plain = (os.open(directory / name, os.O_RDWR) for name in ("source", "plain"))
    may_share = libc.file_system(plain) not in libc.SEPARATE_BLOCKS
    context = Context(LinuxHost(directory / "state"), ThreadedCalls())
    registry = Registry(context, "/none")
    rows: list[dict[str, object]] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(registry.run)
        verbs = Verbs(registry)
        plexes = [{"path": str(directory / "source2")}, {"path": str(directory / "target")}]
        fill(directory / "source2", size)
        made = await verbs.make(volume="bench", size_bytes=size, plexes=plexes, from_path=plexes[0]["path"])
        await verbs.task_wait(id=made["task"]["id"])
        served = registry.find("bench")
        assert served is not None
        for pattern, runs in patterns(size, dirty).items():
            copies, resyncs, attaches = [], [], []
            for _ in range(rounds):
                copies.append(plain_copy(source, plain, runs, may_share=may_share))
                task, attach = await resync(verbs, served, runs)
                resyncs.append(task)
                attaches.append(attach)
            copy, drain = statistics.median(copies), statistics.median(resyncs)
            rows.append(
                {
                    "pattern": pattern, "runs": len(runs), "bytes": sum(length for _, length in runs),
                    "ratio": copy / drain, "resync_mib_per_second": dirty / MIB / drain,
                    "copy_mib_per_second": dirty / MIB / copy, "attach_seconds": statistics.median(attaches),
                    "resync_seconds": resyncs, "copy_seconds": copies,
                }
            )  # fmt: skip
        await verbs.stop(volume="bench")
        same = (directory / "source2").read_bytes() == (directory / "target").read_bytes()
        assert same, "the plexes differ"
        await registry.close()
    os.close(source)
    os.close(plain)
    return rows


def table(rows: list[dict[str, object]]) -> str:
    lines = [f"{'':12} {'ratio':>6} {'resync MiB/s':>13} {'copy MiB/s':>11} {'runs':>6} {'attach s':>9}"]
    for row in rows:
        lines.append(
            f"{row['pattern']:12} {row['ratio']:6.2f} {row['resync_mib_per_second']:13.0f} "
            f"{row['copy_mib_per_second']:11.0f} {row['runs']:6} {row['attach_seconds']:9.3f}"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default="/dev/shm", help="where the plexes lie (default: %(default)s)")
    parser.add_argument("--size", type=int, default=1024, help="of the volume, in MiB (default: %(default)s)")
    parser.add_argument("--dirty", type=int, default=512, help="bytes to copy, in MiB (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="fmrd-bench-") as where:
        rows = trio.run(measure, Path(where), options.size * MIB, options.dirty * MIB, options.rounds)
    print(table(rows))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"dir": options.dir, "goal": GOAL, "rows": rows}, indent=1) + "\n")
    short = [row["pattern"] for row in rows if float(str(row["ratio"])) < GOAL]
    if short:
        print(f"below {GOAL:.2f} of a plain copy: {', '.join(map(str, short))}", file=sys.stderr)
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
