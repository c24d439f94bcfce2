"""Each verb runs in a task of its own, to its end, also when whoever asked for it goes away."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from fmrd.errors import Failed

T = TypeVar("T")


class Apart:
    """This is for the daemon's life. ``closed`` is set when it goes down, and no verb begins any more."""

    def __init__(self) -> None:
        self.closed = False
        self._verbs = 0
        self._verb_ended = trio.Event()

    async def run(self, nursery: trio.Nursery, work: Callable[[], Awaitable[T]]) -> T:
        """Run a verb to its end in ``nursery``, and return its result or raise its error. Failed('stopping') when the
        daemon goes down. Whoever is cancelled in here does not cancel the verb.
        """
        if self.closed:
            raise Failed("stopping", "the daemon is going down")
        results: list[T] = []
        failures: list[Exception] = []
        done = trio.Event()

        async def go() -> None:
            try:
                results.append(await work())
            except Exception as error:  # handed to the caller below
                failures.append(error)
            finally:
                self._verbs -= 1
                self._verb_ended.set()
                self._verb_ended = trio.Event()
                done.set()

        self._verbs += 1
        nursery.start_soon(go)
        await done.wait()
        if failures:
            raise failures[0]
        if not results:
            raise Failed("stopping", "the daemon went down meanwhile")
        return results[0]

    async def all_ended(self) -> None:
        """Return when no verb is under way."""
        while self._verbs:
            await self._verb_ended.wait()
