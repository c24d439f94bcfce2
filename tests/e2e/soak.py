"""Volumes in use while everything happens to them: events at random from one seed, then a look at every byte.

``ext`` and ``xfs`` carry file systems on loop devices, where fio writes and verifies; ``raw`` and its snapshots hold
labelled blocks (family.py). A *round* is so many events under load, then the load rests, all is checked against what
was written, everything is killed, and is checked once more after the start. Nothing goes by the clock: an event comes
when so many writes have passed since the last one.

``python -m tests.e2e.soak MINUTES [SEED]``, or so many ``steps`` (scripts/soak), repeats rounds.
"""

import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

from fmrd.errors import FmrdError
from tests.e2e.family import RATE, SNAP_STATES, VOLUME, Event, Family
from tests.e2e.harness import MIB, Daemon, Loops, same_bytes, tool, until
from tests.e2e.nbd import failing, nbd_disk
from tests.e2e.verified import Verified

PLEXES = {"ext": 2, "xfs": 3}
FLAKY = f"{VOLUME}-03"
"""The plex on a disk that fails on order."""
SIZE = 32 * MIB
WRITES = 30
"""Of the labelled volume, between two events."""
STEPS = 60
"""Of a round."""
PATIENCE = 120.0
REFUSALS = (
    "last_plex", "plex_state", "plex_busy", "task_ended", "task_missing", "nothing_to_compare", "no_room",
    "not_recovered",
)  # fmt: skip
"""What a verb may answer to somebody who asks at random."""
POLICIES = ("round", "select", "prefer:{}-01", "prefer:{}-02")


class Soak:
    """``counts``: what happened so far. What is wrong is an AssertionError."""

    def __init__(self, daemon: Daemon, loops: Loops, stack: ExitStack, *, file_mib: int, seed: int) -> None:
        self.daemon = daemon
        self.counts: Counter[str] = Counter()
        self._random = Random(seed)
        self._verifies: list[int] = []
        self._journal = stack.enter_context((daemon.base / "events").open("w"))
        self._disks = {
            name: Verified(daemon, loops, name, kind=kind, file_mib=file_mib)
            for name, kind in zip(PLEXES, ("ext4", "xfs"), strict=True)
        }
        disk = loops.disk("room", 2048 * MIB)
        tool("mkfs.xfs", "-q", "-m", "reflink=1", disk)
        self._room = loops.mount(disk)
        where = daemon.base / "flaky"
        self._flaky = stack.enter_context(nbd_disk(where, *failing(where, "pread", "pwrite"), size=2 * SIZE))
        self._failing = False
        self._family = Family(daemon, self._room, self.counts, self._random)
        for part in (*self._disks.values(), self._family):
            stack.callback(part.clean_up)

    def make(self) -> None:
        for name, plexes in PLEXES.items():
            self.daemon.make(name, 320 * MIB, *(self.daemon.base / f"{name}{at}.img" for at in range(plexes)))
            self.daemon.json("set", name, "io_timeout=60")  # a busy machine is no broken disk
            self._disks[name].make()
        flaky = f"{self._flaky.path},dco={self.daemon.base / 'flaky.dco'}"
        self._family.make(SIZE, self._room / "a.img", self._room / "b.img", flaky)
        self.daemon.json("set", VOLUME, "io_timeout=10")

    def round(self, steps: int = STEPS) -> None:
        for disk in self._disks.values():
            disk.mount()
            disk.go()
        self._family.go()
        for _ in range(steps):
            self._step()
        for disk in self._disks.values():
            disk.rest()
            disk.write_all()
            disk.umount()
        self._family.rest()
        self._calm()
        self._check()
        self.daemon.kill_all()
        self.daemon.start()
        self._verifies.clear()
        self._family.check()
        for disk in self._disks.values():
            disk.mount()
            disk.verify_all()
            disk.umount()
        self._note("round")

    def _step(self) -> None:
        events = self._events() | self._family.events()
        name = self._random.choices(list(events), [weight for weight, _ in events.values()])[0]
        self._note(name)
        events[name][1]()
        enough = self._family.original.written + WRITES
        self._until(self._has_written(enough), f"so many writes after '{name}'")

    def _has_written(self, enough: int) -> Callable[[], bool]:
        def has() -> bool:
            self._family.works()
            for disk in self._disks.values():
                disk.works()
            return self._family.original.written >= enough

        return has

    def _note(self, what: str) -> None:
        self.counts[what] += 1
        print(f"{time.time():.3f} {what}", file=self._journal, flush=True)

    # Events of plexes, tasks, disks and the daemon

    def _events(self) -> dict[str, tuple[int, Event]]:
        events: dict[str, tuple[int, Event]] = {
            "det": (8, lambda: self._plex("det")), "off": (2, lambda: self._plex("off")),
            "att": (8, lambda: self._plex("att", *self._rate())), "on": (4, lambda: self._plex("on")),
            "recover": (5, self._recover), "policy": (2, self._policy), "verify": (3, self._verify),
            "abort": (2, lambda: self._task("abort")), "pause": (2, lambda: self._task("pause")),
            "resume": (3, lambda: self._task("resume")), "full rate": (3, lambda: self._task("set", "rate=0")),
        }  # fmt: skip
        if self.daemon.keeper:
            events["kill -9"] = (6, self._kill)
        if self._failing:
            events["disk heals"] = (6, self._heal)
        elif self._may_fail():
            fails: dict[str, tuple[int, Event]] = {
                "disk fails writes": (2, self._fail_writes), "disk fails reads": (2, self._fail_reads),
                "disk hangs": (1, self._hang),
            }  # fmt: skip
            events |= fails
        return events

    def _plex(self, verb: str, *options: str) -> None:
        volume = self._random.choice([*PLEXES, VOLUME])
        if volume == VOLUME and self._failing and verb in ("det", "off"):
            return  # the failing one may be all that is left, and then the error is the application's
        plexes = [p["name"] for p in self.daemon.volume(volume)["plexes"] if p["state"] not in SNAP_STATES]
        self._may_refuse("plex", verb, volume, self._random.choice(plexes), *options)

    def _recover(self) -> None:
        self._may_refuse("recover", self._random.choice([*PLEXES, VOLUME]))

    def _policy(self) -> None:
        volume = self._random.choice([*PLEXES, VOLUME])
        self.daemon.json("set", volume, f"rdpol={self._random.choice(POLICIES).format(volume)}")

    def _verify(self) -> None:
        volume, rate = self._random.choice([*PLEXES, VOLUME]), self._random.choice((0, 8 * MIB))
        try:
            self._verifies.append(self.daemon.ask("verify", volume=volume, rate=rate)["task"]["id"])
        except FmrdError as error:
            self._refused(error.code, f"verify {volume}: {error}")

    def _task(self, verb: str, *words: str) -> None:
        tasks = self.daemon.json("print")["tasks"]
        if tasks:
            self._may_refuse("task", verb, self._random.choice(tasks)["id"], *words)

    def _kill(self) -> None:
        self._found_nothing()
        self.daemon.kill_serving()

    def _may_fail(self) -> bool:
        """Another plex of the volume has all that the flaky one has."""
        plexes = self.daemon.volume(VOLUME)["plexes"]
        whole = [p["name"] for p in plexes if p["state"] == "ACTIVE" and not p["dirty_regions"]]
        return FLAKY in whole and len(whole) > 1

    def _fail_writes(self) -> None:
        self._flaky.fail("pwrite")
        self._failing = True
        self._fails()

    def _heal(self) -> None:
        self._flaky.heal("pwrite")
        self._failing = False

    def _fail_reads(self) -> None:
        with self._flaky.path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self._flaky.fail("pread")
        try:
            with self.daemon.path(VOLUME).open("rb", buffering=0) as file:
                while file.read(MIB):
                    pass
        finally:
            self._flaky.heal("pread")

    def _hang(self) -> None:
        self._flaky.hang()
        try:
            self._fails()
        finally:
            self._flaky.go_on()

    def _fails(self) -> None:
        def has() -> bool:
            self._family.works()
            return bool(self.daemon.plex(VOLUME, FLAKY)["state"] == "IOFAIL")

        self._until(has, f"{FLAKY} is detached")

    def _may_refuse(self, *words: object) -> None:
        answer = self.daemon.ctl(*words)
        if answer.status:
            self._refused(answer.code, f"{words}: {answer.err}")

    def _refused(self, code: str, what: str) -> None:
        assert code in REFUSALS, f"{what}\n{self.daemon.log()}"
        self.counts[f"refused: {code}"] += 1

    def _rate(self) -> tuple[str, ...]:
        return RATE if self._random.randrange(2) else ()

    # Checks

    def _calm(self) -> None:
        """Every plex is whole again."""
        self._heal()
        for name in (*PLEXES, VOLUME):
            for plex in self.daemon.volume(name)["plexes"]:
                self.daemon.json("plex", "on", name, plex["name"])
        for task in self.daemon.json("print")["tasks"]:
            self.daemon.ctl("task", "set", task["id"], "rate=0")
            self.daemon.ctl("task", "resume", task["id"])
        self._until(self._whole, "every plex is whole")
        self._found_nothing()

    def _whole(self) -> bool:
        shown = self.daemon.json("print")
        plexes = [p for volume in shown["volumes"] if volume["name"] in (*PLEXES, VOLUME) for p in volume["plexes"]]
        away = [p for p in plexes if p["state"] not in ("ACTIVE", "SNAPDONE") or p["dirty_regions"]]
        if away and not shown["tasks"]:
            if any((plex["reason"] or {}).get("code") == "session_open" for plex in away):  # FUSE, and healed
                self.daemon.ctl("plex", "att", VOLUME, FLAKY, "--settled")
            self.daemon.ctl("recover")  # what failed may need --settled first
        return not away and not shown["tasks"]

    def _found_nothing(self) -> None:
        """No verify saw a difference."""
        for number in self._verifies:
            report = self.daemon.ask("verify_report", id=number)
            assert not report["mismatches"], report
        self._verifies.clear()

    def _check(self) -> None:
        self._family.check()
        for name in PLEXES:
            plexes = [Path(plex["path"]) for plex in self.daemon.volume(name)["plexes"]]
            assert same_bytes(*plexes), f"THE PLEXES OF {name} DIFFER: {plexes}"
        for name in (*PLEXES, VOLUME):
            report = self.daemon.json("verify", name)
            assert report["task"]["state"] == "done" and not report["mismatches"], report

    def _until(self, condition: Callable[[], object], what: str) -> None:
        until(condition, what, PATIENCE)


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
            assert "Traceback" not in daemon.log(), daemon.log()
    except BaseException:
        print(f"FAILED; the plexes, their DCOs and the log are in {base}", file=sys.stderr)
        raise
    shutil.rmtree(base)


def main(amount: str, seed: int) -> None:
    with scratch("fmrd-soak.", keeper=True) as (daemon, loops, stack):
        soak = Soak(daemon, loops, stack, file_mib=32, seed=seed)
        print(f"soak: {amount} in {daemon.base}, seed {seed}", flush=True)
        began = time.monotonic()
        steps = int(amount.removesuffix("steps")) if amount.endswith("steps") else 0
        soak.make()
        done = 0
        while done < steps if steps else time.monotonic() < began + 60 * float(amount):
            now = min(STEPS, steps - done) if steps else STEPS
            soak.round(now)
            done += now
            print(", ".join(f"{count} {what}" for what, count in sorted(soak.counts.items())), flush=True)
    print(f"soak: {done} steps, no I/O error, no difference; seed {seed}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else int.from_bytes(os.urandom(3)))
