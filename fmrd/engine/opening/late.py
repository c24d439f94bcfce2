"""A volume whose disks answer late, or come late, at a daemon's start is opened then.

For those that were asked, and have not answered, requests for it are held (still_opening.py): whoever has a file open
there waits as for any disk that does not answer, and would otherwise meet an error that the next moment mends.
"""

import contextlib
from collections.abc import Awaitable, Callable

import trio

from fmrd.engine.context import Context
from fmrd.engine.opening.homes import Home
from fmrd.engine.plexes.reattach import LONGEST_PAUSE_SECONDS
from fmrd.engine.serving.open_plex import Lanes
from fmrd.engine.units import LATE
from fmrd.errors import FmrdError


async def once_disks_answer(start: Callable[[], Awaitable[object]], home: Home, until: float) -> None:
    """Start a volume; where none of its disks answers in time, once more whenever one has, if that is before
    ``until``, by trio's clock. Raise what ``start`` does.
    """
    while True:
        try:
            await start()
        except FmrdError as error:
            if error.code not in LATE or not await _has_answered(home, until):
                raise
        else:
            return


async def once_disks_come(start: Callable[[], Awaitable[bool]], context: Context) -> None:
    """Its disks may come after the daemon: ``start`` is tried, less and less often, until it returns True."""
    pause, done = context.return_seconds, False
    while not done:
        await context.coming.heard_or(trio.Event(), pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        with contextlib.suppress(FmrdError, OSError):
            done = await start()


async def _has_answered(home: Home, until: float) -> bool:
    """Wait until a call returns that was given up on some plex of this family; return whether one has, in time."""
    late = [lanes for lanes in home.lanes.values() if _hangs(lanes)]
    with trio.move_on_at(until):
        async with trio.open_nursery() as nursery:
            for lanes in late:
                nursery.start_soon(_then_cancel, lanes, nursery.cancel_scope)
    return not all(map(_hangs, late))


def _hangs(lanes: Lanes) -> bool:
    """Calls of a volume that is open already come and go, and are no answer."""
    return lanes.data.hangs or lanes.dco.hangs


async def _then_cancel(lanes: Lanes, scope: trio.CancelScope) -> None:
    await lanes.idle()
    scope.cancel()
