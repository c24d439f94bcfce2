"""fio with verify on a loop device, while plexes come and go and the daemon is killed between jobs.

One ``round`` is: fio writes and verifies at depth 32, all the while plexes are detached and attached; fio reads all of
it back; the daemon is killed; fio reads it back once more, while the recovery runs; then every plex must be the same
byte for byte. Nothing here goes by the clock: a plex comes back when so many writes have passed it by.

``python -m tests.e2e.soak MINUTES`` (scripts/soak) repeats rounds until that time is over.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.e2e.harness import Daemon, Json, Loops, same_bytes, tool, until

PLEXES = ("data-01", "data-02", "data-03")
DEPTH = 32
BLOCKS = ("4k", "16k", "64k")
MISSED_WRITES = 100
"""How many writes of the volume a plex misses before it comes back."""
FIO = (
    f"fio --name=soak --ioengine=libaio --direct=1 --rw=randwrite --iodepth={DEPTH} --verify=crc32c --verify_fatal=1"
    " --verify_backlog=256 --verify_state_save=0 --randrepeat=1"
).split()


class Soak:
    """``counts``: what happened so far. A mismatch is an AssertionError that says what differs."""

    def __init__(self, daemon: Daemon, loops: Loops, *, size_mib: int, seed: int) -> None:
        self.daemon = daemon
        self.loops = loops
        self.size_mib = size_mib
        self.counts: Counter[str] = Counter()
        self.plexes = [daemon.base / f"{letter}.img" for letter in "abc"]
        self._random = random.Random(seed)
        self._steps = (self._away, self._two_away, self._away_again, self._aborted, self._paused)
        self._fio: subprocess.Popen[bytes] | None = None
        self._output = daemon.base / "fio.log"

    def make(self) -> None:
        self.daemon.make("data", f"{self.size_mib}M", *self.plexes)
        self.daemon.json("set", "data", "io_timeout=60")  # a busy machine is no broken disk

    def round(self, io_mib: int) -> None:
        """``io_mib`` are written, in blocks of the next size, at places and with contents of their own."""
        number = self.counts["rounds"]
        job = (*FIO, f"--bs={BLOCKS[number % len(BLOCKS)]}", f"--io_size={io_mib}M", f"--randseed={number + 1}")
        device = self.loops.attach(self.daemon.path("data"))
        self._start(job, device)
        while self._writing():
            self._random.choice(self._steps)()
        self._ended("writing and verifying")
        self._verify(job, device, "with plexes as they are")
        self.loops.detach(device)
        self.daemon.kill()
        self.counts["kills"] += 1
        self.daemon.start()
        device = self.loops.attach(self.daemon.path("data"))
        self._verify(job, device, "after kill -9, while it recovers")
        self.loops.detach(device)
        self.daemon.in_sync("data")
        self._compare()
        self.counts["rounds"] += 1
        self.counts["MiB written"] += io_mib

    def finish(self) -> None:
        """Stopped in order, nothing is left to recover, and the plexes are the same."""
        tool("sync", self.daemon.path("data"))
        self.daemon.json("stop", "data")
        assert self.daemon.volume("data")["state"] == "CLEAN"
        self._compare()

    def clean_up(self) -> None:
        if self._fio is not None:
            self._fio.kill()
            self._fio.wait()

    # fio

    def _start(self, job: tuple[str, ...], device: str, *more: str) -> None:
        with open(self._output, "wb") as output:
            command = [*job, f"--filename={device}", f"--size={self.size_mib}M", *more]
            self._fio = subprocess.Popen(command, stdout=output, stderr=output, cwd=self.daemon.base)

    def _writing(self) -> bool:
        assert self._fio is not None
        return self._fio.poll() is None

    def _ended(self, what: str) -> None:
        assert self._fio is not None
        status = self._fio.wait(timeout=600)
        self._fio = None
        output = self._output.read_text(errors="replace")
        bad = status or "verify:" in output or "err= 0" not in output
        assert not bad, f"FIO FOUND A DIFFERENCE OR AN ERROR, {what}, {dict(self.counts)}:\n{output}{self.daemon.log()}"

    def _verify(self, job: tuple[str, ...], device: str, what: str) -> None:
        self._start(job, device, "--verify_only")
        self._ended(what)
        self.counts["verify passes"] += 1

    def _compare(self) -> None:
        """All of them with the first, so that what differs is named."""
        for other in self.plexes[1:]:
            if not same_bytes(self.plexes[0], other):
                found = subprocess.run(["cmp", self.plexes[0], other], capture_output=True, text=True, check=False)
                raise AssertionError(f"PLEXES DIFFER, {dict(self.counts)}: {found.stdout}\n{self.daemon.log()}")
        self.counts["comparisons"] += 1

    # How plexes come and go; all of them return early when fio has ended, and leave the plex as it is then

    def _away(self) -> None:
        plex = self._pick()
        self._det(plex)
        if self._miss_writes():
            self._arrive(self._att(plex))

    def _two_away(self) -> None:
        first, second = self._random.sample(PLEXES, 2)
        self._det(first)
        self._miss_writes()
        self._det(second)
        if self._miss_writes():
            tasks = [self._att(plex) for plex in (first, second)]
            for task in tasks:
                self._arrive(task)

    def _away_again(self) -> None:
        """Before the copy was complete."""
        plex = self._pick()
        self._det(plex)
        if self._miss_writes():
            self._progress(self._att(plex, "--rate", "4M"))
            self._det(plex)
            if self._writing():
                self._arrive(self._att(plex))

    def _aborted(self) -> None:
        plex = self._pick()
        self._det(plex)
        if self._miss_writes():
            task = self._att(plex, "--rate", "4M")
            self._progress(task)
            if self.daemon.ctl("task", "abort", task["id"]).status == 0:  # unless it has ended already
                self.counts["aborts"] += 1
            if self._writing():
                self._arrive(self._att(plex))

    def _paused(self) -> None:
        plex = self._pick()
        self._det(plex)
        if self._miss_writes():
            task = self._att(plex, "--rate", "4M")
            if self.daemon.ctl("task", "pause", task["id"]).status == 0:
                self.counts["pauses"] += 1
                self._miss_writes()
                self.daemon.json("task", "resume", task["id"])
            self.daemon.ctl("task", "set", task["id"], "rate=0")
            self._arrive(task)

    def _pick(self) -> str:
        return self._random.choice(PLEXES)

    def _det(self, plex: str) -> None:
        self.daemon.json("plex", "det", "data", plex)
        self.counts["detaches"] += 1

    def _att(self, plex: str, *options: str) -> Json:
        task: Json = self.daemon.json("plex", "att", "data", plex, *options)["task"]
        self.counts[f"attaches: {task['reason']['code']}"] += 1
        return task

    def _writes(self) -> int:
        return max(int(plex["writes"]) for plex in self.daemon.volume("data")["plexes"])

    def _miss_writes(self) -> bool:
        """False if fio ended before so many writes had passed."""
        before = self._writes()
        self._until(lambda: self._writes() >= before + MISSED_WRITES or not self._writing(), "the volume is written to")
        return self._writing()

    def _progress(self, task: Json) -> None:
        self._until(lambda: (now := self._task(task))["done_regions"] or now["ended"], f"task {task['id']} advances")

    def _arrive(self, task: Json) -> None:
        self._until(lambda: self._task(task)["ended"], f"task {task['id']} ends")
        ended = self._task(task)
        assert ended["state"] == "done", f"{ended}\n{self.daemon.log()}"
        self.counts["regions copied"] += ended["done_regions"]

    def _task(self, task: Json) -> Json:
        found: Json = self.daemon.ask("task_get", id=task["id"])["task"]
        return found

    def _until(self, condition: Callable[[], object], what: str) -> None:
        until(condition, what, 120.0)


@contextmanager
def scratch(prefix: str, *, keeper: bool = False) -> Iterator[tuple[Daemon, Loops, ExitStack]]:
    """A daemon that was started, and is stopped, in a directory of its own; what went wrong is left there for a look.
    What is put on the stack is cleaned up before them.
    """
    base = Path(tempfile.mkdtemp(prefix=prefix))
    daemon, loops = Daemon(base, keeper=keeper), Loops(base)
    try:
        with ExitStack() as stack:
            stack.callback(daemon.clean_up)
            stack.callback(loops.clean_up)
            daemon.start()
            yield daemon, loops, stack
            daemon.stop()
            assert "Traceback" not in daemon.log() and " ERROR " not in daemon.log(), daemon.log()
    except BaseException:
        print(f"FAILED; the plexes, their DCOs and the log are in {base}", file=sys.stderr)
        raise
    shutil.rmtree(base)


def main(minutes: float, seed: int) -> None:
    """By the clock."""
    with scratch("fmrd-soak.") as (daemon, loops, stack):
        soak = Soak(daemon, loops, size_mib=128, seed=seed)
        stack.callback(soak.clean_up)
        print(f"soak: {minutes:g} minutes in {daemon.base}, seed {seed}", flush=True)
        stop = time.monotonic() + 60 * minutes
        soak.make()
        while time.monotonic() < stop:
            soak.round(io_mib=64)
            print(", ".join(f"{count} {what}" for what, count in soak.counts.items()), flush=True)
        soak.finish()
    print("soak: no verify error, all plexes the same")


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else int.from_bytes(os.urandom(3)))
