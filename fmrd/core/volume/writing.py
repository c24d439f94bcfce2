"""This module says which plexes take a write, and what came of it.

Its functions work on a volume, and only Volume's own methods call them, so inside one synchronous step; gates are
closed there. Offsets and lengths are bytes.
"""

from collections.abc import Mapping, Sequence

from fmrd.core.geometry import Geometry
from fmrd.core.maps.regionmap import RegionMap
from fmrd.core.plans import Target, Verdict, WritePlan
from fmrd.core.states import OPEN_GATE
from fmrd.core.volume import faults, lagging
from fmrd.core.volume.facts import VolumeFacts
from fmrd.core.volume.plex import Plex
from fmrd.errors import Failed


def targets_of(volume: VolumeFacts, offset: int, length: int) -> tuple[Target, ...]:
    """Return which open plexes take which bytes of a write, far ones first; mostly each takes all of it."""
    targets, whole, far = [], ((offset, length),), False
    size = volume.geometry.region_bytes
    for plex in volume.plexes:
        if plex.state in OPEN_GATE:
            far = far or plex.session
            if plex.map.blank:
                targets.append(Target(plex, plex.generation, whole, plex.dropped, ()))
            elif plex.lags and plex.map.bits.find(0, offset // size, (offset + length - 1) // size + 1) == -1:
                continue  # it lacks all of these regions, and goes on lacking them
            elif (target := _target_of(plex, volume.geometry, offset, length)).parts:
                targets.append(target)
    if far:
        targets.sort(key=lambda target: not target.plex.session)
    return tuple(targets)


def _target_of(plex: Plex, geometry: Geometry, offset: int, length: int) -> Target:
    """Return what an open plex takes of a write: all of it where it is current, and of the other regions those that the
    write covers whole, which heals them: not one that lags. ``parts`` is empty where it takes nothing.
    """
    regions = geometry.regions_of(offset, length)
    if not plex.map.touches(regions):
        return Target(plex, plex.generation, ((offset, length),), plex.dropped)
    whole = range(0) if plex.lags else geometry.whole_regions_of(offset, length)
    parts: list[tuple[int, int]] = []
    healing = []
    for region in regions:
        if region in plex.map and region not in whole:
            continue
        if region in plex.map:
            healing.append(range(region, region + 1))
        start, size = geometry.bytes_of(range(region, region + 1))
        start, stop = max(start, offset), min(start + size, offset + length)
        if parts and sum(parts[-1]) == start:
            parts[-1] = (parts[-1][0], stop - parts[-1][0])
        else:
            parts.append((start, stop - start))
    return Target(plex, plex.generation, tuple(parts), plex.dropped, tuple(healing))


def plain_targets(volume: VolumeFacts, offset: int, length: int) -> list[Plex] | None:
    """Stand in for Volume.choose_targets where a write ends in this very step: return the plexes that take all of it,
    because they hold all of its regions; closed gates and snapshots remember it. A plex that holds none of them, and of
    which none is covered whole, takes nothing. None where there is more to it, or something suspect: then what came of
    it must be judged. Where such a write fails the caller asks choose_targets.
    """
    size = volume.geometry.region_bytes
    first, last = offset // size, (offset + length - 1) // size
    targets, closed = [], list[RegionMap]()
    for plex in volume.plexes:
        missing = plex.map
        if plex.state not in OPEN_GATE:
            closed.append(missing)
        elif plex.suspect is not None or plex.behind:
            return None
        elif missing.blank or missing.bits.find(1, first, last + 1) == -1:
            targets.append(plex)
        elif missing.bits.find(0, first, last + 1) != -1 or volume.geometry.whole_regions_of(offset, length):
            return None
    if volume.tracks:
        closed += [track.map for track in volume.tracks.values()]
    for remembers in closed:
        if first != last or not remembers.bits[first]:
            remembers.mark(range(first, last + 1))
    return targets or None


def is_fine(plan: WritePlan) -> bool:
    """Tell whether nothing is to be judged of a write that met no error: what ``judge`` would find, for the many. A
    gate that closed meanwhile has its regions in the map, so whoever has nothing there has the write.
    """
    taken = False
    for plex, _, _, _, healing in plan.targets:
        if healing or plex.suspect is not None:
            return False
        taken = taken or plex.map.blank
    return taken


def judge(
    volume: VolumeFacts, plan: WritePlan, errors: Mapping[str, Exception], *, settled: bool
) -> tuple[Verdict, list[Plex]]:
    """Return the verdict, and the plexes that the caller must demote in this step. Where the write succeeded, its
    regions are healed here. ``errors`` is by plex uuid.
    """
    standing = [t for t in plan.targets if t.plex.generation == t.generation and t.plex.is_open]
    failing = [t.plex for t in standing if t.plex.uuid in errors]
    succeeded = [t for t in standing if t.plex.uuid not in errors]
    for target in succeeded:
        _heal(target, volume.geometry.whole_regions_of(plan.offset, plan.length))
    if not failing:
        return Verdict(_not_taken(volume, plan, succeeded)), []
    lagging.doubt(volume.plexes)
    demoted, events, lost, settle = faults.failed_write(
        failing, plan.regions, volume.plexes, [t.plex for t in succeeded], settled=settled
    )
    if settle:
        return Verdict(settle=True), []
    for plex in failing:
        plex.errors += 1
    events += [f"plex {p.name} detached (IOFAIL) after a write error: {errors[p.uuid]}" for p in demoted]
    volume.demotions += 1
    error = None
    if lost:
        what = "; ".join(f"{p.name}: {errors[p.uuid]}" for p in failing)
        sentence = f"volume {volume.name}: the write at {plan.offset} failed on the last copy ({what})"
        error = Failed("io_error", sentence)
    return Verdict(error or _not_taken(volume, plan, succeeded), events=tuple(events)), demoted


def _not_taken(volume: VolumeFacts, plan: WritePlan, succeeded: Sequence[Target]) -> Failed | None:
    """The error of a write that nobody has who counts there: also of one that was to heal its only copy, and failed."""
    if all(any(region not in t.plex.map for t in succeeded) for region in plan.regions):
        return None
    return Failed("io_error", f"volume {volume.name}: no plex took the write at {plan.offset}")


def _heal(target: Target, whole: range) -> None:
    """Regions that the write covered whole are current again, and suspect only until the next fdatasync; not if one
    failed meanwhile, since it may have dropped the write.
    """
    plex = target.plex
    if plex.dropped != target.dropped:
        return
    for run in target.healing:
        if plex.map.touches(run):
            plex.drained(run)
    if plex.suspect is not None:
        for region in whole:
            if region in plex.suspect:
                plex.rewritten.mark(range(region, region + 1))
