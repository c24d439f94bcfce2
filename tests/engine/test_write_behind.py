"""A plex that may lag (set VOL write_behind=PLEX[:BYTES]): writers do not wait for it, and its map tells the rest."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from fmrd.engine.far import trailing
from fmrd.errors import BadRequest, Failed, Refused
from tests.engine.rig import REGION, SIZE, Rig, daemon
from tests.waiting import until


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trailing, "GATHER_SECONDS", 0.0)
    monkeypatch.setattr(trailing, "CHECKPOINT_SECONDS", 0.05)
    monkeypatch.setattr(trailing, "PATIENCE_SECONDS", 0.05)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with daemon(tmp_path) as running:
        await made(running)
        yield running


async def made(rig: Rig, bound: str = "") -> None:
    await rig.make(size_bytes=4 * SIZE)
    await behind(rig, f"data-02{bound}")


async def behind(rig: Rig, value: str) -> None:
    await rig.verbs.set(volume="data", settings={"write_behind": value})
    plex = rig.plex("b")
    await until(lambda: plex.room > 0 or not plex.behind)


async def caught_up(rig: Rig) -> None:
    plex = rig.plex("b")
    await until(lambda: not plex.map.any() and plex.settled)


async def test_a_write_is_answered_while_the_plex_does_not_answer(rig: Rig) -> None:
    with rig.host.hanging(rig.path("b"), "pwrite") as hang:
        await rig.write_regions(3, 7)
        await until(lambda: hang.waiting)
        await rig.data.flush()
        assert await rig.data.read(7 * REGION + 512, 1) == b"w"
        shown = await rig.shown("b")
        assert shown["state"] == "ACTIVE" and shown["lag_bytes"] == 2 * REGION and shown["lag_seconds"] >= 0
        await rig.write_regions(3, byte=b"x")  # it is on its way just now
    await caught_up(rig)
    assert (await rig.shown("b"))["lag_bytes"] == 0
    assert rig.same("a", "b") and rig.bytes_of("b")[3 * REGION + 512 :][:1] == b"x"


async def test_what_was_written_while_it_was_on_its_way_is_sent_again(rig: Rig) -> None:
    plex = rig.plex("b")
    with rig.host.hanging(rig.path("b"), "pwrite", first_only=True) as hang:
        await rig.write_regions(3)
        await until(lambda: hang.waiting)
        await rig.write_regions(3, byte=b"x")
        assert 3 in plex.map
    await caught_up(rig)
    assert rig.same("a", "b")


async def test_it_is_sent_what_was_written_and_not_the_regions(rig: Rig) -> None:
    plex = rig.plex("b")
    before = plex.write_bytes
    await rig.write_regions(*range(3, 60, 2))
    await caught_up(rig)
    assert plex.write_bytes - before == 29 * 4096
    assert rig.same("a", "b")


async def test_what_is_in_the_page_cache_is_read_at_once_and_arrives(rig: Rig) -> None:
    """Also while all of it is written anew; and zeros are no data."""
    rig.host.watch.caches = True
    async with trio.open_nursery() as nursery:
        for start in range(4):
            nursery.start_soon(rig.write_regions, *range(start, 240, 4))
    await rig.write_regions(*range(0, 240, 3), byte=b"x")
    await rig.data.write(245 * REGION, bytes(3 * REGION))
    await caught_up(rig)
    assert rig.same("a", "b")


async def test_after_an_error_it_is_sent_whole_regions(rig: Rig) -> None:
    """A write that failed may be there in part, on one plex and not on the other."""
    plex = rig.plex("b")
    with rig.host.hanging(rig.path("b"), "pwrite", first_only=True) as hang:
        await rig.write_regions(3)
        await until(lambda: hang.waiting)
        await rig.write_regions(4)
        with rig.host.failing(rig.path("a"), "pwrite"), pytest.raises(Failed, match="io_error"):
            await rig.write_regions(9)
        before = plex.write_bytes
    await caught_up(rig)
    assert plex.write_bytes - before == 3 * REGION
    assert rig.same("a", "b")


async def test_what_is_written_to_just_now_is_sent_when_that_has_ended(rig: Rig) -> None:
    plex = rig.plex("b")
    with rig.host.hanging(rig.path("a"), "pwrite", within=range(3 * REGION, 4 * REGION)) as hang:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.write_regions, 3)
            await until(lambda: hang.waiting)
            await rig.write_regions(5)
            await until(lambda: 5 not in plex.map)
            assert 3 in plex.map and not rig.bytes_of("b")[3 * REGION + 512]
            hang.let_go()
    await caught_up(rig)
    assert rig.same("a", "b")


async def test_beyond_its_bound_the_writer_waits(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await made(rig, f":{2 * REGION}")
        with rig.host.hanging(rig.path("b"), "pwrite", within=range(2 * REGION)):
            await rig.write_regions(0, 1, 5, 6)
            assert rig.plex("b").map.count() == 2
            assert rig.bytes_of("b")[6 * REGION + 512 :][:1] == b"w", "it took this as any plex does"
        await caught_up(rig)
        assert rig.same("a", "b")


async def test_it_is_read_only_where_nobody_else_can(rig: Rig) -> None:
    await rig.write_regions(3)
    await caught_up(rig)
    for _ in range(4):
        await rig.data.read(3 * REGION, 512)
    assert not rig.plex("b").reads
    with rig.host.failing(rig.path("a"), "pread"):
        assert await rig.data.read(3 * REGION + 512, 1) == b"w"


async def test_it_never_counts_as_the_other_copy(rig: Rig) -> None:
    await rig.write_regions(3)
    await caught_up(rig)
    with pytest.raises(Refused, match="last_plex"):
        await rig.det("a")
    with rig.host.failing(rig.path("a"), "pwrite"), pytest.raises(Failed, match="io_error"):
        await rig.write_regions(3)
    await caught_up(rig)
    await behind(rig, "off")
    with rig.host.failing(rig.path("a"), "pwrite"):
        await rig.write_regions(4)
    assert await rig.states() == "IOFAIL ACTIVE"


async def test_a_crash_leaves_nothing_behind_that_nobody_knows_of(tmp_path: Path) -> None:
    """The map of what it lacks was in memory only; the log says what that may be, and it copies that."""
    async with daemon(tmp_path) as rig:
        await made(rig)
        with rig.host.hanging(rig.path("b"), "pwrite") as hang:
            await rig.write_regions(3, 70)
            await until(lambda: hang.waiting)
            rig.kill()
    async with daemon(tmp_path) as rig:
        assert await rig.states() == "ACTIVE ACTIVE"
        assert await rig.data.read(70 * REGION + 512, 1) == b"w"
        await caught_up(rig)
        await rig.stop()
        assert rig.same("a", "b")


async def test_after_a_crash_it_is_no_source_for_what_it_may_lack(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await made(rig)
        with rig.host.hanging(rig.path("b"), "pwrite") as hang:
            await rig.write_regions(3)
            await until(lambda: hang.waiting)
            rig.kill()
    (tmp_path / "a").rename(tmp_path / "away")
    async with daemon(tmp_path) as rig:
        with pytest.raises(Refused, match="no_current_plex"):
            await rig.verbs.start(volume="data")


async def test_a_plex_that_is_alone_is_one_like_any_other(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await made(rig)
        await rig.write_regions(3)
        await caught_up(rig)
        await rig.stop()
        (tmp_path / "a").rename(tmp_path / "away")
        await rig.verbs.start(volume="data")
        await rig.write_regions(3, byte=b"x")
        rig.kill()
    async with daemon(tmp_path) as rig:
        assert await rig.data.read(3 * REGION + 512, 1) == b"x"
        (tmp_path / "away").rename(tmp_path / "a")
        await rig.end(await rig.att("a"))
        await rig.write_regions(4)
        await caught_up(rig)
        await rig.stop()
        assert rig.same("a", "b")


async def test_one_that_fails_comes_back_and_lags_again(rig: Rig) -> None:
    with rig.host.failing(rig.path("b"), "pwrite"):
        await rig.write_regions(3)
        await until(lambda: rig.plex("b").state == "IOFAIL")
    assert (await rig.shown("b"))["lag_bytes"] is None
    await until(lambda: rig.plex("b").uuid not in rig.service.mirror.opened)  # it has been let go of
    await rig.service.running.home.lanes[rig.plex("b").uuid].idle()
    await rig.end(await rig.att("b"))
    with rig.host.hanging(rig.path("b"), "pwrite", within=range(9 * REGION, 10 * REGION)) as hang:
        await rig.write_regions(8, 9)
        await until(lambda: hang.waiting)
    await caught_up(rig)
    assert rig.same("a", "b")


async def test_off_copies_the_rest_and_then_it_is_waited_for(rig: Rig) -> None:
    with rig.host.hanging(rig.path("b"), "pwrite", first_only=True) as hang:
        await rig.write_regions(3)
        await until(lambda: hang.waiting)
        await rig.write_regions(3, 4)
        hang.let_go()
        await behind(rig, "off")
    await rig.end_all()
    assert rig.same("a", "b")
    await rig.write_regions(5)
    assert rig.same("a", "b")
    [shown] = (await rig.verbs.print(volume="data"))["volumes"]
    assert shown["write_behind"] is None


async def test_it_is_remembered(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await made(rig, ":1M")
        await rig.stop()
        [stopped] = (await rig.verbs.print(volume="data"))["volumes"]
        assert stopped["write_behind"] == {"plex": "data-02", "bytes": 1 << 20}
        await rig.verbs.start(volume="data")
    async with daemon(tmp_path) as rig:
        [shown] = (await rig.verbs.print(volume="data"))["volumes"]
        await until(lambda: rig.plex("b").lags)
        assert shown["write_behind"] == {"plex": "data-02", "bytes": 1 << 20}


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("data-03", "plex_unknown"), ("data-02:x", "bad_setting"), ("data-02:1", "bad_setting"), ("", "plex_unknown"),
        (":5M", "plex_unknown"), ("data-02:", "bad_setting"),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_refused(rig: Rig, value: str, error: str) -> None:
    with pytest.raises((BadRequest, Failed), match=error):
        await rig.verbs.set(volume="data", settings={"write_behind": value})


async def test_the_only_plex_may_not_lag(tmp_path: Path) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make("a")
        with pytest.raises(BadRequest, match="only plex"):
            await rig.verbs.set(volume="data", settings={"write_behind": "data-01"})


async def test_a_flush_reaches_it_where_it_holds_what_nobody_else_has(rig: Rig) -> None:
    """Alone it takes the writes that were answered: these are on a disk when a flush has ended."""
    await behind(rig, "off")
    await rig.det("a")
    await behind(rig, "data-02")
    with rig.host.hanging(rig.path("b"), "fdatasync") as hang:
        await rig.write_regions(3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.data.flush)
            await until(lambda: hang.waiting)
            hang.let_go()
    await rig.end(await rig.att("a"))
    await caught_up(rig)
    with rig.host.hanging(rig.path("b"), "fdatasync", first_only=True):
        await rig.write_regions(4)
        await rig.data.flush()  # the other one has all of it, and this one is not waited for


@pytest.mark.parametrize("from_replica", [True, False])
async def test_a_plex_that_goes_to_another_volume_lags_no_more(tmp_path: Path, from_replica: bool) -> None:
    """It was a setting of the snapshot; in the original nothing would bring it up to date."""
    async with daemon(tmp_path) as rig:
        await rig.make(size_bytes=4 * SIZE)
        await rig.end((await rig.verbs.snapstart(volume="data", path=str(rig.path("c"))))["task"])
        await rig.verbs.snapshot(volumes=["data"], name="snap")
        await rig.end((await rig.verbs.plex_add(volume="snap", path=str(rig.path("d"))))["task"])
        lags = rig.registry.service("snap").volume.plex(str(rig.path("d")))
        await rig.verbs.set(volume="snap", settings={"write_behind": f"{lags.path}:1M"})
        await rig.write_regions(5, volume="snap")
        await until(lambda: lags.room > 0 and not lags.map.any() and lags.settled)
        await rig.verbs.snapback(snapshot="snap", from_replica=from_replica, all_plexes=True)
        await rig.write_regions(7)
        await rig.end_all()
        [shown] = (await rig.verbs.print(volume="data"))["volumes"]
        assert shown["write_behind"] is None
        back = rig.service.volume.plex(lags.uuid)
        assert not back.map.any() and rig.same("a", "c") and rig.same("a", "d")
