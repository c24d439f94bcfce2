"""Plexes behind a network or a server: an error there says that nobody waits, not that the write is over.

What failed comes back only where it is proved to be over (docs/PROTOCOLS, "Join"), here by somebody's
word. Which backings those are is looking/far.py's, see tests/backing/looking/test_far.py.
"""

import os
from pathlib import Path

import pytest

from fmrd.backing.looking import far
from fmrd.core.reasons import Reason
from fmrd.errors import Failed, Refused
from tests.engine.rig import REGION, Rig, daemon
from tests.waiting import until


@pytest.fixture(autouse=True)
def _b_is_on_nfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file b, and the copy of the DCO beside it."""

    def way_to(status: os.stat_result) -> str:
        files = [each.stat().st_ino for each in (tmp_path / "b", tmp_path / "b.dco") if each.exists()]
        return "NFS" if status.st_ino in files else ""

    monkeypatch.setattr(far, "way_to", way_to)


async def fail_a_write(rig: Rig) -> None:
    with rig.host.failing(rig.path("b"), "pwrite"):
        await rig.write_regions(7)
    assert await rig.states() == "ACTIVE IOFAIL"
    await until(lambda: rig.plex("b").uuid not in rig.service.mirror.opened)


async def test_what_failed_stays_out_until_somebody_says_that_it_is_over(rig: Rig) -> None:
    await rig.make()
    await fail_a_write(rig)
    assert (await rig.shown("b"))["reason"]["code"] == Reason.SESSION_OPEN
    for options in ({}, {"full": True}, {"dry_run": True}):
        with pytest.raises(Refused, match="session_open") as caught:
            await rig.verbs.plex_att(volume="data", plex=str(rig.path("b")), **options)
        assert str(rig.path("b")) in caught.value.message and "--settled data" in str(caught.value.hint)
    assert (await rig.would("b", settled=True))["reason"]["code"] == "fast"
    with pytest.raises(Refused, match="session_open"):
        await rig.att("b")
    task = await rig.end(await rig.att("b", settled=True))
    assert (task["state"], task["reason"]["code"]) == ("done", "fast")
    assert (await rig.shown("b"))["reason"] in (None, "")
    await rig.write_regions(7, 8)
    await rig.stop()
    assert rig.same("a", "b")


@pytest.mark.parametrize("killed", [False, True])
async def test_a_restart_remembers_it(tmp_path: Path, killed: bool) -> None:
    async with daemon(tmp_path) as rig:
        await rig.make()
        await fail_a_write(rig)
        if killed:
            rig.kill()
    async with daemon(tmp_path) as rig:
        assert await rig.states() == "ACTIVE IOFAIL", "not by itself, though auto_attach is on"
        with pytest.raises(Refused, match="session_open"):
            await rig.att("b")
        assert (await rig.end(await rig.att("b", settled=True)))["state"] == "done"
        await rig.stop()
        assert rig.same("a", "b")


@pytest.mark.parametrize("what", ["fdatasync", "dco_write"])
async def test_a_flush_or_a_mark_that_failed_is_no_better(rig: Rig, what: str) -> None:
    await rig.make()
    path = f"{rig.path('b')}.dco" if what == "dco_write" else rig.path("b")
    with rig.host.failing(path, what):
        await rig.write_regions(7)
        await rig.data.flush()
    await until(lambda: rig.plex("b").uuid not in rig.service.mirror.opened)
    with pytest.raises(Refused, match="session_open"):
        await rig.att("b")


@pytest.mark.parametrize("what", ["pwrite", "dco_write"])
async def test_somebodys_word_is_taken_once_for_all_that_failed(rig: Rig, what: str) -> None:
    await rig.make()
    with rig.host.failing(rig.path("b") if what == "pwrite" else f"{rig.path('b')}.dco", what):
        await rig.write_regions(7)
    await until(lambda: rig.plex("b").uuid not in rig.service.mirror.opened)
    await rig.end(await rig.att("b", settled=True))
    await rig.det("b")
    assert (await rig.end(await rig.att("b")))["reason"]["code"] == "nothing_missed"


async def test_a_read_that_failed_leaves_nothing_behind(rig: Rig) -> None:
    await rig.make()
    await rig.verbs.set(volume="data", settings={"rdpol": "prefer:data-02"})
    await rig.write_regions(7)
    with rig.host.failing(rig.path("b"), "pread"):
        await rig.data.read(7 * REGION, 512)
    await rig.det("b")
    await until(lambda: rig.plex("b").uuid not in rig.service.mirror.opened)
    assert (await rig.end(await rig.att("b")))["state"] == "done"


async def test_the_last_copy_stays_and_what_may_land_yet_is_not_read(rig: Rig) -> None:
    await rig.make()
    await rig.write_regions(1, 7)
    await rig.det("a")
    with rig.host.failing(rig.path("b"), "pwrite"), pytest.raises(Failed, match="io_error"):
        await rig.write_regions(7)
    assert await rig.data.read(REGION + 512, 1) == b"w"
    with pytest.raises(Failed, match="io_error"):
        await rig.data.read(7 * REGION + 512, 1)
    with pytest.raises(Failed, match="io_error"):
        await rig.write_regions(7)
    await rig.data.flush()
    await rig.service.mirror.clean()
    assert 0 in rig.service.volume.drl.marked, "its extent stays in the log"
    await rig.att("b", settled=True)
    await rig.write_regions(7)
    assert await rig.data.read(7 * REGION + 512, 1) == b"w"
    await rig.end(await rig.att("a"))
    await rig.stop()
    assert rig.same("a", "b")


async def test_on_a_local_disk_an_error_ends_a_write(rig: Rig) -> None:
    await rig.make()
    with rig.host.failing(rig.path("a"), "pwrite"):
        await rig.write_regions(7)
    await until(lambda: rig.plex("a").uuid not in rig.service.mirror.opened)
    assert (await rig.end(await rig.att("a")))["state"] == "done"
