"""Small volumes for the tests of core: eight regions of 4 KiB in extents of two, three pages of a map."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from bitarray import bitarray
from bitarray.util import zeros

from fmrd.core.geometry import Geometry
from fmrd.core.plans import SyncPlan, Verdict, WritePlan
from fmrd.core.record import PlexRecord, Record, VolumeRecord
from fmrd.core.records.parts import Column
from fmrd.core.records.rows import Rows
from fmrd.core.states import PlexState
from fmrd.core.volume.family import Family
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume

REGION = 4096
REGIONS = 8
EXTENT = 2 * REGION
PAGE_REGIONS = 4
UUID = "00000000-0000-4000-8000-0000000000{:02d}"
FAMILY = UUID.format(99)
EIO = OSError(5, "Input/output error")


def plex_record(number: int, state: PlexState = PlexState.ACTIVE, **fields: object) -> PlexRecord:
    known = PlexRecord(f"v-{number:02d}", UUID.format(number), f"/p{number}", None, state, Column(number, number))
    return replace(known, **fields)  # type: ignore[arg-type]  # checked by the dataclass


def volume_record(plexes: Iterable[PlexRecord] = (), **fields: object) -> VolumeRecord:
    known = VolumeRecord(
        "v", UUID.format(90), REGIONS * REGION, REGION, EXTENT, PAGE_REGIONS, Column(0, 0), tuple(plexes)
    )
    return replace(known, **fields)  # type: ignore[arg-type]  # checked by the dataclass


def family_record(
    *plexes: PlexRecord, sequence: int = 10, lineage: str = "now", settled: bool = False, **fields: object
) -> Record:
    known = Record(FAMILY, lineage, sequence, (volume_record(plexes, settled=settled),), next_epoch=50)
    return replace(known, **fields)  # type: ignore[arg-type]  # checked by the dataclass


def bits(regions: Iterable[int], size: int = REGIONS) -> bitarray:
    found = zeros(size)
    found[list(regions)] = 1
    return found


def held(bitmap: bitarray) -> set[int]:
    return set(bitmap.search(1))


class Rig:
    """A volume, and a home copy that takes every page and every record at once, when told."""

    def __init__(self, *states: PlexState, geometry: Geometry | None = None, **fields: Any) -> None:
        plexes = [plex_record(number, state) for number, state in enumerate(states or (PlexState.ACTIVE,) * 2, 1)]
        settings = volume_record(**fields)
        if geometry is not None:
            settings = replace(settings, length_bytes=geometry.length_bytes)
        size = Geometry(settings.length_bytes, REGION, EXTENT, PAGE_REGIONS)
        self.plexes = [Plex(p, size, full=p.state is not PlexState.ACTIVE) for p in plexes]
        self.volume = Volume(settings, self.plexes)
        self.family = Family(FAMILY, "now", 10, Rows(40), 50, [self.volume])
        for plex in self.plexes:
            plex.map.touched.update(range(plex.map.pages))
        self.commit()
        self.mark_all()

    def pages(self) -> None:
        """Every map page that is due reaches the home copy."""
        for column, page in self.volume.touched_pages():
            self.volume.page_written(column, page, self.volume.page(column, page))

    def commit(self) -> None:
        """Pages, then the record."""
        self.family.sequence += 1
        demotions = self.volume.demotions
        record = self.family.record(self.family.sequence)
        self.family.begin_commit(record)
        self.pages()
        self.family.end_commit(record)
        self.volume.demotions_recorded = demotions

    def mark_all(self) -> None:
        """The DRL is durable everywhere, so that any write may be issued."""
        extents = range(self.volume.geometry.extents)
        self.volume.drl.enter(extents)
        for page in range(self.volume.drl.marked.pages):
            self.volume.page_written(0, page, self.volume.page(0, page))
        self.volume.drl.leave(extents)

    def sync(self, failing: Iterable[Plex] = (), during: Callable[[], object] = lambda: None) -> Verdict:
        plan: SyncPlan = self.volume.begin_sync()
        during()
        return self.volume.end_sync(plan, {plex.uuid: EIO for plex in failing})

    def settle(self) -> None:
        """Everything that is current is durable, and home knows; the DRL is clean."""
        self.sync()
        self.commit()
        self.commit()
        self.volume.drl.end_clean(self.volume.drl.begin_clean(), self.volume.suspect_extents())
        self.mark_pages()

    def mark_pages(self) -> None:
        for page in range(self.volume.drl.marked.pages):
            self.volume.page_written(0, page, self.volume.page(0, page))

    def begin(self, first: int, count: int = 1, *, whole: bool = True) -> WritePlan:
        """A write to these regions, issued; not ``whole``: the last sector of the first and nothing of the others."""
        offset, length = self.volume.geometry.bytes_of(range(first, first + count))
        if not whole:
            offset, length = offset + 512, 512
        extents = self.volume.geometry.extents_of(offset, length)
        self.volume.drl.enter(extents)
        self.mark_pages()
        return self.volume.choose_targets(offset, length)

    def end(self, plan: WritePlan, failing: Iterable[Plex] = ()) -> Verdict:
        """Its verdict, with the settling that it may ask for."""
        errors = {plex.uuid: EIO for plex in failing}
        verdict = self.volume.end_write(plan, errors)
        if verdict.settle:
            self.sync()
            self.commit()
            verdict = self.volume.end_write(plan, errors, settled=True)
        self.volume.drl.leave(plan.extents)
        return verdict

    def write(self, first: int, count: int = 1, *, whole: bool = True, failing: Iterable[Plex] = ()) -> Verdict:
        return self.end(self.begin(first, count, whole=whole), failing)


def missing(rig: Rig, number: int) -> set[int]:
    return held(rig.plexes[number].map.bits)


def hole(rig: Rig, number: int, *regions: int) -> None:
    """On the plex and on the home copy."""
    rig.plexes[number].map.union(bits(regions))
    rig.commit()
