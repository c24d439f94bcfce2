"""``python -m tests.sim --seed N --steps M``: the nightly hunt. One seed replays a failure, step by step.

python -m tests.sim --schedules 100000 --jobs 2        a hunt over every profile
python -m tests.sim --profile faults --seed 4711       one schedule again, with its trace
"""

import argparse
import collections
import dataclasses
import multiprocessing
import sys
import time
import traceback

from tests.sim.profiles import ALL, SNAPS
from tests.sim.schedule import Schedule


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument("--schedules", type=int, default=1, help="how many seeds, dealt out over the profiles")
    parser.add_argument("--steps", type=int, help="the most operations in one life")
    parser.add_argument("--profile", choices=sorted(ALL), help="one kind of schedule only")
    parser.add_argument("--snapshots", action="store_true", help="schedules with snapshots")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    options = parser.parse_args()
    names = [options.profile] if options.profile else [name for name in ALL if (name in SNAPS) is options.snapshots]
    work = [(names[i % len(names)], options.seed + i, options.steps) for i in range(options.schedules)]
    began = time.monotonic()
    counts: collections.Counter[str] = collections.Counter()
    failed = 0
    with multiprocessing.Pool(options.jobs, maxtasksperchild=5000) as pool:
        for number, (name, seed, found, problem, trace) in enumerate(pool.imap_unordered(_one, work, 20), 1):
            counts.update(found)
            if problem:
                failed += 1
                print(f"FAILED: python -m tests.sim --profile '{name}' --seed {seed}\n  {problem}", flush=True)
                if options.schedules == 1:
                    print(trace)
            if number % 2000 == 0:
                print(f"{number} schedules, {failed} failed, {time.monotonic() - began:.0f} s", flush=True)
    for what, count in sorted(counts.items()):
        print(f"{count:10} {what}")
    print(f"{len(work)} schedules, {failed} failed, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


def _one(job: tuple[str, int, int | None]) -> tuple[str, int, dict[str, int], str, str]:
    name, seed, steps = job
    profile = ALL[name] if steps is None else dataclasses.replace(ALL[name], steps=max(steps, 4))
    schedule = Schedule(seed, profile)
    try:
        schedule.run()
    except BaseException as error:  # whatever it is, the hunt goes on and tells
        if isinstance(error, KeyboardInterrupt):
            raise
        first = error
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        trace = "\n".join(["", *schedule.trace, "", *traceback.format_exception(error)])
        return name, seed, schedule.counts, f"{type(first).__name__}: {first}", trace
    return name, seed, schedule.counts, "", ""


if __name__ == "__main__":
    sys.exit(main())
