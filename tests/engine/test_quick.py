"""Requests that end in the step in which they begin: what they may skip, and what they must not."""

import errno
import os

import pytest

from fmrd.backing.calls.second_thread import SecondThread, Share
from fmrd.engine.resync import windows
from fmrd.engine.serving.quick import LARGE_BYTES, Half
from tests.engine.faulty import Operation
from tests.engine.rig import REGION, SIZE, Rig
from tests.waiting import until


@pytest.fixture
def one_region_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "WINDOW_BYTES", REGION)
    monkeypatch.setattr(windows, "LONG_WINDOW_BYTES", REGION)


async def quick(rig: Rig, letters: str = "ab", **options: object) -> None:
    """A volume on disks that do not block, its only extent durable in the DRL."""
    await rig.make(letters, **options)
    await rig.data.write(0, b"marked")
    no_block(rig)


def no_block(rig: Rig) -> None:
    for disk in rig.service.mirror.opened.values():
        disk.inline = True


async def test_a_write_reaches_every_plex_at_once(rig: Rig) -> None:
    await quick(rig)
    assert rig.data.write_now(5 * REGION, b"quick") is True
    assert rig.bytes_of("a")[5 * REGION :][:5] == rig.bytes_of("b")[5 * REGION :][:5] == b"quick"


async def test_a_write_whose_extent_is_not_durable_takes_the_other_way(rig: Rig) -> None:
    await rig.make()
    no_block(rig)
    assert rig.data.write_now(0, b"too soon") is False
    assert rig.bytes_of("a") == bytes(SIZE)


async def test_while_bytes_are_lost_nothing_is_quick(rig: Rig) -> None:
    """The other way sees what comes back."""
    await quick(rig)
    rig.service.mirror.unreadable.add(REGION, REGION + 512)
    assert rig.data.write_now(REGION, b"anew") is False
    assert rig.data.read_now(REGION, memoryview(bytearray(512))) is None
    await rig.data.write(REGION, bytes(512))
    assert rig.data.write_now(REGION, b"anew") is True


async def test_what_a_detached_plex_misses_is_in_its_map(rig: Rig) -> None:
    await quick(rig, "abc")
    await rig.det("c")
    await rig.data.write(0, b"marked anew")
    assert rig.data.write_now(7 * REGION - 2, b"over two") is True
    assert rig.data.write_now(9 * REGION, b"one") is True
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
        assert rig.data.write_now(5 * REGION, b"held by both") is True
        assert rig.data.write_now(30 * REGION + 256, b"n" * REGION) is True, "missed by b, and no region whole"
        assert rig.data.write_now(19 * REGION + 256, b"n" * REGION) is False, "the second region is being copied"
        assert rig.data.write_now(40 * REGION, b"w" * REGION) is False, "it would heal b"
        await rig.data.write(40 * REGION, b"w" * REGION)
        assert rig.data.write_now(40 * REGION + 256, b"n" * REGION) is False, "the first region is healed now"
        before = rig.bytes_of("b")
        assert before[5 * REGION :][:12] == b"held by both"
        assert before[30 * REGION :][: 2 * REGION] == bytes(2 * REGION)
    assert (await rig.end(task))["state"] == "done"
    await rig.stop()
    assert rig.same("a", "b")


async def test_a_large_write_is_on_both_plexes_when_it_is_answered(rig: Rig) -> None:
    await quick(rig)
    data = os.urandom(LARGE_BYTES)
    assert rig.data.write_now(REGION, data) is True
    assert rig.bytes_of("a")[REGION:][:LARGE_BYTES] == rig.bytes_of("b")[REGION:][:LARGE_BYTES] == data


@pytest.mark.parametrize("length", [512, LARGE_BYTES])
@pytest.mark.parametrize("letter", ["a", "b"])
async def test_a_plex_that_fails_leaves_before_the_write_is_answered(rig: Rig, letter: str, length: int) -> None:
    await quick(rig)
    with rig.host.failing(rig.path(letter), "pwrite", code=errno.EIO):
        rest = rig.data.write_now(REGION, b"x" * length)
    assert callable(rest), "there is something to wait for"
    await rest()
    assert (await rig.shown(letter))["state"] == "IOFAIL"
    assert (await rig.shown(letter))["dirty_regions"] >= 1
    other = "b" if letter == "a" else "a"
    assert rig.bytes_of(other)[REGION:][:length] == b"x" * length


@pytest.mark.parametrize("length", [512, LARGE_BYTES])
async def test_a_bug_in_a_write_is_raised_where_it_is_asked_for(rig: Rig, length: int) -> None:
    """Also from another thread; the next one works."""
    await quick(rig)

    def bug(operation: object) -> None:
        raise ZeroDivisionError

    rig.host.watch.hooks.append(bug)
    with pytest.raises(ZeroDivisionError):
        rig.data.write_now(REGION, b"x" * length)
    rig.host.watch.hooks.clear()
    assert rig.data.write_now(REGION, b"x" * length) is True


def half_of(rig: Rig, offset: int, data: bytes) -> Half:
    half = rig.data.write_now(offset, data, by_halves=True)
    assert isinstance(half, Half)
    return half


def both(rig: Rig, offset: int, length: int) -> bytes:
    """What is on both plexes; they must agree."""
    found = {rig.bytes_of(letter)[offset:][:length] for letter in "ab"}
    assert len(found) == 1
    return found.pop()


async def test_a_large_write_may_be_finished_after_another_was_begun(rig: Rig) -> None:
    await quick(rig)
    one, two = os.urandom(LARGE_BYTES), os.urandom(LARGE_BYTES)
    first = half_of(rig, 0, one)
    second = half_of(rig, LARGE_BYTES, two)
    assert first.finish() is True and second.finish() is True
    assert both(rig, 0, 2 * LARGE_BYTES) == one + two
    assert first.finish() is True, "the same when asked again"
    assert (await rig.shown("a"))["writes"] == 3, "and counted once"


@pytest.mark.parametrize("what", ["a read", "a small write", "a large write over it"])
async def test_what_could_see_a_large_write_half_done_waits_for_it(
    rig: Rig, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of it is taken by nobody before it is finished, so that the test can fail."""
    await quick(rig)
    monkeypatch.setattr(SecondThread, "begin", lambda self, calls: Share(calls))
    half = half_of(rig, 0, b"1" * LARGE_BYTES)
    if what == "a read":
        buffer = memoryview(bytearray(LARGE_BYTES))
        assert rig.data.read_now(0, buffer) == LARGE_BYTES
        assert bytes(buffer) == b"1" * LARGE_BYTES
    elif what == "a small write":
        assert rig.data.write_now(100, b"small") is True
        assert both(rig, 98, 9) == b"11small11"
    else:
        other = half_of(rig, LARGE_BYTES // 2, b"2" * LARGE_BYTES)
        assert both(rig, 0, LARGE_BYTES // 2) == b"1" * (LARGE_BYTES // 2)
        assert other.finish() is True
        assert both(rig, LARGE_BYTES // 2, LARGE_BYTES) == b"2" * LARGE_BYTES
    assert half.finish() is True


async def test_two_that_follow_each_other_may_both_fail(rig: Rig) -> None:
    await quick(rig)
    with rig.host.failing(rig.path("b"), "pwrite"):
        halves = [half_of(rig, turn * LARGE_BYTES, b"x" * LARGE_BYTES) for turn in range(2)]
        rests = [half.finish() for half in halves]
    for rest in rests:
        assert callable(rest)
        await rest()
    assert (await rig.shown("b"))["state"] == "IOFAIL"
    assert (await rig.shown("b"))["dirty_regions"] >= 2 * LARGE_BYTES // REGION
    assert rig.bytes_of("a")[: 2 * LARGE_BYTES] == b"x" * 2 * LARGE_BYTES


async def test_a_bug_in_a_large_write_is_told_to_whoever_finishes_it_and_to_nobody_else(rig: Rig) -> None:
    await quick(rig)

    def bug(operation: Operation) -> None:
        if operation.length == LARGE_BYTES:
            raise ZeroDivisionError

    rig.host.watch.hooks.append(bug)
    half = half_of(rig, 0, b"x" * LARGE_BYTES)
    assert rig.data.write_now(LARGE_BYTES, b"small") is True
    assert rig.data.read_now(LARGE_BYTES, memoryview(bytearray(5))) == 5
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            half.finish()
