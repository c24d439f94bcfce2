"""Disks that fail or hang: the application sees success while one plex holds the data, and nothing is forgotten."""

import errno
import os
from pathlib import Path
from time import time

import pytest
import trio

from fmrd.errors import Failed
from tests.engine.rig import REGION, SIZE, Rig, daemon
from tests.waiting import until

SOON = 0.8
"""An io_timeout for disks that hang."""


async def let_go_of(rig: Rig, letter: str) -> None:
    await until(lambda: rig.plex(letter).uuid not in rig.service.mirror.opened)


async def test_a_write_error_detaches_the_plex_and_its_map_has_the_missed_region(rig: Rig) -> None:
    await rig.make()
    await rig.data.write(0, os.urandom(SIZE))
    await rig.data.flush()
    await rig.service.mirror.clean()
    with rig.host.failing(rig.path("b"), "pwrite"):
        await rig.write_regions(7)
    await rig.write_regions(9)
    assert await rig.states() == "ACTIVE IOFAIL"
    shown = await rig.shown("b")
    assert (shown["kstate"], shown["errors"]) == ("DETACHED", 1)
    reason = shown["reason"]
    assert (reason["code"], reason["errno"]) == ("io_error", errno.EIO) and str(rig.path("b")) in reason["message"]
    assert 0 < reason["since"] <= time()
    assert await rig.data.read(7 * REGION + 512, 1) == b"w"
    await let_go_of(rig, "b")
    task = await rig.end(await rig.att("b"))
    assert task["reason"]["code"] == "fast" and task["state"] == "done"
    assert (await rig.shown("b"))["reason"] is None
    await rig.stop()
    assert rig.same("a", "b")


async def test_a_full_disk_is_a_write_error_like_any_other(rig: Rig) -> None:
    await rig.make()
    with rig.host.failing(rig.path("b"), "pwrite", code=errno.ENOSPC):
        await rig.write_regions(7)
    assert await rig.states() == "ACTIVE IOFAIL"


async def test_the_last_plex_stays_and_the_caller_gets_the_error(rig: Rig) -> None:
    await rig.make()
    await rig.det("b")
    with rig.host.failing(rig.path("a"), "pwrite"), pytest.raises(Failed, match="io_error") as caught:
        await rig.write_regions(7)
    assert caught.value.errno == errno.EIO
    assert await rig.states() == "ACTIVE STALE"
    await rig.write_regions(7)
    assert await rig.data.read(7 * REGION + 512, 1) == b"w"
    await rig.end(await rig.att("b"))
    await rig.stop()
    assert rig.same("a", "b")


async def test_both_failing_one_after_the_other_leaves_one(rig: Rig) -> None:
    await rig.make()
    with rig.host.failing(rig.path("a"), "pwrite"), rig.host.failing(rig.path("b"), "pwrite"):
        with pytest.raises(Failed, match="io_error"):
            await rig.write_regions(7)
        with pytest.raises(Failed, match="io_error"):
            await rig.write_regions(8)
    await rig.write_regions(7, 8)
    assert "ACTIVE" in await rig.states()
    await rig.verbs.recover()
    await rig.end_all()
    await rig.stop()
    assert rig.same("a", "b")


async def test_a_flush_error_detaches_the_plex_with_all_that_was_not_flushed(rig: Rig) -> None:
    """After a failed fdatasync the kernel may have dropped any page written since the last good one."""
    await rig.make()
    await rig.write_regions(3, 5)
    with rig.host.failing(rig.path("b"), "fdatasync"):
        await rig.data.flush()
        assert await rig.states() == "ACTIVE IOFAIL"
    await let_go_of(rig, "b")
    task = await rig.end(await rig.att("b"))
    assert task["reason"]["code"] == "fast"
    assert task["done_regions"] == 64, "the extent of the DRL that holds both"
    await rig.stop()
    assert rig.same("a", "b")


async def test_a_flush_error_of_the_last_plex_is_told_until_the_regions_were_written_again(rig: Rig) -> None:
    await rig.make("a")
    await rig.write_regions(3)
    with rig.host.failing(rig.path("a"), "fdatasync"), pytest.raises(Failed, match="suspect"):
        await rig.data.flush()
    with pytest.raises(Failed, match="suspect"):
        await rig.data.flush()
    await rig.data.write(0, b"x" * SIZE)
    await rig.data.flush()
    assert await rig.states() == "ACTIVE"


async def test_a_read_error_is_served_by_another_plex_and_corrected(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    content = os.urandom(SIZE)
    await rig.make(rdpol="prefer:data-02")
    await rig.data.write(0, content)
    await rig.data.flush()
    bad = range(20 * REGION, 20 * REGION + 4096)
    with rig.host.failing(rig.path("b"), "pread", within=bad):
        assert await rig.data.read(20 * REGION, 100) == content[20 * REGION :][:100]
    assert await rig.states() == "ACTIVE ACTIVE"
    shown = await rig.shown("b")
    assert (shown["errors"], shown["dirty_regions"]) == (1, 0)
    assert "corrected from data-01" in caplog.text
    [back] = [o for o in rig.host.watch.seen("pwrite", str(rig.path("b"))) if o.length == 4096]
    assert back.offset == 20 * REGION, "written back"


async def test_a_read_error_that_cannot_be_corrected_detaches_the_plex(rig: Rig) -> None:
    await rig.make(rdpol="prefer:data-02")
    await rig.data.write(0, b"x" * REGION)
    await rig.data.flush()
    with rig.host.failing(rig.path("b"), "pread", "pwrite"):
        assert await rig.data.read(0, 10) == b"x" * 10
    assert await rig.states() == "ACTIVE IOFAIL"


async def test_a_read_error_of_the_last_plex_is_the_callers(rig: Rig) -> None:
    await rig.make()
    await rig.det("b")
    with rig.host.failing(rig.path("a"), "pread"), pytest.raises(Failed, match="io_error"):
        await rig.data.read(0, 10)
    assert await rig.states() == "ACTIVE STALE"
    assert await rig.data.read(0, 10) == bytes(10)


async def test_a_copy_takes_another_source_where_one_cannot_be_read(rig: Rig) -> None:
    await rig.make("abc", rdpol="prefer:data-01")
    await rig.data.write(0, os.urandom(SIZE))
    await rig.data.flush()
    await rig.det("c")
    await rig.data.write(0, os.urandom(4 * REGION))
    await rig.data.flush()
    with rig.host.failing(rig.path("a"), "pread"):
        assert (await rig.end(await rig.att("c")))["state"] == "done"
    await rig.stop()
    assert rig.same("b", "c")


async def test_a_copy_without_a_readable_source_fails_and_keeps_the_map(rig: Rig) -> None:
    await rig.make()
    await rig.data.write(0, os.urandom(SIZE))
    await rig.det("b")
    await rig.write_regions(3, 4, 20)
    await rig.service.mirror.clean()
    with rig.host.failing(rig.path("a"), "pread", within=range(4 * REGION, 5 * REGION)):
        task = await rig.end(await rig.att("b"))
    assert (task["state"], task["error"]["code"], task["done_regions"]) == ("failed", "io_error", 2)
    assert await rig.states() == "ACTIVE IOFAIL"
    await let_go_of(rig, "b")
    again = await rig.end(await rig.att("b"))
    assert (again["state"], again["reason"]["code"], again["done_regions"]) == ("done", "fast", 1)
    await rig.stop()
    assert rig.same("a", "b")


async def test_a_target_that_cannot_be_written_fails_the_copy(rig: Rig) -> None:
    await rig.make()
    await rig.det("b")
    await rig.write_regions(3, 20)
    await rig.service.mirror.clean()
    with rig.host.failing(rig.path("b"), "copy_from", code=errno.ENOSPC):
        task = await rig.end(await rig.att("b"))
    assert (task["state"], task["error"]["code"]) == ("failed", "io_error")
    assert await rig.states() == "ACTIVE IOFAIL"
    assert (await rig.shown("b"))["dirty_regions"] == 2


async def test_a_copy_of_the_dco_that_fails_takes_its_plex_with_it(rig: Rig) -> None:
    await rig.make()
    with rig.host.failing(rig.path("b.dco"), "dco_write"):
        await rig.write_regions(3)
    assert await rig.states() == "ACTIVE IOFAIL"
    await let_go_of(rig, "b")
    assert (await rig.end(await rig.att("b")))["state"] == "done"
    await rig.stop()
    assert rig.same("a", "b")


async def test_never_data_without_its_mark(rig: Rig) -> None:
    """The home copy cannot take the mark: the write fails, and no plex was written."""
    await rig.make()
    home = rig.directory / "state" / "volumes" / "data.dco"
    with rig.host.failing(home, "dco_write", code=errno.ENOSPC), pytest.raises(Failed, match="home_failed"):
        await rig.write_regions(3)
    assert not rig.host.watch.seen("pwrite")
    assert await rig.states() == "ACTIVE ACTIVE"
    await rig.write_regions(3)
    await rig.data.flush()
    await rig.stop()
    assert rig.same("a", "b")


# Disks that do not answer


async def test_a_hung_plex_is_detached_after_io_timeout_and_joins_when_its_call_has_landed(tmp_path: Path) -> None:
    async with daemon(tmp_path, io_timeout_seconds=SOON) as rig:
        await rig.make()
        await rig.verbs.make(volume="other", size_bytes=SIZE, plexes=[{"path": str(rig.path("x"))}])
        await rig.write_regions(1)
        with rig.host.hanging(rig.path("b"), "pwrite") as hang:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rig.write_regions, 7)
                await until(lambda: hang.waiting == 1)
                await rig.write_regions(1, volume="other")
                assert await rig.states() == "ACTIVE ACTIVE", "other volumes go on, and the daemon answers"
            assert await rig.states() == "ACTIVE IOFAIL"
            await rig.write_regions(8)
            assert await rig.data.read(7 * REGION + 512, 1) == b"w"
            with pytest.raises(Failed, match="plex_hung"):
                await rig.att("b")
        await let_go_of(rig, "b")
        task = await rig.end(await rig.att("b"))
        assert (task["reason"]["code"], task["state"]) == ("fast", "done")
        await rig.stop()
        assert rig.same("a", "b")


async def test_a_hung_flush_detaches_the_plex(tmp_path: Path) -> None:
    async with daemon(tmp_path, io_timeout_seconds=SOON) as rig:
        await rig.make()
        await rig.write_regions(1)
        with rig.host.hanging(rig.path("b"), "fdatasync"):
            await rig.data.flush()
            assert await rig.states() == "ACTIVE IOFAIL"


async def test_files_stay_open_while_the_last_fsync_of_a_parting_hangs(tmp_path: Path) -> None:
    async with daemon(tmp_path, io_timeout_seconds=SOON) as rig:
        await rig.make()
        rig.host.watch.log.clear()
        with rig.host.hanging(rig.path("b"), "fdatasync") as hang:
            with rig.host.failing(rig.path("b"), "pwrite"):
                await rig.write_regions(7)
            plex, lanes = rig.plex("b"), rig.service.running.home.lanes[rig.plex("b").uuid]
            await until(lambda: lanes.data.hung)
            assert hang.waiting == 1
            async with rig.service.running.verb():  # which the parting had
                assert plex.uuid in rig.service.mirror.opened and not rig.host.watch.seen("close", str(rig.path("b")))
        await let_go_of(rig, "b")
        assert (await rig.end(await rig.att("b")))["reason"]["code"] == "fast"


async def test_a_hung_read_is_served_by_another_plex(tmp_path: Path) -> None:
    async with daemon(tmp_path, io_timeout_seconds=SOON) as rig:
        await rig.make(rdpol="prefer:data-02")
        await rig.data.write(0, b"x" * 10)
        await rig.data.flush()
        with rig.host.hanging(rig.path("b"), "pread"):
            assert await rig.data.read(0, 10) == b"x" * 10
            assert await rig.states() == "ACTIVE IOFAIL"


async def test_a_last_plex_that_hangs_answers_with_an_error_and_stays(tmp_path: Path) -> None:
    async with daemon(tmp_path, io_timeout_seconds=SOON) as rig:
        await rig.make("a")
        with rig.host.hanging(rig.path("a"), "pwrite") as hang:
            with pytest.raises(Failed, match="io_error"):
                await rig.write_regions(1)
            assert await rig.states() == "ACTIVE"
            hang.let_go()
        await until(lambda: rig.service.running.home.lanes[rig.plex("a").uuid].outstanding == 0)
        await rig.write_regions(1)
        assert await rig.data.read(REGION + 512, 1) == b"w"


async def test_a_hung_copy_ends_after_io_timeout_and_the_volume_goes_on(tmp_path: Path) -> None:
    async with daemon(tmp_path, io_timeout_seconds=SOON) as rig:
        await rig.make()
        await rig.det("b")
        await rig.write_regions(3)
        with rig.host.hanging(rig.path("b"), "copy_from"):
            task = await rig.end(await rig.att("b"))
            assert task["state"] == "failed"
            assert await rig.states() == "ACTIVE IOFAIL"
            await rig.write_regions(3)
        await let_go_of(rig, "b")
        assert (await rig.end(await rig.att("b")))["state"] == "done"
        await rig.stop()
        assert rig.same("a", "b")


async def test_a_volume_with_a_hung_plex_is_stopped_and_started(tmp_path: Path) -> None:
    async with daemon(tmp_path, io_timeout_seconds=SOON) as rig:
        await rig.make()
        with rig.host.hanging(rig.path("b"), "pwrite"):
            await rig.write_regions(7)
            await rig.stop()
            await rig.verbs.start(volume="data")
            assert (await rig.states()).startswith("ACTIVE"), "with what answers"
            assert rig.plex("b").state != "ACTIVE"
            await rig.write_regions(8)
        await until(lambda: rig.service.running.home.lanes[rig.plex("b").uuid].outstanding == 0)
        await rig.verbs.recover()
        await rig.end_all()
        assert await rig.states() == "ACTIVE ACTIVE"
        await rig.stop()
        assert rig.same("a", "b")


async def test_a_join_that_fails_leaves_the_stamp_recorded(rig: Rig) -> None:
    """A stranger's change of the file must be noticed at the next attach, also after a kill."""
    await rig.make()
    await rig.det("b")
    left = rig.plex("b").stamp
    assert left is not None
    with rig.host.failing(rig.path("b.dco"), "dco_write"), pytest.raises(Failed, match="io_error"):
        await rig.att("b")
    recorded = rig.service.running.home.record
    assert recorded is not None
    [kept] = [plex.stamp for plex in recorded.volume.plexes if plex.path == str(rig.path("b"))]
    assert rig.plex("b").stamp == kept == left
    os.utime(rig.path("b"), ns=(1, left.mtime_ns + 10**9))
    assert (await rig.would("b"))["reason"]["code"] == "full_backing_changed"


async def test_why_a_plex_failed_is_known_after_restarts(tmp_path: Path) -> None:
    """Until it is attached: over a stop, of a volume that stays stopped, and after a kill."""
    async with daemon(tmp_path) as rig:
        await rig.make()
        with rig.host.failing(rig.path("b"), "pwrite"):
            await rig.write_regions(1)
        why = (await rig.shown("b"))["reason"]
        assert (why["code"], why["errno"]) == ("io_error", errno.EIO) and why["since"] > 0
        await rig.verbs.set(volume="data", settings={"auto_attach": "off"})
    async with daemon(tmp_path) as rig:
        assert (await rig.shown("b"))["reason"] == why
        await rig.stop()
        assert (await rig.shown("b"))["reason"] == why, "of a stopped volume"
        await rig.verbs.start(volume="data")
        await rig.write_regions(2)
        rig.kill()
    async with daemon(tmp_path) as rig:
        assert (await rig.shown("b"))["reason"] == why, "after a kill"
        await rig.end(await rig.att("b"))
        assert (await rig.shown("b"))["reason"] is None
        await rig.stop()
        assert (await rig.shown("b"))["reason"] is None
