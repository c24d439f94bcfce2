"""The home copy takes no writes just when a verdict needs it: the caller is told, and no copy differs unseen."""

import pytest

from fmrd.errors import Failed
from tests.engine.rig import REGION, Rig


async def test_a_write_is_judged_also_when_the_home_copy_fails_in_between(rig: Rig) -> None:
    """It failed on the one durable copy and succeeded on one just copied: to choose, the home copy must know more."""
    await rig.make()
    await rig.write_regions(3)
    copied = rig.plex("b")
    copied.young.mark(range(3, 4))
    copied.on_home[3] = 1
    home = rig.service.mirror.store.home.file.path
    with rig.host.failing(rig.path("a"), "pwrite"), rig.host.failing(home, "dco_write"), pytest.raises(Failed):
        await rig.write_regions(3, byte=b"x")
    assert 3 in copied.map, "a keeps the region, and it is known that b differs"
    await rig.end(await rig.att("b"))
    await rig.stop()
    assert rig.same("a", "b")


async def test_a_write_that_fails_on_the_one_durable_copy_makes_another_one_durable_first(rig: Rig) -> None:
    """Then that one holds it, and the write has succeeded."""
    await rig.make()
    await rig.write_regions(3)
    copied = rig.plex("b")
    copied.young.mark(range(3, 4))
    copied.on_home[3] = 1
    with rig.host.failing(rig.path("a"), "pwrite"):
        await rig.write_regions(3, byte=b"x")
    assert await rig.states() == "IOFAIL ACTIVE"
    assert await rig.data.read(3 * REGION + 512, 1) == b"x"
