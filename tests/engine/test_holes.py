"""Holes: regions that failed on a plex which must stay, since it is the last copy of others."""

import errno

from fmrd.core.reasons import Reason
from fmrd.core.states import PlexState, TaskState, TaskType
from tests.engine.faulty import Operation
from tests.engine.rig import REGION, Json, Rig
from tests.waiting import until


def _region(region: int) -> range:
    return range(region * REGION, (region + 1) * REGION)


async def _make_a_hole(rig: Rig) -> Json:
    """While b still misses region 5, a fails a write to region 7: it must stay for the one, and lacks the other."""
    await rig.make()
    await rig.det("b")
    await rig.write_regions(5)
    with rig.host.hanging(rig.path("b"), "copy_from", within=_region(5)) as hang:
        task = await rig.att("b")
        await until(lambda: hang.waiting > 0)
        with rig.host.failing(rig.path("a"), "pwrite", within=_region(7)):
            await rig.write_regions(7)
    return await rig.end(task)


async def test_a_region_that_failed_is_read_from_the_other_plex(rig: Rig) -> None:
    await _make_a_hole(rig)
    assert (await rig.shown("a"))["dirty_regions"] == 1
    assert await rig.states() == "ACTIVE ACTIVE"
    assert await rig.data.read(7 * REGION + 512, 512) == b"w" * 512


async def test_an_attach_copies_a_hole_back_and_says_so(rig: Rig) -> None:
    await _make_a_hole(rig)
    would = await rig.would("a")
    assert (would["reason"]["code"], would["regions"], would["bytes"]) == ("hole", 1, REGION)
    task = await rig.end(await rig.att("a"))
    assert (task["state"], task["type"], task["reason"]["code"]) == ("done", "RDWRBACK", "hole")
    assert task["done_regions"] == 1
    assert (await rig.shown("a"))["dirty_regions"] == 0
    await rig.stop()
    assert rig.same("a", "b")


async def test_recover_mends_holes_too(rig: Rig) -> None:
    await _make_a_hole(rig)
    [would] = (await rig.verbs.recover(volume="data", dry_run=True))["decisions"]
    assert would["reason"]["code"] == "hole"
    [task] = (await rig.verbs.recover(volume="data"))["tasks"]
    assert (await rig.end(task))["state"] == "done"
    again = await rig.verbs.recover(volume="data")
    assert again["tasks"] == [] and "nothing to change" in again["notice"]


async def test_a_start_mends_holes_by_itself(rig: Rig) -> None:
    await _make_a_hole(rig)
    await rig.stop()
    await rig.verbs.start(volume="data")
    await rig.end_all()
    assert (await rig.shown("a"))["dirty_regions"] == 0
    await rig.stop()
    assert rig.same("a", "b")


async def _a_hole_on_each(rig: Rig) -> None:
    """Region 7 is on b alone, region 9 on a alone."""
    await _make_a_hole(rig)
    with rig.host.failing(rig.path("b"), "pwrite", within=_region(9)):
        await rig.write_regions(9)
    assert [(await rig.shown(letter))["dirty_regions"] for letter in "ab"] == [1, 1]


async def test_what_a_copy_left_suspect_is_recorded_before_it_goes_on(rig: Rig) -> None:
    """The fdatasync of its checkpoint fails on a plex that must stay. Nobody flushes, so nobody else records it."""
    await _a_hole_on_each(rig)
    uuid, ledger = rig.plex("a").uuid, rig.service.mirror.store.ledger
    with rig.host.failing(rig.path("a"), "fdatasync"):
        task = await rig.end(await rig.att("a"))
    assert task["state"] == "failed" and await rig.states() == "ACTIVE ACTIVE"
    assert ledger.last_record is not None
    plex = ledger.last_record.volume.plex(uuid)
    assert plex is not None and plex.suspect, "a start would believe the home copy"


async def test_a_plex_that_holds_something_suspect_has_not_arrived(rig: Rig) -> None:
    """It is the last copy of region 7 since the other one failed there, and then loses an fdatasync: it stays, is not
    in sync, and its task says why.
    """
    await rig.make()
    await rig.det("b")
    await rig.write_regions(5)
    failures = [OSError(errno.EIO, "an fdatasync failed")]

    def fail_once(o: Operation) -> None:
        if (o.path, o.name) == (str(rig.path("b")), "fdatasync") and failures:
            raise failures.pop()

    with rig.host.hanging(rig.path("b"), "copy_from", within=_region(5)) as hang:
        task = await rig.att("b")
        await until(lambda: hang.waiting > 0)
        with rig.host.failing(rig.path("a"), "pwrite", within=_region(7)):
            await rig.write_regions(7)
        rig.host.watch.hooks.append(fail_once)
    task = await rig.end(task)
    assert not failures and (task["state"], task["error"]["code"]) == ("failed", "io_error")
    assert "1 region(s) are suspect since a flush failed" in task["error"]["message"]
    assert await rig.states() == "ACTIVE TEMP"


async def test_what_a_restore_has_to_copy_yet_is_no_hole(rig: Rig) -> None:
    await _make_a_hole(rig)
    plex, unfinished = rig.plex("a"), rig.service.copying.unfinished
    assert unfinished(plex)[0] is Reason.HOLE
    plex.reason = Reason.RESTORE
    code, sentence = unfinished(plex)
    assert code is Reason.FAST and "1 region(s) that a restore has to copy" in sentence
    plex.reason = Reason.NONE


async def test_what_a_copy_is_at_is_relieved_by_no_other(rig: Rig) -> None:
    """It may have ended with its map, and not with its record."""
    await rig.make()
    plex, tasks = rig.plex("b"), rig.registry.context.tasks
    plex.state = PlexState.TEMP
    task = tasks.new(TaskType.PLXATT, "data", "data-02", (Reason.FAST, "some"), 0)
    rig.service.copying.relieve()
    running = tasks.running("data")
    task.halted.set()
    task.end(TaskState.DONE)
    assert running == [task]
    rig.service.copying.relieve()
    assert len(tasks.running("data")) == 1
    await rig.end_all()
    assert await rig.states() == "ACTIVE ACTIVE"
