"""The power fails under the real backing, at each of its system calls: nothing that was promised is lost (power.py)."""

import os
import random
import stat
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pytest
import trio
import trio.testing

from fmrd.backing import dcofile, plexfile, private
from fmrd.backing.calls.system_calls import Call, Outcome, outcome_of
from fmrd.backing.host import LinuxHost
from fmrd.backing.plexfile import PlexFile
from fmrd.engine.context import Context
from fmrd.engine.registry import Registry
from fmrd.engine.verbs.verbs import Verbs
from tests.door import Door
from tests.engine.power import Event, Machine, Survives, Synced, Written
from tests.engine.rig import NEVER
from tests.sim.schedule import _deterministic
from tests.waiting import until

REGION = 64 << 10
BLOCK = 4096
SIZE = 8 * REGION


class InPlace:
    """System calls on trio's own thread, so that each run makes the same ones in the same order."""

    async def in_turn(self, calls: Sequence[Call], timeout_seconds: float) -> list[Outcome]:
        await trio.lowlevel.checkpoint()
        return [outcome_of(call) for call in calls]

    at_once = in_turn

    def memory(self, length: int) -> memoryview:
        return memoryview(bytearray(length))

    async def in_idle_time(self, step: Callable[[], bool]) -> Outcome:
        while True:
            await trio.lowlevel.checkpoint()
            outcome = outcome_of(Call(None, step))  # type: ignore[arg-type]  # no lane is asked
            if outcome.error is not None or not outcome.value:
                return outcome


@dataclass
class Promise:
    """What is known to whoever used the volume, once so many system calls were made."""

    events: int
    there: bool | None
    """Whether the volume is; None: it is just being made, or removed."""
    blocks: list[set[int]]
    """What each block may hold."""


@dataclass
class Life:
    """The life of a daemon that is recorded, and what it promised."""

    machine: Machine
    verbs: Verbs
    registry: Registry
    promises: list[Promise]
    now: list[int] = field(default_factory=lambda: [0] * (SIZE // BLOCK))
    may_be: list[set[int]] = field(default_factory=lambda: [{0} for _ in range(SIZE // BLOCK)])
    label: int = 0

    def promise(self, there: bool | None) -> None:
        self.promises.append(Promise(len(self.machine.events), there, [set(labels) for labels in self.may_be]))

    @property
    def data(self) -> Door:
        served = self.registry.find("data")
        assert served is not None
        return Door(served)

    async def write(self, offset: int, length: int = BLOCK) -> None:
        self.label += 1
        for block in range(offset // BLOCK, (offset + length) // BLOCK):
            self.now[block] = self.label
            self.may_be[block].add(self.label)
        self.promise(True)
        await self.data.write(offset, bytes([self.label]) * length)

    async def flush(self) -> None:
        await self.data.flush()
        self.may_be = [{label} for label in self.now]
        self.promise(True)

    async def clean(self) -> None:
        await self.registry.service("data").mirror.clean()

    async def attach(self, plex: str) -> None:
        task = (await self.verbs.plex_att(volume="data", plex=plex))["task"]
        assert (await self.verbs.task_wait(id=task["id"]))["task"]["state"] == "done"


async def everything(life: Life) -> None:
    plexes = [{"path": str(life.machine.root / letter)} for letter in "ab"]
    life.promise(None)
    await life.verbs.make(volume="data", size_bytes=SIZE, plexes=plexes, region_size_bytes=REGION,
                          drl_extent_bytes=2 * REGION)  # fmt: skip
    life.promise(True)
    await life.write(0, 2 * BLOCK)
    await life.flush()
    await life.write(BLOCK)
    await life.write(5 * REGION, REGION)
    await life.clean()
    await life.flush()
    await life.verbs.plex_det(volume="data", plex="data-02")
    await life.write(2 * REGION - BLOCK, 2 * BLOCK)
    await life.flush()
    await life.clean()
    await life.write(6 * REGION)
    await life.attach("data-02")
    await life.write(0)
    await life.flush()
    await life.verbs.stop(volume="data")
    life.may_be = [{label} for label in life.now]
    life.promise(True)
    await life.verbs.start(volume="data")
    await life.write(3 * REGION)
    await life.flush()
    life.promise(None)
    await life.verbs.remove(volume="data")
    life.promise(False)


def daemon(machine: Machine, run: Callable[[Registry, Verbs], Awaitable[None]]) -> None:
    """One daemon, from its start to its sudden end, which is no part of what is recorded."""
    raised: list[BaseException] = []

    async def main() -> None:
        host = LinuxHost(machine.root / "state")
        host.lock()
        context = Context(host, InPlace(), clean_seconds=NEVER, return_seconds=0)  # type: ignore[arg-type]  # no share
        registry = Registry(context, "/mnt")
        async with trio.open_nursery() as nursery:
            await nursery.start(registry.run)
            try:
                await run(registry, Verbs(registry))
            except Exception as error:
                raised.append(error)
            machine.freeze()
            nursery.cancel_scope.cancel()

    with _deterministic(1), machine.recorded():
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    if raised:
        raise raised[0]


def live(directory: Path) -> tuple[Machine, list[Promise]]:
    """Record a life in which all is done that makes promises."""
    machine = Machine(directory / "machine", directory / "vault")
    promises: list[Promise] = []
    machine.recording()
    daemon(machine, lambda registry, verbs: everything(Life(machine, verbs, registry, promises)))
    return machine, promises


def look(machine: Machine, promise: Promise) -> None:
    """Start again, and ask for what was promised."""

    async def run(registry: Registry, verbs: Verbs) -> None:
        units = registry.units
        if promise.there is not None:
            assert ("data" in units) is promise.there, f"the volume is there: {not promise.there}"
        if "data" not in units:
            return
        if units["data"].service is None and units["data"].failure is None:  # it was stopped
            await verbs.start(volume="data")
        served = registry.find("data")
        assert served is not None, f"it does not start: {units['data'].failure}"
        data = await Door(served).read(0, SIZE)
        for block, allowed in enumerate(promise.blocks):
            found = set(data[block * BLOCK : (block + 1) * BLOCK])
            assert found <= allowed, f"block {block} holds {found}, and {allowed} was promised"
        plexes = registry.service("data").volume.plexes
        await until(lambda: all(plex.state == "ACTIVE" for plex in plexes))
        codes = [task["reason"]["code"] for task in (await verbs.task_list(all=True))["tasks"]]
        assert not [code for code in codes if code.startswith("full_")], "only what was missed is copied"
        assert await Door(served).read(0, SIZE) == data
        await verbs.stop(volume="data")
        assert all((machine.root / letter).read_bytes() == data for letter in "ab"), "both plexes hold it"

    daemon(machine, run)


def crash(machine: Machine, promises: Sequence[Promise], count: int, survives: Survives, rng: random.Random) -> None:
    promise = [each for each in promises if each.events <= count]
    machine.put_back(count, survives, rng)
    if promise:
        look(machine, promise[-1])


def nothing(event: Event) -> bool:
    return False


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory on tmpfs where there is one: what a sync is worth the model says, and there it costs nothing."""
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None, prefix="fmrd-test-") as path:
        yield Path(path)


def moments(machine: Machine, promises: Sequence[Promise]) -> list[int]:
    """Just before something becomes sure, when most is unsure, and as something is promised."""
    syncs = {at for at, event in enumerate(machine.events) if isinstance(event, Synced)}
    return sorted(syncs | {promise.events for promise in promises})


@pytest.mark.parametrize("what", ["nothing", "names", "data", "some"])
def test_nothing_that_was_promised_is_lost(memory: Path, what: str) -> None:
    machine, promises = live(memory)
    rng = random.Random(what)
    chosen: dict[str, Survives] = {
        "nothing": nothing,
        "names": lambda event: not isinstance(event, Written),
        "data": lambda event: isinstance(event, Written),
    }
    survives = chosen.get(what, lambda event: rng.choice([False, None, True]))
    for count in moments(machine, promises):
        try:
            crash(machine, promises, count, survives, rng)
        except BaseException as error:
            error.add_note(f"after {count} of {len(machine.events)} calls, behind {machine.events[count - 1]!r:.200}")
            raise


def test_it_is_the_same_life_each_time(memory: Path) -> None:
    lives = []
    for name in "12":
        (memory / name).mkdir()
        lives.append(live(memory / name)[0])
    assert len({tuple(type(event) for event in machine.events) for machine in lives}) == 1


def _names_are_not_synced(owner: Any) -> Any:
    return patch.object(owner, "sync_directory", lambda path: None)


def _named_anew(host: LinuxHost, root: Path) -> None:
    host.create_home("old", BLOCK).close()
    host.publish_home("old")
    host.rename_home("old", "new")


def _noted(host: LinuxHost, root: Path) -> None:
    notes = host.open_checksums("data", make=True)
    assert notes is not None
    notes.write(0, b"sums")
    notes.sync()
    notes.close()
    host.create_home("data", BLOCK).close()
    host.publish_home("data")


def _notes_removed(host: LinuxHost, root: Path) -> None:
    _noted(host, root)
    host.remove_checksums("data")


def _plex_made(host: LinuxHost, root: Path) -> None:
    host.create_plex(str(root / "a"), SIZE).close()


def _made(host: LinuxHost, root: Path) -> None:
    _plex_made(host, root)
    host.create_dco(str(root / "a"), None, BLOCK).close()


def _dco_removed(host: LinuxHost, root: Path) -> None:
    _made(host, root)
    host.remove_dco(str(root / "a"), None)


def _plex_removed(host: LinuxHost, root: Path) -> None:
    _made(host, root)
    host.remove_plex(str(root / "a"))


@pytest.mark.parametrize(
    ("act", "left"),
    [
        (_named_anew, {"state/volumes/new.dco"}),
        (_noted, {"state/volumes/data.sums", "state/volumes/data.dco"}),
        (_notes_removed, {"state/volumes/data.dco"}),
        (_plex_made, {"a"}),
        (_made, {"a", "a.dco"}),
        (_dco_removed, {"a"}),
        (_plex_removed, {"a.dco"}),
    ],
)  # fmt: skip
def test_what_a_host_has_done_is_done(memory: Path, act: Callable[[LinuxHost, Path], None], left: set[str]) -> None:
    machine = Machine(memory / "machine", memory / "vault")
    machine.recording()
    with machine.recorded():
        act(LinuxHost(machine.root / "state"), machine.root)
        machine.freeze()
    machine.put_back(len(machine.events), nothing, random.Random(1))
    found = {path.relative_to(machine.root).as_posix(): path for path in machine.root.rglob("*") if path.is_file()}
    assert found.keys() == left
    for name, path in found.items():
        content = path.read_bytes()
        assert content == {"a": bytes(SIZE), "state/volumes/data.sums": b"sums"}.get(name, bytes(BLOCK))


class _OsWithoutFsyncOfFiles:
    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fsync(self, descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            os.fsync(descriptor)


LEFT_OUT: dict[str, Callable[[], Any]] = {
    "fdatasync of a plex": lambda: patch.object(PlexFile, "fdatasync", lambda self: None),
    "the name of the home copy": lambda: patch.object(
        LinuxHost, "publish_home", lambda self, name: os.rename(f"{self.home_path(name)}.new", self.home_path(name))
    ),
    "the name of a plex": lambda: _names_are_not_synced(plexfile),
    "the name of a copy of the DCO": lambda: _names_are_not_synced(dcofile),
    "the length of a plex": lambda: patch.object(plexfile, "os", _OsWithoutFsyncOfFiles()),
    "O_DSYNC of a copy of the DCO": lambda: patch.object(dcofile.os, "O_DSYNC", 0),
    "the name of the state directory": lambda: _names_are_not_synced(private),
    "that the home copy is forgotten": lambda: patch.object(
        LinuxHost, "remove_home", lambda self, name: self.home_path(name).unlink()
    ),
}


@pytest.mark.parametrize("what", LEFT_OUT)
def test_what_is_not_synced_is_missed(what: str, memory: Path) -> None:
    """Where one of them is left out, a promise is broken just after it was given, when nothing else survives."""
    with LEFT_OUT[what]():
        machine, promises = live(memory)
    with pytest.raises((AssertionError, trio.TooSlowError)):  # noqa: PT012  # whichever of them it is
        for promise in promises:
            crash(machine, promises, promise.events, nothing, random.Random(1))
