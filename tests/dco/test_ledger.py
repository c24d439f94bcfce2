"""Two volumes on one ledger: what a snapshot waits for is nothing that its original waits for."""

from collections.abc import Sequence

import trio
import trio.testing

from fmrd.backing.calls.system_calls import Call
from fmrd.core.geometry import PAGE_REGIONS
from fmrd.core.record import geometry_of
from fmrd.core.records.parts import Column, Link
from fmrd.core.states import PlexState
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.dco.store import Store
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
