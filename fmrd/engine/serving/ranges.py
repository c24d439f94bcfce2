"""Byte ranges on one volume exclude each other (rule 10).

One lock covers what three would: overlapping ranges exclude each other, disjoint ones do not. A write holds its own
bytes, a resync copy or a repair the bytes of its whole regions, and whoever must see the volume at rest (det, stop,
break-off) all bytes. Waiters are served in the order they came, so neither side starves the other.
"""

from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import trio

Span = tuple[int, int]
Claim = tuple[Span, ...]
"""Spans in order that do not overlap, had all at once or not at all: whoever held one and waited for the next could
block one who waits for both."""


def overlap(a: Claim, b: Claim) -> bool:
    """Tell whether two claims share a byte."""
    if a[-1][1] <= b[0][0] or b[-1][1] <= a[0][0]:
        return False
    if len(a) > len(b):
        a, b = b, a
    for start, stop in a:
        behind = bisect_left(b, (stop,))
        if behind and b[behind - 1][1] > start:
            return True
    return False


class Ranges:
    """These are the ranges of one volume that somebody holds or waits for. Spans are half open, in bytes."""

    def __init__(self) -> None:
        self.held: list[Claim] = []
        self._waiting: list[tuple[Claim, trio.Event]] = []
        self._yielding: list[tuple[Claim, Callable[[], None]]] = []

    @asynccontextmanager
    async def hold(self, *spans: Span, wanted: Callable[[], None] | None = None) -> AsyncIterator[None]:
        """Exclude every other holder of any of these bytes. ``spans`` are in order, apart from each other. ``wanted``
        is called, once or more, when somebody waits for some of them: by then the holder may not yet know it has them.
        """
        with self._told(spans, wanted):
            await self.acquire(spans)
            try:
                yield
            finally:
                self.release(spans)

    @contextmanager
    def _told(self, spans: Claim, wanted: Callable[[], None] | None) -> Iterator[None]:
        if wanted is None:
            yield
            return
        yielding = (spans, wanted)
        self._yielding.append(yielding)
        try:
            yield
        finally:
            self._yielding.remove(yielding)

    async def acquire(self, spans: Claim) -> None:
        """Take the spans as ``hold`` does, for whoever lets go of them in a synchronous step."""
        if _meets(spans, self.held) or any(overlap(spans, c) for c, _ in self._waiting):
            await self._wait(spans)
        else:
            self.held.append(spans)

    def is_free(self, start: int, stop: int) -> bool:
        """Tell whether these bytes may be had at once: always where nothing is held, since then nobody waits."""
        span = ((start, stop),)
        for claim in self.held:  # asked by each write on a disk, where as many are held as are under way
            if start < claim[-1][1] and claim[0][0] < stop and (len(claim) == 1 or overlap(span, claim)):
                return False
        return not any(overlap(span, claim) for claim, _ in self._waiting)

    def take(self, spans: Claim) -> None:
        """Take the spans in the very step in which they were free."""
        self.held.append(spans)

    def release(self, spans: Claim) -> None:
        """Let go of the spans, and hand them to whoever may have them now."""
        self.held.remove(spans)
        self._wake()

    @property
    def holders(self) -> int:
        return len(self.held)

    async def _wait(self, claim: Claim) -> None:
        entry = (claim, trio.Event())
        self._waiting.append(entry)
        for held, wanted in self._yielding:
            if held is not claim and overlap(held, claim):
                wanted()
        try:
            await entry[1].wait()
        except trio.Cancelled:
            if entry in self._waiting:
                self._waiting.remove(entry)
            else:
                self.held.remove(claim)
            self._wake()
            raise

    def _wake(self) -> None:
        """Hand the bytes to whoever may have them now, in order; one that must wait holds up those behind it."""
        if not self._waiting:
            return
        ahead: list[Claim] = []
        left = []
        for claim, event in self._waiting:
            if _meets(claim, self.held) or _meets(claim, ahead):
                ahead.append(claim)
                left.append((claim, event))
            else:
                self.held.append(claim)
                event.set()
        self._waiting = left


def _meets(claim: Claim, others: Sequence[Claim]) -> bool:
    return any(overlap(claim, other) for other in others)
