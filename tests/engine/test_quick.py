"""Requests that end in the step in which they begin: what they may skip, and what they must not."""

import errno
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fmrd.backing.calls.second_thread import SecondThread, Share
from fmrd.backing.calls.threaded_calls import ThreadedCalls
from fmrd.engine.resync import windows
from fmrd.engine.serving.quick import LARGE_BYTES
from fmrd.errors import Failed
from tests.engine.faulty import Operation
from tests.engine.rig import REGION, SIZE, Rig, daemon
from tests.waiting import until

SOON = 0.3
"""An io_timeout for disks that hang."""


@pytest.fixture
def one_region_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "WINDOW_BYTES", REGION)
    monkeypatch.setattr(windows, "LONG_WINDOW_BYTES", REGION)


async def quick(rig: Rig, letters: str = "ab", **options: object) -> None:
    """A volume on disks that do not block, its only extent durable in the DRL."""
    await rig.make(letters, **options)
    await rig.data.write(0, b"marked")
    no_block(rig)


def no_block(rig: Rig, volume: str = "data") -> None:
    for disk in rig.registry.service(volume).mirror.opened.values():
        disk.inline = True


class Asked:
    """A request that was begun: what it was told, and the work that it left to a task."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.left: list[Callable[[], Awaitable[None]]] = []

    @property
    def at_once(self) -> bool:
        return bool(self.told)

    async def end(self) -> object:
        """What it is told in the end."""
        for work in self.left:
            await work()
        [told] = self.told
        return told


def write(rig: Rig, offset: int, data: bytes, volume: str = "data") -> Asked:
    served, asked = rig.door(volume).served, Asked()
    served.start = asked.left.append  # type: ignore[assignment]  # a test has it done itself
    served.write_now(offset, data, asked.told.append)
    return asked


def read(rig: Rig, offset: int, length: int, volume: str = "data") -> bytes | None:
    """None: it has to be waited for."""
    served, asked = rig.door(volume).served, Asked()
    served.start = asked.left.append  # type: ignore[assignment]  # a test has it done itself
    served.read_now(offset, memoryview(bytearray(length)), asked.told.append)
    return bytes(asked.told[0]) if asked.told else None  # type: ignore[call-overload]  # bytes, or a part of the buffer


async def test_a_write_reaches_every_plex_at_once(rig: Rig) -> None:
    await quick(rig)
    assert write(rig, 5 * REGION, b"quick").at_once
    assert rig.bytes_of("a")[5 * REGION :][:5] == rig.bytes_of("b")[5 * REGION :][:5] == b"quick"


async def test_a_write_whose_extent_is_not_durable_takes_the_other_way(rig: Rig) -> None:
    await rig.make()
    no_block(rig)
    assert not write(rig, 0, b"too soon").at_once
    assert rig.bytes_of("a") == bytes(SIZE)


async def test_of_a_write_over_two_extents_both_must_be_durable(rig: Rig) -> None:
    await quick(rig, size_bytes=2 * SIZE)
    assert write(rig, 0, b"written in this tick").at_once
    assert not write(rig, SIZE - 2, b"over").at_once
    assert rig.bytes_of("a")[SIZE - 2 :][:4] == bytes(4)


async def test_at_the_end_of_the_volume(rig: Rig) -> None:
    end = SIZE - REGION // 2
    await quick(rig, size_bytes=end)
    assert write(rig, end - 4, b"last").at_once
    assert read(rig, end - 4, 8) == b"last"
    assert read(rig, end, 8) == b"" == read(rig, end + SIZE, 8)
    over = write(rig, end - 2, b"over")
    assert not over.at_once and await over.end() == 2
    assert rig.bytes_of("a")[end - 4 :] == b"laov"


async def test_what_a_restore_holds_back_is_not_read_at_once(rig: Rig) -> None:
    await quick(rig)
    async with rig.service.mirror.reads_held():
        assert read(rig, 0, 6) is None
    assert read(rig, 0, 6) == b"marked"


async def test_what_no_plex_has_alone_is_not_read_at_once(rig: Rig) -> None:
    await quick(rig)
    rig.plex("a").map.mark(range(3, 4))
    rig.plex("b").map.mark(range(4, 5))
    assert read(rig, 3 * REGION, 2 * REGION) is None
    assert read(rig, 3 * REGION, REGION) == bytes(REGION)


async def test_what_may_land_yet_is_neither_read_nor_written_over_at_once(tmp_path: Path) -> None:
    """On a last copy, which stays. Zeros are made by a thread, whatever the disk."""
    async with daemon(tmp_path, io_timeout_seconds=SOON) as rig:
        await quick(rig, "a")
        lane = rig.service.mirror.opened[rig.plex("a").uuid].lane
        with rig.host.hanging(rig.path("a"), "make_zero") as hang:
            with pytest.raises(Failed, match="io_error"):
                await rig.data.make_zero(3 * REGION, REGION, punch=True)
            assert read(rig, 4 * REGION - 1, 2) is None and not write(rig, 4 * REGION - 1, b"ov").at_once
            assert read(rig, 4 * REGION, 2) == bytes(2) and write(rig, 4 * REGION, b"be").at_once
            hang.let_go()
            await until(lambda: not lane.outstanding)
        assert write(rig, 4 * REGION - 1, b"ov").at_once and read(rig, 4 * REGION - 1, 3) == b"ove"


async def test_an_instant_snapshot_answers_nothing_at_once(rig: Rig) -> None:
    """A region of it may be lost, whatever its plex holds, and what it writes takes room that is to be granted."""
    await quick(rig)
    await rig.write_regions(5, 6, byte=b"0")
    await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("i")), name="i")
    await rig.door("i").write(5 * REGION, b"its own")
    no_block(rig, "i")
    assert not write(rig, 5 * REGION, b"at once", "i").at_once
    assert read(rig, 5 * REGION, 7, "i") is None
    [lost] = rig.service.volume.unkept.values()
    lost.map.mark(range(5, 6))
    assert read(rig, 5 * REGION, 7, "i") is None
    with pytest.raises(Failed, match="snap_invalid"):
        await rig.door("i").read(5 * REGION, 7)


async def test_while_bytes_are_lost_nothing_is_quick(rig: Rig) -> None:
    """The other way sees what comes back."""
    await quick(rig)
    rig.service.mirror.unreadable.add(REGION, REGION + 512)
    assert not write(rig, REGION, b"anew").at_once
    assert read(rig, REGION, 512) is None
    await rig.data.write(REGION, bytes(512))
    assert write(rig, REGION, b"anew").at_once


async def test_bytes_that_are_lost_stay_lost_where_a_write_to_them_fails(rig: Rig) -> None:
    await quick(rig, "a")
    rig.service.mirror.unreadable.add(REGION, REGION + 512)
    with rig.host.failing(rig.path("a"), "pwrite"), pytest.raises(Failed, match="io_error"):
        await rig.data.write(REGION, bytes(512))
    assert rig.service.mirror.unreadable.spans


async def test_where_one_disk_may_block_nothing_is_written_at_once(rig: Rig) -> None:
    """Whoever has the step would stand still with it, and everybody else."""
    await quick(rig)
    rig.service.mirror.opened[rig.plex("b").uuid].inline = False
    assert not write(rig, REGION, b"later").at_once
    rig.service.mirror.opened[rig.plex("b").uuid].inline = True
    assert write(rig, REGION, b"now").at_once


async def test_what_an_instant_snapshot_needs_of_its_original_is_not_written_over_at_once(rig: Rig) -> None:
    await quick(rig)
    await rig.write_regions(5, byte=b"0")
    await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("i")))
    await rig.write_regions(6)  # so that the extent is marked, and all is recorded
    asked = write(rig, 5 * REGION, b"1" * REGION)
    assert not asked.at_once
    assert await asked.end() == REGION
    assert await rig.door("SNAP-data").read(5 * REGION + 512, 1) == b"0"


async def test_what_instant_snapshots_have_kept_or_lost_is_written_at_once(rig: Rig) -> None:
    await quick(rig)
    await rig.write_regions(*range(10), byte=b"0")
    for letter in "ij":
        await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path(letter)), name=letter)
    await rig.write_regions(5)
    assert write(rig, 5 * REGION, b"1" * REGION).at_once
    assert not write(rig, 5 * REGION, b"1" * (REGION + 1)).at_once, "the next one is owed"
    with rig.host.failing(rig.path("i"), "pwrite"):
        await rig.write_regions(6)
    assert write(rig, 6 * REGION, b"1" * REGION).at_once, "lost by one, kept by the other"
    for letter in "ij":
        assert await rig.door(letter).read(5 * REGION + 512, 1) == b"0"
    assert await rig.door("j").read(6 * REGION + 512, 1) == b"0"
    await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("k")), name="k")
    await rig.write_regions(9)
    assert not write(rig, 5 * REGION, b"2" * REGION).at_once, "owed to a new one"


async def test_a_volume_that_stops_answers_nothing_at_once(rig: Rig) -> None:
    """New requests are counted by nobody any more, and files are about to be closed."""
    await quick(rig)
    rig.service.mirror.load.closed = True
    assert read(rig, 0, 6) is None and not write(rig, 0, b"late").at_once
    rig.service.mirror.load.closed = False


async def test_what_a_detached_plex_misses_is_in_its_map(rig: Rig) -> None:
    await quick(rig, "abc")
    await rig.det("c")
    await rig.data.write(0, b"marked anew")
    assert write(rig, 7 * REGION - 2, b"over two").at_once
    assert write(rig, 9 * REGION, b"one").at_once
    await rig.end(task := await rig.att("c"))
    assert (task["reason"]["code"], task["total_regions"]) == ("fast", 4)
    await rig.stop()
    assert rig.same("a", "b", "c")


async def test_an_attaching_plex_is_passed_by_where_it_holds_nothing(rig: Rig, one_region_at_a_time: None) -> None:
    """What it misses is copied later. A write of which it holds a part, or that heals it, is judged with care."""
    await quick(rig)
    await rig.det("b")
    await rig.data.write(0, os.urandom(SIZE))
    with rig.host.hanging(rig.path("b"), "copy_from", within=range(20 * REGION, SIZE)) as hang:
        task = await rig.att("b")
        await until(lambda: hang.waiting == 2)
        no_block(rig)
        assert write(rig, 5 * REGION, b"held by both").at_once
        assert write(rig, 30 * REGION + 256, b"n" * REGION).at_once, "missed by b, and no region whole"
        assert not write(rig, 19 * REGION + 256, b"n" * REGION).at_once, "the second region is being copied"
        assert not write(rig, 40 * REGION, b"w" * REGION).at_once, "it would heal b"
        await rig.data.write(40 * REGION, b"w" * REGION)
        assert not write(rig, 40 * REGION + 256, b"n" * REGION).at_once, "the first region is healed now"
        before = rig.bytes_of("b")
        assert before[5 * REGION :][:12] == b"held by both"
        assert before[30 * REGION :][: 2 * REGION] == bytes(2 * REGION)
    assert (await rig.end(task))["state"] == "done"
    await rig.stop()
    assert rig.same("a", "b")


async def test_a_large_write_is_on_both_plexes_when_it_is_answered(rig: Rig) -> None:
    await quick(rig)
    data = os.urandom(LARGE_BYTES)
    assert write(rig, REGION, data).at_once
    assert rig.bytes_of("a")[REGION:][:LARGE_BYTES] == rig.bytes_of("b")[REGION:][:LARGE_BYTES] == data


@pytest.mark.parametrize("length", [512, LARGE_BYTES])
@pytest.mark.parametrize("letter", ["a", "b"])
async def test_a_plex_that_fails_leaves_before_the_write_is_answered(rig: Rig, letter: str, length: int) -> None:
    await quick(rig)
    with rig.host.failing(rig.path(letter), "pwrite", code=errno.EIO):
        asked = write(rig, REGION, b"x" * length)
    assert not asked.at_once, "there is something to wait for"
    assert await asked.end() == length
    assert (await rig.shown(letter))["state"] == "IOFAIL"
    assert (await rig.shown(letter))["dirty_regions"] >= 1
    other = "b" if letter == "a" else "a"
    assert rig.bytes_of(other)[REGION:][:length] == b"x" * length


@pytest.mark.parametrize("length", [512, LARGE_BYTES])
async def test_a_bug_in_a_write_is_told_to_who_asked(rig: Rig, length: int) -> None:
    """In its step, or by the callback where another thread met it; the next one works."""
    await quick(rig)

    def bug(operation: object) -> None:
        raise ZeroDivisionError

    rig.host.watch.hooks.append(bug)
    try:
        [told] = write(rig, REGION, b"x" * length).told
    except ZeroDivisionError as raised:
        told = raised
    assert isinstance(told, ZeroDivisionError)
    rig.host.watch.hooks.clear()
    assert write(rig, REGION, b"x" * length).at_once


@contextmanager
def a_step(rig: Rig) -> Iterator[None]:
    """As a door takes it in which large writes may overlap."""
    system = rig.registry.context.system
    assert isinstance(system, ThreadedCalls)
    system.idle.begin_step()
    try:
        yield
    finally:
        system.idle.end_step()


def both(rig: Rig, offset: int, length: int) -> bytes:
    """What is on both plexes; they must agree."""
    found = {rig.bytes_of(letter)[offset:][:length] for letter in "ab"}
    assert len(found) == 1
    return found.pop()


async def test_a_large_write_may_end_after_the_next_one_began(rig: Rig) -> None:
    await quick(rig)
    one, two = os.urandom(LARGE_BYTES), os.urandom(LARGE_BYTES)
    with a_step(rig):
        first = write(rig, 0, one)
        assert not first.told
        second = write(rig, LARGE_BYTES, two)
        assert first.told == [LARGE_BYTES] and not second.told, "one is under way at a time"
    assert second.told == [LARGE_BYTES]
    assert both(rig, 0, 2 * LARGE_BYTES) == one + two
    assert (await rig.shown("a"))["writes"] == 3, "and counted once"


async def test_a_large_write_says_whether_its_data_is_still_in_use(rig: Rig) -> None:
    await quick(rig)
    told: list[object] = []
    assert rig.data.served.write_now(0, b"1" * LARGE_BYTES, told.append) is False and told == [LARGE_BYTES]
    with a_step(rig):
        assert rig.data.served.write_now(0, b"2" * LARGE_BYTES, told.append) is True
        assert rig.data.served.write_now(LARGE_BYTES, b"small", told.append) is False
    assert told == [LARGE_BYTES, LARGE_BYTES, 5]


@pytest.mark.parametrize("what", ["a read", "a small write", "a large write over it"])
async def test_what_could_see_a_large_write_half_done_waits_for_it(
    rig: Rig, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of it is taken by nobody before it is finished, so that the test can fail."""
    await quick(rig)
    monkeypatch.setattr(SecondThread, "_start", lambda self, calls: Share(calls))
    with a_step(rig):
        large = write(rig, 0, b"1" * LARGE_BYTES)
        assert not large.told
        if what == "a read":
            assert read(rig, 0, LARGE_BYTES) == b"1" * LARGE_BYTES
        elif what == "a small write":
            assert write(rig, 100, b"small").at_once
            assert both(rig, 98, 9) == b"11small11"
        else:
            other = write(rig, LARGE_BYTES // 2, b"2" * LARGE_BYTES)
            assert both(rig, 0, LARGE_BYTES // 2) == b"1" * (LARGE_BYTES // 2)
            assert not other.told
        assert large.told == [LARGE_BYTES]
    if what == "a large write over it":
        assert both(rig, LARGE_BYTES // 2, LARGE_BYTES) == b"2" * LARGE_BYTES


async def test_two_that_follow_each_other_may_both_fail(rig: Rig) -> None:
    await quick(rig)
    with rig.host.failing(rig.path("b"), "pwrite"), a_step(rig):
        asked = [write(rig, turn * LARGE_BYTES, b"x" * LARGE_BYTES) for turn in range(2)]
    # Both left their work where the second one was begun.
    for work in asked[1].left:
        await work()
    assert [each.told for each in asked] == [[LARGE_BYTES], [LARGE_BYTES]]
    assert (await rig.shown("b"))["state"] == "IOFAIL"
    assert (await rig.shown("b"))["dirty_regions"] >= 2 * LARGE_BYTES // REGION
    assert rig.bytes_of("a")[: 2 * LARGE_BYTES] == b"x" * 2 * LARGE_BYTES


async def test_a_bug_in_a_large_write_is_told_to_who_asked_for_it_and_to_nobody_else(rig: Rig) -> None:
    await quick(rig)

    def bug(operation: Operation) -> None:
        if operation.length == LARGE_BYTES:
            raise ZeroDivisionError

    rig.host.watch.hooks.append(bug)
    with a_step(rig):
        large = write(rig, 0, b"x" * LARGE_BYTES)
        assert write(rig, LARGE_BYTES, b"small").at_once
        assert read(rig, LARGE_BYTES, 5) == b"small"
    [told] = large.told
    assert isinstance(told, ZeroDivisionError)
