"""A record is one commit as a value: a family's volumes and plexes, the epochs of their maps, its lineage and history.

Positions order records: a position is an *ancestor* of a record in the same lineage with an equal or higher sequence,
or of one whose history holds that lineage with an equal or higher last sequence (PROTOCOLS, "The home copy decides").
"""

from dataclasses import dataclass, field

from fmrd.core.geometry import MAX_PAGES, Geometry
from fmrd.core.reasons import Reason
from fmrd.core.records.parts import Column, Failure, Link, Mark, Position, Receiving, Taken
from fmrd.core.records.rows import Rows, Runs
from fmrd.core.stamps import Stamp
from fmrd.core.states import OPEN_GATE, PlexState

HISTORY_LIMIT = 512
"""Newest lineages kept; one named by a has(p) is kept beyond that. A position older than that is unknown."""


MOST_PAGES = 16 * MAX_PAGES
"""Of all bitmaps of a family together, 512 MiB of bits: as many as 16 of the longest volume that is, and of the others
as many as there are columns. Checked before any of them is made: a record may come from anywhere.
"""
MOST_WIDE_PAGES = 2 * MOST_PAGES
"""The same of a family with more than one bank of columns, which no older program reads."""


@dataclass(frozen=True)
class PlexRecord:
    """This is what a record says of one plex. ``map`` is the column of its map; ``dco_path`` is None where its copy of
    the DCO lies beside it; ``has`` is the last position known to be complete on that copy.
    """

    name: str
    uuid: str
    path: str
    dco_path: str | None
    state: PlexState
    map: Column
    has: Position | None = None
    stamp: Stamp | None = None
    reason: Reason = Reason.NONE
    """Why its map is what it is, where that is not simply 'missed writes': a reason code."""
    suspect: bool = False
    """An fdatasync failed here while it was the only copy: what the DRL holds is in doubt until rewritten."""
    excluded: bool = False
    """The administrator started the volume without it (--without), and is not asked again."""
    snap: bool = False
    """A snapshot plex: where it attaches it goes through SNAPATT to SNAPDONE."""
    failure: Failure | None = None
    """Why it is out, until it is attached again."""
    tail: int | None = None
    """Of a device that carries its copy of the DCO: where the locator lies. The device may become longer."""
    session: bool = False
    """It is behind somebody else, who may carry out yet what was sent there: nobody has recorded that this is over."""

    behind: int = 0
    """It may lag by so many bytes: writers do not wait for it (write-behind). 0: it may not."""

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_GATE


@dataclass(frozen=True)
class VolumeRecord:
    """This is what a record says of one volume: its measures in bytes, its settings, its plexes, and whose snapshot it
    is. ``rate`` is bytes a second for copies, 0 for no limit.
    """

    name: str
    uuid: str
    length_bytes: int
    region_bytes: int
    extent_bytes: int
    page_regions: int
    drl: Column
    plexes: tuple[PlexRecord, ...]
    fmr: bool = True
    rdpol: str = "select"
    io_timeout_seconds: float = 30.0
    rate: int = 0
    auto_attach: bool = True
    hot_extents: int = 1024
    """How many extents its DRL holds at most: the setting drl_extents."""
    taken: Taken | None = None
    """Of a snapshot; None of one that an older program took."""
    comment: str = ""
    """Whatever somebody wanted to note."""
    stopped: bool = False
    """Stopped by the administrator: the daemon does not open it by itself."""
    next_plex: int = 1
    settled: bool = False
    """Stopped in order: its maps are exact, its DRL is empty, and every stamp was taken."""
    snapshot_of: str | None = None
    link: Link | None = None
    """Of a snapshot, until it is cleared or goes back."""
    marks: tuple[Mark, ...] = ()
    receiving: Receiving | None = None
    """Of a snapshot that a stream is received into: it is no copy of anything."""
    carriers: tuple[str, ...] = ()
    """Plexes, by uuid, on which data came that was received: each goes when the others hold everything."""

    @property
    def is_instant(self) -> bool:
        """Tell whether it is a snapshot that reads from its original what it has not copied."""
        return self.link is not None and self.link.unkept is not None

    @property
    def by_stream(self) -> bool:
        """Tell whether a stream writes it: what that brought counts when it is noted, and not before."""
        return self.receiving is not None and not self.receiving.partial

    def plex(self, uuid: str) -> PlexRecord | None:
        return next((p for p in self.plexes if p.uuid == uuid), None)


@dataclass(frozen=True)
class Record:
    """A record is one commit: a volume and its snapshots, as they are at one moment. The original comes first."""

    family: str
    lineage: str
    sequence: int
    volumes: tuple[VolumeRecord, ...]
    history: tuple[Position, ...] = ()
    columns: int = 40
    next_epoch: int = 1
    extra: dict[str, object] = field(default_factory=dict)
    """Fields of the JSON body that this version does not know, carried along (compatible features)."""
    runs: Runs = ()
    """The rows of the copies, where they hold more than one bank of ``columns``."""

    @property
    def position(self) -> Position:
        return Position(self.lineage, self.sequence)

    @property
    def rows(self) -> Rows:
        """Return where the pages of columns lie, by this record."""
        return Rows(self.columns, self.runs)

    @property
    def pages(self) -> int:
        """Return how many pages a column of the longest volume has."""
        return max(geometry_of(v).pages for v in self.volumes)

    @property
    def volume(self) -> VolumeRecord:
        """Return the family's original volume (snapshots come after it)."""
        return self.volumes[0]

    @property
    def settled(self) -> bool:
        """Tell whether every volume was stopped in order."""
        return all(v.settled for v in self.volumes)

    def named(self, name: str) -> VolumeRecord | None:
        """Return the volume of that name, or None."""
        return next((v for v in self.volumes if v.name == name), None)

    def holder(self, plex_uuid: str) -> VolumeRecord | None:
        """Return the volume that a plex belongs to, or None."""
        return next((v for v in self.volumes if v.plex(plex_uuid) is not None), None)

    def snapshots_of(self, volume: VolumeRecord) -> tuple[VolumeRecord, ...]:
        return tuple(v for v in self.volumes if v.link is not None and v.snapshot_of == volume.name)

    def columns_of(self, volume: VolumeRecord) -> tuple[Column, ...]:
        """Return the column of every bitmap of a volume: its DRL, the maps of its plexes, and what it tracks for its
        snapshots, its original or its marks.
        """
        own = () if volume.link is None else (volume.link.own,)
        links = [s.link for s in self.snapshots_of(volume) if s.link is not None]
        unkept = tuple(link.unkept for link in links if link.unkept is not None)
        marks = (mark.column for mark in volume.marks)
        return (volume.drl, *(p.map for p in volume.plexes), *own, *(link.origin for link in links), *unkept, *marks)

    def check_size(self) -> None:
        """ValueError where it tells of nothing, or of more than anybody should make room for."""
        pages = sum(len(self.columns_of(v)) * geometry_of(v).pages for v in self.volumes)
        most = MOST_WIDE_PAGES if self.runs else MOST_PAGES
        if not 0 < pages <= most:
            raise ValueError(f"not a record: its bitmaps have {pages} pages, 1 to {most} can be")
        if self.runs and self.rows.shortest() < self.pages:
            raise ValueError("not a record: some bank has fewer rows than the longest volume has pages")

    def knows(self, position: Position | None) -> bool:
        """Tell whether ``position`` is an ancestor of this record, or the record itself; None is neither."""
        if position is None:
            return False
        if position.lineage == self.lineage:
            return position.sequence <= self.sequence
        return any(p.lineage == position.lineage and position.sequence <= p.sequence for p in self.history)


def trimmed(history: tuple[Position, ...], named: set[str]) -> tuple[Position, ...]:
    """Return the newest HISTORY_LIMIT lineages, and any older one that is named by the has(p) of a plex."""
    old, new = history[:-HISTORY_LIMIT], history[-HISTORY_LIMIT:]
    return tuple(p for p in old if p.lineage in named) + new


def geometry_of(volume: VolumeRecord) -> Geometry:
    """Return the measures that a record states, not yet checked."""
    return Geometry(volume.length_bytes, volume.region_bytes, volume.extent_bytes, volume.page_regions)
