"""Schedules written by hand, for windows that a random schedule rarely hits. Each ends like the others: heal, compare.

Two plexes, /a (v-01) and /b (v-02), six regions of four granules in three extents; one page holds each bitmap.
"""

from collections.abc import Callable
from functools import partial

import trio

from fmrd.backing.calls.system_calls import Call
from fmrd.core.states import PlexState
from fmrd.dco import layout
from tests.sim.disks import GRANULE, SimBacking
from tests.sim.life import EXTENT, IO_TIMEOUT, NAME, REGION, Life, Script
from tests.sim.oracle import Broken
from tests.sim.profiles import Profile
from tests.sim.schedule import Schedule
from tests.sim.system_calls import PATIENCE

POWER = Profile(plexes=2, power=1.0)
KILL = Profile(plexes=2, power=0.0)


def run(script: Script, profile: Profile, then: Script | None = None) -> None:
    """The script ends its life itself (``life.system.crash``), and so may ``then``, the next one; then everything must
    come back, and agree.
    """
    schedule = Schedule(1, profile)
    schedule.faulted = True
    schedule.life(_make)
    for disk in schedule.machine.plexes.values():
        disk.worst = True
    schedule.life(script)
    if then is not None:
        schedule.life(then)
    schedule.put_back()
    schedule.life(Life.last)


async def _make(life: Life) -> None:
    context = life.registry.context
    context.hot_extents, context.page_regions = 8, 8
    await life.verbs.make(
        volume=NAME, size_bytes=life.schedule.length, plexes=[{"path": "/a"}, {"path": "/b"}],
        region_size_bytes=REGION, drl_extent_bytes=EXTENT,
    )  # fmt: skip


async def until(condition: Callable[[], object]) -> None:
    for _ in range(PATIENCE * 10):
        if condition():
            return
        await trio.lowlevel.checkpoint()
    raise Broken("the schedule did not come to the moment it is about")


def is_record(call: Call) -> bool:
    """A write of a record to the home copy."""
    run = call.run
    if not call.lane.name.endswith("home") or not isinstance(run, partial) or not run.args:
        return False
    return any(offset < 2 * layout.RECORD_SLOT_BYTES for writes in run.args for offset, _ in writes)


def sequence_of(call: Call) -> int | None:
    """Of a write of pages, to whatever copy: it orders such writes."""
    run = call.run
    if not call.lane.name.endswith(("home", "dco")) or not isinstance(run, partial) or not run.args:
        return None
    return next((page.sequence for _, slots in run.args[0] for page, _ in slots), None)


async def _detach_write_attach(life: Life) -> int:
    """/b misses region 0, which leaves the DRL; then it is attached. The task's id."""
    life.system.laziness = 0
    await life.verbs.plex_det(volume=NAME, plex="v-02")
    await life.write(0, REGION)
    await life.flush()
    await life.service.mirror.clean()
    answer = await life.verbs.plex_att(volume=NAME, plex="v-02")
    return int(answer["task"]["id"])


async def the_source_leaves_after_a_resync(life: Life) -> None:
    """Rule 6: what was promoted is on the disk, so /a may go by an error, and then the power."""
    await life.verbs.task_wait(id=await _detach_write_attach(life))
    life.schedule.machine.plexes["/a"].faults.fail_writes = 1
    await life.write(5 * REGION, GRANULE)
    life.system.crash("power")


async def power_fails_before_the_copy_is_synced(life: Life) -> None:
    """Rule 2b: a commit between a copy and its fdatasync must not say that the region is there."""

    def is_sync_of_b(call: Call) -> bool:
        owner = getattr(call.run, "__self__", None)
        return isinstance(owner, SimBacking) and owner.path == "/b" and plex.state is PlexState.TEMP

    plex = life.service.volume.plex("v-02")
    life.system.stick = is_sync_of_b
    await _detach_write_attach(life)
    await until(lambda: plex.home_open and not plex.map.any())
    await life.service.mirror.store.commit()
    life.system.crash("power")


async def killed_before_a_demotion_is_recorded(life: Life) -> None:
    """Rule 5: the write that /a failed is acknowledged, and /a is not chosen after the crash. The copy of /b does not
    tell it either, by which a start would go, too.
    """
    await life.write(0, REGION)
    life.schedule.machine.plexes["/a"].faults.fail_writes = 1
    life.system.stick = lambda call: call.lane.name.endswith(("home", "dco"))
    life.nursery.start_soon(life.write, 0, REGION)
    await until(lambda: not life.service.volume.plex("v-01").is_open)
    for _ in range(PATIENCE):
        await trio.lowlevel.checkpoint()
    life.system.rng.randrange = lambda *limits: 0  # type: ignore[method-assign]  # nothing in flight lands
    life.system.crash("kill")


async def killed_while_marks_overtake_each_other(life: Life) -> None:
    """Rule 10: of two writes of a page, the older one must not land last, on whatever copy. By the newer mark a write
    is under way, which the older one does not know.
    """
    life.system.laziness = 0
    older, written = life.schedule.oracle.labels.last + 1, life.schedule.oracle.labels.last + 2
    sequences: list[int] = []
    issued = trio.Event()

    def late(call: Call) -> bool:
        if (sequence := sequence_of(call)) is not None:
            sequences.append(sequence)
            return sequence == sequences[0] and not issued.is_set()
        return call.lane.name == "v-02"

    life.system.delay = late
    plex = life.schedule.machine.plexes["/a"]
    life.nursery.start_soon(life.write, 0, GRANULE)
    await until(lambda: sequences)
    life.nursery.start_soon(life.write, EXTENT, GRANULE)
    await until(lambda: plex.cache[EXTENT // GRANULE] == written)
    issued.set()
    await until(lambda: plex.cache[0] == older)
    life.system.rng.randrange = lambda *limits: 0  # type: ignore[method-assign]  # nothing in flight lands
    life.system.crash("kill")


async def killed_before_what_is_marked_ahead_is_durable(life: Life) -> None:
    """Rule 1: the second extent is marked with the first, and a write there waits for that page, too."""
    life.system.laziness = 0
    await life.write(2 * EXTENT, GRANULE)
    marking: list[Call] = []
    life.system.stick = lambda call: sequence_of(call) is not None and (marking.append(call) or True)
    life.system.delay = lambda call: call.lane.name == "v-02"
    life.nursery.start_soon(life.write, 0, GRANULE)
    await until(lambda: marking)
    if 1 not in life.service.volume.drl.marked:
        raise Broken("nothing was marked ahead")
    life.nursery.start_soon(life.write, EXTENT, GRANULE)
    for _ in range(PATIENCE):
        await trio.lowlevel.checkpoint()
    life.system.rng.randrange = lambda *limits: 0  # type: ignore[method-assign]  # nothing in flight lands
    life.system.crash("kill")


async def a_hung_write_lands_after_a_join(life: Life) -> None:
    """PROTOCOLS, "Join": a plex does not join before its last call has landed."""
    life.system.laziness = 0
    life.system.hung = {"v-02"}
    await life.write(0, REGION)  # /b does not answer, and is detached
    life.system.hung = set()
    await life.write(0, REGION)
    try:
        answer = await life.verbs.plex_att(volume=NAME, plex="v-02")
        await life.verbs.task_wait(id=answer["task"]["id"])
    except Exception as error:
        life.schedule.note(str(error))
    await life.service.mirror.clean()
    life.system.release()


async def power_fails_after_a_flush_beside_a_failed_one(life: Life) -> None:
    """Of two fdatasyncs under way one fails and drops the write, the other ends well and is answered first."""
    await life.verbs.plex_det(volume=NAME, plex="v-02")
    await life.write(0, REGION)
    life.system.laziness = 0
    life.schedule.machine.plexes["/a"].faults.fail_syncs = 1
    flushed = trio.Event()
    life.system.linger = lambda call: call is failed[0] and not flushed.is_set()
    failed: list[Call] = []
    life.system.delay = lambda call: call.lane.name == "v-01" and not failed and (failed.append(call) or False)
    life.nursery.start_soon(life.service.mirror.sync)
    await until(lambda: bool(failed))
    await life.flush()
    flushed.set()
    life.system.crash("power")


async def power_fails_after_a_flush_that_came_during_another(life: Life) -> None:
    """An fdatasync under way proves nothing of what is written since it began."""
    life.system.laziness = 0
    await life.write(0, REGION)
    written = trio.Event()
    syncing: list[Call] = []

    def late(call: Call) -> bool:
        if getattr(call.run, "__name__", "") == "fdatasync" and not written.is_set():
            syncing.append(call)
        return call in syncing and not written.is_set()

    life.system.linger = late
    flushed = trio.Event()

    async def flush() -> None:
        await life.flush()
        flushed.set()

    life.nursery.start_soon(life.flush)
    await until(lambda: syncing)
    await life.write(0, REGION)
    life.nursery.start_soon(flush)
    await until(lambda: life.service.mirror.flushes.lock.statistics().tasks_waiting)
    written.set()
    await flushed.wait()
    life.system.crash("power")


async def a_suspect_plex_leaves_while_the_log_is_cleaned(life: Life) -> None:
    """What it may have dropped is in its map then, in memory only, and suspect no more: the log must keep it. Its own
    copy of the DCO would tell, but that failed while it was the last.
    """
    life.system.laziness = 0
    await life.verbs.set(volume=NAME, settings={"rdpol": "prefer:v-02"})
    await life.verbs.plex_det(volume=NAME, plex="v-02")
    await life.service.mirror.clean()
    plex, other = (life.service.volume.plex(name) for name in ("v-01", "v-02"))
    disks = life.schedule.machine.plexes
    life.schedule.machine.dcos["/a"].faults.fail_writes = 1
    await life.write(0, REGION)
    disks["/a"].faults.fail_syncs = 1
    await life.flush()
    promoting: list[Call] = []
    writing: list[Call] = []
    cleaned, paging = trio.Event(), trio.Event()

    def late(call: Call) -> bool:
        if is_record(call):
            if other.state is PlexState.ACTIVE:
                promoting.append(call)
            return call in promoting and not cleaned.is_set()
        if call.lane.name == "v-01" and promoting and not writing:
            writing.append(call)
        if call.lane.name.endswith("home") and disks["/a"].faults.fail_writes:
            paging.set()
            return plex.is_open
        return call in writing and not paging.is_set()

    await life.verbs.plex_att(volume=NAME, plex="v-02")
    life.system.delay = late
    await until(lambda: promoting)
    life.nursery.start_soon(life.write, 5 * REGION, GRANULE)  # /a will fail it
    await until(lambda: writing)
    disks["/b"].faults.bad_reads = {4 * REGION // GRANULE}
    await life.read(4 * REGION, 2 * GRANULE)  # repaired: so that there is a page of a map to be written
    disks["/a"].faults.fail_writes = 1
    await life.service.mirror.clean()
    cleaned.set()
    life.system.rng.randrange = lambda *limits: 0  # type: ignore[method-assign]  # nothing in flight lands
    life.system.crash("power")


async def written_between_a_read_error_and_its_repair(life: Life) -> None:
    """What is written back is read anew, with the bytes held."""
    life.system.laziness = 0
    await life.verbs.set(volume=NAME, settings={"rdpol": "prefer:v-01"})
    await life.write(0, REGION)
    life.schedule.machine.plexes["/a"].faults.bad_reads = {0}
    written = trio.Event()
    source: list[Call] = []

    def late(call: Call) -> bool:
        if call.lane.name == "v-02" and not source:
            source.append(call)
        return call in source and not written.is_set()

    async with trio.open_nursery() as nursery:
        life.system.linger = late
        nursery.start_soon(life.read, 0, 2 * GRANULE)
        await until(lambda: source)
        await life.write(GRANULE, GRANULE)
        written.set()
    life.system.crash("kill")


async def the_home_copy_is_lost_after_another_one_failed(life: Life) -> None:
    """/a stays, as the last one, though its copy of the DCO failed: that is made anew before it is relied on."""
    await life.verbs.plex_det(volume=NAME, plex="v-02")
    life.schedule.machine.dcos["/a"].faults.fail_writes = 1
    await life.write(0, REGION)
    await trio.sleep(12)
    life.schedule.machine.homes_.clear()
    life.system.crash("kill")


async def a_hung_disk_stalls_a_writer_once(life: Life) -> None:
    """Its data and its copy of the DCO hang: who writes, or flushes, waits for the one or the other, never for both."""
    life.system.laziness = 0
    await life.write(0, REGION)
    for request in (life.write(0, REGION), life.flush()):
        life.system.hung = {"v-02", "v-02 dco"}
        began = trio.current_time()
        await request
        waited = trio.current_time() - began
        if waited > 1.01 * IO_TIMEOUT:
            raise Broken(f"a request waited for {waited} s, and io_timeout is {IO_TIMEOUT}")
        life.system.release()
        answer = await life.verbs.plex_att(volume=NAME, plex="v-02")
        await life.verbs.task_wait(id=answer["task"]["id"])
    life.system.crash("kill")


async def the_home_copy_is_put_back_under_the_same_record(life: Life) -> None:
    """Between two records the pages move: what /b missed since then only the copy of /a knows."""
    await life.verbs.plex_det(volume=NAME, plex="v-02")
    await life.service.mirror.clean()
    home = life.schedule.machine.homes_[NAME]
    night = dict(home.blocks)
    for region in range(3):
        await life.write(region * REGION, REGION)
        await life.flush()
        await life.service.mirror.clean()
    home.blocks = night
    life.system.crash("kill")


DIRECTED = {
    "a hung disk stalls a writer once": (a_hung_disk_stalls_a_writer_once, KILL),
    "the home copy is put back under the same record": (the_home_copy_is_put_back_under_the_same_record, KILL),
    "power fails after a flush beside a failed one": (power_fails_after_a_flush_beside_a_failed_one, POWER),
    "power fails after a flush that came during another": (power_fails_after_a_flush_that_came_during_another, POWER),
    "a suspect plex leaves while the log is cleaned": (a_suspect_plex_leaves_while_the_log_is_cleaned, POWER),
    "written between a read error and its repair": (written_between_a_read_error_and_its_repair, KILL),
    "the home copy is lost after another one failed": (the_home_copy_is_lost_after_another_one_failed, KILL),
    "the source leaves after a resync": (the_source_leaves_after_a_resync, POWER),
    "power fails before the copy is synced": (power_fails_before_the_copy_is_synced, POWER),
    "killed before a demotion is recorded": (killed_before_a_demotion_is_recorded, KILL),
    "killed while marks overtake each other": (killed_while_marks_overtake_each_other, KILL),
    "killed before what is marked ahead is durable": (killed_before_what_is_marked_ahead_is_durable, KILL),
    "a hung write lands after a join": (a_hung_write_lands_after_a_join, KILL),
}
