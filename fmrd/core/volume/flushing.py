"""This module says what an fdatasync proved, and what is doubtful after one that failed.

Its functions work on a volume, and only Volume's own methods call them, so inside one synchronous step.
"""

from collections.abc import Mapping

from bitarray import bitarray
from bitarray.util import zeros

from fmrd.core.plans import SyncPlan, SyncTarget
from fmrd.core.volume import faults, lagging
from fmrd.core.volume.facts import VolumeFacts
from fmrd.core.volume.plex import Plex
from fmrd.errors import Failed, FmrdError


def begin(plex: Plex) -> SyncTarget:
    """An fdatasync of this plex begins: what is unsynced, and what is suspect and was rewritten, depends on it now."""
    return SyncTarget(plex, plex.generation, plex.begin_sync(), plex.begin_cure(), plex.dropped)


def end_batches(volume: VolumeFacts, plan: SyncPlan, errors: Mapping[str, Exception]) -> list[Plex]:
    """Make regions durable where the fdatasync succeeded, and suspect where it failed; return the plexes that failed.
    ``errors`` is by plex uuid.
    """
    dirty = volume.drl.regions() if errors else None
    failed = []
    for target in plan.targets:
        plex = target.plex
        if plex.generation != target.generation:
            continue
        plex.end_sync(target.batch, succeeded=plex.uuid not in errors)
        if dirty is not None and plex.uuid in errors:
            failed.append(plex)
            plex.errors += 1
            faults.suspect(plex, dirty)
        elif plex.dropped == target.dropped and plex.end_cure(target.cured):
            volume.demotions += 1  # the record still says that something is suspect, and a start would believe it
    if failed:
        lagging.doubt(volume.plexes)
    return failed


def stays(volume: VolumeFacts, plex: Plex) -> None:
    """An fdatasync failed on this plex, which stays: others may have some of it, what nobody has is suspect."""
    if volume.settings.is_instant:
        faults.give_back(plex)
    if volume.settings.by_stream:
        plex.suspect = None  # what was noted is durable, and what was not is sent anew, in another turn
    faults.make_holes_of_suspects(plex, volume.plexes)
    volume.owes_error = volume.owes_error or (plex.suspect is not None and plex.suspect.any())


def to_tell(volume: VolumeFacts, error: FmrdError | None) -> FmrdError | None:
    """Return what a flush of the application is told, whose fdatasyncs ended with ``error``: a failure that it has not
    heard of yet, too. What was written before that may be lost, though all plexes are the same by now.
    """
    if error is None and volume.owes_error:
        error = Failed("suspect", f"volume {volume.name}: an earlier flush failed on the last copy of some regions")
    volume.owes_error = False
    return error


def suspicion(volume: VolumeFacts) -> Failed | None:
    """Return the error that a flush gives while an open plex has suspect regions; None while none has."""
    doubtful = [p.name for p in volume.open_plexes() if p.suspect is not None and p.suspect.any()]
    if not doubtful:
        return None
    names = ", ".join(doubtful)
    return Failed("suspect", f"volume {volume.name}: an earlier flush failed on {names}, the last copy")


def suspect_extents(volume: VolumeFacts) -> bitarray | None:
    """Return the extents with a suspect region, bits by extent; None if there are none. They must stay in the DRL."""
    geometry = volume.geometry
    keep: bitarray | None = None
    for plex in volume.open_plexes():
        if plex.suspect is not None:
            for run in plex.suspect.runs():
                keep = keep if keep is not None else zeros(geometry.extents)
                for extent in geometry.extents_of(*geometry.bytes_of(run)):
                    keep[extent] = 1
    return keep
