"""Writes that begin in a step and end by a callback: what they hold meanwhile, and when they are answered."""

import errno
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import perf_counter_ns
from typing import cast

import pytest
import trio
import trio.testing

from fmrd.backing.calls.system_calls import Call, Ended, Outcome
from fmrd.backing.ring.buffers import Pool, address_of
from fmrd.core.measures.latency import MANY
from fmrd.core.states import PlexState
from fmrd.engine.serving.flights import KEPT_BYTES
from tests.engine.rig import REGION, Rig
from tests.engine.test_races import home_of
from tests.waiting import until


class Waiting:
    """A verb that is asked for, and has to wait."""

    def __init__(self, rig: Rig, ask: Callable[[], Awaitable[object]]) -> None:
        self.ended = trio.Event()
        self._ask = ask
        rig.registry.context.nursery.start_soon(self._run)

    async def _run(self) -> None:
        await self._ask()
        self.ended.set()

    async def end(self) -> None:
        await self.ended.wait()


class Begun:
    """Calls that were begun end when a test says so, in whatever order."""

    def __init__(self, rig: Rig) -> None:
        self.mirror = rig.service.mirror
        self.batches: list[tuple[list[Call], Ended]] = []
        self.told: list[int | Exception | None] = []
        for disk in self.mirror.opened.values():
            disk.begins = True
        self.mirror.system.begin = self._begin  # type: ignore[method-assign]  # what the kernel would do

    def _begin(self, calls: Sequence[Call], timeout_seconds: float, ended: Ended) -> None:
        self.batches.append((list(calls), ended))

    def write(self, rig: Rig, offset: int, data: bytes) -> bool:
        """Was it begun so?"""
        before = len(self.batches)
        rig.data.served.write_now(offset, data, self.told.append)
        return len(self.batches) > before

    def flush(self, rig: Rig) -> bool:
        """Was it begun so?"""
        before = len(self.batches)
        rig.data.served.flush_now(self.told.append)
        return len(self.batches) > before

    def end(self, at: int = 0, error: Exception | None = None) -> None:
        """The first plex meets ``error``."""
        calls, ended = self.batches.pop(at)
        for call in calls[error is not None :]:
            call.run()
        ended([Outcome(error=error), *[Outcome() for _ in calls[1:]]])


async def begun(rig: Rig) -> Begun:
    await rig.make("ab")
    await rig.data.write(0, b"marked")
    return Begun(rig)


async def test_it_is_answered_when_the_last_plex_has_it(rig: Rig) -> None:
    made = await begun(rig)
    data = bytearray(b"here")
    assert made.write(rig, REGION, data) and made.told == []
    data[:] = b"anew"  # its buffer is the asker's again
    made.end()
    assert made.told == [4]
    assert rig.bytes_of("a")[REGION:][:4] == rig.bytes_of("b")[REGION:][:4] == b"here"


async def test_meanwhile_it_is_under_way_as_any_other(rig: Rig) -> None:
    """Others of its bytes wait, and so does whoever must see the volume at rest; those of other bytes do not."""
    made = await begun(rig)
    assert made.write(rig, REGION, b"first")
    assert not made.write(rig, REGION + 4, b"overlaps")
    assert made.write(rig, 2 * REGION, b"beside")
    assert rig.service.volume.drl.pending == 1 and rig.service.mirror.load.requests == 2
    det = Waiting(rig, partial(rig.det, "b"))
    await trio.testing.wait_all_tasks_blocked()
    assert not det.ended.is_set() and await rig.states() == "ACTIVE ACTIVE"
    made.end(1)
    made.end()
    await det.end()
    await rig.data.flush()
    assert sorted(map(str, made.told)) == ["5", "6", "8"]
    assert rig.bytes_of("a")[REGION:][:12] == b"firsoverlaps", "in the order in which they came"
    assert rig.service.volume.drl.pending == 0 and await rig.states() == "ACTIVE STALE"


async def test_a_plex_that_fails_leaves_before_it_is_answered(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    made = await begun(rig)
    assert made.write(rig, REGION, b"once")
    made.end(error=OSError(errno.EIO, "gone"))
    assert made.told == [], "not before that is recorded"
    await until(lambda: bool(made.told))
    assert made.told == [4] and await rig.states() == "IOFAIL ACTIVE"
    assert 1 in rig.plex("a").map and "data-01 detached (IOFAIL) after a write error" in caplog.text
    assert (rig.service.volume.drl.pending, rig.service.mirror.load.requests) == (0, 0)


async def test_how_long_one_took_that_failed_is_counted_though_it_was_not_timed(rig: Rig) -> None:
    """Of many at once only some are."""
    made, before = await begun(rig), perf_counter_ns()
    load = rig.service.mirror.load
    counted = load.writes.latency.total_ns
    load.requests += MANY
    assert made.write(rig, REGION, b"fails")
    load.requests -= MANY
    made.end(error=OSError(errno.EIO, "gone"))
    await until(lambda: bool(made.told))
    assert 0 < load.writes.latency.total_ns - counted < perf_counter_ns() - before


async def test_bytes_that_no_plex_could_give_are_there_again(rig: Rig) -> None:
    made = await begun(rig)
    assert made.write(rig, REGION, b"w" * 512)
    rig.service.mirror.unreadable.add(REGION, REGION + 512)
    made.end()
    assert not rig.service.mirror.unreadable.spans


async def test_the_file_has_changed_when_it_has_ended(rig: Rig) -> None:
    """Whoever copied it meanwhile sees that this was not all."""
    made = await begun(rig)
    served = rig.data.served
    assert made.write(rig, REGION, b"once")
    before = served.changed_ns
    made.end()
    assert served.changed_ns > before


async def test_one_that_ended_is_not_answered_before_what_another_one_met_is_recorded(rig: Rig) -> None:
    made = await begun(rig)
    assert made.write(rig, REGION, b"fails") and made.write(rig, 2 * REGION, b"ends well")
    with rig.host.hanging(home_of(rig), "dco_write") as hang:
        made.end(error=OSError(errno.EIO, "gone"))
        await until(lambda: hang.waiting == 1)
        made.end()
        await trio.testing.wait_all_tasks_blocked()
        assert made.told == []
    await until(lambda: len(made.told) == 2)
    assert sorted(map(str, made.told)) == ["5", "9"]


async def test_where_one_plex_cannot_begin_a_task_does_it(rig: Rig) -> None:
    made = await begun(rig)
    next(iter(made.mirror.opened.values())).begins = False
    assert not made.write(rig, REGION, b"by threads")
    await until(lambda: bool(made.batches))  # the other one begins, and the task waits for both
    made.end()
    await until(lambda: bool(made.told))
    assert made.told == [10] and rig.bytes_of("a")[REGION:][:10] == b"by threads"


async def test_a_plex_that_does_not_block_is_written_in_the_same_step(rig: Rig) -> None:
    made = await begun(rig)
    other = made.mirror.opened[rig.plex("b").uuid]
    other.begins, other.inline = False, True
    assert made.write(rig, REGION, b"here")
    assert len(made.batches[0][0]) == 1 and rig.bytes_of("b")[REGION:][:4] == b"here" and made.told == []
    made.end()
    assert made.told == [4] and rig.bytes_of("a")[REGION:][:4] == b"here"


async def test_a_plex_takes_no_part_of_a_region_that_it_lacks(rig: Rig) -> None:
    made = await begun(rig)
    rig.plex("b").map.mark(range(2, 3))
    before = rig.plex("b").write_bytes
    assert made.write(rig, 2 * REGION - 4, b"heldlack")
    made.end()
    assert made.told == [8] and rig.plex("b").write_bytes == before + 4
    assert rig.bytes_of("a")[2 * REGION - 4 :][:8] == b"heldlack"
    assert rig.bytes_of("b")[2 * REGION - 4 :][:8] == b"held" + bytes(4)


async def test_a_large_one_keeps_the_memory_it_came_in_until_the_last_disk_has_it(rig: Rig) -> None:
    made, pool = await begun(rig), Pool(KEPT_BYTES, 2)
    data = pool.take()
    where = address_of(data)
    data[:] = b"x" * KEPT_BYTES
    assert rig.data.served.write_now(REGION, data, made.told.append) is True
    del data
    other = pool.take()
    assert address_of(other) != where
    other[:] = b"y" * KEPT_BYTES
    made.end()
    assert address_of(pool.take()) == where
    assert made.told == [KEPT_BYTES] and rig.bytes_of("b")[REGION:][:KEPT_BYTES] == b"x" * KEPT_BYTES


async def test_so_does_one_that_has_to_wait_first(rig: Rig) -> None:
    """Somebody else holds the bytes, so a task carries it out later."""
    await begun(rig)
    pool, told = Pool(KEPT_BYTES, 2), list[int | Exception]()
    data = pool.take()
    where = address_of(data)
    data[:] = b"x" * KEPT_BYTES
    async with rig.service.mirror.ranges.hold((0, REGION)):
        assert rig.data.served.write_now(0, data, told.append) is True
        del data
        other = pool.take()
        assert address_of(other) != where and not told
        other[:] = b"y" * KEPT_BYTES
    await until(lambda: bool(told))
    assert told == [KEPT_BYTES] and rig.bytes_of("b")[:KEPT_BYTES] == b"x" * KEPT_BYTES


async def test_what_the_cache_has_not_is_read_without_a_task(rig: Rig) -> None:
    made = await begun(rig)
    told: list[bytes] = []
    rig.data.served.read_now(0, memoryview(bytearray(6)), lambda found: told.append(bytes(cast(memoryview, found))))
    assert rig.service.mirror.load.requests == 1 and not told
    made.end()
    assert told == [b"marked"] and rig.service.mirror.load.requests == 0


async def test_a_plex_that_cannot_be_read_is_not_asked_twice_and_mended_by_another(rig: Rig) -> None:
    made = await begun(rig)
    told: list[object] = []
    rig.data.served.read_now(0, memoryview(bytearray(6)), told.append)
    [call] = made.batches[0][0]
    name = call.lane.name
    made.end(error=OSError(errno.EIO, "no such sector"))
    assert rig.service.mirror.load.requests == 1
    while not told:
        if made.batches:
            assert made.batches[0][0][0].lane.name != name
            made.end()
        await trio.lowlevel.checkpoint()
    assert told == [b"marked"] and await rig.states() == "ACTIVE ACTIVE"
    await until(lambda: rig.service.mirror.load.requests == 0)
    plex = next(each for each in rig.service.volume.plexes if each.name == name)
    assert (plex.errors, plex.reads) == (1, 1)


async def test_a_read_that_was_given_up_is_not_waited_for_twice(rig: Rig) -> None:
    made = await begun(rig)
    told: list[object] = []
    rig.data.served.read_now(0, memoryview(bytearray(6)), told.append)
    name = made.batches[0][0][0].lane.name
    made.end(error=TimeoutError(errno.ETIMEDOUT, "no answer"))
    await until(lambda: bool(told))
    assert told == [b"marked"]
    states = {plex.name: plex.state for plex in rig.service.volume.plexes}
    assert states.pop(name) is PlexState.IOFAIL and set(states.values()) == {PlexState.ACTIVE}


async def test_a_flush_is_answered_when_the_last_plex_is_durable(rig: Rig) -> None:
    made = await begun(rig)
    assert made.flush(rig) and made.told == [] and rig.service.mirror.load.requests == 1
    syncing = [disk.backing.fdatasync for disk in made.mirror.opened.values()]
    assert [call.run for call in made.batches[0][0]] == syncing, "side by side"
    made.end()
    assert made.told == [None] and rig.service.mirror.load.requests == 0


async def test_a_flush_that_comes_during_another_has_a_round_of_its_own(rig: Rig) -> None:
    """What was written since the first one began is not proved by it."""
    made = await begun(rig)
    assert made.flush(rig)
    assert made.write(rig, 0, b"since")
    made.end(1)
    assert made.told == [5]
    assert not made.flush(rig), "it waits"
    await trio.testing.wait_all_tasks_blocked()
    made.end()
    assert made.told == [5, None]
    await until(lambda: len(made.told) == 3)
    assert made.told[2] is None
    assert made.flush(rig), "and then the turn is free again"
    made.end()


async def test_where_one_plex_cannot_begin_a_task_flushes(rig: Rig) -> None:
    made = await begun(rig)
    made.mirror.opened[rig.plex("b").uuid].begins = False
    assert not made.flush(rig)
    await until(lambda: made.told == [None])


async def test_a_volume_that_stops_begins_no_flush(rig: Rig) -> None:
    made = await begun(rig)
    made.mirror.load.closed = True
    assert not made.flush(rig)
    await until(lambda: bool(made.told))
    made.mirror.load.closed = False
    assert "volume_stopped" in str(made.told[0])


async def test_a_flush_that_fails_on_one_plex_is_answered_when_that_is_recorded(rig: Rig) -> None:
    made = await begun(rig)
    assert made.flush(rig)
    with rig.host.hanging(home_of(rig), "dco_write") as hang:
        made.end(error=OSError(errno.EIO, "lost"))
        await until(lambda: hang.waiting == 1)
        assert made.told == []
    await until(lambda: bool(made.told))
    assert made.told == [None] and await rig.states() == "IOFAIL ACTIVE", "the other plex has it all"
    assert rig.service.mirror.load.flushes.errors == 0


async def test_a_flush_that_fails_on_the_last_copy_says_so(rig: Rig) -> None:
    made = await begun(rig)
    await rig.det("b")
    await rig.data.write(0, b"marked again")
    assert made.flush(rig)
    made.end(error=OSError(errno.EIO, "lost"))
    await until(lambda: bool(made.told))
    assert made.flush(rig)
    made.end()
    assert ["the last copy" in str(each) for each in made.told] == [True, True], "until it is written anew"
    assert rig.service.mirror.load.flushes.errors == 2


async def test_a_volume_does_not_stop_under_a_flush(rig: Rig) -> None:
    made = await begun(rig)
    assert made.flush(rig)
    stop = Waiting(rig, rig.stop)
    await trio.testing.wait_all_tasks_blocked()
    assert not stop.ended.is_set()
    made.end()
    await stop.end()
    assert made.told == [None]
