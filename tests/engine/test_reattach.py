"""A plex that failed comes back by itself when its disk answers; what others took away stays away."""

import errno
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from fmrd.core.volume.plex import Plex
from fmrd.engine.plexes import reattach
from fmrd.engine.plexes.reattach import Reattacher
from fmrd.errors import Failed
from tests.engine.rig import REGION, SIZE, Rig, daemon
from tests.waiting import until

SOON = 0.02


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with daemon(tmp_path, return_seconds=SOON) as running:
        await running.make(size_bytes=4 * SIZE)
        await running.data.write(0, os.urandom(4 * SIZE))
        await running.data.flush()
        await running.service.mirror.clean()
        yield running


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Those that were begun, in seconds."""
    pauses: list[float] = []
    wait = reattach.Reattacher._still_away_after

    async def noted(self: reattach.Reattacher, seconds: float, plex: object, *, hears: bool) -> bool:
        pauses.append(seconds)
        return await wait(self, seconds, plex, hears=hears)  # type: ignore[arg-type]  # whatever it is, it is passed on

    monkeypatch.setattr(reattach.Reattacher, "_still_away_after", noted)
    return pauses


async def fail_b(rig: Rig) -> None:
    with rig.host.failing(rig.path("b"), "pwrite"):
        await rig.write_regions(7)


async def test_it_is_attached_again_by_what_it_missed(rig: Rig) -> None:
    await fail_b(rig)
    await rig.write_regions(9)
    await until(lambda: rig.plex("b").state == "ACTIVE")
    await rig.end_all()
    [task] = (await rig.verbs.task_list(all=True))["tasks"]
    assert (task["reason"]["code"], task["state"]) == ("fast", "done")
    assert task["done_regions"] <= SIZE // REGION, "the extent that was being written"
    await rig.stop()
    assert rig.same("a", "b")


async def test_it_is_tried_until_its_file_is_there_again(
    rig: Rig, caplog: pytest.LogCaptureFixture, pauses: list[float]
) -> None:
    away = rig.directory / "away"
    rig.path("b").rename(away)
    with caplog.at_level(logging.WARNING):
        await fail_b(rig)
        await until(lambda: len(pauses) >= 4)
        seen = len([r for r in caplog.records if "stays IOFAIL: plex_missing" in r.message])
    assert await rig.states() == "ACTIVE IOFAIL" and seen == 1, "the same reason is told once"
    away.rename(rig.path("b"))
    await until(lambda: rig.plex("b").state == "ACTIVE")
    await rig.stop()
    assert rig.same("a", "b")


async def test_a_plex_that_was_detached_stays_away(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waited for its return ends when the pause is over, and attaches nothing."""
    real, ended = Reattacher._bring_back, trio.Event()

    async def bring_back(self: Reattacher, plex: Plex, me: object) -> None:
        await real(self, plex, me)
        ended.set()

    monkeypatch.setattr(Reattacher, "_bring_back", bring_back)
    rig.registry.context.return_seconds = 10 * SOON  # so that it is taken away before
    await fail_b(rig)
    await rig.det("b")
    assert not rig.service.reattacher._waiting
    await ended.wait()
    assert rig.plex("b").state == "STALE"


async def test_a_plex_that_was_detached_while_its_attach_waited_for_a_verb_stays_away(rig: Rig) -> None:
    await rig.det("b")
    with pytest.raises(Failed, match="plex_state"):
        await rig.service.attacher.attach(rig.plex("b"), still=lambda: False)


async def test_not_while_the_volume_is_told_not_to(rig: Rig, pauses: list[float]) -> None:
    await rig.verbs.set(volume="data", settings={"auto_attach": "off"})
    await fail_b(rig)
    await until(lambda: len(pauses) >= 5)
    assert rig.plex("b").state == "IOFAIL" and not (await rig.verbs.task_list(all=True))["tasks"]
    await rig.verbs.set(volume="data", settings={"auto_attach": "on"})
    await until(lambda: rig.plex("b").state == "ACTIVE")


async def test_one_that_fails_each_time_waits_longer_and_longer(
    rig: Rig, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reattach, "STEADY", 1e6)  # however long this machine takes over it, it has not come back
    with rig.host.failing(rig.path("b"), "pwrite", "copy_from", code=errno.EIO):
        await rig.write_regions(7)
        await until(lambda: len(pauses) >= 4)
    assert pauses[:4] == [SOON, 2 * SOON, 4 * SOON, 8 * SOON]
    await until(lambda: rig.plex("b").state == "ACTIVE")


async def test_where_only_the_administrator_can_decide_it_is_left_alone(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    await rig.verbs.set(volume="data", settings={"auto_attach": "off"})  # until what lies there is another's
    await fail_b(rig)
    await until(lambda: rig.plex("b").uuid not in rig.service.mirror.opened)
    rig.path("b.dco").write_bytes(rig.path("a.dco").read_bytes())
    await rig.verbs.set(volume="data", settings={"auto_attach": "on"})
    await until(lambda: rig.plex("b").state == "ACTIVE" or "is not attached by itself" in caplog.text)
    assert await rig.states() == "ACTIVE IOFAIL"


async def away_at_a_start(tmp_path: Path, letters: str) -> None:
    """A volume whose disks were not there when it was started last, and of which nobody asked anything."""
    async with daemon(tmp_path) as rig:
        await rig.make()
        await rig.data.write(0, os.urandom(SIZE))
        await rig.data.flush()
    for letter in letters:
        rig.path(letter).rename(tmp_path / f"{letter}.away")


def arrives(tmp_path: Path, letter: str) -> None:
    (tmp_path / f"{letter}.away").rename(tmp_path / letter)


async def test_one_that_was_away_at_a_start_is_attached_when_it_comes(tmp_path: Path, pauses: list[float]) -> None:
    await away_at_a_start(tmp_path, "b")
    async with daemon(tmp_path, return_seconds=SOON) as rig:
        await until(lambda: len(pauses) >= 2)
        assert await rig.states() == "ACTIVE STALE"
        await rig.write_regions(3)
        arrives(tmp_path, "b")
        await until(lambda: rig.plex("b").state == "ACTIVE")
        await rig.stop()
        assert rig.same("a", "b")


async def test_one_that_was_away_at_a_start_and_is_detached_then_stays_away(
    tmp_path: Path, pauses: list[float]
) -> None:
    await away_at_a_start(tmp_path, "b")
    async with daemon(tmp_path, return_seconds=SOON) as rig:
        await until(lambda: len(pauses) >= 1)
        await rig.det("b")
        arrives(tmp_path, "b")
        await until(lambda: not rig.service.reattacher._waiting)
        assert rig.plex("b").state == "STALE"


async def test_a_volume_whose_disks_were_all_away_is_opened_when_one_comes(tmp_path: Path) -> None:
    await away_at_a_start(tmp_path, "ab")
    async with daemon(tmp_path, return_seconds=SOON) as rig:
        await until(lambda: rig.registry.units["data"].failure is not None)
        arrives(tmp_path, "a")
        await until(lambda: rig.registry.find("data") is not None)
        await rig.write_regions(3)
        arrives(tmp_path, "b")
        await until(lambda: rig.plex("b").state == "ACTIVE")
        await rig.stop()
        assert rig.same("a", "b")


async def test_a_print_says_what_is_still_being_opened(tmp_path: Path) -> None:
    """Who polls the socket at a boot would else take a volume that is not read yet for one that is not there."""
    async with daemon(tmp_path) as rig:
        await rig.make()
        assert (await rig.verbs.print())["opening"] == []
        rig.registry.arriving.found(["data", "more"])
        assert (await rig.verbs.print())["opening"] == ["data", "more"]
        rig.registry.arriving.read("more", {"more": 1})
        rig.registry.arriving.read("data", {})
        assert (await rig.verbs.print())["opening"] == ["more"]
        rig.registry.arriving.ended("more")
        assert (await rig.verbs.print())["opening"] == []
