"""Schedules about snapshots, written by hand, as those of directed.py: /a and /b, and the snapshot plex /s (v-03)."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import trio

from fmrd.backing.calls.system_calls import Call
from fmrd.core.maps.bitmap import Bitmap
from fmrd.core.volume.volume import Volume
from fmrd.dco import layout
from tests.sim import snaps
from tests.sim.directed import KILL, POWER, is_record, until
from tests.sim.disks import GRANULE
from tests.sim.life import NAME, REGION, Life
from tests.sim.system_calls import PATIENCE

SNAP = "SNAP0-v"


async def _snapshot(life: Life) -> None:
    life.system.laziness = 0
    await life.verbs.snapstart(volume=NAME, path="/s")
    await life.verbs.snapwait(volume=NAME)
    life.schedule.machine.plexes["/s"].worst = True
    await snaps.snapshot(life)


async def killed_after_the_log_was_cleaned(life: Life) -> None:
    """Both maps are durable before their extents leave the DRL."""
    await _snapshot(life)
    await life.write(0, REGION)
    await life.write(3 * REGION, REGION, volume=SNAP)
    await life.service.mirror.clean()
    await life.registry.service(SNAP).mirror.clean()
    life.system.crash("kill")


async def killed_while_both_sides_are_written(life: Life) -> None:
    """Both maps inherit the DRL."""
    await _snapshot(life)
    await life.write(0, REGION)
    await life.write(3 * REGION, REGION, volume=SNAP)
    life.system.crash("kill")


async def power_fails_after_a_break_off(life: Life) -> None:
    """What the snapshot showed is on its disk."""
    await life.write(0, REGION)
    await _snapshot(life)
    await life.write(0, GRANULE)
    life.system.crash("power")


async def written_before_the_break_off(life: Life) -> None:
    """A write that the original answered just before, and nobody flushed, is in the snapshot to stay."""
    life.system.laziness = 0
    await life.verbs.snapstart(volume=NAME, path="/s")
    await life.verbs.snapwait(volume=NAME)
    life.schedule.machine.plexes["/s"].worst = True
    await life.write(0, REGION)
    await snaps.snapshot(life)
    life.system.crash("power")


async def _killed_before_the_record_of(life: Life, *, from_replica: bool) -> None:
    await _snapshot(life)
    await life.write(0, REGION)
    await life.write(3 * REGION, REGION, volume=SNAP)
    await life.flush()
    await life.flush(volume=SNAP)

    def crash(call: Call) -> bool:
        if is_record(call):
            life.system.rng.randrange = lambda *limits: 0  # type: ignore[method-assign]  # nothing in flight lands
            life.system.crash("kill")
        return False

    life.system.delay = crash
    if from_replica:
        await snaps.restore(life)
    else:
        await snaps.snapback(life)


async def killed_before_the_record_of_a_restore(life: Life) -> None:
    """The maps that the record seeds do not count without it."""
    await _killed_before_the_record_of(life, from_replica=True)


async def killed_before_the_record_of_a_snapback(life: Life) -> None:
    await _killed_before_the_record_of(life, from_replica=False)


async def killed_in_the_middle_of_a_restore(life: Life) -> None:
    """It goes on in the same direction."""
    await _snapshot(life)
    await life.write(0, 4 * REGION)
    await life.write(3 * REGION, REGION, volume=SNAP)
    life.system.hung = {"v-02"}
    await snaps.restore(life)
    await trio.lowlevel.checkpoint()
    life.system.crash("kill")


async def a_detached_plex_misses_a_restore(life: Life) -> None:
    """Whoever is not there copies the union when it returns."""
    await _snapshot(life)
    await life.verbs.plex_det(volume=NAME, plex="v-02")
    await life.write(3 * REGION, REGION, volume=SNAP)
    await snaps.restore(life)
    await life.settle_tasks()


async def read_before_a_restoreis_recorded(life: Life) -> None:
    """Nobody sees the snapshot's data in the original before the record says that they are its own."""
    await _snapshot(life)
    await life.write(0, REGION)
    await life.flush()
    recording: list[Call] = []
    life.system.stick = lambda call: is_record(call) and (recording.append(call) or True)
    life.nursery.start_soon(snaps.restore, life)
    await until(lambda: recording)
    life.quiet = False
    life.nursery.start_soon(life.read, 0, REGION)
    for _ in range(PATIENCE):
        await trio.lowlevel.checkpoint()
    life.system.rng.randrange = lambda *limits: 0  # type: ignore[method-assign]  # nothing in flight lands
    life.system.crash("kill")


async def another_snapshot_sees_a_restore(life: Life) -> None:
    """It is compared with other data from then on."""
    await _snapshot(life)
    await life.verbs.snapstart(volume=NAME, path="/t")
    await life.verbs.snapwait(volume=NAME)
    await snaps.snapshot(life)
    await life.write(3 * REGION, REGION, volume=SNAP)
    for unit in snaps.snapshots(life):
        life.schedule.note(unit.name)
    life.rng.choice = lambda names: sorted(names)[0]  # type: ignore[method-assign]  # the first one goes back
    await snaps.restore(life)
    await life.settle_tasks()


async def _instant(life: Life) -> None:
    life.system.laziness = 0
    await life.write(0, life.service.volume.geometry.length_bytes)
    await life.flush()
    life.rng.random = lambda: 1.0  # type: ignore[method-assign]  # without --sync
    await snaps.instant(life)
    [disk] = [d for path, d in life.schedule.machine.plexes.items() if path.startswith("/inst")]
    disk.worst = True


def _pages_of_the_map(volume: Volume) -> Callable[[Call], bool]:
    return pages_of(volume.plexes[0])


def pages_of(bitmap: Bitmap, *, everywhere: bool = False) -> Callable[[Call], bool]:
    """Writes of the first page of it to the home copy; ``everywhere``: to those that travel, too."""

    def is_one(call: Call) -> bool:
        run = call.run
        if not (everywhere or call.lane.name.endswith("home")) or not isinstance(run, partial) or not run.args:
            return False
        places = {layout.page_offset(bitmap.column.index, 0, slot, 40) for slot in (0, 1)}
        return isinstance(run.args[0], list) and any(offset in places for offset, _ in run.args[0])

    return is_one


async def killed_before_a_kept_region_is_known(life: Life) -> None:
    """The original waits for the page that says so: until then the snapshot would read what is written now."""
    await _instant(life)
    [snap] = snaps.snapshots(life)
    volume = life.registry.service(snap.name).volume
    life.system.stick = _pages_of_the_map(volume)
    life.nursery.start_soon(life.write, 0, GRANULE)
    await until(lambda: 0 not in volume.plexes[0].map)
    label = life.schedule.oracle.labels.last + 1
    life.nursery.start_soon(life.write, GRANULE, GRANULE)  # of the same region, which is out of the map by now
    for _ in range(500):
        await trio.lowlevel.checkpoint()
        if life.schedule.machine.plexes["/a"].cache[1] == label:
            break
    life.system.rng.randrange = lambda *limits: 0  # type: ignore[method-assign]  # nothing in flight lands
    life.system.crash("kill")


async def killed_before_the_record_of_one_that_goes_back(life: Life) -> None:
    """For a start the snapshot is there until the record says otherwise: the original does not write over it yet."""
    await _instant(life)
    await life.service.mirror.clean()
    volume, disk = life.service.volume, life.schedule.machine.plexes["/a"]
    label = life.schedule.oracle.labels.last + 1
    life.system.delay = lambda call: call.lane.name == "v-02"
    life.nursery.start_soon(life.write, REGION, GRANULE)  # under way all the time, so that its extent stays marked
    await until(lambda: disk.cache[REGION // GRANULE] == label)
    life.system.stick = is_record
    life.nursery.start_soon(snaps.snapback, life)
    await until(lambda: not volume.unkept)
    life.nursery.start_soon(life.write, 0, REGION)
    for _ in range(500):
        await trio.lowlevel.checkpoint()
        if disk.cache[0] == label + 1:
            break
    life.system.rng.randrange = lambda *limits: 0  # type: ignore[method-assign]  # nothing in flight lands
    life.system.crash("kill")


async def killed_after_a_region_was_lost(life: Life) -> None:
    """That old data could not be kept is written down before the original writes."""
    await _instant(life)
    [path] = [path for path in life.schedule.machine.plexes if path.startswith("/inst")]
    life.schedule.machine.plexes[path].faults.dead = True
    await life.write(0, REGION)
    life.system.crash("kill")


async def the_home_copy_is_lost_as_a_snapshot_becomes_complete(life: Life) -> None:
    """From the commit on, whoever imports finds an ordinary snapshot: with the pages beside its plex."""
    await _instant(life)
    [snap] = snaps.snapshots(life)
    service = life.registry.service(snap.name)

    def crash(call: Call) -> bool:
        link = service.volume.settings.link
        on_its_copy = call.lane.name.startswith("SNAP") and call.lane.name.endswith("dco")
        if on_its_copy and link is not None and link.unkept is None:
            life.system.rng.randrange = lambda *limits: 0  # type: ignore[method-assign]  # nothing in flight lands
            life.schedule.machine.homes_.clear()
            life.schedule.faulted = True
            life.system.crash("kill")
        return False

    life.system.delay = crash
    task = (await life.verbs.snapsync(snapshot=snap.name))["task"]
    await life.verbs.task_wait(id=task["id"])


async def written_while_the_snapshot_reads(life: Life) -> None:
    """What an instant snapshot reads from its original is old until it was read."""
    await _instant(life)
    [snap] = snaps.snapshots(life)
    held: list[Call] = []
    written = trio.Event()

    def late(call: Call) -> bool:
        if not held and call.lane.name in ("v-01", "v-02"):
            held.append(call)
        return call in held and not written.is_set()

    life.system.delay = late
    async with trio.open_nursery() as nursery:
        nursery.start_soon(life.read, 0, REGION, snap.name)
        await until(lambda: held)
        await life.write(0, REGION)
        written.set()


async def killed_before_a_region_written_at_once_is_known_to_be_kept(life: Life) -> None:
    """It is out of the map, in memory: for a start it is the original's still."""
    await _instant(life)
    [snap] = snaps.snapshots(life)
    await life.write(REGION, REGION, snap.name)  # marks the extent
    volume = life.registry.service(snap.name).volume
    life.system.stick = _pages_of_the_map(volume)
    life.nursery.start_soon(life.write, 0, GRANULE)
    await until(lambda: 0 not in volume.plexes[0].map)
    life.nursery.start_soon(life.write, GRANULE, GRANULE, snap.name)
    for _ in range(PATIENCE):
        await trio.lowlevel.checkpoint()
    life.system.rng.randrange = lambda *limits: 0  # type: ignore[method-assign]  # nothing in flight lands
    life.system.crash("kill")


async def killed_when_it_holds_what_it_was_given(life: Life) -> None:
    """It was written over as a whole, so nothing of its original was copied first; its map tells of that before."""
    await _instant(life)
    [snap] = snaps.snapshots(life)
    volume = life.registry.service(snap.name).volume

    def crash(call: Call) -> bool:
        if volume.plexes[0].is_kept(0):
            life.system.rng.randrange = lambda *limits: 0  # type: ignore[method-assign]  # nothing in flight lands
            life.system.crash("kill")
        return False

    life.system.delay = crash
    await life.write(0, REGION, snap.name)


async def read_and_restored_from(life: Life) -> None:
    """What it shows is what its original gets."""
    life.system.laziness = 0
    [snap] = snaps.snapshots(life)
    await life.read(0, REGION, snap.name)
    await snaps.restore(life)
    await life.settle_tasks()
    await life.read(0, REGION)


def _is_fdatasync(call: Call) -> bool:
    """Of the plex of a snapshot."""
    return call.lane.name.startswith("SNAP") and getattr(call.run, "__name__", "") == "fdatasync"


async def power_fails_after_a_region_was_written_over(life: Life) -> None:
    """What the snapshot is known to hold is on its disk."""
    await _instant(life)
    await life.write(0, GRANULE)
    life.system.crash("power")


async def power_fails_while_a_round_becomes_durable(life: Life) -> None:
    """That it holds these regions is not written down before it does for certain."""
    await _instant(life)

    def crash(call: Call) -> bool:
        if _is_fdatasync(call):
            life.system.rng.randrange = lambda *limits: 0  # type: ignore[method-assign]  # nothing in flight lands
            life.system.crash("power")
        return False

    life.system.delay = crash
    async with trio.open_nursery() as nursery:
        for region in range(4):
            nursery.start_soon(life.write, region * REGION, GRANULE)


async def power_fails_after_a_region_that_came_during_an_fdatasync(life: Life) -> None:
    """It was copied while that was under way, which covers those before it only."""
    await _instant(life)
    [snap] = snaps.snapshots(life)
    volume, disk = life.registry.service(snap.name).volume, life.schedule.machine.plexes["/a"]
    under_way: list[Call] = []
    over = trio.Event()

    def late(call: Call) -> bool:
        if not under_way and _is_fdatasync(call):
            under_way.append(call)
        return call in under_way and not over.is_set()

    life.system.delay = late
    life.nursery.start_soon(life.write, 0, GRANULE)
    await until(lambda: under_way)
    label = life.schedule.oracle.labels.last + 1
    life.nursery.start_soon(life.write, 2 * REGION, GRANULE)
    await until(lambda: 2 not in volume.plexes[0].map)
    over.set()
    await until(lambda: disk.cache[2 * REGION // GRANULE] == label)
    life.system.rng.randrange = lambda *limits: 0  # type: ignore[method-assign]  # nothing in flight lands
    life.system.crash("power")


async def written_beside_a_region_that_is_kept(life: Life) -> None:
    """Its extent is marked and nobody holds it: but for its old data it could be written at once."""
    await _instant(life)
    await life.write(REGION, GRANULE)
    await life.write(0, GRANULE)
    life.system.crash("kill")


async def several_regions_cut_off(life: Life, at: int) -> None:
    """They are kept together, and everything ends at that call."""
    await _instant(life)
    life.system.crash_at, life.system.crash_kind = life.system.steps + at, "power" if at % 2 else "kill"
    async with trio.open_nursery() as nursery:
        for region in (0, 1, 3, 4):
            nursery.start_soon(life.write, region * REGION, GRANULE)
        nursery.start_soon(life.write, GRANULE, GRANULE)  # of the first one, too
    life.system.crash("power")


CALLS_OF_A_ROUND = 24
"""Four reads, one write, an fdatasync, a page, then marks and the writes themselves on two plexes."""

DIRECTED = {
    "snapshot: killed after the log was cleaned": (killed_after_the_log_was_cleaned, KILL),
    "snapshot: killed while both sides are written": (killed_while_both_sides_are_written, KILL),
    "snapshot: power fails after a break-off": (power_fails_after_a_break_off, POWER),
    "snapshot: written before the break-off": (written_before_the_break_off, POWER),
    "snapshot: killed before the record of a restore": (killed_before_the_record_of_a_restore, KILL),
    "snapshot: killed before the record of a snapback": (killed_before_the_record_of_a_snapback, KILL),
    "snapshot: read before a restore is recorded": (read_before_a_restoreis_recorded, KILL),
    "quick: read before a restore is recorded": (read_before_a_restoreis_recorded, replace(KILL, quick=True)),
    "snapshot: killed in the middle of a restore": (killed_in_the_middle_of_a_restore, KILL),
    "instant: killed before a kept region is known": (killed_before_a_kept_region_is_known, KILL),
    "instant: written while the snapshot reads": (written_while_the_snapshot_reads, KILL),
    "instant: the home copy is lost as it becomes complete": (
        the_home_copy_is_lost_as_a_snapshot_becomes_complete, KILL,
    ),
    "instant: killed before it goes back": (
        killed_before_the_record_of_one_that_goes_back, KILL,
    ),
    "quick, instant: killed before what was written is known to be kept": (
        killed_before_a_region_written_at_once_is_known_to_be_kept, replace(KILL, quick=True),
    ),
    "instant: killed when it holds what it was given": (
        killed_when_it_holds_what_it_was_given, KILL, read_and_restored_from,
    ),
    "instant: killed after a region was lost": (killed_after_a_region_was_lost, KILL),
    "instant: power fails after a region was written over": (power_fails_after_a_region_was_written_over, POWER),
    "instant: power fails while a round becomes durable": (power_fails_while_a_round_becomes_durable, POWER),
    "instant: power fails after a region that came late": (
        power_fails_after_a_region_that_came_during_an_fdatasync, POWER,
    ),
    "quick, instant: written beside a region that is kept": (
        written_beside_a_region_that_is_kept, replace(KILL, quick=True),
    ),
    "begun, instant: written beside a region that is kept": (
        written_beside_a_region_that_is_kept, replace(KILL, begins=True),
    ),
    **{
        f"instant: several regions, cut off at call {at}": (partial(several_regions_cut_off, at=at), POWER)
        for at in range(1, CALLS_OF_A_ROUND + 1)
    },
    "snapshot: a detached plex misses a restore": (a_detached_plex_misses_a_restore, KILL),
    "snapshot: another snapshot sees a restore": (another_snapshot_sees_a_restore, KILL),
}  # fmt: skip
