"""A disk or a mount that comes is heard of: what waits for it looks at once, however long its pause would be."""

import os
from pathlib import Path

import pytest
import trio

from fmrd.engine.plexes import reattach
from fmrd.engine.plexes.disks_come import Coming
from tests.engine.rig import SIZE, daemon
from tests.engine.test_reattach import SOON, arrives, away_at_a_start, fail_b
from tests.waiting import until

LONG = 3600.0


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each who hears would wait; a wait never ends by itself."""
    begun: list[float] = []
    heard_or = Coming.heard_or

    async def noted(self: Coming, event: trio.Event, seconds: float) -> None:
        begun.append(seconds)
        await heard_or(self, event, LONG)

    monkeypatch.setattr(Coming, "heard_or", noted)
    return begun


async def test_a_plex_that_was_away_is_attached_when_its_disk_is_told_of(tmp_path: Path, waits: list[float]) -> None:
    await away_at_a_start(tmp_path, "b")
    async with daemon(tmp_path, return_seconds=SOON) as rig:
        await until(lambda: len(waits) == 1)
        await rig.write_regions(3)
        arrives(tmp_path, "b")
        assert await rig.states() == "ACTIVE STALE"
        answer = await rig.verbs.recover(waiting=True)
        assert answer["tasks"] == [] and "tried now" in answer["notice"]
        await until(lambda: rig.plex("b").state == "ACTIVE")
        await rig.stop()
        assert rig.same("a", "b")


async def test_a_hint_too_many_costs_a_look_and_no_more(tmp_path: Path, waits: list[float]) -> None:
    await away_at_a_start(tmp_path, "b")
    async with daemon(tmp_path, return_seconds=SOON) as rig:
        for number in range(1, 4):
            await until(lambda number=number: len(waits) == number)  # type: ignore[misc]  # bound in this round
            await rig.verbs.recover(waiting=True)
        assert await rig.states() == "ACTIVE STALE"


async def test_a_volume_whose_disks_were_all_away_is_opened(tmp_path: Path, waits: list[float]) -> None:
    await away_at_a_start(tmp_path, "ab")
    async with daemon(tmp_path, return_seconds=SOON) as rig:
        await until(lambda: rig.registry.units["data"].failure is not None and waits)
        arrives(tmp_path, "a")
        arrives(tmp_path, "b")
        await rig.verbs.recover(waiting=True)
        await until(lambda: rig.registry.find("data") is not None)


async def test_what_was_detached_stays_away(tmp_path: Path, waits: list[float]) -> None:
    async with daemon(tmp_path, return_seconds=SOON) as rig:
        await rig.make()
        await rig.det("b")
        await rig.verbs.recover(waiting=True)
        await rig.write_regions(1)
        assert await rig.states() == "ACTIVE STALE"


async def test_one_that_failed_in_use_waits_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bool] = []
    wait = reattach.Reattacher._still_away_after

    async def noted(self: reattach.Reattacher, seconds: float, plex: object, *, hears: bool) -> bool:
        heard.append(hears)
        return await wait(self, seconds, plex, hears=hears)  # type: ignore[arg-type]  # whatever it is, it is passed on

    monkeypatch.setattr(reattach.Reattacher, "_still_away_after", noted)
    async with daemon(tmp_path, return_seconds=SOON) as rig:
        await rig.make()
        await rig.data.write(0, os.urandom(SIZE))
        await fail_b(rig)
        await until(lambda: rig.plex("b").state == "ACTIVE")
    assert heard == [False]


async def test_a_stop_ends_the_wait(tmp_path: Path, waits: list[float]) -> None:
    await away_at_a_start(tmp_path, "b")
    async with daemon(tmp_path, return_seconds=SOON) as rig:
        await until(lambda: len(waits) == 1)
        with trio.fail_after(20):
            await rig.stop()
