"""The rules of far plexes as switches (switches.py says what a switch is)."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest.mock import patch

from bitarray.util import zeros

from fmrd.core.decisions import standing
from fmrd.core.maps.partly import PartMap
from fmrd.core.plans import Verdict
from fmrd.core.volume import lagging
from fmrd.core.volume.facts import VolumeFacts
from fmrd.core.volume.plex import Plex
from fmrd.engine import service
from fmrd.engine.far import cargo
from fmrd.engine.plexes import attach
from fmrd.engine.running import Running
from fmrd.engine.serving.life import RestLock
from fmrd.engine.serving.mirror import Mirror
from tests.sim.sessions import Sessions
from tests.sim.switches import without


@contextmanager
def _not_at_rest() -> Iterator[None]:
    async def enter(self: RestLock, timeout_seconds: float) -> bool:
        return True

    with patch.object(RestLock, "enter", enter), patch.object(RestLock, "leave", lambda self: None):
        yield


@contextmanager
def _cleaned_without_it() -> Iterator[None]:
    real = Mirror.sync

    async def sync(self: Mirror, only: Plex | None = None, *, lagging: bool = True) -> Verdict:
        return await real(self, only, lagging=False)

    with patch.object(Mirror, "sync", sync):
        yield


@contextmanager
def _once_lacked() -> Iterator[None]:
    real = PartMap.mark_bytes

    def mark_bytes(self: PartMap, region: int, start: int, stop: int) -> None:
        if region not in self:
            real(self, region, start, stop)

    with patch.object(PartMap, "mark_bytes", mark_bytes):
        yield


SWITCHES = {
    "a fence proves that a session is over": lambda: patch.object(Sessions, "proves", False),
    "what a dead daemon had under way is asked for": lambda: without(
        standing, "_judge", "plex.session and not (here.fenced or options.settled)"
    ),
    "... of a closed plex, too": lambda: without(Running, "must_be_over", "(plex.session and not lanes.known)"),
    "... of a last copy that gets a new one, too": lambda: without(
        attach, "redial", "running.must_be_over(plex, files)"
    ),
    "behind: after a crash it may lack what the log tells": lambda: patch.object(
        lagging, "may_lack", lambda plex, plexes, dirty: zeros(len(dirty))
    ),
    "behind: what is written meanwhile is sent again": lambda: without(lagging, "leave_behind", "region in plex.sent"),
    "behind: what is written to a region that it lacks is lacked, too": _once_lacked,
    "behind: what is written to just now is not read": lambda: patch.object(cargo, "_is_free", lambda *_: True),
    "behind: only what another one holds durably": lambda: patch.object(
        lagging, "faults", SimpleNamespace(held_elsewhere=lambda *_: True)
    ),
    "behind: what it took is durable before the log forgets": _cleaned_without_it,
    "behind: a flush reaches what nobody else has": lambda: patch.object(
        VolumeFacts, "to_flush", lambda self: [p for p in self.plexes if p.is_open and not p.lags]
    ),
    "behind: no rest while something is on its way": _not_at_rest,
    "behind: what lags no more is durable before the record says so": lambda: without(
        service, "write_behind", "await running.mirror.sync(plex)"
    ),
}
"""Rule -> a context manager that takes it out."""
