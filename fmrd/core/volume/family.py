"""A family is a volume and its snapshots, which share one record: who they are, their history, their columns."""

from dataclasses import dataclass, field, replace

from fmrd.core.far.uris import is_uri
from fmrd.core.record import MOST_PAGES, MOST_WIDE_PAGES, Record, trimmed
from fmrd.core.records.parts import Column, Position
from fmrd.core.records.rows import MOST_BANKS, MOST_RUNS, Rows, Runs
from fmrd.core.volume.volume import Volume
from fmrd.errors import Failed


@dataclass
class Family:
    """A family is changed only in synchronous steps: under the commit lock, or by a verb that commits right after."""

    uuid: str
    lineage: str
    sequence: int
    rows: Rows
    next_epoch: int
    volumes: list[Volume]
    history: tuple[Position, ...] = ()
    extra: dict[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, record: Record, volumes: list[Volume]) -> "Family":
        """Return the family that a record tells of, with these volumes in the record's order."""
        return cls(
            record.family, record.lineage, record.sequence, record.rows, record.next_epoch, volumes,
            record.history, dict(record.extra),
        )  # fmt: skip

    @property
    def volume(self) -> Volume:
        """Return the original volume, which comes first."""
        return self.volumes[0]

    def begin_lineage(self, lineage: str) -> None:
        """Begin a new lineage, as each opening does; the history gains the old one with its exact last sequence."""
        self.history = (*self.history, Position(self.lineage, self.sequence))
        self.lineage = lineage

    @property
    def pages(self) -> int:
        """Return how many pages a column of the longest volume has."""
        return max(v.geometry.pages for v in self.volumes)

    def new_column(self, volume: Volume) -> Column:
        """Return one free column under a fresh epoch; Failed('plex_too_many')."""
        return self.new_columns(1, volume)[0]

    def new_columns(self, count: int, volume: Volume) -> list[Column]:
        """Return free columns under fresh epochs: whatever their pages hold from earlier use does not count. They are
        in use only once something holds them. Failed('plex_too_many') where there are too few that the copies of
        ``volume``, and of what leaves it, have room for; ('dco_full') where the bitmaps would be more than a family
        may have.
        """
        return [Column(index, self.new_epoch()) for index in self.free_columns(count, volume)]

    def free_columns(self, count: int, volume: Volume) -> list[int]:
        """Which they would be; Failed('plex_too_many') or ('dco_full')."""
        self.must_bear(count * self.pages)
        free = self._free(volume, self.rows.total)
        if len(free) < count:
            raise self._too_many(count, len(free), volume)
        return free[:count]

    def runs_for(self, count: int, volume: Volume) -> Runs | None:
        """Return what the rows must become before so many columns are free; None where they are. Failed as
        ``free_columns`` where that cannot be.
        """
        free = self._free(volume, self.rows.total)
        banks = -(-max(0, count - len(free)) // self.rows.columns)
        self.must_bear(count * self.pages, wide=banks > 0)
        if not banks:
            return None
        runs = self.rows.widened(banks, self.pages)
        if self.rows.banks + banks > MOST_BANKS or _fixed(volume):
            raise self._too_many(count, len(free), volume)
        return self._tellable(runs)

    def runs_of_length(self, pages: int) -> Runs:
        """Return what the rows must become before a volume has so many pages. Failed('dco_full')."""
        return self._tellable(self.rows.grown(pages))

    def _tellable(self, runs: Runs) -> Runs:
        if len(runs) <= MOST_RUNS or runs == self.rows.runs:
            return runs
        raise Failed(
            "dco_full",
            f"volume {self.volume.name}: the rows of its DCO would lie in more pieces than {MOST_RUNS}: it grew too "
            "often since it had so many snapshots",
            "grow it seldom, and by more; a volume that is made anew begins with one piece",
        )

    def next_columns(self, count: int, volume: Volume, rows: Rows) -> list[int]:
        """Return the first that would be taken with these rows: so many, or as many as are free."""
        return self._free(volume, rows.total)[:count]

    def _free(self, volume: Volume, total: int) -> list[int]:
        used = {c.index for v in self.volumes for c in v.columns()}
        if _fixed(volume):  # that has room for what it was made for
            total = self.rows.columns * (1 + max(c.index for c in volume.columns()) // self.rows.columns)
        return [i for i in range(total) if i not in used]

    def _too_many(self, count: int, free: int, volume: Volume) -> Failed:
        what, hint = f"of the {self.rows.total} that its DCO has room for", ""
        if (fixed := _fixed(volume)) is not None:
            what = f"the DCO on {fixed} cannot grow: of those that it has room for"
            hint = f"; or plex dis that one, and plex add {volume.name} PATH,dco=FILE: a DCO in a file can grow"
        return Failed(
            "plex_too_many",
            f"volume {self.volume.name}: {count} bitmaps more are needed, and {what} {free} are free",
            "plex dis, snapback or snapclear what is not needed: a plex takes 1, a snapshot 3 to 5" + hint,
        )

    def must_bear(self, more: int, *, wide: bool = False) -> None:
        """Failed('dco_full') where so many more pages are too many: no record that has them could be read again."""
        pages = more + self._bitmap_pages()
        most = MOST_WIDE_PAGES if wide or self.rows.runs else MOST_PAGES
        if pages > most:
            raise Failed(
                "dco_full",
                f"volume {self.volume.name}: the maps of it and its snapshots would have {pages} pages, {most} "
                "is the most",
                "make the volume anew with larger regions (--region-size), or give up plexes or snapshots",
            )

    def _bitmap_pages(self) -> int:
        return sum(len(v.columns()) * v.geometry.pages for v in self.volumes)

    def new_epoch(self) -> int:
        """Return an epoch that no page carries yet."""
        epoch = self.next_epoch
        self.next_epoch += 1
        return epoch

    def new_plex_name(self, volume: Volume) -> str:
        """Return VOL-01, VOL-02 and so on, never the same again; a snapshot's by its original, to which they may go."""
        root = self.original_of(volume) or volume
        number = root.settings.next_plex
        root.settings = replace(root.settings, next_plex=number + 1)
        return f"{root.name}-{number:02d}"

    def renewed(self, column: Column) -> Column:
        """Return the same column under a new epoch: its pages count with the record that names that, and not before."""
        return replace(column, epoch=self.new_epoch())

    def snapshots_of(self, volume: Volume) -> list[Volume]:
        others = {volume.settings.uuid, *(mark.uuid for mark in volume.settings.marks)}
        return [self.by_uuid(uuid) for uuid in volume.tracks if uuid not in others]

    def original_of(self, snapshot: Volume) -> Volume | None:
        """Return the volume that this one is a snapshot of; None for one that is no snapshot."""
        return next((v for v in self.volumes if v.name == snapshot.settings.snapshot_of), None)

    def by_uuid(self, uuid: str) -> Volume:
        """Failed('volume_missing') for one that left the family meanwhile."""
        found = next((v for v in self.volumes if v.settings.uuid == uuid), None)
        if found is None:
            raise Failed("volume_missing", f"volume {uuid} is not of the family of {self.volume.name} any more")
        return found

    def put(self, volume: Volume) -> None:
        """Let a volume that was opened take the place of what stood for it."""
        [index] = [i for i, v in enumerate(self.volumes) if v.settings.uuid == volume.settings.uuid]
        self.volumes[index] = volume

    def epoch(self, column: int) -> int | None:
        """Return the epoch that pages of this column carry now; None if it is not in use."""
        return next((c.epoch for v in self.volumes for c in v.columns() if c.index == column), None)

    def record(self, sequence: int) -> Record:
        """Return what a commit of that number says. Rows at the end that hold nothing are not told of: with one bank an
        older program reads it, also after there were more. Only where that bank alone may not hold so much they stay.
        """
        used = max(column.index for volume in self.volumes for column in volume.columns())
        runs = self.rows.trimmed(used) if self._bitmap_pages() <= MOST_PAGES else self.rows.runs
        volumes = tuple(v.record() for v in self.volumes)
        named = {p.has.lineage for v in volumes for p in v.plexes if p.has is not None}
        return Record(
            self.uuid, self.lineage, sequence, volumes, trimmed(self.history, named), self.rows.columns,
            self.next_epoch, self.extra, runs,
        )  # fmt: skip

    def begin_commit(self, record: Record) -> None:
        """The record is on its way: until it has landed, a plex counts as open on the home copy only if the old record
        and the new one say so (PROTOCOLS, "Last durably current copy": asked of what the home copy surely says).
        """
        for volume in self.volumes:
            for plex in volume.plexes:
                named = next((p for v in record.volumes if (p := v.plex(plex.uuid)) is not None), None)
                plex.home_open = plex.home_open and named is not None and named.is_open

    def end_commit(self, record: Record) -> None:
        """The record is on the home copy, which therefore names open what it names open."""
        for volume in self.volumes:
            for plex in volume.plexes:
                named = next((p for v in record.volumes if (p := v.plex(plex.uuid)) is not None), None)
                opened = named is not None and named.is_open
                if opened and not plex.home_open:
                    plex.home_opened()
                plex.home_open = opened


def _fixed(volume: Volume) -> str | None:
    """Where a plex of it has a copy of the DCO that cannot become longer: on a device, or on an NBD server."""
    for plex in volume.plexes:
        if plex.tail is not None or is_uri(plex.dco_path or ""):
            return plex.dco_path or plex.path
    return None
