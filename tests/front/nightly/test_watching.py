"""The daemon looks whether a night is missing: it tells so once a period, over restarts, and knows how they went."""

from pathlib import Path

import pytest
import trio

from fmrd.core.json_object import Json
from fmrd.engine.events.ring import Event, Events
from fmrd.front.ctl.glance.health import Health, Judged, Level
from fmrd.front.nightly.notes import NAME, load
from fmrd.front.nightly.shown import with_nights
from fmrd.front.nightly.watching import Nights

DAY, HOUR = 86400.0, 3600.0


class World:
    """A clock, a directory of plans, and the events that were told."""

    def __init__(self, base: Path) -> None:
        self.now = 1000 * DAY
        self.plans, self.state = base / "fmrd.d", base / "state"
        self.plans.mkdir()
        self.state.mkdir()
        self.told: list[Event] = []
        self.boot()
        self.write('[snapshot]\ninto = "/srv/snapshots"\n')

    def boot(self) -> None:
        events = Events(lambda: self.now)
        events.listeners.append(self.told.append)
        self.nights = Nights(self.state, self.plans, events)

    def write(self, text: str, name: str = "data") -> None:
        path = self.plans / f"{name}.toml"
        path.write_text(text)
        path.chmod(0o600)

    def kinds(self) -> list[str]:
        found = [event.kind for event in self.told]
        self.told.clear()
        return found

    async def look(self, after: float) -> list[str]:
        self.now += after
        await self.nights.look()
        return self.kinds()

    async def good(self) -> None:
        await self.nights.note(volume="data", begun=int(self.now), snapshot="s", sent="s")
        self.kinds()

    async def of_data(self) -> Json:
        [night] = (await self.nights.told())["nights"]
        return dict(night)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_night_is_missed_a_period_and_its_grace_after_the_last_good_one(world: World) -> None:
    await world.good()
    assert await world.look(30 * HOUR - 1) == []
    assert not (await world.of_data())["missed"]
    assert await world.look(1) == ["night_missed"]
    told = await world.of_data()
    assert told["missed"] and "for 30 hour(s)" in told["cause"] and "fmrd-nightly@data.timer" in told["action"]
    assert await world.look(HOUR) == [], "once a period"
    assert await world.look(23 * HOUR) == ["night_missed"]
    await world.good()
    assert await world.look(1) == []


async def test_a_plan_that_never_ran_is_missed_too(world: World) -> None:
    assert await world.look(0) == []
    assert await world.look(30 * HOUR) == ["night_missed"]
    assert "since there is a plan" in (await world.of_data())["cause"]


async def test_nights_in_which_the_machine_was_off_are_told_when_it_is_on_again(world: World) -> None:
    await world.good()
    world.now += 3 * DAY
    world.boot()
    assert await world.look(0) == ["night_missed"]
    world.boot()
    assert await world.look(1) == [], "that was told, before a restart"


async def test_a_night_that_failed_is_told_at_once_and_is_not_good(world: World) -> None:
    await world.good()
    world.now += DAY
    await world.nights.note(volume="data", begun=int(world.now), problem="send: the line was cut")
    assert world.kinds() == ["night_failed"]
    told = await world.of_data()
    assert (told["problem"], told["sent"], told["missed"]) == ("send: the line was cut", "s", False)
    assert await world.look(6 * HOUR) == ["night_missed"]


async def test_a_clock_that_was_wrong_hides_no_missed_night(world: World) -> None:
    await world.look(0)
    await world.nights.note(volume="data", begun=int(world.now + 1000 * DAY))
    world.kinds()
    assert await world.look(30 * HOUR) == ["night_missed"]


async def test_a_plan_that_cannot_be_read_is_told_by_status(world: World) -> None:
    world.write("[night]\n")
    told = await world.of_data()
    assert told["plan_problem"].startswith("bad_conf: ") and told["due"] is None
    [judged] = with_nights([_well("data")], [told], all_of_them=True)
    assert judged.health is Health.OVERDUE and judged.level is Level.UNWELL
    assert "cannot be heeded" in judged.findings[0].cause


async def test_a_plan_of_no_volume_is_a_line_of_its_own(world: World) -> None:
    told = await world.of_data()
    assert with_nights([_well("data")], [told], all_of_them=True) == [_well("data")]
    [other, stray] = with_nights([_well("other")], [told], all_of_them=True)
    assert other == _well("other") and stray.name == "data" and "no such volume" in stray.findings[0].cause
    assert with_nights([_well("other")], [told], all_of_them=False) == [_well("other")]


async def test_what_is_worse_than_a_missed_night_stays_in_front(world: World) -> None:
    world.now += 1
    told = await world.of_data() | {"missed": True, "cause": "c", "action": "a"}
    bad = Judged("data", Health.LOST, 1, 0, 0)
    [judged] = with_nights([bad], [told], all_of_them=True)
    assert judged.health is Health.LOST and [each.cause for each in judged.findings] == ["c"]


@pytest.mark.parametrize("text", ["", "[]", '{"data": 3}', '{"data": {"known": "x"}}', "{" * 5000, '{"../x": {}}'])
async def test_notes_that_are_none_are_forgotten(world: World, text: str) -> None:
    (world.state / NAME).write_text(text)
    assert load(world.state) == {}
    assert await world.look(0) == []
    assert list(load(world.state)) == ["data"]


async def test_a_disk_that_takes_no_notes_ends_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    (world.state / f"{NAME}.new").mkdir()
    await world.good()
    assert (await world.of_data())["good"] is not None, "it is known until the daemon ends"
    assert "cannot be written" in caplog.text


async def test_it_looks_by_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fmrd.front.nightly.watching.LOOK_SECONDS", 0.001)
    await world.good()
    world.now += 2 * DAY
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.nights.run)
        for _ in range(2):
            while not world.told:
                await trio.lowlevel.checkpoint()
            assert world.kinds() == ["night_missed"]
            world.now += DAY
        nursery.cancel_scope.cancel()


def _well(name: str) -> Judged:
    return Judged(name, Health.OK, 1, 1, 1 << 20)
