"""Rules of the dirty region log as switches: what it marks ahead, and what a cleaning may let go of."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from unittest.mock import patch

from fmrd.core.maps.drl import DirtyRegionLog
from fmrd.core.plans import SyncPlan
from fmrd.engine.serving.mirror import Mirror
from tests.sim.switches import without


@contextmanager
def _ahead_without_fdatasync() -> Iterator[None]:
    """Only the cleaning ahead of need is without it."""
    ahead: ContextVar[bool] = ContextVar("ahead", default=False)
    clean_ahead, real = Mirror.clean_ahead, Mirror._fdatasync

    async def clean(self: Mirror) -> bool:
        token = ahead.set(True)
        try:
            return await clean_ahead(self)
        finally:
            ahead.reset(token)

    async def fdatasync(self: Mirror, plan: SyncPlan) -> dict[str, Exception]:
        return {} if ahead.get() else await real(self, plan)

    with patch.object(Mirror, "clean_ahead", clean), patch.object(Mirror, "_fdatasync", fdatasync):
        yield


@contextmanager
def _pending_may_leave() -> Iterator[None]:
    """What is being written counts as idle, when a cleaning begins and when it ends."""
    begin = DirtyRegionLog.begin_clean

    def begin_clean(self: DirtyRegionLog, *arguments: Any) -> Any:
        with patch.object(self, "_pending", {}):
            return begin(self, *arguments)

    real = DirtyRegionLog.leave

    def leave(self: DirtyRegionLog, extents: range) -> None:
        before = dict(self._recent)
        real(self, extents)
        self._recent = {extent: before.get(extent, tick) for extent, tick in self._recent.items() if extent in before}

    with patch.object(DirtyRegionLog, "begin_clean", begin_clean), patch.object(DirtyRegionLog, "leave", leave):
        yield


@contextmanager
def _durable_ahead() -> Iterator[None]:
    """What is marked for a write to come counts as durable before its page was written."""
    real = DirtyRegionLog._mark_ahead

    def mark_ahead(self: DirtyRegionLog, extents: range) -> None:
        before = self.marked.bits.copy()
        real(self, extents)
        self.durable |= self.marked.bits & ~before

    with patch.object(DirtyRegionLog, "_mark_ahead", mark_ahead):
        yield


SWITCHES = {
    "2a fdatasync before clear, ahead of need too": _ahead_without_fdatasync,
    "2a who was written since a cleaning began stays": lambda: without(
        DirtyRegionLog, "end_clean", "self._recent.get(extent) != tick"
    ),
    "2a what is being written stays": _pending_may_leave,
    "1 what is marked ahead is not yet durable": _durable_ahead,
}
"""As those of switches.py."""
