"""A step over the maps of a large volume is short: what it costs is new memory, and of that it takes little.

Counted, not timed: bytes, as multiples of one map, at the most at any moment of the step. A TiB has maps of 2 MiB.
"""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import pytest

from fmrd.core.decisions import snapback, snapshot
from fmrd.core.decisions.recovery import seed
from fmrd.core.geometry import Geometry
from fmrd.core.records.parts import Column
from fmrd.core.records.rows import Rows
from fmrd.core.states import PlexState
from fmrd.core.volume.family import Family
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from tests.core.making import FAMILY, UUID, plex_record, volume_record

GEOMETRY = Geometry(1 << 40)
MAP_BYTES = GEOMETRY.regions // 8
WRITTEN = range(0, GEOMETRY.extents, GEOMETRY.extents // 100)


class Large:
    """Two plexes in sync, and one to be broken off; writes everywhere are in the log."""

    def __init__(self) -> None:
        settings = replace(
            volume_record(), length_bytes=GEOMETRY.length_bytes, region_bytes=GEOMETRY.region_bytes,
            extent_bytes=GEOMETRY.extent_bytes, page_regions=GEOMETRY.page_regions,
        )  # fmt: skip
        states = (PlexState.ACTIVE, PlexState.ACTIVE, PlexState.SNAPDONE)
        self.plexes = [Plex(plex_record(number, state), GEOMETRY, full=False) for number, state in enumerate(states, 1)]
        self.volume = Volume(settings, self.plexes)
        self.family = Family(FAMILY, "now", 10, Rows(40), 50, [self.volume])
        for plex in self.plexes:
            plex.home_open = True
        for extent in WRITTEN:
            self.volume.drl.enter(range(extent, extent + 1))
            self.volume.drl.leave(range(extent, extent + 1))

    def leave(self) -> None:
        self.volume.close_gate(self.plexes[1], PlexState.STALE)

    def promote(self) -> None:
        self.plexes[1].state = PlexState.TEMP
        assert self.volume.promote(self.plexes[1])

    def seed(self) -> None:
        assert seed(self.volume) == 2

    def add(self) -> None:
        record = replace(plex_record(4, PlexState.STALE), map=Column(7, 7))
        self.volume.add_plex(Plex(record, GEOMETRY, full=False))

    def break_off(self) -> None:
        snapshot.break_off(self.family, self.volume, [self.plexes[2]], "S", UUID.format(91))

    def back(self) -> None:
        taken = self.family.volumes[1]
        snapback.go_back(self.family, self.volume, taken, list(taken.plexes))


STEPS: dict[str, tuple[Callable[[Large], None], float]] = {
    "leave": (Large.leave, 1.1),
    "promote": (Large.promote, 0.1),
    "seed": (Large.seed, 2.5),
    "add": (Large.add, 0.1),
    "break off": (Large.break_off, 0.1),
    "back": (Large.back, 1.1),
}


@pytest.mark.parametrize(("step", "most"), STEPS.values(), ids=STEPS)
def test_a_step_takes_few_maps_of_new_memory(step: Callable[[Large], None], most: float) -> None:
    large = Large()
    if step is Large.back:
        large.break_off()
    tracemalloc.start()
    try:
        step(large)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak / MAP_BYTES <= most
