"""Plans say what to do, verdicts what came of it: these frozen values are what a volume answers with.

Offsets and lengths are bytes. A gate may close while a plan is carried out: its generation tells, and what came of a
call issued before that counts for nothing.
"""

from dataclasses import dataclass
from typing import NamedTuple

from fmrd.core.maps.regionmap import RegionMap
from fmrd.core.volume.plex import Plex
from fmrd.errors import FmrdError


@dataclass(frozen=True)
class ReadPart:
    """These bytes, [offset, offset + length), are to be read from this plex, which is current there."""

    plex: Plex
    offset: int
    length: int


class Target(NamedTuple):
    """A target is one plex of a write: the (offset, length) ranges it takes, and the generation of its gate by then."""

    plex: Plex
    generation: int
    parts: tuple[tuple[int, int], ...]
    dropped: int = 0
    """The fdatasyncs that had failed on it by then: after another one, the write proves nothing of what it covers."""
    healing: tuple[range, ...] = ()
    """Regions in its map that the write covers whole: current again if the write succeeds."""


class WritePlan(NamedTuple):
    """A write plan says which plexes take which bytes. It is made by ``Volume.choose_targets``, in the step in which
    the maps of closed gates gain the regions, and is judged by ``Volume.end_write``.
    """

    offset: int
    length: int
    regions: range
    extents: range
    targets: tuple[Target, ...]


@dataclass(frozen=True)
class SyncTarget:
    """A sync target is one plex that is fdatasync'ed: what that would make durable is ``batch`` (None: nothing)."""

    plex: Plex
    generation: int
    batch: RegionMap | None
    cured: RegionMap | None = None
    """Suspect regions that the fdatasync would make durable, if no other fdatasync fails meanwhile."""
    dropped: int = 0
    """The fdatasyncs that had failed on the plex by then."""


@dataclass(frozen=True)
class SyncPlan:
    """A sync plan asks for one fdatasync on each of these plexes, begun after the plan was made."""

    targets: tuple[SyncTarget, ...]


@dataclass(frozen=True)
class Verdict:
    """A verdict says what came of a write or a flush. With ``settle`` nothing was decided yet: make durable what is
    current (sync, pages, record) and judge again, because only then is it known whether the last copy failed.
    """

    error: FmrdError | None = None
    settle: bool = False
    events: tuple[str, ...] = ()
    """Sentences for the log."""


FINE = Verdict()
"""Nothing went wrong."""
