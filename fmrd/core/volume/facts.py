"""These are the facts of a volume: its settings and measures, its plexes and their maps, the log, and what is recorded.

The rooms in which its steps are worked out (reading, writing, flushing, pages) know a volume by these. Gates, maps and
states change in ``Volume``'s steps, and in those of core/decisions; what is merely noted is set by whoever learns it:
stamps and positions of plexes, their counters, how many demotions are recorded.
"""

from collections.abc import Callable, Collection
from dataclasses import replace

from bitarray import frozenbitarray

from fmrd.core.maps.bitmap import Bitmap
from fmrd.core.maps.drl import DirtyRegionLog
from fmrd.core.reasons import Reason
from fmrd.core.record import VolumeRecord, geometry_of
from fmrd.core.records.parts import Column
from fmrd.core.states import PlexState, VolumeState
from fmrd.core.volume import faults
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.readpolicy import ReadPolicy
from fmrd.errors import Failed


class VolumeFacts:
    """The facts are plexes, their maps and the DRL. ``demotions`` counts what a verdict must find recorded (rule 5).

    ``tracks`` tells, by the uuid of a snapshot volume, what was written since its instant: on the original there is one
    map for each of its snapshots, on a snapshot its own. A mark has one, too, by the uuid of the mark.
    """

    def __init__(self, record: VolumeRecord, plexes: list[Plex], tracks: dict[str, Bitmap] | None = None) -> None:
        self.settings = record
        self.geometry = geometry_of(record)
        self.drl = DirtyRegionLog(self.geometry, record.hot_extents)
        self.plexes = plexes
        self.tracks = tracks if tracks is not None else {}
        self.unkept: dict[str, Bitmap] = {}
        """By the uuid of an instant snapshot of this volume: regions of which it could not keep the old data."""
        self.policy = ReadPolicy(record.rdpol)
        self.drl_on_home: dict[int, frozenbitarray] = {}
        self.demotions = 0
        self.demotions_recorded = 0
        self.owes_error = False
        """Something became suspect, and no flush has told of it since: then one must, also where it is suspect no more,
        because another plex was made equal to what could be read (flushing.to_tell).
        """
        self.held_until = 0
        """So many demotions must be recorded before anything is written: until then an instant snapshot that went is
        still there for a start, and nobody keeps old data for it any more.
        """
        self.gate_closed: Callable[[Plex], None] = lambda plex: None
        """Called with each plex whose gate closes, in that step; the engine begins its parting there."""
        self.left_behind: Callable[[Plex], None] = lambda plex: None
        """Called with each plex that lags, in the step in which it may have been left further behind."""

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def state(self) -> VolumeState:
        """Return SYNC while a plex still misses what was being written at a crash, else ACTIVE."""
        recovering = [p for p in self.plexes if p.state is PlexState.ACTIVE and p.reason is Reason.RECOVERY]
        return VolumeState.SYNC if any(p.map.any() for p in recovering) else VolumeState.ACTIVE

    def plex(self, name: str) -> Plex:
        """Return a plex by its name, path or uuid; Failed('plex_unknown') where there is none."""
        for plex in self.plexes:
            if name in (plex.name, plex.path, plex.uuid):
                return plex
        raise Failed("plex_unknown", f"volume {self.name} has no plex {name}")

    def open_plexes(self) -> list[Plex]:
        return [p for p in self.plexes if p.is_open]

    def to_flush(self) -> list[Plex]:
        """Return the open plexes that a flush must reach: all but one that lags, and that one, too, where it holds
        anything that nobody else holds durably: it took writes there that are nowhere else.
        """
        return [p for p in self.plexes if p.is_open and not (p.lags and faults.may_close(p, self.plexes))]

    # What the DCO holds of it

    def bitmaps(self) -> list[Bitmap]:
        """Return every map of the volume that has a column in the DCO; the DRL is not one."""
        return [*self.plexes, *self.tracks.values(), *self.unkept.values()]

    def columns(self) -> list[Column]:
        return [self.settings.drl, *(b.column for b in self.bitmaps())]

    def record(self) -> VolumeRecord:
        marks = tuple(replace(mark, column=self.tracks[mark.uuid].column) for mark in self.settings.marks)
        return replace(self.settings, plexes=tuple(p.record() for p in self.plexes), marks=marks)

    # Settings and length

    def configure(self, settings: VolumeRecord) -> None:
        """Take these settings over, the read policy with them; the caller commits. FastResync is ``set_fmr``'s."""
        self.settings = settings
        self.policy.policy = settings.rdpol
        self.drl.hot_extents = settings.hot_extents

    def set_fmr(self, on: bool) -> None:
        """Turn FastResync on or off; the caller commits. Off frees the maps: whatever is detached will be copied in
        full, even when it is on again by then.
        """
        self.settings = replace(self.settings, fmr=on)
        if not on:
            for track in self.tracks.values():
                track.map.fill()
            for plex in self.plexes:
                if not plex.is_open:
                    plex.map.fill()
                    plex.reason = Reason.FULL_FMR_OFF

    def grow(self, length_bytes: int, unlike: Collection[Plex] = ()) -> None:
        """Make the volume longer. The new regions are the same on every open plex but those ``unlike`` the others,
        which copy them, as the closed ones will. Verdicts wait for the record: a crash before that would make the
        volume short again.
        """
        self.demotions += 1
        self.settings = replace(self.settings, length_bytes=length_bytes)
        old = self.geometry
        self.geometry = replace(old, length_bytes=length_bytes)
        self.drl.grow(self.geometry)
        for plex in self.plexes:
            plex.grow(self.geometry, missed=not plex.is_open or plex in unlike)
        for track in self.tracks.values():
            track.grow(self.geometry, missed=True)
        for unkept in self.unkept.values():
            unkept.grow(self.geometry, missed=False)
        if old.length_bytes % old.region_bytes:
            for bitmap in (*self.tracks.values(), *(p for p in self.plexes if not p.is_open)):
                bitmap.map.mark(range(old.regions - 1, old.regions))
