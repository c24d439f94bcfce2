"""FastResync: what a plex missed is what is copied, no more and no less, whatever happens on the way."""

import os
import shutil

import pytest
import trio
import trio.testing

from fmrd.core.reasons import Reason
from fmrd.core.states import TaskType
from fmrd.engine.resync import resync, windows
from fmrd.engine.resync.window_copier import WindowCopier
from fmrd.engine.tasks import TaskList
from fmrd.errors import Failed, Refused
from tests.engine.rig import NEVER, REGION, SIZE, Rig
from tests.waiting import until


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy takes one region at a time, and holds the lock of no more."""
    monkeypatch.setattr(windows, "WINDOW_BYTES", REGION)
    monkeypatch.setattr(windows, "LONG_WINDOW_BYTES", REGION)


async def test_exactly_the_regions_written_while_it_was_away_are_copied(rig: Rig) -> None:
    await rig.make()
    await rig.data.write(0, os.urandom(SIZE))
    await rig.det("b")
    await rig.write_regions(3, 17, 18, 63)
    await rig.data.write(10 * REGION - 1, b"xy")
    would = await rig.would("b")
    assert (would["reason"]["code"], would["regions"], would["bytes"]) == ("fast", 6, 6 * REGION)
    task = await rig.end(await rig.att("b"))
    assert (task["state"], task["type"], task["reason"]["code"]) == ("done", "PLXATT", "fast")
    assert task["done_regions"] == task["total_regions"] == 6
    assert task["copied_bytes"] == task["done_bytes"] == task["total_bytes"] == 6 * REGION
    copied = [(o.offset // REGION, o.length // REGION) for o in rig.host.watch.seen("copy_from")]
    assert sorted(copied) == [(3, 1), (9, 2), (17, 2), (63, 1)], "runs of adjacent regions are one copy"
    assert await rig.states() == "ACTIVE ACTIVE"
    await rig.stop()
    assert rig.same("a", "b")


@pytest.mark.parametrize(
    ("after_bytes", "after_seconds", "least", "most"),
    [(2 * REGION, NEVER, 5, 7), (SIZE, 0.0, 10, 12), (SIZE, NEVER, 1, 2)],
)
async def test_what_was_copied_is_kept_every_so_often(
    rig: Rig, small_windows: None, monkeypatch: pytest.MonkeyPatch, after_bytes: int, after_seconds: float, least: int,
    most: int,
) -> None:  # fmt: skip
    """A crash makes it copy no more than that again."""
    monkeypatch.setattr(resync, "CHECKPOINT_BYTES", after_bytes)
    monkeypatch.setattr(resync, "CHECKPOINT_SECONDS", after_seconds)
    await rig.make()
    await rig.det("b")
    await rig.write_regions(*range(0, 40, 4))
    rig.host.watch.log.clear()
    await rig.end(await rig.att("b"))
    assert least <= len(rig.host.watch.seen("fdatasync", str(rig.path("b")))) <= most


async def test_a_copy_keeps_to_its_own_rate_or_its_volumes(rig: Rig) -> None:
    await rig.make()
    await rig.verbs.set(volume="data", settings={"rate": "2M"})
    task = TaskList(lambda: 0.0).new(TaskType.PLXATT, "data", "data-02", (Reason.FAST, "some"), 0)
    copier = WindowCopier(rig.service.mirror, rig.plex("b"), task)
    assert copier.rate() == 2 << 20
    task.set_rate(5)
    assert copier.rate() == 5


async def test_a_copy_does_not_go_on_beside_the_one_that_came_after_it(rig: Rig) -> None:
    """Its plex left and returned while it waited for the bytes of a window."""
    await rig.make()
    plex = rig.plex("b")
    task = TaskList(lambda: 0.0).new(TaskType.PLXATT, "data", "data-02", (Reason.FAST, "some"), 0)
    copier = WindowCopier(rig.service.mirror, plex, task, generation=plex.generation)
    assert copier.goes_on()
    plex.generation += 1
    assert not copier.goes_on()


async def test_holes_count_as_done_and_cost_no_copy(rig: Rig) -> None:
    await rig.make()
    await rig.det("b")
    await rig.write_regions(3, 4)
    task = await rig.end(await rig.att("b"))
    assert (task["done_regions"], task["done_bytes"]) == (2, 2 * REGION)
    assert 0 < task["copied_bytes"] < REGION
    await rig.stop()
    assert rig.same("a", "b")


async def test_the_short_last_region_counts_at_its_true_length(rig: Rig) -> None:
    await rig.make(size_bytes=SIZE + 4096)
    await rig.det("b")
    await rig.data.write(SIZE, b"x" * 4096)
    would = await rig.would("b")
    assert (would["regions"], would["bytes"]) == (1, 4096)
    task = await rig.end(await rig.att("b"))
    assert (task["total_bytes"], task["done_bytes"], task["copied_bytes"]) == (4096, 4096, 4096)


async def test_nothing_missed_is_nothing_copied(rig: Rig) -> None:
    await rig.make()
    await rig.data.write(0, os.urandom(SIZE))
    await rig.det("b")
    task = await rig.end(await rig.att("b"))
    assert (task["reason"]["code"], task["state"], task["total_regions"]) == ("nothing_missed", "done", 0)
    assert not rig.host.watch.seen("copy_from")
    assert await rig.states() == "ACTIVE ACTIVE"


async def test_plexes_detached_at_different_times_keep_their_own_maps(rig: Rig) -> None:
    await rig.make("abcd")
    await rig.write_regions(1)
    await rig.det("b")
    await rig.write_regions(2)
    await rig.det("c")
    await rig.write_regions(3)
    await rig.det("d")
    await rig.write_regions(4)
    assert [(await rig.shown(p))["dirty_regions"] for p in "abcd"] == [0, 3, 2, 1]
    for letter, missed in (("c", 2), ("d", 1), ("b", 3)):
        assert (await rig.end(await rig.att(letter)))["done_regions"] == missed
    await rig.stop()
    assert rig.same("a", "b", "c", "d")


async def test_who_waits_for_bytes_of_a_copy_has_them_after_the_piece_under_way(rig: Rig) -> None:
    """The whole volume is one window, of pieces of 16 regions; those after the one under way hang as well."""
    await rig.make()
    await rig.det("b")
    await rig.data.write(0, os.urandom(SIZE))
    with (
        rig.host.hanging(rig.path("b"), "copy_from", within=range(16 * REGION, 32 * REGION)) as first,
        rig.host.hanging(rig.path("b"), "copy_from", within=range(32 * REGION, SIZE)) as second,
    ):
        task = await rig.att("b")
        await until(lambda: first.waiting > 0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.data.write, 60 * REGION, b"waits for a piece")
            await trio.testing.wait_all_tasks_blocked(0.01)
            first.let_go()
        assert rig.bytes_of("a")[60 * REGION :][:17] == b"waits for a piece"
        second.let_go()
        assert (await rig.end(task))["state"] == "done"
    await rig.stop()
    assert rig.same("a", "b")


async def test_a_copy_gains_a_run_also_where_somebody_waits_and_its_source_failed(rig: Rig) -> None:
    """Or it would copy nothing for as long as there is always somebody."""
    await rig.make("abc")
    await rig.det("c")
    await rig.write_regions(1, 5)
    fifth = range(5 * REGION, 6 * REGION)
    async with trio.open_nursery() as nursery:
        with rig.host.hanging(rig.path("c"), "copy_from", within=fifth) as later:
            with (
                rig.host.hanging(rig.path("a"), "pread", within=fifth) as a,
                rig.host.hanging(rig.path("b"), "pread", within=fifth) as b,
                rig.host.failing(rig.path("a"), "pread", within=fifth),
                rig.host.failing(rig.path("b"), "pread", within=fifth),
            ):
                task = await rig.att("c")
                await until(lambda: a.waiting + b.waiting > 0)
                nursery.start_soon(rig.data.write, REGION, b"waits for the window")
                await trio.testing.wait_all_tasks_blocked(0.01)
                a.let_go()
                b.let_go()
                await until(lambda: rig.bytes_of("a")[REGION:].startswith(b"waits for the window"))
            await until(lambda: later.waiting > 0)
            assert (await rig.shown("c"))["dirty_regions"] == 1
    assert (await rig.end(task))["state"] == "done"
    await rig.stop()
    assert rig.same("a", "b", "c")


async def test_a_detach_during_a_resync_keeps_what_is_left(rig: Rig, small_windows: None) -> None:
    await rig.make()
    await rig.det("b")
    await rig.write_regions(*range(0, 40, 2))
    with rig.host.hanging(rig.path("b"), "copy_from", within=range(20 * REGION, SIZE)) as hang:
        task = await rig.att("b")
        await until(lambda: hang.waiting == 2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.det, "b")
            await until(lambda: rig.registry.context.tasks.find(task["id"]).aborting)
            hang.let_go()
    ended = await rig.end(task)
    assert ended["state"] == "aborted" and 10 <= ended["done_regions"] < 20
    assert await rig.states() == "ACTIVE STALE"
    left = 20 - ended["done_regions"]
    assert (await rig.shown("b"))["dirty_regions"] == left
    await rig.write_regions(50)
    again = await rig.end(await rig.att("b"))
    assert (again["reason"]["code"], again["done_regions"]) == ("fast", left + 1)
    await rig.stop()
    assert rig.same("a", "b")


async def test_an_abort_keeps_the_map_and_a_later_attach_goes_on(rig: Rig) -> None:
    await rig.make()
    await rig.det("b")
    await rig.write_regions(*range(0, 20, 2))
    task = await rig.att("b", rate=1)
    await until(lambda: rig.registry.context.tasks.find(task["id"]).done_regions > 0)
    ended = (await rig.verbs.task_abort(id=task["id"]))["task"]
    assert ended["state"] == "aborted" and 0 < ended["done_regions"] < 10
    assert await rig.states() == "ACTIVE STALE"
    again = await rig.end(await rig.att("b"))
    assert again["done_regions"] == 10 - ended["done_regions"]
    await rig.stop()
    assert rig.same("a", "b")


async def test_a_paused_copy_stands_still_and_goes_on_when_told(rig: Rig) -> None:
    await rig.make()
    await rig.det("b")
    await rig.write_regions(*range(0, 40, 2))
    task = await rig.att("b", rate=1)
    found = rig.registry.context.tasks.find(task["id"])
    await until(lambda: found.done_regions > 0)
    paused = (await rig.verbs.task_pause(id=task["id"]))["task"]
    await rig.verbs.task_set(id=task["id"], rate=0)
    await rig.service.running.home.lanes[rig.plex("b").uuid].data.idle()  # a window that was on its way
    await trio.testing.wait_all_tasks_blocked()
    done = found.done_regions
    assert paused["state"] == "paused" and done < 20
    await rig.write_regions(1)  # the volume serves meanwhile
    assert found.done_regions == done
    resumed = (await rig.verbs.task_resume(id=task["id"]))["task"]
    assert resumed["state"] == "running"
    assert (await rig.end(task))["done_regions"] == 20
    with pytest.raises(Failed, match="task_ended"):
        await rig.verbs.task_pause(id=task["id"])
    await rig.stop()
    assert rig.same("a", "b")


async def test_a_paused_copy_can_be_aborted(rig: Rig) -> None:
    await rig.make()
    await rig.det("b")
    await rig.write_regions(1, 3)
    task = await rig.att("b", rate=1)
    await rig.verbs.task_pause(id=task["id"])
    ended = (await rig.verbs.task_abort(id=task["id"]))["task"]
    assert ended["state"] == "aborted"
    assert await rig.states() == "ACTIVE STALE"


async def test_a_rate_limit_holds_a_copy_back(rig: Rig) -> None:
    """Eight regions at two a second cannot end within a second, and do end when the limit is lifted."""
    await rig.make()
    await rig.det("b")
    await rig.write_regions(*range(0, 16, 2))
    began = trio.current_time()
    task = await rig.att("b", rate=8 * REGION)
    await rig.end(task)
    assert trio.current_time() - began >= 0.5
    await rig.stop()
    assert rig.same("a", "b")


async def test_writes_during_a_resync_are_never_lost_and_never_make_it_run_for_ever(rig: Rig) -> None:
    await rig.make()
    await rig.data.write(0, os.urandom(SIZE))
    await rig.det("b")
    await rig.data.write(0, os.urandom(SIZE))
    task = await rig.att("b", rate=4 << 20)
    writes = 0
    found = rig.registry.context.tasks.find(task["id"])
    while found.ended is None:
        at = writes * 7919 * 4096 % SIZE
        await rig.data.write(at, os.urandom(4096 if writes % 3 else min(2 * REGION, SIZE - at)))
        writes += 1
    assert found.state == "done" and writes > 10
    assert found.copied_bytes <= SIZE, "nothing is copied twice"
    await rig.stop()
    assert rig.same("a", "b")


async def test_a_write_of_a_whole_missed_region_saves_its_copy(rig: Rig, small_windows: None) -> None:
    await rig.make()
    await rig.det("b")
    await rig.write_regions(5, 40, 50)
    with rig.host.hanging(rig.path("b"), "copy_from") as hang:
        task = await rig.att("b")
        await until(lambda: hang.waiting == 2)
        await rig.data.write(50 * REGION, b"x" * REGION)
        assert (await rig.shown("b"))["dirty_regions"] == 2
    ended = await rig.end(task)
    assert (ended["copied_bytes"], ended["done_regions"], ended["total_regions"]) == (2 * 4096, 3, 3), "100 %"
    assert ended["done_bytes"] == ended["total_bytes"] == 3 * REGION
    assert {o.offset // REGION for o in rig.host.watch.seen("copy_from")} == {5, 40}
    await rig.stop()
    assert rig.same("a", "b")


async def test_a_write_to_a_region_that_is_being_copied_waits_for_it(rig: Rig) -> None:
    await rig.make()
    await rig.det("b")
    await rig.write_regions(5)
    with rig.host.hanging(rig.path("b"), "copy_from") as hang:
        task = await rig.att("b")
        await until(lambda: hang.waiting == 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.data.write, 5 * REGION, b"newer")
            await rig.write_regions(6)  # a disjoint one does not wait
            await trio.testing.wait_all_tasks_blocked()
            assert await rig.data.read(5 * REGION, 5) == bytes(5)
            hang.let_go()
    await rig.end(task)
    await rig.stop()
    assert rig.same("a", "b")
    assert rig.bytes_of("b")[5 * REGION :].startswith(b"newer")


async def test_fmr_off_makes_the_next_attach_a_full_one_even_when_it_is_on_again(rig: Rig) -> None:
    await rig.make()
    await rig.det("b")
    await rig.verbs.set(volume="data", settings={"fmr": "off"})
    await rig.verbs.set(volume="data", settings={"fmr": "on"})
    task = await rig.end(await rig.att("b"))
    assert (task["reason"]["code"], task["done_regions"]) == ("full_fmr_off", 64)
    await rig.det("b")
    assert (await rig.would("b"))["reason"]["code"] == "nothing_missed", "on again, the next detach is tracked"


async def test_detached_while_fmr_is_off_is_copied_in_full(rig: Rig) -> None:
    await rig.make(fmr=False)
    await rig.det("b")
    await rig.write_regions(1)
    assert (await rig.end(await rig.att("b")))["reason"]["code"] == "full_fmr_off"
    await rig.stop()
    assert rig.same("a", "b")


async def test_a_plex_file_changed_while_detached_is_copied_in_full(rig: Rig) -> None:
    await rig.make()
    await rig.data.write(0, os.urandom(SIZE))
    await rig.det("b")
    with rig.path("b").open("r+b") as file:
        file.write(b"a visitor")
    task = await rig.end(await rig.att("b"))
    assert (task["reason"]["code"], task["done_regions"]) == ("full_backing_changed", 64)
    await rig.stop()
    assert rig.same("a", "b")


async def test_a_plex_file_replaced_while_detached_is_copied_in_full(rig: Rig) -> None:
    await rig.make()
    await rig.data.write(0, os.urandom(SIZE))
    await rig.det("b")
    shutil.copy2(rig.path("b"), rig.path("copy"))
    rig.path("copy").rename(rig.path("b"))
    assert (await rig.would("b"))["reason"]["code"] == "full_backing_changed"


async def test_a_sidecar_deleted_while_detached_means_a_full_copy_on_request(rig: Rig) -> None:
    """Without it the file may be anybody's."""
    await rig.make()
    await rig.det("b")
    rig.path("b.dco").unlink()
    with pytest.raises(Refused, match="refused_unknown_plex") as caught:
        await rig.att("b")
    assert "att --full" in caught.value.hint
    task = await rig.end(await rig.att("b", full=True))
    assert (task["reason"]["code"], task["done_regions"]) == ("full_forced", 64)
    await rig.det("b")
    assert (await rig.would("b"))["reason"]["code"] == "nothing_missed", "it has a copy of the DCO again"


async def test_full_on_request(rig: Rig) -> None:
    await rig.make()
    await rig.det("b")
    would = await rig.would("b", full=True)
    assert (would["reason"]["code"], would["regions"], would["bytes"]) == ("full_forced", 64, SIZE)
    task = await rig.end(await rig.att("b", full=True))
    assert (task["reason"]["code"], task["done_regions"]) == ("full_forced", 64)


async def test_a_dry_run_changes_nothing(rig: Rig) -> None:
    await rig.make()
    await rig.det("b")
    await rig.write_regions(1)
    before = (await rig.verbs.print())["volumes"], rig.bytes_of("b"), rig.bytes_of("b.dco")
    await rig.would("b")
    await rig.would("b", full=True)
    assert ((await rig.verbs.print())["volumes"], rig.bytes_of("b"), rig.bytes_of("b.dco")) == before
    assert (await rig.would("b"))["reason"]["code"] == "fast"


async def test_detach_and_attach_of_what_is_so_already_change_nothing_and_say_so(rig: Rig) -> None:
    await rig.make()
    again = await rig.verbs.plex_att(volume="data", plex="data-02")
    assert "nothing to change" in again["notice"] and again["task"]["state"] == "done"
    await rig.det("b")
    assert "nothing to change" in (await rig.det("b"))["notice"]


async def test_a_detached_plex_is_left_alone_and_can_be_taken_by_others(rig: Rig) -> None:
    await rig.make()
    await rig.data.write(0, b"before" * 1000)
    await rig.det("b")
    old = rig.bytes_of("b")
    await rig.data.write(0, b"behind" * 1000)
    assert rig.bytes_of("b") == old
    assert old[:6000] == b"before" * 1000, "complete and mountable by itself"
    rig.host.open_plex(str(rig.path("b")), 0).close()  # the lock is given up
