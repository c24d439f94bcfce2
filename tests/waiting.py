"""Waiting for what no event tells, bounded: tests wait for conditions, never for time to pass."""

from collections.abc import Callable

import trio

LATE_SECONDS = 30.0
"""Longer than anything takes here."""


async def until(condition: Callable[[], bool]) -> None:
    """Returns when it holds; trio.TooSlowError if it never does."""
    with trio.fail_after(LATE_SECONDS):
        while not condition():  # noqa: ASYNC110  # what worker threads and files do sets no event
            await trio.sleep(0.001)
