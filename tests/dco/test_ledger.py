"""Two volumes on one ledger: what a snapshot waits for is nothing that its original waits for."""

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from fmrd.backing.calls.system_calls import Call
from fmrd.core.geometry import PAGE_REGIONS
from fmrd.core.record import Record, geometry_of
from fmrd.core.records.parts import Column, Link
from fmrd.core.states import PlexState
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.dco.ledger import change
from fmrd.dco.store import Store
from fmrd.errors import Failed
from tests.core.making import UUID, plex_record, volume_record
from tests.dco.fakes import Carrier, Rig

ACTIVE = PlexState.ACTIVE
DISK = "SNAP-v-02"
"""The lane of the snapshot's copy."""


async def family() -> tuple[Rig, Store]:
    """A volume of one plex and a snapshot of one plex, committed, each with a copy beside its plex."""
    rig = await Rig(ACTIVE).start()
    record = plex_record(2, name=DISK, map=Column(3, 3))
    settings = volume_record(
        name="SNAP-v", uuid=UUID.format(91), drl=Column(4, 4), snapshot_of="v",
        link=Link(Column(5, 5), Column(6, 6)), page_regions=PAGE_REGIONS,
    )  # fmt: skip
    plex = Plex(record, geometry_of(settings), full=False)
    snapshot = Volume(settings, [plex])
    rig.family.volumes.append(snapshot)
    opened = {plex.uuid: Carrier(rig.copy(DISK, plex.uuid))}
    store = Store(rig.ledger, snapshot, opened, timeout_seconds=1, failed=lambda plex, why: rig.told.append(plex.name))
    await store.commit(everything=True)
    return rig, store


async def test_a_commit_of_the_original_waits_for_no_page_of_a_snapshot_whose_disk_hangs(
    autojump_clock: trio.testing.MockClock,
) -> None:
    rig, snapshot = await family()
    answers = trio.Event()

    def gate(calls: Sequence[Call]) -> trio.Event | None:
        return answers if any(call.lane.name == DISK for call in calls) else None

    rig.system.gate = gate
    page = (snapshot.volume.plexes[0].column.index, 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(snapshot.write_pages, {page})  # holds the page lock and hangs
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(snapshot.write_pages, {page})  # queues behind it
        await trio.testing.wait_all_tasks_blocked()
        before = rig.family.sequence
        with trio.move_on_after(3600):
            await rig.store.commit()
        assert rig.record().sequence == before + 1, "the original's commit waited for the snapshot"
        answers.set()


async def test_records_on_the_copy_of_a_snapshot_are_serial() -> None:
    """Two at once would go to the same slot, and a torn one would cost the copy both."""
    rig, snapshot = await family()
    answers = trio.Event()
    rig.system.gate = lambda calls: answers if any(call.lane.name == DISK for call in calls) else None
    rig.system.batches.clear()
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(snapshot.commit)
            await trio.testing.wait_all_tasks_blocked()
        assert rig.system.batches.count([DISK]) == 1
        answers.set()
    assert rig.system.batches.count([DISK]) == 2


async def test_nothing_is_written_to_a_home_copy_of_which_a_write_may_land_yet() -> None:
    """It would land on the same slot, over what is newer."""
    rig = await Rig(ACTIVE).start()
    before = rig.record()
    rig.home.lane.give_up(Call(rig.home.lane, lambda: None))
    with pytest.raises(Failed, match="does not answer"):
        await rig.store.commit()
    assert rig.trouble.writes == [] and rig.record() == before


async def test_all_pages_go_along_only_where_that_is_asked_for() -> None:
    rig = await Rig(ACTIVE).start()
    await rig.store.commit()
    assert rig.kinds() == [("home", "record"), ("v-01", "record")]
    rig.trouble.writes.clear()
    await rig.store.commit(everything=True)
    assert rig.kinds()[0] == ("home", "page")


async def test_no_record_is_written_while_somebody_works_with_the_last_one() -> None:
    rig = await Rig(ACTIVE).start()
    done = trio.Event()

    async def work(record: Record) -> None:
        await done.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.ledger.with_record, rig.store, work)
        await trio.testing.wait_all_tasks_blocked()
        sequence = rig.record().sequence
        nursery.start_soon(rig.store.commit)
        await trio.testing.wait_all_tasks_blocked()
        assert rig.record().sequence == sequence
        done.set()
    assert rig.record().sequence == sequence + 1


async def test_a_step_over_several_volumes_waits_for_the_pages_of_each_of_them() -> None:
    rig, snapshot = await family()
    answers = trio.Event()
    rig.system.gate = lambda calls: answers if any(call.lane.name == DISK for call in calls) else None
    taken: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(snapshot.write_pages, {(snapshot.volume.plexes[0].column.index, 0)})
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(change, [rig.store, snapshot], lambda: taken.append(rig.family.sequence))
        await trio.testing.wait_all_tasks_blocked()
        assert taken == []
        answers.set()
    assert taken == [rig.record().sequence - 1], "the record that follows makes it true"


async def test_a_step_whose_record_does_not_land_tells_its_caller() -> None:
    rig = await Rig(ACTIVE).start()
    rig.trouble.failing.add("home")
    taken: list[bool] = []
    with pytest.raises(Failed, match="home_failed"):
        await change([rig.store], lambda: taken.append(True))
    assert taken == [True], "what was done stands until a later commit lands"
