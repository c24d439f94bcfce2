"""Pauses: the daemon stands still for a while (SIGSTOP, a suspended machine), with whatever is under way, and goes on.

Its clock is its own (``Attention``), on top of a machine's that is simulated: that jumps. Disks that answer when the
daemon runs again were in time, so a plex that is well stays.
"""

from typing import TYPE_CHECKING

import trio
from trio.testing import MockClock

from fmrd.front.daemon.attention import Attention

if TYPE_CHECKING:
    from tests.sim.life import Life

SHORTEST_JUMP = 1e-6
"""In seconds: what is left to a deadline may be less than a clock can tell."""


def watched_clock() -> MockClock:
    """A clock that jumps to the next deadline where there is nothing else to do, as long as anybody looks: in steps of
    what a real loop sleeps. Its ``jump`` is the machine's: nobody has looked meanwhile.
    """
    clock = MockClock(autojump_threshold=0)
    attention = Attention(clock.current_time)

    def sleep() -> None:
        left = trio.lowlevel.current_statistics().seconds_to_next_deadline
        clock.jump(max(SHORTEST_JUMP, attention.deadline_to_sleep_time(attention.current_time() + left)))

    clock.current_time = attention.current_time  # type: ignore[method-assign]  # the class may not be derived from
    clock._autojump = sleep  # type: ignore[method-assign]  # as above
    return clock


async def pause(life: "Life") -> None:
    """It stands still somewhere in the middle of what others do, mostly for longer than any disk may take."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    for _ in range(life.rng.randrange(12)):
        await trio.lowlevel.checkpoint()
    seconds = life.rng.choice([3.0, 40.0, 90.0])
    life.schedule.note(f"stands still for {seconds} s")
    clock.jump(seconds)
