"""verify: no false alarm, the odd one out is named, and only what is proven (or decided) is written."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from fmrd.backing.calls.system_calls import Call
from fmrd.engine.serving.writes_under_way import Landing
from fmrd.engine.verify import one_pass, rewrite
from fmrd.errors import Failed, Refused
from tests.engine.rig import REGION, SIZE, Json, Rig, daemon
from tests.waiting import until

LENGTH = 2 * SIZE


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """Three plexes of random data, settled."""
    async with daemon(tmp_path) as running:
        await running.make("abc", size_bytes=LENGTH)
        await running.data.write(0, sound(LENGTH))
        await running.data.flush()
        await running.service.mirror.clean()
        yield running


ROTTEN = b"rotten"


def sound(length: int) -> bytes:
    """Random data that holds no byte of what is rotten, so that all of that differs, wherever it is put."""
    return os.urandom(length).translate(bytes.maketrans(ROTTEN, ROTTEN.upper()))


def rot(rig: Rig, letter: str, offset: int, data: bytes = ROTTEN) -> None:
    """Behind fmrd's back."""
    with rig.path(letter).open("r+b") as file:
        file.seek(offset)
        file.write(data)


async def verify(rig: Rig, **options: object) -> Json:
    task = (await rig.verbs.verify(volume="data", **options))["task"]  # type: ignore[arg-type]  # as a client names them
    ended = await rig.end(task)
    return {"task": ended} | {"mismatches": (await rig.verbs.verify_report(id=task["id"]))["mismatches"]}


async def test_copies_that_are_the_same(rig: Rig) -> None:
    result = await verify(rig)
    task = result["task"]
    assert (result["mismatches"], task["state"], task["type"]) == ([], "done", "VERIFY")
    assert task["done_bytes"] == task["total_bytes"] == LENGTH and task["copied_bytes"] == 0


async def test_what_only_one_plex_holds_is_told(rig: Rig) -> None:
    for letter in "bc":
        await rig.det(letter)
    await rig.write_regions(3, 4, 100)
    await rig.att("b", rate=1)
    await rig.att("c", rate=1)
    rig.plex("b").map.mark(range(3, 5))  # as before its first window
    rig.plex("c").map.mark(range(3, 5))
    task = await rig.end((await rig.verbs.verify(volume="data"))["task"])
    report = await rig.verbs.verify_report(id=task["id"])
    assert (report["mismatches"], report["not_compared_regions"]) == ([], 3)


async def test_the_odd_one_out_is_named_and_left_as_it_is(rig: Rig) -> None:
    rot(rig, "b", 5 * REGION + 1000)
    [found] = (await verify(rig))["mismatches"]
    assert found == {"offset_bytes": 5 * REGION + 1000, "length_bytes": 6, "plexes": ["data-02"], "proven": True,
                     "repaired": False}  # fmt: skip
    assert rig.bytes_of("b")[5 * REGION + 1000 :][:6] == b"rotten"


async def test_repair_writes_what_the_majority_holds(rig: Rig) -> None:
    rot(rig, "b", 5 * REGION + 1000)
    rot(rig, "a", 90 * REGION - 3)  # across a border of regions
    found = (await verify(rig, repair=True))["mismatches"]
    assert [(f["plexes"], f["repaired"]) for f in found] == [(["data-02"], True), (["data-01"], True)]
    assert rig.same("a", "b", "c")
    assert (await verify(rig))["mismatches"] == []


async def test_of_two_nobody_can_tell_and_repair_writes_nothing(rig: Rig) -> None:
    await rig.det("c")
    rot(rig, "b", 7000)
    [found] = (await verify(rig, repair=True))["mismatches"]
    assert (found["plexes"], found["proven"], found["repaired"]) == (["data-01", "data-02"], False, False)
    assert rig.bytes_of("b")[7000:7006] == b"rotten"


async def test_from_a_plex_the_others_become_like_it(rig: Rig) -> None:
    rot(rig, "b", 7000)
    [found] = (await verify(rig, from_plex="data-02"))["mismatches"]
    assert (found["plexes"], found["repaired"]) == (["data-01", "data-03"], True)
    assert rig.same("a", "b", "c") and await rig.data.read(7000, 6) == b"rotten"


async def test_what_a_detached_plex_holds_is_in_doubt_after_a_repair(rig: Rig) -> None:
    """It may hold the bytes that were given up: its map has them, so that an attach brings the right ones."""
    rot(rig, "c", 7000, b"other!")
    await rig.det("c")
    rot(rig, "b", 7000)
    await verify(rig, from_plex="data-01")
    assert (await rig.shown("c"))["dirty_regions"] == 1
    rig.plex("c").stamp = None  # it was changed behind fmrd's back, which would be a reason of its own
    await rig.end(await rig.att("c"))
    assert rig.same("a", "b", "c")


async def test_what_a_repair_changed_is_told_by_marks_and_snapshots(rig: Rig) -> None:
    """Who read those bytes may have read others before."""
    await rig.verbs.mark(volume="data", name="night")
    await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("s")), name="s")
    rot(rig, "b", 7000)
    await verify(rig, repair=True)
    for options in ({"volume": "data", "mark": "night"}, {"volume": "s"}):
        told = await rig.verbs.changed(**options)
        assert told["regions"] == 1, options
    assert rig.service.volume.touched_pages() == [], "and durably so"


async def test_a_write_that_is_under_way_is_no_mismatch(rig: Rig) -> None:
    """It is on one plex already: the copies differ, and are the same once it has ended."""
    with rig.host.hanging(rig.path("b"), "pwrite") as hang:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.write_regions, 3)
            await until(lambda: hang.waiting)
            task = (await rig.verbs.verify(volume="data"))["task"]
            await until(lambda: rig.service.mirror.ranges._waiting)
            hang.let_go()
        await rig.end(task)
    assert (await rig.verbs.verify_report(id=task["id"]))["mismatches"] == []


async def attaching(rig: Rig, letter: str) -> None:
    """Its two workers have brought a region each, and never come to region 50."""
    await rig.det(letter)
    await rig.write_regions(5, 20, 50)
    task = await rig.att(letter, rate=1)
    await until(lambda: rig.registry.context.tasks.find(task["id"]).done_regions == 2)


async def test_what_a_plex_does_not_hold_yet_is_compared_on_the_others(rig: Rig) -> None:
    await attaching(rig, "c")
    rot(rig, "c", 50 * REGION)
    rot(rig, "c", 51 * REGION)
    [found] = (await verify(rig))["mismatches"]
    assert (found["offset_bytes"], found["plexes"]) == (51 * REGION, ["data-03"])


async def test_who_holds_nothing_there_decides_nothing(rig: Rig) -> None:
    added = await rig.verbs.plex_add(volume="data", path=str(rig.path("d")))
    await rig.end(added["task"])
    await attaching(rig, "d")
    rot(rig, "b", 50 * REGION)
    [found] = (await verify(rig, from_plex="data-04"))["mismatches"]
    assert (found["plexes"], found["proven"], found["repaired"]) == (["data-02"], True, False)
    assert rig.bytes_of("b")[50 * REGION :][:6] == b"rotten"


async def test_where_a_write_was_given_up_and_may_land_yet_nobody_can_tell(rig: Rig) -> None:
    rot(rig, "b", 7000)
    disk = rig.service.mirror.opened[rig.plex("b").uuid]
    disk.lane.give_up(Call(disk.lane, Landing(lambda: None, ((7000, 7006),))))
    assert (await verify(rig, repair=True))["mismatches"] == []
    assert rig.bytes_of("b")[7000:7006] == b"rotten"


async def test_two_that_fail_in_different_places_are_read_region_by_region_and_mended(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rot(rig, "c", 9 * REGION)
    with (
        rig.host.failing(rig.path("a"), "pread", within=range(3 * REGION, 4 * REGION)),
        rig.host.failing(rig.path("b"), "pread", within=range(5 * REGION, 6 * REGION)),
    ):
        found = (await verify(rig))["mismatches"]
    assert f"plex data-01: read error at {3 * REGION} corrected from" in caplog.text
    assert f"plex data-02: read error at {5 * REGION} corrected from" in caplog.text
    assert [each["plexes"] for each in found if each["proven"]] == [["data-03"]]


async def test_what_stays_unreadable_is_told(rig: Rig) -> None:
    with rig.host.failing(rig.path("b"), "pread", within=range(3 * REGION, 4 * REGION)):
        [found] = (await verify(rig))["mismatches"]
    assert (found["offset_bytes"], found["length_bytes"]) == (3 * REGION, REGION)
    assert (found["plexes"], found["proven"], found["repaired"]) == (["data-02"], False, False)


async def test_too_many_ranges_are_a_failure_and_never_seem_right(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_pass, "MOST_FOUND", 2)
    for region in (1, 2, 3):
        rot(rig, "b", region * REGION)
    result = await verify(rig, repair=True)
    assert (result["task"]["state"], result["task"]["error"]["code"]) == ("failed", "plexes_differ")
    assert len(result["mismatches"]) == 2


async def test_it_is_paused_resumed_and_aborted_as_any_task(rig: Rig) -> None:
    task = (await rig.verbs.verify(volume="data", rate=1))["task"]
    again = await rig.verbs.verify(volume="data")
    assert again["task"]["id"] == task["id"] and "already" in again["notice"]
    assert (await rig.verbs.task_pause(id=task["id"]))["task"]["state"] == "paused"
    await rig.verbs.task_resume(id=task["id"])
    assert (await rig.verbs.task_abort(id=task["id"]))["task"]["state"] == "aborted"


async def test_it_ends_when_the_volume_stops(rig: Rig) -> None:
    task = (await rig.verbs.verify(volume="data", rate=1))["task"]
    await rig.stop()
    assert (await rig.end(task))["state"] == "aborted"


async def test_one_copy_alone_is_no_comparison(rig: Rig) -> None:
    await rig.det("b")
    await rig.det("c")
    with pytest.raises(Failed, match="nothing_to_compare"):
        await rig.verbs.verify(volume="data")


async def test_a_task_of_another_kind_has_no_report(rig: Rig) -> None:
    await rig.det("b")
    task = await rig.end(await rig.att("b"))
    with pytest.raises(Failed, match="task_missing"):
        await rig.verbs.verify_report(id=task["id"])


async def test_an_instant_snapshot_is_refused(rig: Rig) -> None:
    await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("i")))
    with pytest.raises(Refused, match="snap_instant"):
        await rig.verbs.verify(volume="SNAP-data")


async def test_what_nobody_holds_durably_is_not_written_from(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 9: the one that is written over must not have been the last."""
    rot(rig, "b", 7000)

    async def never(*_: object) -> bool:
        return False

    monkeypatch.setattr(rewrite, "_is_durable", never)
    [found] = (await verify(rig, repair=True))["mismatches"]
    assert found["proven"] and not found["repaired"]
    assert rig.bytes_of("b")[7000:7006] == b"rotten"
