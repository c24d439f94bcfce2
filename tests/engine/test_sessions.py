"""Plexes behind servers: what was under way in a session that ended may be carried out later (docs/PROTOCOLS, "Far").

It joins again where a new session proves the old one over, the fence; else where somebody says so. A daemon that was
killed leaves such sessions, too.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fmrd.backing.looking import far
from fmrd.core.reasons import Reason
from fmrd.errors import Failed, Refused
from tests.engine import faulty
from tests.engine.rig import REGION, daemon
from tests.waiting import until

SOON = 0.02
Servers = Callable[..., None]


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Servers:
    """Called with letters: those plexes, and the copies of the DCO beside them, are behind servers with that fence."""
    behind: set[Path] = set()

    def way_to(status: os.stat_result) -> str:
        return "NBD" if status.st_ino in [each.stat().st_ino for each in behind if each.exists()] else ""

    def put(letters: str, fence: str = "") -> None:
        for letter in letters:
            for path in (tmp_path / letter, tmp_path / f"{letter}.dco"):
                behind.add(path)
                monkeypatch.setitem(faulty.FENCES, str(path), fence)

    monkeypatch.setattr(far, "way_to", way_to)
    return put


async def make_and_be_killed(directory: Path, letters: str = "ab") -> None:
    async with daemon(directory) as rig:
        await rig.make(letters)
        await rig.write_regions(1, 7)
        await rig.data.flush()
        rig.kill()


async def test_after_a_crash_it_stays_out_until_somebody_says_that_it_is_over(tmp_path: Path, servers: Servers) -> None:
    servers("b")
    await make_and_be_killed(tmp_path)
    async with daemon(tmp_path) as rig:
        assert await rig.states() == "ACTIVE STALE"
        assert (await rig.shown("b"))["reason"]["code"] == Reason.SESSION_OPEN
        await until(lambda: rig.plex("b").failure)
        assert str(rig.path("b")) in (await rig.shown("b"))["reason"]["message"]
        assert await rig.data.read(7 * REGION + 512, 1) == b"w"
        with pytest.raises(Refused, match="session_open") as caught:
            await rig.att("b")
        assert f"plex att --settled data {rig.plex('b').name}" in caught.value.hint
        assert (await rig.end(await rig.att("b", settled=True)))["reason"]["code"] == "fast"
        await rig.write_regions(9)
        await rig.stop()
        assert rig.same("a", "b")


@pytest.mark.parametrize("fence", ["single", "lock"])
async def test_after_a_crash_a_fence_proves_it(tmp_path: Path, servers: Servers, fence: str) -> None:
    servers("b", fence)
    await make_and_be_killed(tmp_path)
    async with daemon(tmp_path) as rig:
        assert await rig.states() == "ACTIVE ACTIVE"


async def test_a_copy_of_the_dco_that_has_no_fence_proves_nothing(
    tmp_path: Path, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers("b", "single")
    monkeypatch.setitem(faulty.FENCES, str(tmp_path / "b.dco"), "")
    await make_and_be_killed(tmp_path)
    async with daemon(tmp_path) as rig:
        assert await rig.states() == "ACTIVE STALE"


async def test_after_an_orderly_stop_nobody_is_asked(tmp_path: Path, servers: Servers) -> None:
    servers("ab")
    async with daemon(tmp_path) as rig:
        await rig.make()
        await rig.write_regions(7)
    async with daemon(tmp_path) as rig:
        assert await rig.states() == "ACTIVE ACTIVE"


async def test_what_was_let_go_of_in_order_before_the_crash_is_over(tmp_path: Path, servers: Servers) -> None:
    servers("b")
    async with daemon(tmp_path) as rig:
        await rig.make()
        await rig.det("b")
        await rig.write_regions(7)
        rig.kill()
    async with daemon(tmp_path) as rig:
        await until(lambda: rig.plex("b").state == "ACTIVE")


async def test_what_hung_when_it_left_is_not_over_after_a_crash(tmp_path: Path, servers: Servers) -> None:
    """No error told of it: the record has a plex that failed, like any other, and that its session is open."""
    servers("b")
    async with daemon(tmp_path, io_timeout_seconds=0.2) as rig:
        await rig.make()
        with rig.host.hanging(rig.path("b"), "pwrite"):
            await rig.write_regions(7)
            assert await rig.states() == "ACTIVE IOFAIL"
            assert rig.host.watch.seen("hang_up", str(rig.path("b"))), "nobody comes back to that session"
            rig.kill()
    async with daemon(tmp_path) as rig:
        assert (await rig.shown("b"))["state"] == "IOFAIL"
        with pytest.raises(Refused, match="session_open"):
            await rig.att("b")


async def test_a_plex_that_is_the_last_copy_is_not_hung_up_on(tmp_path: Path, servers: Servers) -> None:
    servers("a")
    async with daemon(tmp_path, io_timeout_seconds=0.2) as rig:
        await rig.make("a")
        with rig.host.hanging(rig.path("a"), "pwrite"), pytest.raises(Failed, match="io_error"):
            await rig.write_regions(7)
        assert not rig.host.watch.seen("hang_up")


async def test_the_only_copies_are_not_opened_before_somebody_says_that_it_is_over(
    tmp_path: Path, servers: Servers
) -> None:
    servers("ab")
    await make_and_be_killed(tmp_path)
    async with daemon(tmp_path) as rig:
        with pytest.raises(Refused, match="session_open") as caught:
            await rig.verbs.start(volume="data")
        assert "start --settled data" in caught.value.hint
        with pytest.raises(Refused, match="session_open"):
            await rig.verbs.start(volume="data", accept="data-01")
        await rig.verbs.start(volume="data", settled=True)
        await rig.end_all()
        assert await rig.states() == "ACTIVE ACTIVE"
        assert await rig.data.read(7 * REGION + 512, 1) == b"w"


async def test_an_import_is_no_better(tmp_path: Path, servers: Servers) -> None:
    servers("ab")
    await make_and_be_killed(tmp_path)
    (tmp_path / "state" / "volumes" / "data.dco").unlink()
    paths = [str(tmp_path / letter) for letter in "ab"]
    async with daemon(tmp_path) as rig:
        with pytest.raises(Refused, match="session_open") as caught:
            await rig.verbs.import_volume(paths=paths)
        assert "import --force" in caught.value.hint
        await rig.verbs.import_volume(paths=paths, force=True)
        assert await rig.data.read(7 * REGION + 512, 1) == b"w"


async def test_a_new_session_under_a_fence_settles_what_failed(tmp_path: Path, servers: Servers) -> None:
    servers("b", "single")
    async with daemon(tmp_path, return_seconds=SOON) as rig:
        await rig.make()
        with rig.host.failing(rig.path("b"), "pwrite"):
            await rig.write_regions(7)
        await until(lambda: rig.plex("b").state == "ACTIVE")
        await rig.write_regions(8)
        await rig.stop()
        assert rig.same("a", "b")


async def test_a_server_that_is_busy_with_the_old_session_is_asked_again(tmp_path: Path, servers: Servers) -> None:
    servers("b", "single")
    async with daemon(tmp_path, return_seconds=SOON) as rig:
        await rig.make()
        with rig.host.failing(rig.path("b"), "open", "pwrite"):
            await rig.write_regions(7)
            await until(lambda: len(rig.host.watch.seen("open", str(rig.path("b")))) >= 3)
        await until(lambda: rig.plex("b").state == "ACTIVE")


async def test_without_a_fence_it_is_told_once_and_not_tried_for_ever(
    tmp_path: Path, servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    servers("b")
    caplog.set_level(logging.WARNING)
    async with daemon(tmp_path, return_seconds=SOON) as rig:
        await rig.make()
        with rig.host.failing(rig.path("b"), "pwrite"):
            await rig.write_regions(7)
        await until(lambda: not rig.service.reattacher._waiting)
        [told] = [record.message for record in caplog.records if "not attached by itself" in record.message]
        assert "plex att --settled data data-02" in told
        assert len(rig.host.watch.seen("open", str(rig.path("b")))) == 2, "at the start, and once after it failed"


async def test_a_snapshot_that_went_back_in_order_joins(tmp_path: Path, servers: Servers) -> None:
    servers("c")
    async with daemon(tmp_path) as rig:
        await rig.make()
        task = (await rig.verbs.snapstart(volume="data", path=str(rig.path("c"))))["task"]
        await rig.end(task)
        await rig.verbs.snapshot(volumes=["data"])
        await rig.write_regions(7)
        answer = await rig.verbs.snapback(snapshot="SNAP-data")
        for task in answer["tasks"]:
            assert (await rig.end(task))["state"] == "done"
