"""What a stream brings is made durable when it is noted, not before: nobody else counts on it, and whoever writes it
hears when it may be gone.
"""

import errno
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from fmrd.errors import FmrdError
from tests.engine.rig import REGION, Rig, daemon
from tests.engine.test_receiving import commit, note, offer, refused
from tests.waiting import until


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with daemon(tmp_path) as running:
        await running.make("ab")
        yield running


async def come(rig: Rig, *regions: int, byte: bytes = b"r") -> None:
    """So many records, a region each."""
    for region in regions:
        await rig.door("RECV-data").write(region * REGION, byte * REGION)


async def shown(rig: Rig, region: int, volume: str = "data") -> bytes:
    """Its first and its last byte."""
    data = await rig.door(volume).read(region * REGION, REGION)
    return data[:1] + data[-1:]


async def test_each_byte_is_written_once_and_nothing_is_made_durable_before_it_is_noted(rig: Rig) -> None:
    spool = str(rig.path("a.received"))
    begun = await rig.verbs.receive_begin(**offer())
    await come(rig, 0)  # the first one marks its extent
    before = len(rig.host.watch.log)
    await come(rig, 1, 2, 3)
    seen = rig.host.watch.log[before:]
    assert [(o.name, o.path, o.length) for o in seen if o.name != "pread"] == [("pwrite", spool, REGION)] * 3
    await note(rig, begun, 4)
    assert rig.host.watch.seen("fdatasync", spool)


@pytest.mark.parametrize("noted", [False, True])
async def test_what_was_not_noted_may_be_gone_with_the_daemon_and_whoever_sent_it_hears_that(
    tmp_path: Path, noted: bool
) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make("ab")
        await rig.data.write(0, b"o" * REGION * 3)
        begun = await rig.verbs.receive_begin(**offer())
        await come(rig, 0)
        await note(rig, begun, 1)
        await come(rig, 1)
        if noted:
            await note(rig, begun, 2)
        rig.kill()
    async with daemon(tmp_path) as rig:
        assert await shown(rig, 0, "RECV-data") == b"rr"
        assert await shown(rig, 1, "RECV-data") == (b"rr" if noted else b"oo")
        await come(rig, 2)  # by one who heard nothing of it
        assert await refused(commit(rig, begun)) == "receive_lost"
        with pytest.raises(FmrdError, match="fmrd was started anew meanwhile"):
            await note(rig, begun, 3)
        token = await rig.verbs.receive_token(volume="data")
        assert token["chunks"] == (2 if noted else 1)
        more = offer(stream=begun["stream"], snapshot=begun["snapshot"])
        more |= {key: token[key] for key in ("stream", "chunks", "offset_bytes", "chain")}
        again = await rig.verbs.receive_begin(**more)
        await come(rig, 1, 2)
        await commit(rig, again)
        await rig.end_all()
        assert [await shown(rig, region) for region in range(4)] == [b"rr", b"rr", b"rr", b"\0\0"]
        assert rig.same("a", "b")


async def test_after_an_fdatasync_that_failed_nothing_is_taken_over_that_was_not_noted(rig: Rig) -> None:
    spool = rig.path("a.received")
    begun = await rig.verbs.receive_begin(**offer())
    await come(rig, 1)
    with rig.host.failing(spool, "fdatasync", code=errno.EIO), pytest.raises(FmrdError):
        await note(rig, begun, 2)
    assert await refused(commit(rig, begun)) == "receive_lost"
    assert await shown(rig, 1) == b"\0\0" and "RECV-data" in rig.registry.units


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
async def test_a_write_that_fails_is_told(rig: Rig, code: int) -> None:
    """The region is the volume's still, and all of the stream would be taken for there."""
    begun = await rig.verbs.receive_begin(**offer())
    with rig.host.failing(rig.path("a.received"), "pwrite", code=code), pytest.raises(FmrdError):
        await come(rig, 1)
    await come(rig, 1)
    await commit(rig, begun)
    await rig.end_all()
    assert await shown(rig, 1) == b"rr"


async def test_after_a_failed_flush_a_stream_goes_on_at_what_was_noted(rig: Rig) -> None:
    told = offer()
    begun = await rig.verbs.receive_begin(**told)
    await come(rig, 0)
    await note(rig, begun, 1)
    await come(rig, 1)
    with rig.host.failing(rig.path("a.received"), "fdatasync"), pytest.raises(FmrdError):
        await note(rig, begun, 2)
    token = await rig.verbs.receive_token(volume="data")
    again = await rig.verbs.receive_begin(
        **told | {key: token[key] for key in ("stream", "chunks", "offset_bytes", "chain")}
    )
    await come(rig, 1)
    await note(rig, again, 2)
    await commit(rig, again)
    await rig.end_all()
    assert [await shown(rig, region) for region in (0, 1)] == [b"rr", b"rr"] and rig.same("a", "b")


async def test_what_is_not_written_whole_takes_the_rest_from_the_volume(rig: Rig) -> None:
    await rig.data.write(0, b"o" * REGION * 5)
    begun = await rig.verbs.receive_begin(**offer())
    await rig.door("RECV-data").write(REGION // 2, b"r" * REGION * 3)  # half, whole, whole, half
    await rig.data.write(4 * REGION, b"n" * REGION)  # its own, since
    assert [await shown(rig, region, "RECV-data") for region in range(5)] == [b"or", b"rr", b"rr", b"ro", b"oo"]
    await commit(rig, begun)
    await rig.end_all()
    assert [await shown(rig, region) for region in range(5)] == [b"or", b"rr", b"rr", b"ro", b"oo"]
    assert rig.same("a", "b")


async def test_the_volume_keeps_no_old_data_where_a_stream_writes(rig: Rig) -> None:
    """Its copy would land on what came, or beside it at the same time."""
    spool = str(rig.path("a.received"))
    await rig.data.write(0, b"o" * REGION * 2)
    begun = await rig.verbs.receive_begin(**offer())
    with rig.host.hanging(spool, "pwrite") as hang:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(come, rig, 1)
            await until(lambda: hang.waiting == 1)
            nursery.start_soon(rig.data.write, REGION + 512, b"n" * 512)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert hang.waiting == 1
            hang.let_go()
    assert [o.length for o in rig.host.watch.seen("pwrite", spool)] == [REGION]
    assert await shown(rig, 1, "RECV-data") == b"rr"
    await commit(rig, begun)
    await rig.end_all()
    assert await shown(rig, 1) == b"rr" and rig.same("a", "b")
