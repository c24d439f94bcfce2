"""Pages and commits over all copies of the DCO: what is written in which order, and what a failure does."""

from collections.abc import Sequence
from contextlib import suppress

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from fmrd.backing.calls.system_calls import Call
from fmrd.core.states import PlexState
from fmrd.dco import layout
from fmrd.dco.store import Store
from fmrd.errors import Failed
from tests.dco.fakes import Carrier, Rig, in_another_epoch

ACTIVE, TEMP, STALE = PlexState.ACTIVE, PlexState.TEMP, PlexState.STALE


async def rig_of(*states: PlexState) -> Rig:
    return await Rig(*states).start()


# Commits


async def test_a_commit_writes_pages_then_the_home_record_then_the_copies() -> None:
    rig = await rig_of(ACTIVE, ACTIVE)
    rig.plexes[0].map.mark(range(3, 4))
    await rig.store.commit()
    kinds = rig.kinds()
    assert kinds[3] == ("home", "record")
    assert {name for name, kind in kinds[:3] if kind == "page"} == {"home", "v-01", "v-02"}
    assert {*kinds[4:]} == {("v-01", "record"), ("v-02", "record")}
    assert rig.missing(0) == rig.missing(0, "v-02") == {3}


async def test_every_copy_says_the_same_after_a_commit() -> None:
    rig = await rig_of(ACTIVE, ACTIVE)
    for _ in range(3):
        await rig.store.commit()
        assert rig.record("home") == rig.record("v-01") == rig.record("v-02")
    assert rig.record().sequence == 4
    assert [plex.has for plex in rig.plexes] == [rig.record().position] * 2


async def test_a_joining_plex_gets_its_copy_last_and_the_first_record_that_names_it_open_after_the_others() -> None:
    rig = await rig_of(ACTIVE, STALE)
    plex = rig.plexes[1]
    rig.plexes[0].map.mark(range(1))
    copy = rig.copy("v-02", plex.uuid)
    opened = []

    def open_gate() -> None:
        opened.append(rig.kinds())
        assert not rig.record().volume.plexes[1].is_open, "the record of a join still names it closed"
        rig.open(plex, copy)

    await rig.store.join(plex, copy, open_gate)
    assert [name for name, _ in opened[0]][-1] == "v-02" and ("v-02", "record") in opened[0]
    assert ("home", "record") in opened[0] and ("v-01", "record") in opened[0]
    assert rig.record("v-02") == rig.record("home")
    assert rig.missing(1, "v-02") == rig.missing(1) == set(range(8))
    assert rig.missing(0, "v-02") == {0}
    assert plex.has == rig.record().position
    rig.trouble.writes.clear()
    rig.system.batches.clear()
    await rig.store.commit()
    assert rig.system.batches[-3:] == [["home"], ["v-01"], ["v-02"]], "one after the other"
    assert [kind for kind in rig.kinds() if kind[1] == "record"] == [
        ("home", "record"), ("v-01", "record"), ("v-02", "record"),
    ]  # fmt: skip
    assert rig.record("v-02").volume.plexes[1].is_open


async def test_a_join_writes_what_the_home_copy_holds_not_what_memory_does() -> None:
    rig = await rig_of(ACTIVE, STALE)
    copy = rig.copy("v-02", rig.plexes[1].uuid)

    def mark_while_the_record_lands(calls: Sequence[Call]) -> None:
        if [call.lane.name for call in calls] == ["home"]:
            rig.plexes[0].map.mark(range(5, 6))

    rig.system.gate = mark_while_the_record_lands
    await rig.store.join(rig.plexes[1], copy, lambda: rig.open(rig.plexes[1], copy))
    assert rig.plexes[0].map.any() and rig.missing(0, "v-02") == rig.missing(0) == set()


async def test_no_page_is_written_while_a_joining_plex_gets_its_copy() -> None:
    """A mark would be on the other copies, and not on that one, which counts a moment later."""
    rig = await rig_of(ACTIVE, STALE)
    copy = rig.copy("v-02", rig.plexes[1].uuid)
    answers = trio.Event()
    rig.system.gate = lambda calls: answers if [call.lane.name for call in calls] == ["v-02"] else None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.store.join, rig.plexes[1], copy, lambda: rig.open(rig.plexes[1], copy))
        await wait_all_tasks_blocked()
        rig.trouble.writes.clear()
        rig.volume.drl.enter(range(1))
        nursery.start_soon(rig.store.write_pages, [(0, 0)])
        await wait_all_tasks_blocked()
        assert rig.trouble.writes == []
        answers.set()
    for name in ("home", "v-01", "v-02"):
        page = rig.read(name).image.newest(rig.volume.settings.drl, 0)
        assert page is not None and page.bits[0], name


async def test_a_join_whose_copy_cannot_be_written_leaves_the_plex_out() -> None:
    rig = await rig_of(ACTIVE, STALE)
    copy = rig.copy("v-02", rig.plexes[1].uuid)
    rig.trouble.failing.add("v-02")
    with pytest.raises(Failed) as failed:
        await rig.store.join(rig.plexes[1], copy, lambda: rig.open(rig.plexes[1], copy))
    assert failed.value.code == "io_error" and "v-02" in failed.value.message
    assert not rig.plexes[1].is_open and rig.plexes[1].uuid not in rig.opened
    await rig.store.commit()


async def test_a_map_and_the_record_that_changes_its_epoch_are_one() -> None:
    """Stop after any block of the commit: the home copy tells the old map under the old record, or both new."""
    after = 0
    seen = set()
    while True:
        rig = await rig_of(ACTIVE, TEMP)
        old = rig.record().volume.plexes[1].map.epoch
        in_another_epoch(rig, 1)
        rig.plexes[1].map.empty()
        rig.trouble.torn_after = after
        with suppress(Failed):
            await rig.store.commit()
        if rig.trouble.torn_after > 0:
            break
        column = rig.record().volume.plexes[1].map
        newest = [rig.read().image.newest(column, page) for page in (0, 1)]
        assert all(slot is not None for slot in newest), f"a page is lost after {after} blocks"
        found = {bit for slot in newest for bit in (slot.bits if slot else [])}
        seen.add((column.epoch == old, found == {1}))
        after += 1
    assert seen == {(True, True), (False, False)}


async def test_pages_wait_while_a_record_with_a_new_epoch_lands() -> None:
    """Or the slot that the record is about to name would be written over."""
    rig = await rig_of(ACTIVE, TEMP)
    in_another_epoch(rig, 1)
    landing, go_on = trio.Event(), trio.Event()

    def gate(calls: object) -> trio.Event | None:
        if len(rig.trouble.writes) and rig.system.batches[-1] == ["home"]:
            landing.set()
            return go_on
        return None

    rig.system.gate = gate
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.store.commit)
        with trio.fail_after(30):
            await landing.wait()
        tried = len(rig.system.batches)
        rig.plexes[1].map.clear(range(1))
        nursery.start_soon(rig.store.write_pages, [(rig.plexes[1].column.index, 0)])
        await wait_all_tasks_blocked()
        assert len(rig.system.batches) == tried
        go_on.set()
    await rig.store.commit()
    rig.trouble.torn_after = 0
    rig.plexes[1].map.clear(range(1, 2))
    with pytest.raises(Failed):
        await rig.store.commit()
    assert rig.missing(1) == set(range(1, 8)), "a torn write cost nothing but itself"


# Failures


async def test_a_home_copy_that_fails_is_an_error_and_the_next_commit_works() -> None:
    rig = await rig_of(ACTIVE, ACTIVE)
    rig.plexes[0].map.mark(range(3, 4))
    rig.trouble.failing.add("home")
    for _ in range(2):
        with pytest.raises(Failed) as failed:
            await rig.store.commit()
        assert failed.value.code == "home_failed"
    assert rig.record().sequence == 1 and rig.missing(0) == set()
    assert all(plex.is_open for plex in rig.plexes)
    rig.trouble.failing.clear()
    await rig.store.commit()
    assert rig.record().sequence == 4 and rig.missing(0) == {3}
    assert rig.record("v-01") == rig.record("v-02") == rig.record()


async def test_no_copy_is_ahead_of_the_home_copy() -> None:
    rig = await rig_of(ACTIVE, ACTIVE)
    rig.trouble.failing.add("home")
    with pytest.raises(Failed):
        await rig.store.commit()
    assert rig.record("v-01").sequence == rig.record("v-02").sequence == 1


@pytest.mark.parametrize("while_writing", ["page", "record"])
async def test_a_copy_that_fails_takes_its_plex_along_and_the_verdict_waits_for_that(while_writing: str) -> None:
    rig = await rig_of(ACTIVE, ACTIVE)
    if while_writing == "page":
        rig.plexes[0].map.touched.add(0)
    rig.trouble.failing.add("v-02")
    await rig.store.commit()
    assert rig.plexes[1].state is PlexState.IOFAIL and rig.told == ["v-02"]
    assert rig.volume.demotions_recorded < rig.volume.demotions, "that record still named it open"
    await rig.store.commit()
    assert rig.volume.demotions_recorded == rig.volume.demotions
    assert rig.record().volume.plexes[1].state is PlexState.IOFAIL


async def test_a_plex_whose_copy_does_not_take_a_mark_is_demoted_before_the_write_that_asked_for_it() -> None:
    rig = await rig_of(ACTIVE, ACTIVE)
    rig.trouble.failing.add("v-02")
    rig.volume.drl.enter(range(1))
    await rig.store.write_pages([(0, 0)])
    assert rig.volume.drl.is_durable(range(1))
    assert rig.plexes[1].state is PlexState.IOFAIL and {0, 1} <= set(rig.plexes[1].map.bits.search(1))


async def test_a_copy_that_failed_is_not_written_again() -> None:
    rig = await rig_of(ACTIVE, ACTIVE)
    rig.trouble.failing.add("v-02")
    await rig.store.commit()
    rig.trouble.failing.clear()
    rig.trouble.writes.clear()
    rig.plexes[0].map.mark(range(3, 4))
    await rig.store.commit()
    assert "v-02" not in {name for name, _ in rig.trouble.writes}


async def test_the_last_plex_stays_though_its_copy_failed() -> None:
    rig = await rig_of(ACTIVE, STALE)
    rig.trouble.failing.add("v-01")
    await rig.store.commit()
    assert rig.plexes[0].is_open
    await rig.store.commit()
    assert rig.record().sequence == 3


async def test_the_copy_of_a_plex_that_had_to_stay_gets_no_page_before_it_is_made_anew() -> None:
    """It missed some: a newer page beside those would look as if it had them all."""
    rig = await rig_of(ACTIVE)
    rig.trouble.failing.add("v-01")
    rig.plexes[0].map.mark(range(3, 4))
    await rig.store.write_pages(rig.volume.touched_pages())
    assert rig.plexes[0].is_open
    rig.trouble.failing.clear()
    rig.trouble.writes.clear()
    rig.plexes[0].map.mark(range(4, 5))
    await rig.store.write_pages(rig.volume.touched_pages())
    assert {path for path, _ in rig.trouble.writes} == {"home"}


async def test_no_copy_gets_a_page_that_the_home_copy_refused_twice() -> None:
    """Once they are written side by side; what was owed then goes to the home copy first."""
    rig = await rig_of(ACTIVE)
    rig.trouble.failing.add("home")
    rig.plexes[0].map.mark(range(3, 4))
    for _ in range(2):
        rig.trouble.writes.clear()
        with pytest.raises(Failed, match="home"):
            await rig.store.write_pages(rig.volume.touched_pages())
    assert {path for path, _ in rig.trouble.writes} == {"home"}


async def test_what_the_home_copy_refused_goes_along_with_whatever_is_written_next() -> None:
    """Another copy may hold it: it is not to become two batches newer than the home copy."""
    rig = await rig_of(ACTIVE)
    rig.trouble.failing.add("home")
    rig.plexes[0].map.mark(range(3, 4))
    with pytest.raises(Failed, match="home"):
        await rig.store.write_pages(rig.volume.touched_pages())
    rig.trouble.failing.clear()
    await rig.store.write_pages([(0, 0)])
    assert rig.missing(0) == rig.missing(0, "v-01") == {3}


async def test_the_copy_of_a_plex_that_had_to_stay_is_made_anew_when_it_can_be_written() -> None:
    rig = await rig_of(ACTIVE, STALE)
    rig.trouble.failing.add("v-01")
    await rig.store.commit()
    with pytest.raises(Failed, match="v-01"):
        await rig.store.renew_copies()
    rig.trouble.failing.clear()
    rig.plexes[0].map.mark(range(3, 4))
    await rig.store.renew_copies()
    assert rig.record("v-01") == rig.record()
    assert rig.missing(0, "v-01") == rig.missing(0) == {3}
    rig.trouble.writes.clear()
    await rig.store.renew_copies()
    assert rig.trouble.writes == [], "there is nothing left to do"
    await rig.store.commit()
    assert rig.record("v-01") == rig.record()


async def test_a_copy_is_not_made_anew_while_a_call_on_it_may_land_yet() -> None:
    rig = await rig_of(ACTIVE, STALE)
    rig.trouble.failing.add("v-01")
    await rig.store.commit()
    rig.trouble.failing.clear()
    rig.trouble.writes.clear()
    lane = rig.opened[rig.plexes[0].uuid].dco_copy.lane
    lane.enter()
    await rig.store.renew_copies()
    assert rig.trouble.writes == []
    lane.leave()
    await rig.store.renew_copies()
    assert rig.record("v-01") == rig.record()


async def test_no_page_is_written_while_a_copy_is_made_anew() -> None:
    rig = await rig_of(ACTIVE, STALE)
    rig.trouble.failing.add("v-01")
    await rig.store.commit()
    rig.trouble.failing.clear()
    answers = trio.Event()
    rig.system.gate = lambda calls: answers if [call.lane.name for call in calls] == ["v-01"] else None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.store.renew_copies)
        await wait_all_tasks_blocked()
        rig.trouble.writes.clear()
        rig.volume.drl.enter(range(1))
        nursery.start_soon(rig.store.write_pages, [(0, 0)])
        await wait_all_tasks_blocked()
        assert rig.trouble.writes == []
        answers.set()
    page = rig.read("v-01").image.newest(rig.volume.settings.drl, 0)
    assert page is not None and page.bits[0]


async def test_the_copy_of_a_plex_that_leaves_meanwhile_is_not_made_anew() -> None:
    """It tells as of when it left, and what it says then counts no more."""
    rig = await rig_of(ACTIVE, ACTIVE)
    copy = rig.opened[rig.plexes[0].uuid].dco_copy
    copy.broken = True
    answers = trio.Event()
    rig.system.gate = lambda calls: answers if [call.lane.name for call in calls] == ["home"] else None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.store.renew_copies)
        await wait_all_tasks_blocked()
        rig.volume.close_gate(rig.plexes[0], STALE)
        answers.set()
    assert copy.broken and "v-01" not in {name for name, _ in rig.kinds()}


async def test_the_copy_of_a_plex_that_came_back_with_another_meanwhile_is_not_made_anew() -> None:
    rig = await rig_of(ACTIVE, STALE)
    [plex, _] = rig.plexes
    copy = rig.opened[plex.uuid].dco_copy
    copy.broken = True
    answers = trio.Event()
    rig.system.gate = lambda calls: answers if [call.lane.name for call in calls] == ["home"] else None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.store.renew_copies)
        await wait_all_tasks_blocked()
        rig.opened[plex.uuid] = Carrier(rig.copy("another", plex.uuid))
        answers.set()
    assert copy.broken and "v-01" not in {name for name, _ in rig.kinds()}


async def test_a_record_that_outgrew_its_slot_is_no_commit() -> None:
    rig = await rig_of(ACTIVE)
    rig.family.extra["later"] = "x" * layout.RECORD_SLOT_BYTES
    with pytest.raises(Failed) as failed:
        await rig.store.commit()
    assert failed.value.code == "dco_full"
    rig.family.extra.clear()
    await rig.store.commit()
    assert rig.record().sequence == 3


async def test_a_record_that_could_not_be_read_again_is_no_commit() -> None:
    rig = await rig_of(ACTIVE)
    rig.plexes[0].name = "../v"
    with pytest.raises(Failed, match="not a name"):
        await rig.store.commit()
    assert rig.record().sequence == 1


# Pages


async def test_marks_asked_for_at_once_share_writes() -> None:
    rig = await rig_of(ACTIVE, ACTIVE)
    async with trio.open_nursery() as nursery:
        for extent in range(4):
            rig.volume.drl.enter(range(extent, extent + 1))
            nursery.start_soon(rig.store.write_pages, [(0, extent // 2)])
    assert rig.volume.drl.is_durable(range(4))
    assert len(rig.system.batches) <= 2


async def test_a_mark_asked_for_while_a_batch_is_under_way_goes_with_the_next() -> None:
    rig = await rig_of(ACTIVE, ACTIVE)
    go_on = trio.Event()
    rig.system.gate = lambda calls: go_on
    async with trio.open_nursery() as nursery:
        rig.volume.drl.enter(range(1))
        nursery.start_soon(rig.store.write_pages, [(0, 0)])
        await wait_all_tasks_blocked()
        rig.volume.drl.enter(range(1, 2))
        nursery.start_soon(rig.store.write_pages, [(0, 0)])
        nursery.start_soon(rig.store.write_pages, [(0, 0)])
        await wait_all_tasks_blocked()
        assert len(rig.system.batches) == 1, "writes of one page are serial"
        assert not rig.volume.drl.is_durable(range(2))
        go_on.set()
    assert rig.volume.drl.is_durable(range(2)) and len(rig.system.batches) == 2


async def test_commits_asked_for_at_once_are_one_or_two() -> None:
    rig = await rig_of(ACTIVE, ACTIVE)
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(rig.store.commit)
    assert rig.record().sequence <= 3


async def test_a_mark_that_the_home_copy_did_not_take_is_not_durable_and_is_tried_again() -> None:
    rig = await rig_of(ACTIVE, ACTIVE)
    rig.volume.drl.enter(range(1))
    rig.trouble.failing.add("home")
    with pytest.raises(Failed) as failed:
        await rig.store.write_pages([(0, 0)])
    assert failed.value.code == "home_failed" and not rig.volume.drl.is_durable(range(1))
    rig.trouble.failing.clear()
    await rig.store.write_pages([(0, page) for page in rig.volume.drl.marked.touched])
    assert rig.volume.drl.is_durable(range(1))


async def test_a_map_page_on_its_way_is_written_again_by_whoever_needs_it_durable() -> None:
    """The clean of the DRL asks for all that is due; the write under way may fail, and then the mark was the memory."""
    rig = await rig_of(ACTIVE, STALE)
    rig.plexes[1].map.empty()
    await rig.store.write_pages(rig.volume.touched_pages())
    rig.plexes[1].map.mark(range(3, 4))
    go_on = trio.Event()
    rig.system.gate = lambda calls: go_on
    outcomes = []

    async def write() -> None:
        try:
            await rig.store.write_pages(rig.volume.touched_pages())
        except Failed as error:
            outcomes.append(error.code)
        else:
            outcomes.append("durable")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await wait_all_tasks_blocked()
        nursery.start_soon(write)
        await wait_all_tasks_blocked()
        assert outcomes == []
        rig.trouble.failing.add("home")
        go_on.set()
    assert outcomes == ["home_failed", "home_failed"]


async def test_a_page_of_a_column_out_of_use_is_not_written() -> None:
    rig = await rig_of(ACTIVE, ACTIVE)
    await rig.store.write_pages([(9, 0), (1, 77), (1, rig.volume.geometry.pages)])
    assert rig.trouble.writes == []


async def test_no_page_is_written_while_a_write_of_the_home_copy_may_land_yet() -> None:
    """It would land on the same slot, over what is newer."""
    rig = await rig_of(ACTIVE, ACTIVE)
    rig.volume.drl.enter(range(1))
    rig.home.lane.give_up(Call(rig.home.lane, lambda: None))
    with pytest.raises(Failed, match="does not answer"):
        await rig.store.write_pages([(0, 0)])
    assert rig.trouble.writes == [] and not rig.volume.drl.is_durable(range(1))


async def test_after_an_opening_the_home_copy_takes_the_first_pages_before_any_other() -> None:
    """Nobody knows yet whether it lacks what the others have: by two writes they would be ahead of it."""
    rig = await rig_of(ACTIVE, ACTIVE)
    opened = Store(rig.ledger, rig.volume, rig.opened, timeout_seconds=1, failed=lambda plex, why: None)
    rig.volume.drl.enter(range(1))
    await opened.write_pages([(0, 0)])
    rig.volume.drl.enter(range(2, 3))
    await opened.write_pages([(0, 1)])
    assert rig.system.batches == [["home"], ["v-01", "v-02"], ["home", "v-01", "v-02"]]


async def test_nothing_to_write_is_nothing_to_wait_for() -> None:
    rig = await rig_of(ACTIVE)
    await rig.store.write_pages([])
    assert rig.system.batches == []
