"""How far a volume is from its end, and what is not done any more then."""

import trio
import trio.testing

from fmrd.engine.serving.life import Life, Lifetime
from tests.engine.rig import REGION, Rig


def test_only_what_is_leaving_comes_back() -> None:
    life = Lifetime()
    life.come_back()
    assert life.is_open and not life.ended
    life.leave()
    assert life.state is Life.LEAVING and not life.is_open
    life.come_back()
    assert life.is_open
    life.stop()
    for change in (life.leave, life.come_back):
        change()
        assert life.state is Life.STOPPING and life.stopping.is_set()
    life.end()
    assert life.ended and life.gone.is_set()


async def test_a_log_is_not_cleaned_when_its_volume_has_ended_meanwhile(rig: Rig) -> None:
    """Its files are closed. Whoever cleans waited for another one who did."""
    await rig.make(drl_extent_bytes=REGION)
    await rig.write_regions(1)
    mirror = rig.service.mirror
    mirror.volume.drl.hot_extents = 1
    rig.host.watch.log.clear()
    for clean in (mirror.clean_ahead, mirror.clean):
        async with trio.open_nursery() as nursery, mirror._clean_lock:
            nursery.start_soon(clean)
            await trio.testing.wait_all_tasks_blocked()
            mirror.life.state = Life.ENDED
        mirror.life.state = Life.OPEN
    assert not rig.host.watch.log and mirror.volume.drl.count == 1
    assert await mirror.clean_ahead() and mirror.volume.drl.count == 0


async def test_a_log_of_which_nothing_can_leave_says_so(rig: Rig) -> None:
    """Or it would be looked through again with every write."""
    await rig.make(drl_extent_bytes=REGION)
    await rig.write_regions(1)
    mirror = rig.service.mirror
    mirror.volume.drl.hot_extents = 1
    mirror.volume.drl.enter(range(1, 2))
    assert not await mirror.clean_ahead()
    mirror.volume.drl.leave(range(1, 2))
    assert await mirror.clean_ahead()
