"""What the volume answers: plans (what to do) and verdicts (what came of it), all frozen."""

from dataclasses import dataclass

from fmrd.core.maps.regionmap import RegionMap
from fmrd.core.volume.plex import Plex
from fmrd.errors import FmrdError


@dataclass(frozen=True)
class ReadPart:
    """[offset, offset + length) in bytes is to be read from this plex, which is current there."""

    plex: Plex
    offset: int
    length: int


@dataclass(frozen=True)
class Target:
    """One plex of a write: the byte ranges it takes, and the generation of its gate when it was chosen."""

    plex: Plex
    generation: int
    parts: tuple[tuple[int, int], ...]
    dropped: int = 0
    """The fdatasyncs that had failed on it by then: after another one, the write proves nothing of what it covers."""
    healing: tuple[range, ...] = ()
    """Regions in its map that the write covers whole: current again if the write succeeds."""


@dataclass(frozen=True)
class WritePlan:
    offset: int
    length: int
    regions: range
    extents: range
    targets: tuple[Target, ...]


@dataclass(frozen=True)
class SyncTarget:
    plex: Plex
    generation: int
    batch: RegionMap | None
    cured: RegionMap | None = None
    """Suspect regions that it would make durable ..."""
    dropped: int = 0
    """... if no other fdatasync fails meanwhile."""


@dataclass(frozen=True)
class SyncPlan:
    """One fdatasync on each of these plexes, begun after now."""

    targets: tuple[SyncTarget, ...]


@dataclass(frozen=True)
class Verdict:
    """What came of a write or a flush. ``settle``: nothing was decided yet; make what is current durable (sync, pages,
    record) and judge again, because only then is it known whether the failing copy was the last one.
    """

    error: FmrdError | None = None
    settle: bool = False
    events: tuple[str, ...] = ()
    """Sentences for the log."""
