"""Byte-range exclusion on one volume (rule 10).

One lock covers what three would: overlapping ranges exclude each other, disjoint ones do not. A write holds its own
bytes, a resync copy or a repair the bytes of its whole regions, and whoever must see the volume at rest (det, stop,
break-off) all bytes. Waiters are served in the order they came, so neither side starves the other.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

Span = tuple[int, int]


class Ranges:
    """Spans are half open, in bytes."""

    def __init__(self) -> None:
        self._held: list[Span] = []
        self._waiting: list[tuple[Span, trio.Event]] = []

    @asynccontextmanager
    async def hold(self, start: int, stop: int) -> AsyncIterator[None]:
        """Exclude every other holder of any of these bytes."""
        span = (start, stop)
        if _meets(span, self._held) or any(_overlap(span, s) for s, _ in self._waiting):
            await self._wait(span)
        else:
            self._held.append(span)
        try:
            yield
        finally:
            self._held.remove(span)
            self._wake()

    @property
    def holders(self) -> int:
        return len(self._held)

    async def _wait(self, span: Span) -> None:
        entry = (span, trio.Event())
        self._waiting.append(entry)
        try:
            await entry[1].wait()
        except trio.Cancelled:
            if entry in self._waiting:
                self._waiting.remove(entry)
            else:
                self._held.remove(span)
            self._wake()
            raise

    def _wake(self) -> None:
        """Hand the bytes to whoever may have them now, in order; one that must wait holds up those behind it."""
        if not self._waiting:
            return
        ahead: list[Span] = []
        left = []
        for span, event in self._waiting:
            if _meets(span, self._held) or _meets(span, ahead):
                ahead.append(span)
                left.append((span, event))
            else:
                self._held.append(span)
                event.set()
        self._waiting = left


def _overlap(a: Span, b: Span) -> bool:
    return a[0] < b[1] and b[0] < a[1]


def _meets(span: Span, others: list[Span]) -> bool:
    return any(span[0] < other[1] and other[0] < span[1] for other in others)
