"""Writes that a disk takes in the step in which they are asked for, as far as it does."""

from collections.abc import Callable

from fmrd.engine.serving.quick import NOW_BYTES
from tests.engine.rig import REGION, Rig
from tests.engine.test_flights import Begun, begun

Takes = Callable[[int, bytes], bool | None]


def all_of_it(rig: Rig, letter: str) -> Takes:
    def pwrite_now(offset: int, data: bytes) -> bool:
        backing(rig, letter).pwrite(offset, data)
        return True

    return pwrite_now


def half_of_it(rig: Rig, letter: str) -> Takes:
    def pwrite_now(offset: int, data: bytes) -> bool:
        backing(rig, letter).pwrite(offset, data[: len(data) // 2])
        return False

    return pwrite_now


def nothing(_: int, __: bytes) -> None:
    """It cannot be told."""


def backing(rig: Rig, letter: str):  # type: ignore[no-untyped-def]  # whatever a test put there
    return rig.service.mirror.opened[rig.plex(letter).uuid].backing


async def taking(rig: Rig, a: Takes, b: Takes) -> Begun:
    made = await begun(rig)
    for letter, takes in (("a", a), ("b", b)):
        disk = rig.service.mirror.opened[rig.plex(letter).uuid]
        disk.now = True
        disk.backing.pwrite_now = takes  # type: ignore[method-assign]  # what the kernel would do
    return made


async def test_what_all_take_at_once_is_answered_at_once(rig: Rig) -> None:
    made = await taking(rig, all_of_it(rig, "a"), all_of_it(rig, "b"))
    before, told = (rig.plex("a").writes, rig.plex("b").write_bytes), rig.service.mirror.load.writes.count
    assert not made.write(rig, REGION, b"here") and made.told == [4]
    assert rig.bytes_of("a")[REGION:][:4] == rig.bytes_of("b")[REGION:][:4] == b"here"
    assert (rig.plex("a").writes, rig.plex("b").write_bytes) == (before[0] + 1, before[1] + 4)
    assert rig.service.mirror.load.writes.count == told + 1


async def test_what_one_of_them_takes_in_part_is_under_way_from_that_step_on(rig: Rig) -> None:
    """Two copies differ there, and the log must not forget that before they are the same."""
    made = await taking(rig, all_of_it(rig, "a"), half_of_it(rig, "b"))
    before = rig.plex("a").writes
    assert made.write(rig, REGION, b"here") and made.told == []
    assert rig.bytes_of("a")[REGION:][:4] == b"here" and rig.bytes_of("b")[REGION:][:4] == b"he\0\0"
    assert (rig.service.volume.drl.pending, rig.service.mirror.load.requests) == (1, 1)
    assert not rig.service.mirror.ranges.is_free(REGION, REGION + 4)
    made.end()
    assert made.told == [4] and rig.bytes_of("b")[REGION:][:4] == b"here"
    assert (rig.service.volume.drl.pending, rig.service.mirror.load.requests) == (0, 0)
    assert rig.plex("a").writes == before + 1


async def test_who_cannot_tell_is_not_tried_again(rig: Rig) -> None:
    made = await taking(rig, all_of_it(rig, "a"), nothing)
    assert made.write(rig, REGION, b"here")
    made.end()
    backing(rig, "b").pwrite_now = None
    assert made.write(rig, REGION, b"anew")
    made.end()
    assert made.told == [4, 4] and rig.bytes_of("b")[REGION:][:4] == b"anew"


async def test_a_large_one_is_not_tried(rig: Rig) -> None:
    """Others would wait for all of its bytes."""
    made = await taking(rig, all_of_it(rig, "a"), all_of_it(rig, "b"))
    assert not made.write(rig, 0, b"w" * NOW_BYTES)
    assert made.write(rig, 0, b"w" * (NOW_BYTES + 512))
    made.end()


async def test_the_first_that_has_to_wait_is_handed_over_at_once(rig: Rig) -> None:
    """Others could not be taken before it has ended; those that come after it then wait with them."""
    made = await taking(rig, half_of_it(rig, "a"), nothing)
    lane, submitted = rig.service.mirror.opened[rig.plex("a").uuid].lane, []
    made.mirror.system.submit = lambda: submitted.append(len(made.batches))  # type: ignore[method-assign]  # looked at
    assert made.write(rig, REGION, b"here") and submitted == [1]
    lane.enter()
    assert made.write(rig, 2 * REGION, b"also") and submitted == [1]
    lane.leave()
    made.end()
    made.end()
