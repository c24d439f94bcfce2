"""What happens is told once, in the step in which it does: to whoever listens, and to whoever asks later."""

import logging

import pytest
import trio

from fmrd.engine.events import ring
from fmrd.engine.events.ring import Event, Events
from fmrd.errors import Failed
from tests.engine.rig import Rig


@pytest.fixture
def told(rig: Rig) -> list[Event]:
    """All that happens in the rig."""
    found: list[Event] = []
    rig.registry.context.events.listeners.append(found.append)
    return found


def kinds(told: list[Event]) -> list[str]:
    return [event.kind for event in told]


async def test_a_plex_that_fails_is_one_warning_with_what_to_do(
    rig: Rig, told: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    await rig.make()
    with caplog.at_level(logging.WARNING), rig.host.failing(rig.path("b"), "pwrite"):
        await rig.write_regions(1)
    [failed] = [event for event in told if event.kind == "plex_failed"]
    assert (failed.volume, failed.plex, failed.details["errno"]) == ("data", "data-02", 5)
    assert "1 of 2 plexes left in sync" in failed.message and str(rig.path("b")) in failed.message
    assert failed.action.endswith("fmrctl plex att data data-02")
    lines = [r for r in caplog.records if "DEGRADED" in r.message]
    assert [(r.levelname, r.message) for r in lines] == [("WARNING", failed.line)]


async def test_a_detach_a_copy_and_its_end_are_told_in_their_order(rig: Rig, told: list[Event]) -> None:
    await rig.make()
    await rig.det("b")
    await rig.write_regions(1, 2)
    await rig.end(await rig.att("b"))
    assert kinds(told) == ["plex_detached", "plex_attached", "copy_started", "copy_done", "plex_in_sync", "volume_well"]
    began, ended = told[2].details["task"], told[3].details["task"]
    assert began["id"] == ended["id"] and ended["done_regions"] == ended["total_regions"] == 2
    assert ended["copied_bytes"] > 0 and ended["state"] == "done"
    assert [event.sequence for event in told] == list(range(1, 7))


async def test_a_copy_that_fails_or_is_aborted_is_told(rig: Rig, told: list[Event]) -> None:
    await rig.make()
    await rig.det("b")
    await rig.write_regions(1)
    with rig.host.failing(rig.path("b"), "copy_from"):
        await rig.end(await rig.att("b", full=True))
    assert "copy_failed" in kinds(told)
    await rig.service.releaser.wait(rig.plex("b"))
    task = await rig.att("b", full=True, rate=1)
    await rig.verbs.task_abort(id=task["id"])
    await rig.end(task)
    assert kinds(told).count("copy_aborted") == 1 and "volume_well" not in kinds(told)


async def test_a_volume_that_does_not_start_is_told(rig: Rig, told: list[Event]) -> None:
    await rig.make()
    unit = rig.registry.unit("data")
    rig.registry._failed(unit, Failed("no_current_plex", "nobody is there", "bring data-01 back"))
    [event] = told
    assert (event.kind, event.level, event.action) == ("volume_refused", "error", "bring data-01 back")
    assert event.details["code"] == "no_current_plex"
    unit.failure = None


async def test_who_comes_late_is_told_how_much_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "KEPT", 3)
    events = Events(lambda: 1.0)
    assert events.after(0) == ([], 0)
    for n in range(5):
        events.tell("verb", str(n))
    found, missed = events.after(1)
    assert ([event.message for event in found], missed) == (["2", "3", "4"], 1)
    assert events.after(4)[1] == 0 and events.after(5) == ([], 0)


async def test_a_disk_that_always_fails_drowns_nothing(caplog: pytest.LogCaptureFixture) -> None:
    times = iter([0.0, *[1.0] * 50, *[100.0] * 50])
    events = Events(lambda: next(times))
    events.tell("verb", "what somebody did")
    times = iter([n / 10 for n in range(1000)])
    with caplog.at_level(logging.WARNING):
        for n in range(100):
            events.note("data", f"read {n} failed")
        times = iter([200.0] * 10)
        events.note("data", "another minute")
    found = [event.message for event in events.after(0)[0]]
    assert len(found) == 1 + ring.NOTED + 1 + 1 and found[0] == "what somebody did"
    assert "there is more of this" in found[-2] and found[-1] == "volume data: another minute"
    assert len(caplog.records) == 101, "the log has all of it"


async def test_who_waits_wakes_with_the_next_one() -> None:
    events = Events(lambda: 1.0)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(events.more, 0)
            await trio.testing.wait_all_tasks_blocked()
            events.tell("verb", "now")
        await events.more(0)


async def test_what_is_told_is_one_short_line() -> None:
    event = Events(lambda: 1.0).tell("verb", "a\nb\x1b[31m" + "c" * 1000, action="d\ne")
    assert event.message.startswith("a\\x0ab\\x1b[31mc") and len(event.message) == ring.MOST_CHARACTERS
    assert event.action == "d\\x0ae"
