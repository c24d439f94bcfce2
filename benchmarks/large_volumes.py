"""What a large volume costs: time to make and to start it, how long each verb holds the daemon's loop, memory, room.

No door, no socket: the engine alone, on sparse files. Each size in a process of its own, whose memory is then known.
A hold is a step of a task in which no other one has its turn. It is told by the clock, which counts what else ran on
the machine meanwhile, and by the processor time that trio's thread took; ``--where`` says in which lines that was.
"""

import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType

import click
import trio
import trio.abc
import trio.lowlevel

from fmrd.backing.calls.threaded_calls import ThreadedCalls
from fmrd.backing.host import LinuxHost
from fmrd.core.json_object import Json
from fmrd.engine.context import Context
from fmrd.engine.registry import Registry
from fmrd.engine.serving import requests
from fmrd.engine.verbs.verbs import Verbs

TIB = 1 << 40
SIZES = {"1T/64K": (TIB, 64 << 10), "8T/64K": (8 * TIB, 64 << 10), "1T/4K": (TIB, 4 << 10)}
"""Length and region size; the last two have as many regions as 8 and 16 TiB at 64K."""
FULL_SECONDS = 3.0
"""So long a copy of everything, or a verify, is looked at; then it is aborted."""
SAMPLE_SECONDS = 0.004
MISSED = 200
"""Writes, spread over all of the volume, that a plex misses."""


@dataclass
class Held:
    """Of one verb: its time, and its longest step."""

    verb: str
    seconds: float
    held_ms: float
    processor_ms: float
    task: str
    where: dict[str, int]


@dataclass
class Figures:
    size: str
    memory_mib: float
    """Of the started volume, without that of an empty daemon."""
    home_length_mib: float
    home_allocated_mib: float
    verbs: list[Held] = field(default_factory=list)


class Steps(trio.abc.Instrument):
    """Measures each step of each task, and keeps the longest."""

    def __init__(self, *, where: bool) -> None:
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._samples: Counter[str] = Counter()
        self._began: tuple[float, float] | None = None
        self._longest = Held("", 0, 0, 0, "", {})
        self._processor = 0.0
        if where:
            threading.Thread(target=self._sample, daemon=True).start()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        with self._lock:
            self._samples.clear()
            self._began = time.monotonic(), time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        with self._lock:
            began, self._began = self._began, None
            if began is None:
                return
            held, processor = (time.monotonic() - began[0]) * 1000, (time.thread_time() - began[1]) * 1000
            self._processor = max(self._processor, processor)
            if held > self._longest.held_ms:
                self._longest = Held("", 0, held, processor, task.name, dict(self._samples.most_common(4)))

    def _sample(self) -> None:
        while True:
            time.sleep(SAMPLE_SECONDS)
            with self._lock:
                frame = sys._current_frames().get(self._thread)
                if self._began is not None and frame is not None:
                    self._samples[_place(frame)] += 1

    def taken(self, verb: str, seconds: float) -> Held:
        """The longest since it was last asked for."""
        longest, self._longest = self._longest, Held("", 0, 0, 0, "", {})
        processor, self._processor = self._processor, 0.0
        return Held(verb, seconds, longest.held_ms, processor, longest.task, longest.where)


def _place(frame: FrameType | None) -> str:
    """The two innermost lines of fmrd."""
    found: list[str] = []
    while frame is not None and len(found) < 3:
        name = frame.f_code.co_filename
        if "/fmrd/" in name and "/site-packages/" not in name:
            found.append(f"{Path(name).name}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return " < ".join(found) or "elsewhere"


class Life:
    """The life of one volume, verb by verb."""

    def __init__(self, name: str, directory: Path, registry: Registry, steps: Steps) -> None:
        self.length, self.region = SIZES[name]
        self.directory = directory
        self.registry = registry
        self.verbs = Verbs(registry)
        self.steps = steps
        self.found: list[Held] = []

    async def timed(self, verb: str, ask: Callable[[], Awaitable[Json]], most: float = FULL_SECONDS) -> Json:
        """A verb, and the copies that it began, which are aborted after so many seconds."""
        self.steps.taken("", 0)
        began = time.monotonic()
        answer = await ask()
        for task in [t for t in (await self.verbs.task_list())["tasks"] if t["state"] != "done"]:
            with trio.move_on_after(most) as limit:
                await self.verbs.task_wait(id=task["id"])
            if limit.cancelled_caught:
                await self.verbs.task_abort(id=task["id"])
        await trio.lowlevel.checkpoint()
        self.found.append(self.steps.taken(verb, time.monotonic() - began))
        print(line_of(self.found[-1]), file=sys.stderr, flush=True)
        return answer

    def path(self, letter: str) -> str:
        return str(self.directory / letter)

    async def make_and_start(self) -> None:
        plexes = [{"path": self.path(letter)} for letter in "ab"]
        sizes = {"size_bytes": self.length, "region_size_bytes": self.region}
        await self.timed("make", lambda: self.verbs.make(volume="data", plexes=plexes, **sizes))
        await self.timed("stop", lambda: self.verbs.stop(volume="data"))
        await self.timed("start", lambda: self.verbs.start(volume="data"))

    async def write(self) -> Json:
        """A little, in many places."""
        mirror = self.registry.service("data").running.mirror
        for at in range(MISSED):
            await requests.write(mirror, at * (self.length // MISSED), bytes(4096))
        return {}

    async def plexes(self) -> None:
        """Plexes leave and come back."""
        verbs, b = self.verbs, {"volume": "data", "plex": self.path("b")}
        await self.timed("print", lambda: verbs.print())
        await self.timed("write", self.write)
        await self.timed("det", lambda: verbs.plex_det(**b))
        await self.timed("att, nothing missed", lambda: verbs.plex_att(**b))
        await verbs.plex_det(**b)
        await self.write()
        await self.timed("att --dry-run", lambda: verbs.plex_att(**b, dry_run=True))
        await self.timed("att, fast", lambda: verbs.plex_att(**b))
        await verbs.plex_det(**b)
        await self.timed("att --full", lambda: verbs.plex_att(**b, full=True))

    async def snapshots(self) -> None:
        """The plex that was just copied in part leaves for good; one that is whole is broken off, and goes back."""
        verbs, c, snapshot = self.verbs, self.path("c"), {"snapshot": "SNAP-data"}
        await self.timed("plex dis", lambda: verbs.plex_dis(volume="data", plex=self.path("b")))
        await self.timed("plex add", lambda: verbs.plex_add(volume="data", path=c))
        await self.timed("plex dis", lambda: verbs.plex_dis(volume="data", plex=c))
        await self.timed("snapstart", lambda: verbs.snapstart(volume="data", path=self.path("d")))
        await self.timed("snapabort", lambda: verbs.snapabort(volume="data"))
        await verbs.stop(volume="data")
        await verbs.remove(volume="data")
        plexes = [{"path": self.path(letter)} for letter in "efg"]
        sizes = {"size_bytes": self.length, "region_size_bytes": self.region}
        await self.timed("make, 3 plexes", lambda: verbs.make(volume="data", plexes=plexes, **sizes))
        await self.timed("plex convert", lambda: verbs.plex_convert(volume="data", plex=self.path("g")))
        await self.timed("snapshot", lambda: verbs.snapshot(volumes=["data"]))
        await self.timed("write", self.write)
        await self.timed("print, status", lambda: verbs.print())
        await self.timed("snapprint", lambda: verbs.snapprint())
        await self.timed("refresh --dry-run", lambda: verbs.refresh(**snapshot, dry_run=True))
        await self.timed("refresh", lambda: verbs.refresh(**snapshot), 1000)
        await self.write()
        await self.timed("snapback --from-replica", lambda: verbs.snapback(**snapshot, from_replica=True), 1000)
        await self.timed("snapshot", lambda: verbs.snapshot(volumes=["data"]))
        await self.write()
        await self.timed("stop, started snapshot", lambda: verbs.stop(volume="SNAP-data"))
        await self.timed("start of a snapshot", lambda: verbs.start(volume="SNAP-data"))
        await self.timed("snapback", lambda: verbs.snapback(**snapshot), 1000)
        instant = {"volumes": ["data"], "instant": self.path("h")}
        await self.timed("snapshot --instant", lambda: verbs.snapshot(**instant))
        await self.timed("write, kept", self.write)
        await self.timed("snapsync", lambda: verbs.snapsync(**snapshot))
        await self.timed("snapback of an instant", lambda: verbs.snapback(**snapshot))

    async def the_rest(self) -> None:
        verbs, length = self.verbs, self.length - self.length // 8
        paths = [self.path(letter) for letter in "xy"]
        await self.timed("stop", lambda: verbs.stop(volume="data"))
        await self.timed("remove", lambda: verbs.remove(volume="data"))
        plexes = [{"path": path} for path in paths]
        sizes = {"size_bytes": length, "region_size_bytes": self.region}
        await verbs.make(volume="data", plexes=plexes, **sizes)
        await self.timed("grow", lambda: verbs.grow(volume="data", size_bytes=self.length))
        await self.timed("verify", lambda: verbs.verify(volume="data"))
        await self.write()
        await self.timed("set fmr=off", lambda: verbs.set(volume="data", settings={"fmr": "off"}))
        await verbs.stop(volume="data")
        await self.timed("import --force", lambda: verbs.import_volume(paths=paths, force=True))
        await verbs.stop(volume="data")
        await self.timed("remove --erase", lambda: verbs.remove(volume="data", erase=True))


@asynccontextmanager
async def daemon(directory: Path) -> AsyncIterator[Registry]:
    registry = Registry(Context(LinuxHost(directory / "state"), ThreadedCalls()))
    async with trio.open_nursery() as nursery:
        await nursery.start(registry.run)
        yield registry
        await registry.close()
        nursery.cancel_scope.cancel()


async def measure(name: str, directory: Path, *, verbs: bool, where: bool) -> Figures:
    async with daemon(directory) as registry:
        steps = Steps(where=where)
        trio.lowlevel.add_instrument(steps)
        life, before = Life(name, directory, registry, steps), memory_mib()
        await life.make_and_start()
        status = (directory / "state" / "volumes" / "data.dco").stat()
        figures = Figures(name, memory_mib() - before, status.st_size / 2**20, status.st_blocks * 512 / 2**20)
        if verbs:
            await life.plexes()
            await life.snapshots()
            await life.the_rest()
        figures.verbs = life.found
    return figures


def memory_mib() -> float:
    """Resident now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def show(found: list[Figures]) -> None:
    print(f"{'size':10}{'memory MiB':>12}{'home MiB':>10}{'on disk':>10}")
    for f in found:
        print(f"{f.size:10}{f.memory_mib:12.0f}{f.home_length_mib:10.0f}{f.home_allocated_mib:10.0f}")
    for f in found:
        print(f"\n{f.size:28}{'seconds':>9}{'held ms':>9}{'processor ms':>14}  longest step of")
        for each in f.verbs:
            print(line_of(each))


def line_of(held: Held) -> str:
    task = held.task.rpartition(".")[2]
    line = f"{held.verb:28}{held.seconds:9.2f}{held.held_ms:9.0f}{held.processor_ms:14.0f}  {task}"
    return "\n".join([line, *(f"{'':28}{count:9} {place}" for place, count in held.where.items())])


@click.command()
@click.option("--dir", "directory", type=click.Path(path_type=Path), help="Where the files lie; sparse.")
@click.option("--size", type=click.Choice(list(SIZES)), multiple=True, default=list(SIZES))
@click.option("--verbs", is_flag=True, help="All verbs, not only make, stop and start.")
@click.option("--where", is_flag=True, help="Show also in which lines the longest step was.")
@click.option("--json", "results", type=click.Path(path_type=Path))
@click.option("--one", hidden=True)
def main(
    directory: Path | None, size: tuple[str, ...], results: Path | None, one: str | None, *, verbs: bool, where: bool
) -> None:
    """Print tables of what volumes of these sizes cost, with two plexes each."""
    if one is not None:
        assert directory is not None
        print(json.dumps(asdict(trio.run(lambda: measure(one, directory, verbs=verbs, where=where)))))
        return
    found = []
    for each in size:
        with tempfile.TemporaryDirectory(dir=directory) as place:
            command = [sys.executable, __file__, "--dir", place, "--one", each]
            command += ["--verbs"] * verbs + ["--where"] * where
            answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            found.append(Figures(**answer | {"verbs": [Held(**held) for held in answer["verbs"]]}))
    show(found)
    if results is not None:
        results.write_text(json.dumps([asdict(f) for f in found], indent=1))


if __name__ == "__main__":
    main()
