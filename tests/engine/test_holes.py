"""Holes: regions that failed on a plex which must stay, since it is the last copy of others."""

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
