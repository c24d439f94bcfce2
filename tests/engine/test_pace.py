"""How much of its time the daemon gives to a plex that lags."""

from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from fmrd.engine.far import pace
from fmrd.engine.far.pace import Pace
from fmrd.engine.serving.load import Load


def plex(*, room: int, bound: int = 100, regions: int = 1000) -> Any:
    return SimpleNamespace(room=room, behind=bound * 4096, geometry=SimpleNamespace(region_bytes=4096, regions=regions))


async def waited(paced: Pace) -> float:
    began = trio.current_time()
    await paced.turn()
    return trio.current_time() - began


@pytest.fixture
def load() -> Load:
    return Load()


async def test_beside_an_application_it_has_a_small_part_of_the_time(autojump_clock: MockClock, load: Load) -> None:
    paced, all_of_it = Pace(load), 0.0
    for _ in range(50):
        load.writes.ended(4096, 1000)
        paced.took(plex(room=90), 0.0005, 0.0)
        all_of_it += await waited(paced)
    assert all_of_it == pytest.approx(50 * 0.0005 * pace.ALL_OF_IT * (1 / pace.SHARE - 1))


async def test_a_pause_is_never_long(autojump_clock: MockClock, load: Load) -> None:
    paced = Pace(load)
    load.requests = 1
    paced.took(plex(room=90), 5.0, 0.0)
    assert await waited(paced) == pytest.approx(pace.LONGEST_PAUSE_SECONDS)


@pytest.mark.parametrize(
    ("room", "lag_seconds", "bound"),
    [(49, 0.0, 100), (90, pace.LONG_SECONDS, 100), (0, 0.0, 100)],
    ids=["writers would soon wait", "it has lagged for long", "they do"],
)
async def test_where_it_is_urgent_it_does_not_wait(
    autojump_clock: MockClock, load: Load, room: int, lag_seconds: float, bound: int
) -> None:
    paced = Pace(load)
    load.requests = 1
    paced.took(plex(room=room, bound=bound), 1.0, lag_seconds)
    assert not await waited(paced)


async def test_nor_where_nothing_is_asked(autojump_clock: MockClock, load: Load) -> None:
    paced = Pace(load)
    paced.took(plex(room=90), 1.0, 0.0)
    assert not await waited(paced)


async def test_a_volume_that_may_be_left_behind_whole_keeps_no_writer_waiting(
    autojump_clock: MockClock, load: Load
) -> None:
    paced = Pace(load)
    load.requests = 1
    paced.took(plex(room=10, bound=100, regions=100), 0.001, 0.0)
    assert await waited(paced)
