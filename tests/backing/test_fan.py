"""A write that all disks take whole goes through the ring without a call of its own, and counts as one that has."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from fmrd.backing import plexfile
from fmrd.backing.calls.fan import Fan
from fmrd.backing.calls.ring_calls import RingCalls
from fmrd.backing.calls.system_calls import Call, Outcome
from fmrd.backing.owning.under_way import Process
from fmrd.backing.plexfile import PlexFile
from fmrd.core.measures.latency import SAMPLE
from fmrd.dco.copy import DcoCopy
from fmrd.engine.serving.open_plex import Lanes, OpenPlex
from fmrd.engine.serving.writes_under_way import Landing
from tests.waiting import LATE_SECONDS as LATE
from tests.waiting import until

DATA = bytes(range(256)) * 16
AT = 8192
SIZE = 1 << 20
Told = list[list[Outcome]]
Tell = Callable[[int], None]


class Pair:
    """Two plexes on files, written through a ring; what it tells of either may be kept back, or be another."""

    def __init__(self, directory: Path, system: RingCalls) -> None:
        self.system = system
        self.disks = [self._open(directory / name) for name in "ab"]
        self.made: list[Call] = []
        self.held: list[tuple[Tell, int]] = []
        """Ends that a disk that hangs does not tell yet."""
        self.told: Told = []
        self.turns: dict[int, Callable[[Tell, int], None]] = {}
        """What becomes of an end, by descriptor."""
        assert system.ring is not None
        self._write = system.ring.write
        system.ring.write = self._pushed  # type: ignore[method-assign]  # what a disk does
        for disk in self.disks:
            self._note(disk)

    def _open(self, path: Path) -> OpenPlex:
        made = plexfile.create_plex(str(path), SIZE)
        if made.inline:
            pytest.skip("needs a temporary directory on a disk")
        made.ring = self.system.ring
        no_copy = cast(DcoCopy, SimpleNamespace(file=SimpleNamespace(far="", close=lambda: None)))
        return OpenPlex(made, Lanes(path.name), no_copy)

    def _note(self, disk: OpenPlex) -> None:
        real = disk.writing_parts

        def noting(*arguments: object) -> Call:
            self.made.append(real(*arguments))  # type: ignore[arg-type]  # whatever it is given
            return self.made[-1]

        disk.writing_parts = noting  # type: ignore[method-assign, assignment]  # it counts them

    def _pushed(self, descriptor, address, length, offset, ended, keep, in_worker=False):  # type: ignore[no-untyped-def]  # Ring.write's own signature
        turn = self.turns.get(descriptor)
        told = ended if turn is None else lambda result: turn(ended, result)
        self._write(descriptor, address, length, offset, told, keep, in_worker)

    def file(self, index: int) -> PlexFile:
        return cast(PlexFile, self.disks[index].backing)

    def turn(self, index: int, turn: Callable[[Tell, int], None]) -> None:
        """The next end of a disk becomes this; those after it are as they are."""
        descriptor = self.file(index).fd

        def once(ended: Tell, result: int) -> None:
            del self.turns[descriptor]
            turn(ended, result)

        self.turns[descriptor] = once

    def hang(self, index: int) -> None:
        self.turn(index, lambda ended, result: self.held.append((ended, result)))

    def answer(self, *others: int) -> None:
        """What hung is told of now, with these results in place of its own."""
        for at, (ended, result) in enumerate(self.held):
            ended(others[at] if others else result)
        self.held.clear()

    def begin(self, offset: int = AT, weight: int = 1, timeout_seconds: float = LATE) -> None:
        self.system.begin(Fan(self.disks, offset, DATA, weight), timeout_seconds, self.told.append)

    async def end(self) -> list[Outcome]:
        await until(lambda: bool(self.told))
        [outcomes] = self.told
        return outcomes

    def is_at_rest(self) -> bool:
        lanes = [disk.lane for disk in self.disks]
        me, thread = Process.this(), f"/proc/{os.getpid()}/task/{threading.get_native_id()}"
        busy = any(lane.outstanding or lane.late for lane in lanes) or self.system._batches
        return not busy and me._writes(thread) == set()

    def holds(self, index: int) -> bytes:
        return self.file(index).pread(AT, len(DATA))


@pytest.fixture
def pair(tmp_path: Path, calls: RingCalls) -> Iterator[Pair]:
    made = Pair(tmp_path, calls)
    yield made
    for disk in made.disks:
        disk.close()


@pytest.mark.parametrize(("weight", "counted"), [(0, 0), (1, 1), (SAMPLE, SAMPLE)])
async def test_both_take_it_and_no_call_is_made(pair: Pair, weight: int, counted: int) -> None:
    pair.hang(1)
    pair.begin(weight=weight)
    await until(lambda: bool(pair.held))
    assert [disk.lane.outstanding for disk in pair.disks] == [0, 1] and not pair.told
    me, thread = Process.this(), f"/proc/{os.getpid()}/task/{threading.get_native_id()}"
    assert me._writes(thread) == {pair.file(1).file}
    pair.answer()
    assert pair.told == [[Outcome(), Outcome()]] and pair.made == [] and pair.is_at_rest()
    assert pair.holds(0) == pair.holds(1) == DATA
    assert [sum(disk.lane.took.write.buckets) for disk in pair.disks] == [counted] * 2


async def test_one_fails(pair: Pair) -> None:
    pair.turn(0, lambda ended, result: ended(-errno.EIO))
    pair.begin()
    first, second = await pair.end()
    assert isinstance(first.error, OSError) and first.error.errno == errno.EIO and second == Outcome()
    assert pair.is_at_rest() and sum(pair.disks[0].lane.took.write.buckets) == 1


async def test_one_that_stops_short_goes_on(pair: Pair) -> None:
    real = pair._write
    asked: list[tuple[int, int]] = []

    def short(descriptor, address, length, offset, ended, keep, in_worker=False):  # type: ignore[no-untyped-def]  # Ring.write's own signature
        if descriptor == pair.file(1).fd:
            asked.append((offset, length))
            length = min(length, 3000)
        real(descriptor, address, length, offset, ended, keep, in_worker)

    pair._write = short  # a disk that takes 3000 bytes at a time
    pair.begin()
    assert await pair.end() == [Outcome(), Outcome()]
    assert asked == [(AT, 4096), (AT + 3000, 1096)] and pair.holds(1) == DATA and pair.is_at_rest()


@pytest.mark.parametrize("result", [len(DATA), -errno.EIO])
async def test_one_that_is_given_up_has_landed_only_when_it_has(pair: Pair, result: int) -> None:
    """Until then nobody writes there anew, whatever becomes of it."""
    pair.hang(0)
    pair.begin(timeout_seconds=0.05)
    late, fine = await pair.end()
    disk = pair.disks[0]
    assert (
        isinstance(late.error, TimeoutError) and "a: no answer within 0.05 s" in str(late.error) and fine == Outcome()
    )
    [landing] = disk.late(((AT, AT + 1),))
    assert isinstance(landing, Landing) and disk.lane.hung == disk.lane.outstanding == pair.system.idle.hung == 1
    assert not disk.late(((AT - 1, AT), (AT + len(DATA), AT + len(DATA) + 1)))
    pair.answer(result)
    assert landing.landed and not disk.late(((AT, AT + 1),)) and pair.is_at_rest()
    assert pair.system.idle.hung == 0 and len(pair.told) == 1
    assert sum(disk.lane.took.write.buckets) == 1


async def test_what_memory_was_short_for_a_thread_does(pair: Pair) -> None:
    pair.turn(1, lambda ended, result: ended(-errno.ENOMEM))
    pair.file(1).pwrite(AT, bytes(len(DATA)))
    pair.begin()
    assert await pair.end() == [Outcome(), Outcome()] and pair.holds(1) == DATA and len(pair.made) == 1
    assert pair.is_at_rest()


@pytest.mark.parametrize("error", [OSError(errno.EAGAIN, "no row"), MemoryError("none")])
async def test_what_could_not_be_pushed_a_thread_does(
    pair: Pair, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def enter() -> None:
        raise error

    monkeypatch.setattr(pair.file(0), "handed_over", SimpleNamespace(enter=enter))
    pair.begin()
    assert await pair.end() == [Outcome(), Outcome()] and pair.holds(0) == DATA and pair.is_at_rest()


async def test_a_file_that_somebody_cut_is_not_made_longer(pair: Pair) -> None:
    os.truncate(pair.file(0).path, SIZE // 2)
    pair.begin(offset=SIZE - len(DATA))
    cut, fine = await pair.end()
    assert "changed by somebody else" in str(cut.error) and fine == Outcome()
    assert os.stat(pair.file(0).path).st_size == SIZE // 2 and pair.is_at_rest()


def test_its_calls_are_the_same_each_time(pair: Pair) -> None:
    fan = Fan(pair.disks, AT, DATA, 1)
    assert list(fan) == fan[:] == [fan[0], fan[1]] == pair.made
    fan[1].run()
    assert pair.holds(1) == DATA
