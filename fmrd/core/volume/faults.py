"""Errors are judged here (PROTOCOLS, "What an error does"), and so is the last durably current copy (rule 9).

The functions work on the plexes of a volume. Who calls them acts on the answer in the same synchronous step: Volume,
and the decisions that take a plex out of one (decisions/snapshot.py, and by it decisions/snapback.py).
"""

from collections.abc import Collection, Iterator, Sequence

from bitarray import bitarray
from bitarray.util import ones, zeros

from fmrd.core.maps.regionmap import PART_PAGES, RegionMap, runs_of
from fmrd.core.volume.plex import Plex


def uncovered(
    plex: Plex, others: Sequence[Plex], failing: Collection[Plex] = (), regions: range = range(0)
) -> bitarray:
    """Return the regions that ``plex`` holds and no other open plex durably; ``failing`` ones do not count in
    ``regions``. Where no other is open it is all of them: an instant snapshot's plex holds little, and is the last one
    all the same.
    """
    found = zeros(plex.geometry.regions)
    for start, part in uncovered_parts(plex, others, failing, regions):
        found[start : start + len(part)] = part
    return found


def uncovered_parts(
    plex: Plex, others: Sequence[Plex], failing: Collection[Plex] = (), regions: range = range(0)
) -> Iterator[tuple[int, bitarray]]:
    """Yield (where, bits) of the parts of ``uncovered`` that have any. Nearly always another plex holds everything,
    which a look at it tells; else it goes part by part, since memory for whole maps is what would cost.
    """
    covering = [p for p in others if p is not plex and p.is_open and not p.behind]  # one that may lag never counts
    if any(p.settled and p not in failing for p in covering):
        return
    for within in _parts(plex):
        found = ~plex.map.these(within) if covering else ones(len(within))
        for other in covering:
            lacking = other.in_doubt(within)
            if other in failing:
                lacking[max(0, regions.start - within.start) : max(0, regions.stop - within.start)] = 1
            found &= lacking
        if found.any():
            yield within.start, found


def _parts(plex: Plex) -> Iterator[range]:
    size, width = plex.geometry.regions, PART_PAGES * plex.geometry.page_regions
    return (range(start, min(start + width, size)) for start in range(0, size, width))


def doubts_any(plex: Plex, *, but_missing: bool) -> bool:
    """Tell whether the plex is anywhere not durably current; ``but_missing``: of the regions that are not in its map,
    which its original has.
    """
    if plex.settled:
        return False
    for within in _parts(plex):
        doubt = plex.in_doubt(within)
        if but_missing:
            doubt &= ~plex.map.these(within)
        if doubt.any():
            return True
    return False


def count_uncovered(plex: Plex, others: Sequence[Plex]) -> int:
    """Return how many regions ``plex`` holds and no other open plex durably."""
    return sum(part.count() for _, part in uncovered_parts(plex, others))


def may_close(plex: Plex, others: Sequence[Plex], failing: Collection[Plex] = (), regions: range = range(0)) -> bool:
    """Tell by rule 9 whether every region that this plex holds is durably current on another one."""
    return next(uncovered_parts(plex, others, failing, regions), None) is None


def held_elsewhere(plex: Plex, region: int, others: Sequence[Plex], failing: Collection[Plex]) -> bool:
    """Tell whether this one region is durably current on another plex, which did not fail just now, and may not lag."""
    return any(
        other is not plex and other not in failing and not other.behind and other.is_durable(region) for other in others
    )


def failed_write(
    failing: Sequence[Plex], regions: range, plexes: Sequence[Plex], succeeded: Sequence[Plex], *, settled: bool
) -> tuple[list[Plex], list[str], bool, bool]:
    """Judge a write that failed on some plexes in these regions.

    Return (plexes to demote, sentences, whether the caller gets the error, whether to settle first and ask again).
    Holes are made here; gates are closed by the caller, who knows what the DRL holds.
    """
    lost: list[int] = []
    demoted: list[Plex] = []
    events: list[str] = []
    holes: list[tuple[Plex, int]] = []
    for plex in failing:
        # Asked anew for each: a plex demoted a moment ago does not count for the next one.
        rest = [p for p in plexes if p not in demoted]
        if may_close(plex, rest, failing, regions):
            demoted.append(plex)
            continue
        for region in regions:
            if region in plex.map:
                continue
            if held_elsewhere(plex, region, rest, failing):
                holes.append((plex, region))
            else:
                lost.append(region)
    if lost and not settled and any(p.is_current(range(r, r + 1)) for p in succeeded for r in lost):
        return [], [], False, True
    for plex, region in holes:
        plex.map.mark(range(region, region + 1))
    for region in sorted(set(lost)):
        # The caller is told. The copies may differ now, so one keeps the region and the others copy it back. Where
        # nobody is durable (all suspect, say), one of those that a start would take for current.
        current = [p for p in plexes if p not in demoted and p.is_current(range(region, region + 1))]
        known = [p for p in current if p.home_open and not p.on_home[region]]
        keeper = next((p for p in known if p.is_durable(region)), known[0] if known else None)
        if keeper is None:
            continue
        for other in current:
            if other is not keeper:
                other.map.mark(range(region, region + 1))
    if holes:
        names = ", ".join(sorted({p.name for p, _ in holes}))
        events.append(f"{len(holes)} region(s) failed on {names} and are held by others: holes, to be copied back")
    return demoted, events, bool(lost), False


def suspect(plex: Plex, dirty: bitarray) -> None:
    """After a failed fdatasync what the kernel may have dropped on this plex is not durable there. That holds for what
    another fdatasync, under way just now, was to make durable too: a lost page is told of once a descriptor.
    """
    plex.dropped += 1
    doubt = bitarray(dirty)
    for batch in (plex.young, *plex.syncing):
        batch.add_to(doubt)
    if plex.suspect is None:
        plex.suspect = RegionMap(plex.geometry.regions, plex.geometry.page_regions)
    plex.map.take_from(doubt)
    plex.suspect.union(doubt)
    plex.rewritten.empty()


def make_holes_of_suspects(plex: Plex, others: Sequence[Plex]) -> None:
    """Make holes of what a plex that stays after a failed fdatasync may have dropped and others hold durably. What
    nobody else holds stays suspect. (A copied region has no mark in the DRL, so only a hole survives a crash.)
    """
    if plex.suspect is None:
        return
    elsewhere = plex.suspect.bits & ~uncovered(plex, others)
    plex.map.union(elsewhere)
    for run in runs_of(elsewhere):
        plex.suspect.clear(run)


def give_back(plex: Plex) -> None:
    """Give back to the original, after a failed fdatasync, what was copied to an instant snapshot and may have been
    dropped: the snapshot does not hold it, and its original still has it.
    """
    copied = bitarray(plex.young.bits)
    for batch in plex.syncing:
        copied |= batch.bits
    plex.map.union(copied)
    for run in runs_of(copied):
        plex.young.clear(run)
        if plex.suspect is not None:
            plex.suspect.clear(run)
        for batch in plex.syncing:
            batch.clear(run)
