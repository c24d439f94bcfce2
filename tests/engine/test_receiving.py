"""Streams that are received, data that is put back, and what else happens to the volumes meanwhile."""

import uuid
from collections.abc import AsyncIterator, Awaitable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fmrd.engine.maps import carrier, holes, offers
from fmrd.engine.running import Running
from fmrd.engine.served import answer_to
from fmrd.engine.serving import requests
from fmrd.engine.snapshots import foretold
from fmrd.errors import FmrdError
from fmrd.front.maps.ranges import Changes, Range
from tests.engine.rig import REGION, SIZE, Rig, daemon
from tests.waiting import until


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with daemon(tmp_path) as running:
        await running.make("ab")
        yield running


async def refused(work: Awaitable[object]) -> str:
    with pytest.raises(FmrdError) as caught:
        await work
    return caught.value.code


async def held(rig: Rig, region: int) -> bytes:
    return await rig.data.read(region * REGION + 512, 1)


def offer(**more: Any) -> dict[str, Any]:
    """Of a stream of the volume's length, with uuids of its own."""
    return {
        "volume": "data", "stream": str(uuid.uuid4()), "snapshot": str(uuid.uuid4()), "name": "s",
        "length_bytes": SIZE, "pristine": True, **more,
    }  # fmt: skip


async def commit(rig: Rig, begun: dict[str, Any]) -> dict[str, Any]:
    """Of what ``receive_begin`` or ``restore_begin`` told."""
    return await rig.verbs.receive_commit(volume="data", stream=begun["stream"], turn=begun["turn"])


async def note(rig: Rig, begun: dict[str, Any], chunks: int) -> None:
    """That so many regions have come, a chunk each."""
    await rig.verbs.receive_progress(
        volume="data", stream=begun["stream"], turn=begun["turn"], chunks=chunks, offset_bytes=chunks * REGION,
        chain="0" * 64,
    )  # fmt: skip


async def receive(rig: Rig, *regions: int) -> dict[str, Any]:
    """All of a stream that writes a little to these regions."""
    told = offer()
    begun = await rig.verbs.receive_begin(**told)
    await rig.write_regions(*regions, byte=b"r", volume="RECV-data")
    await commit(rig, begun)
    await rig.end_all()
    return told


async def test_what_is_written_to_a_snapshot_while_holes_are_looked_for_makes_another_version_of_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sends it compares that with the version at the end: these regions are not among those it was told of."""
    await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("s")), name="s")
    before = (await rig.verbs.changed(volume="s"))["version"]
    served = rig.registry.find("s")
    assert served is not None
    real = holes.zeros_in

    async def then_written(*args: Any) -> Any:
        found = await real(*args)
        await answer_to(partial(served.write_now, 7 * REGION, b"w" * 512))
        return found

    monkeypatch.setattr("fmrd.engine.maps.changed.zeros_in", then_written)
    shown = await rig.verbs.changed(volume="s")
    assert (shown["regions"], shown["version"], shown["pristine"]) == (0, before, True)
    shown = await rig.verbs.changed(volume="s")
    assert (shown["regions"], shown["version"] == before, shown["pristine"]) == (1, False, False)


async def test_what_is_written_before_the_instant_of_an_increment_is_seen(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be in what the volume becomes, and in no map: the next increment would be taken, too."""
    first = await receive(rig, 1, 2)
    real = offers.must_fit

    def then_written(*args: Any) -> None:
        real(*args)
        monkeypatch.undo()
        rig.registry.context.nursery.start_soon(rig.write_regions, 5)

    monkeypatch.setattr(offers, "must_fit", then_written)
    more = offer(increment=True, bases=[first["snapshot"]])
    assert await refused(rig.verbs.receive_begin(**more)) == "stream_unfit"
    assert "RECV-data" not in rig.registry.units
    assert not rig.path("a.received").exists()


async def test_a_volume_that_has_all_the_marks_that_can_be_takes_no_stream_and_stays_as_it_was(rig: Rig) -> None:
    for number in range(8):
        await rig.verbs.mark(volume="data", name=f"m{number}")
    told = offer()
    assert await refused(rig.verbs.receive_begin(**told)) == "plex_too_many"
    await rig.verbs.mark(volume="data", name="m0", delete=True)
    begun = await rig.verbs.receive_begin(**told)
    await rig.write_regions(3, byte=b"r", volume="RECV-data")
    await rig.verbs.mark(volume="data", name="m0")
    assert await refused(commit(rig, begun)) == "plex_too_many"
    assert await held(rig, 3) == b"\0"
    await rig.verbs.mark(volume="data", name="m0", delete=True)
    await commit(rig, begun)
    await rig.end_all()
    assert await held(rig, 3) == b"r"


async def test_what_is_written_while_a_range_is_put_back_is_never_undone(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("s")), name="s")
    await rig.write_regions(1)
    begun = await rig.verbs.restore_begin(volume="data", snapshot="s")
    await rig.door("RECV-data").make_zero(REGION, REGION, punch=True)
    real = foretold.check_restore

    async def then_written(*args: Any, **more: Any) -> Any:
        found = await real(*args, **more)
        await rig.write_regions(9, byte=b"n")
        await rig.data.flush()
        return found

    monkeypatch.setattr("fmrd.engine.snapshots.restores.check_restore", then_written)
    assert await refused(commit(rig, begun)) == "volume_open"
    assert (await held(rig, 1), await held(rig, 9)) == (b"w", b"n")
    monkeypatch.undo()
    assert await refused(commit(rig, begun)) == "volume_open"
    await rig.verbs.receive_discard(volume="data")


async def test_a_stream_goes_on_at_the_byte_where_the_other_was_cut(rig: Rig) -> None:
    """It would be taken for all of the volume, and some of it was never sent."""
    told, chain = offer(), "0" * 64
    await note(rig, await rig.verbs.receive_begin(**told), 2)
    on = told | {"chunks": 2, "chain": chain}
    assert await refused(rig.verbs.receive_begin(**on, offset_bytes=3 * REGION)) == "stream_unfit"
    assert (await rig.verbs.receive_begin(**on, offset_bytes=2 * REGION))["path"]


@pytest.mark.parametrize(("near", "written", "fits"), [(64, False, False), (64, True, False), (1024, True, True)])
async def test_after_a_growth_what_was_written_counts_as_far_as_the_stream_does_not_bring_it(
    tmp_path: Path, near: int, written: bool, fits: bool
) -> None:
    """The far volume knows its changes in larger regions than the near one: of the one that was short nobody can tell
    what else is in it.
    """
    old, new = 3 * REGION, 64 * REGION
    async with daemon(tmp_path) as rig:
        await rig.make(size_bytes=old, region_size_bytes=16 * REGION, drl_extent_bytes=new)
        first = offer(length_bytes=old)
        await commit(rig, await rig.verbs.receive_begin(**first))
        await rig.end_all()
        if written:
            await rig.write_regions(1)
        await rig.verbs.grow(volume="data", size_bytes=new)
        more = offer(length_bytes=new, increment=True, bases=[first["snapshot"]], region_size_bytes=near << 10)
        if fits:
            assert (await rig.verbs.receive_begin(**more))["path"]
        else:
            assert await refused(rig.verbs.receive_begin(**more)) == "stream_unfit"


async def test_what_is_received_goes_on_after_a_rename_of_the_volume(rig: Rig) -> None:
    await rig.verbs.receive_begin(**offer())
    for volume in ("RECV-data", "data"):
        await rig.verbs.stop(volume=volume)
    await rig.verbs.rename(volume="data", name="new")
    for volume in ("new", "RECV-data"):
        await rig.verbs.start(volume=volume)
    assert (await rig.verbs.receive_token(volume="new"))["volume"] == "new"
    await rig.verbs.receive_discard(volume="new")
    assert list(rig.registry.units) == ["new"]


async def test_what_a_snapshot_has_lost_is_not_told_to_be_zeros(rig: Rig) -> None:
    """Its original was written over, with zeros, and what the snapshot held there nobody knows."""
    await rig.data.write(3 * REGION, b"d" * REGION)
    await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("s")), name="s")
    with rig.host.failing(rig.path("s"), "pwrite"):
        await rig.data.make_zero(3 * REGION, REGION, punch=True)
    shown = Changes(await rig.verbs.changed(volume="s"))
    assert list(shown.ranges()) == [Range(3 * REGION, REGION, "data")]
    assert await refused(rig.verbs.changed(volume="s", whole=True)) == "snap_invalid"


async def test_the_plex_on_which_data_came_goes_though_another_one_lags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody writes all the time, and it would take each of these writes, too, until the next start."""
    real = carrier.let_go

    async def while_written(running: Running, *others: Any) -> None:
        await requests.write(running.mirror, 9 * REGION, b"w")
        await real(running, *others)

    monkeypatch.setattr("fmrd.engine.service.let_go", while_written)
    async with daemon(tmp_path) as rig:
        await rig.make("ab")
        await rig.verbs.set(volume="data", settings={"write_behind": "data-02"})
        plex = rig.plex("b")
        await until(lambda: plex.room > 0)
        with rig.host.hanging(rig.path("b"), "pwrite", within=range(9 * REGION, 10 * REGION)):
            await receive(rig, 1, 2)
            assert [plex.name for plex in rig.service.volume.plexes] == ["data-01", "data-02"]
            assert not rig.path("a.received").exists()
        await until(lambda: not plex.map.any())
        assert await held(rig, 1) == b"r" and rig.same("a", "b")
