"""Requests share one round of work: whoever gets the lock serves all who had asked by then.

A request returns after a round that began after it came, so a round under way is never joined: what it wrote, or
synced, was taken before. Four things are grouped so: page writes, records, fdatasyncs, and what an original keeps for
an instant snapshot before it is written.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import trio

from fmrd.errors import FmrdError


@dataclass
class Batch:
    """A batch is requests that will be served together; what they ask for is in the fields of a subclass."""

    done: bool = False
    error: FmrdError | None = None


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
        the batch is then served by the next of those who wait for it.
        """
        async with self.lock:
            if not batch.done:
                self.next = self._new()
                try:
                    await work(batch)
                except FmrdError as error:
                    batch.error = error
                batch.done = True
        return batch.error
