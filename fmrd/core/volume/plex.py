"""This module holds a plex as its volume sees it: gate, map, what is not fdatasync'ed, what the home copy says of it.

There are three layers of truth about a region r of a plex p, from weak to strong:
*current*: the gate is open and r is not in the map;
*synced*: current, and an fdatasync that began after r was copied has ended (r is not in unsynced);
*durably current*: synced, and the home copy says so too: its record has the gate open, and its page of p's map has
lost r. Only a durably current copy may be the one that everything else relies on (rule 9).
"""

from collections.abc import Iterable

from bitarray import bitarray, frozenbitarray
from bitarray.util import ones, zeros

from fmrd.core.geometry import Geometry
from fmrd.core.maps.bitmap import Bitmap
from fmrd.core.maps.partly import PartMap
from fmrd.core.maps.regionmap import RegionMap
from fmrd.core.record import PlexRecord
from fmrd.core.records.parts import Failure, Position
from fmrd.core.stamps import Stamp
from fmrd.core.states import OPEN_GATE, PROMOTED, PlexState


class Plex(Bitmap):
    """A plex is a bitmap, what it misses, with a gate. Gate and map are changed only in synchronous steps: by its
    volume's methods, and by the decisions over a family. *Unsynced* is ``young`` and ``syncing``.
    """

    def __init__(self, record: PlexRecord, geometry: Geometry, *, full: bool = True) -> None:
        super().__init__(record.map, geometry, full=False)
        self.map: PartMap = PartMap(geometry.regions, geometry.page_regions, geometry.region_bytes, full=full)
        self.name = record.name
        self.uuid = record.uuid
        self.path = record.path
        self.dco_path = record.dco_path
        self.state = record.state
        self.has: Position | None = record.has
        self.stamp: Stamp | None = record.stamp
        self.reason = record.reason
        self.excluded = record.excluded
        self.snap = record.snap
        self.tail = record.tail
        self.session = record.session  # it is far
        self.behind = record.behind
        self.trails, self.room = False, 0
        """It may lag (lagging.py) from now on, by ``room`` more regions; those of ``sent`` are on their way there."""
        self.sent: set[int] = set()
        self.lags_since: float | None = None
        self.young = RegionMap(geometry.regions, geometry.page_regions)
        self.syncing: list[RegionMap] = []
        self.home_open = False
        self.suspect: RegionMap | None = None
        self.rewritten = RegionMap(geometry.regions, geometry.page_regions)
        """Suspect regions that were written whole since: the next fdatasync that succeeds ends the suspicion. They are
        not unsynced: that would put them into the map on the home copy, where this may be their only plex.
        """
        self.generation = 0
        self.dropped = 0
        """How many fdatasyncs have failed: what was written before one of them ended may be lost."""
        self.failure: Failure | None = record.failure
        """Why its gate closed by itself, or could not open; whoever has a clock fills in when."""
        self.reads = self.read_bytes = self.writes = self.write_bytes = self.errors = 0

    @property
    def is_open(self) -> bool:
        """Tell whether the gate is open, so that the plex takes part in I/O."""
        return self.state in OPEN_GATE

    @property
    def lags(self) -> bool:
        """Tell whether writers do not wait for it: while it attaches they do."""
        return self.trails and self.state is PlexState.ACTIVE

    @property
    def attaching(self) -> bool:
        """Tell whether it is on its way to be in sync (TEMP or SNAPATT)."""
        return self.state in PROMOTED

    def is_current(self, regions: range) -> bool:
        """Tell whether it is open and misses none of these regions; they need not be durable."""
        return self.is_open and not self.map.touches(regions)

    def in_doubt(self, within: range) -> bitarray:
        """Return which of these regions are not durably current on this plex, as bits counted from the first."""
        if not self.is_open or not self.home_open:
            return ones(len(within))
        doubt = zeros(len(within)) if self.home_blank else self.on_home[within.start : within.stop]
        for part in self._doubtful():
            if not part.blank:
                doubt |= part.these(within)
        return doubt

    def add_doubt_to(self, bits: bitarray) -> None:
        """Set in ``bits``, which are as many as the regions, where this plex is not durably current."""
        if not self.is_open or not self.home_open:
            bits.setall(1)
            return
        if not self.home_blank:
            bits |= self.on_home
        for part in self._doubtful():
            part.add_to(bits)

    def doubts(self, regions: range) -> bool:
        """Tell whether this plex is not durably current in any of these regions."""
        if not self.is_open or not self.home_open:
            return True
        on_home = not self.home_blank and self.on_home.find(1, regions.start, regions.stop) != -1
        return on_home or any(part.touches(regions) for part in self._doubtful())

    def _doubtful(self) -> list[RegionMap]:
        """Beside what the home copy may hold."""
        return [self.map, self.young, *self.syncing, *([self.suspect] if self.suspect is not None else [])]

    def is_durable(self, region: int) -> bool:
        """Tell whether it is durably current in this one region."""
        return self.is_kept(region) and not (self.suspect is not None and region in self.suspect)

    def is_kept(self, region: int) -> bool:
        """Tell whether this region was copied here durably, and the home copy knows. Later writes may be suspect."""
        return (
            self.is_open
            and self.home_open
            and region not in self.map
            and not self.is_unsynced(region)
            and (self.home_blank or not self.on_home[region])
        )

    def is_unsynced(self, region: int) -> bool:
        """Tell whether this region was copied here, and no fdatasync that began later has succeeded."""
        return region in self.young or any(region in batch for batch in self.syncing)

    @property
    def settled(self) -> bool:
        """Tell whether it is durably current in every region, so that it may be promoted (rule 6)."""
        return not self.doubts(range(self.geometry.regions))

    # What the DCO holds of the map

    def page(self, page: int) -> frozenbitarray:
        """Return the map as the DCO must hold it: map | unsynced, and no bit less than the home copy has while the home
        copy's record still names the plex closed (PROTOCOLS, "Closed on H until its copy is rewritten").
        """
        content = self.map.page(page)
        start = page * self.geometry.page_regions
        span = slice(start, start + len(content))
        for part in (self.young, *self.syncing):
            if not part.blank:
                content = content | part.bits[span]
        if not self.home_open and not self.home_blank:
            content = content | self.on_home[span]
        return content

    def home_opened(self) -> None:
        """The home copy's record names the plex open from now on, so its pages may lose bits: those are due."""
        if not self.home_blank:
            self.map.touch_surplus(self.on_home)

    # fdatasync

    def drained(self, regions: range) -> None:
        """These regions were copied or healed: they are current now, and not durable before the next fdatasync."""
        self.map.clear(regions)
        if self.suspect is not None:
            self.suspect.clear(regions)
        self.young.mark(regions)

    def drained_these(self, start: int, bits: bitarray) -> None:
        """The regions that ``bits`` names, counted from ``start``, were copied: as ``drained``."""
        self.map.clear_these(start, bits)
        if self.suspect is not None:
            self.suspect.clear_these(start, bits)
        self.young.mark_these(start, bits)

    def begin_sync(self) -> RegionMap | None:
        """An fdatasync begins. Return what is unsynced now, and durable if it succeeds; None where nothing is."""
        if not self.young.any():
            return None
        batch = self.young
        self.young = RegionMap(self.geometry.regions, self.geometry.page_regions)
        self.syncing.append(batch)
        return batch

    def end_sync(self, batch: RegionMap | None, *, succeeded: bool) -> None:
        """That fdatasync has ended. Where it failed, the batch is unsynced again."""
        if batch is None or batch not in self.syncing:
            return  # the gate closed meanwhile, and the batch went into the map
        self.syncing.remove(batch)
        if succeeded:
            self.map.touched |= batch.touched
        else:
            self.young.union(batch)

    def begin_cure(self) -> RegionMap | None:
        """Beside begin_sync, return the suspect regions that would become durable; None where there are none."""
        if not self.rewritten.any():
            return None
        cured = self.rewritten
        self.rewritten = RegionMap(self.geometry.regions, self.geometry.page_regions)
        return cured

    def end_cure(self, cured: RegionMap | None) -> bool:
        """That fdatasync succeeded, and none has failed since it began. Return whether this ended the suspicion."""
        if self.suspect is None:
            return False
        for run in cured.runs() if cured is not None else ():
            self.suspect.clear(run)
        if self.suspect.any():
            return False
        self.suspect = None
        return True

    def close_gate(
        self, state: PlexState, *inherited: bitarray, runs: Iterable[range] = (), why: object = None
    ) -> None:
        """Close the gate by rule 4: the map gains whatever is not surely on the plex; it is never replaced.
        ``inherited`` are such regions as bits, ``runs`` such runs of them.
        """
        self.state = state
        self.failure = Failure.by(why)
        self.generation += 1
        self.map.union(self.young)
        for batch in self.syncing:
            self.map.union(batch)
        for bits in inherited:
            self.map.union(bits)
        for run in runs:
            self.map.mark(run)
        if self.suspect is not None:
            self.map.union(self.suspect)
        self.young = RegionMap(self.geometry.regions, self.geometry.page_regions)
        self.syncing = []
        self.suspect = None
        self.rewritten.empty()
        self.sent.clear()
        self.map.forget_blocks()

    def grow(self, geometry: Geometry, *, missed: bool) -> None:
        """Follow a volume that became longer; with ``missed`` the new regions here are not as on the others."""
        super().grow(geometry, missed=missed)
        for part in (self.young, self.rewritten, *self.syncing, *([] if self.suspect is None else [self.suspect])):
            part.grow(geometry.regions, full=False)

    def record(self) -> PlexRecord:
        """Return what a record says of it now."""
        return PlexRecord(
            self.name, self.uuid, self.path, self.dco_path, self.state, self.column, self.has, self.stamp,
            self.reason, self.suspect is not None and self.suspect.any(), self.excluded, self.snap, self.failure,
            self.tail, self.session, self.behind,
        )  # fmt: skip
