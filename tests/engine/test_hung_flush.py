"""A flush that was given up on a last copy: until it has landed no other one proves anything, for the kernel tells of
what it lost once, and it may be that one that is told.
"""

from pathlib import Path

import pytest

from fmrd.errors import Failed
from tests.engine.rig import daemon

SOON = 0.3
EXTENT = 4 << 20
"""All of it is suspect then."""


async def test_no_flush_proves_anything_while_an_earlier_one_may_be_told_of_the_loss(tmp_path: Path) -> None:
    async with daemon(tmp_path, io_timeout_seconds=SOON) as rig:
        await rig.make("a")
        await rig.data.write(0, b"x" * EXTENT)
        with rig.host.hanging(rig.path("a"), "fdatasync", first_only=True):
            with pytest.raises(Failed, match="suspect"):
                await rig.data.flush()
            await rig.data.write(0, b"y" * EXTENT)
            with pytest.raises(Failed, match="suspect"):
                await rig.data.flush()
        await rig.service.mirror.opened[rig.plex("a").uuid].lane.idle()
        await rig.data.write(0, b"z" * EXTENT)
        await rig.data.flush()
