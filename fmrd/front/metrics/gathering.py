"""What is to be told is gathered from the registry here, volume by volume, so that no request waits for all of them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import trio

from fmrd.core.decisions.snapback import how_much_differs
from fmrd.core.json_object import Json
from fmrd.core.states import IN_SYNC
from fmrd.engine.events.ring import KINDS
from fmrd.engine.measured.figures import Figures, figures_of
from fmrd.engine.registry import Registry
from fmrd.engine.running import Running


@dataclass(frozen=True)
class PlexSeen:
    """This is a plex as its map and its lanes tell, beside its figures."""

    name: str
    missing_bytes: int
    hung: int
    """System calls that did not answer in time, and may land yet."""


@dataclass(frozen=True)
class VolumeSeen:
    """This is a started volume. Sizes are bytes; figures are the volume's, and then one for each plex."""

    name: str
    length_bytes: int
    state: str
    open_count: int
    in_sync: int
    """How many of its plexes are."""
    dirty_extents: int
    most_extents: int
    extent_bytes: int
    lost_bytes: int
    figures: list[Figures]
    plexes: list[PlexSeen]
    differing: dict[str, int]
    """Snapshot -> bytes in which it and this volume differ."""


@dataclass(frozen=True)
class Gathered:
    """All that is told. ``away`` are volumes that are not started, with the code of what failed, or ''."""

    volumes: list[VolumeSeen] = field(default_factory=list)
    away: dict[str, str] = field(default_factory=dict)
    tasks: list[Json] = field(default_factory=list)
    """Those that run."""
    events: dict[str, int] = field(default_factory=dict)
    """Kind of event -> how many since the daemon was started; those that there were none of, too."""
    runs: dict[tuple[str, str], int] = field(default_factory=dict)
    """Hook, and how its runs ended -> how many."""


async def gather(registry: Registry) -> Gathered:
    """Gather it; others run between two volumes."""
    context = registry.context
    events = {kind: context.events.counts.kinds[kind] for kind in KINDS}
    runs = dict(context.events.counts.runs)
    found = Gathered(tasks=[task.json() for task in context.tasks.running()], events=events, runs=runs)
    for name in sorted(registry.units):
        unit = registry.units.get(name)
        if unit is None:
            continue  # removed meanwhile
        if unit.service is None:
            found.away[name] = "" if unit.failure is None else unit.failure.code
        else:
            found.volumes.append(_seen(unit.service.running))
        await trio.lowlevel.checkpoint()
    return found


def _seen(running: Running) -> VolumeSeen:
    volume = running.volume
    return VolumeSeen(
        volume.name, volume.geometry.length_bytes, volume.state.value, running.open_count,
        sum(plex.state in IN_SYNC for plex in volume.plexes), volume.drl.count, volume.drl.hot_extents,
        volume.geometry.extent_bytes, sum(stop - start for start, stop in running.mirror.unreadable.spans),
        list(figures_of(running)), list(_plexes(running)), _differing(running),
    )  # fmt: skip


def _plexes(running: Running) -> Iterator[PlexSeen]:
    geometry = running.volume.geometry
    for plex in running.volume.plexes:
        lanes = running.home.lanes_of(plex.uuid, plex.name)
        missing = geometry.bytes_in(plex.map.count(), plex.map.has_last)
        yield PlexSeen(plex.name, missing, lanes.data.hung + lanes.dco.hung)


def _differing(running: Running) -> dict[str, int]:
    volume = running.volume
    snapshots = running.mirror.store.family.snapshots_of(volume)
    return {snap.name: volume.geometry.bytes_in(*how_much_differs(volume, snap)) for snap in snapshots}
