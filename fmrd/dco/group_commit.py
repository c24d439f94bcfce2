"""Requests share one round of work: one of those that wait serves all who had asked when it began.

A request returns after a round that began after it came, so a round under way is never joined: what it wrote, or
synced, was taken before. Four things are grouped so: page writes, records, fdatasyncs, and what an original keeps for
an instant snapshot before it is written.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import trio

from fmrd.errors import FmrdError


@dataclass
class Batch:
    """A batch is requests that will be served together; what they ask for is in the fields of a subclass."""

    done: bool = False
    error: FmrdError | None = None
    led: bool = False
    """One of those who wait for it has it served, or waits to be let do so."""
    over: trio.Event = field(default_factory=trio.Event)
    """Set when it was served, or when whoever led it went away."""


B = TypeVar("B", bound=Batch)


class GroupCommit(Generic[B]):
    """A group commit serves batches, one round at a time. ``lock`` is held for the length of a round; whoever must
    exclude rounds takes it, too.
    """

    def __init__(self, new: Callable[[], B]) -> None:
        self.lock = trio.Lock()
        self.next = new()
        """The batch that is still open: whoever comes adds to it, in one step, and then has it ``served``."""
        self._new = new

    async def served(self, batch: B, work: Callable[[B], Awaitable[None]]) -> FmrdError | None:
        """Return when a round has served this batch, with its error. What ``work`` raises but FmrdError flies on, and
        the batch is then served by another one of those who wait for it.

        One of them alone waits for the lock, and wakes the others all at once: handed from one to the next, it would
        reach the last of many late, and the next batch only after that.
        """
        while not batch.done:
            if batch.led:
                await batch.over.wait()
            else:
                await self._lead(batch, work)
        return batch.error

    async def _lead(self, batch: B, work: Callable[[B], Awaitable[None]]) -> None:
        batch.led = True
        try:
            async with self.lock:
                if self.next is batch:
                    self.next = self._new()
                try:
                    await work(batch)
                except FmrdError as error:
                    batch.error = error
                batch.done = True
        finally:
            batch.led = False
            over, batch.over = batch.over, trio.Event()
            over.set()
