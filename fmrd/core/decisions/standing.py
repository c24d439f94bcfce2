"""Who is on-line at a start: by what was found of the plexes and their copies of the DCO.

PROTOCOLS, "Start at home", steps 1 to 3. Nothing is opened here; recovery.py goes on with what was judged.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fmrd.core.images import CopyImage
from fmrd.core.reasons import Reason
from fmrd.core.record import PlexRecord, Record, Stamp, VolumeRecord
from fmrd.errors import Refused


@dataclass(frozen=True)
class Found:
    """What is there of one plex. ``image``: its travelling copy, None where it has none that can be read."""

    present: bool
    image: CopyImage | None = None
    stamp: Stamp | None = None
    is_block: bool = False
    problem: str = ""
    """Why it is not present, or not usable."""


@dataclass(frozen=True)
class Standing:
    """The verdict over one plex: on-line, or out with a state, a reason code and a sentence."""

    online: bool
    full: bool = False
    reason: Reason = Reason.NONE
    sentence: str = ""
    left_out: bool = False
    """By the administrator, who is not asked again."""


@dataclass(frozen=True)
class StartOptions:
    """What the administrator allowed: plexes by name."""

    without: frozenset[str] = frozenset()
    accept: str | None = None
    force: bool = False


def choose_record(home: CopyImage, found: Mapping[str, Found], options: StartOptions) -> Record:
    """Step 1: the home copy's newest valid slot, or, if its other slot is bad, what its open plexes may know better."""
    record = home.record
    if record is None:
        raise Refused("home_damaged", "no record of the home copy is valid", "import the volume from its plexes")
    if not home.torn:
        return record
    best = record
    snapshots = {p.uuid for v in record.volumes[1:] for p in v.plexes}
    for plex in (p for v in record.volumes for p in v.plexes):
        if not plex.is_open or plex.name in options.without:
            continue
        here = found.get(plex.uuid)
        if here is None or not here.present:
            if not options.force and plex.uuid not in snapshots:
                raise Refused(
                    "home_torn",
                    f"volume {record.volume.name}: a record slot of the home copy is damaged, and plex {plex.name}, "
                    "which might hold the newest record, is absent",
                    f"bring {plex.name} back, or start --force with what is here",
                )
            continue
        theirs = here.image.record if here.image else None
        if theirs and theirs.family == record.family and theirs.lineage == record.lineage:
            best = max(best, theirs, key=lambda r: r.sequence)
    return best


def judge_plexes(
    record: Record, volume: VolumeRecord, found: Mapping[str, Found], options: StartOptions
) -> dict[str, Standing]:
    """Steps 2 and 3, and PROTOCOLS, "Stamps": by plex uuid. Refused('foreign_plex') where the pasts do not fit."""
    return {p.uuid: _judge(record, volume, p, found.get(p.uuid, Found(False)), options) for p in volume.plexes}


def _judge(record: Record, volume: VolumeRecord, plex: PlexRecord, here: Found, options: StartOptions) -> Standing:
    if plex.name in options.without or plex.excluded:
        return Standing(False, sentence=f"plex {plex.name} is left out (--without)", left_out=True)
    if not here.present:
        return Standing(False, sentence=f"plex {plex.name} cannot be had: {here.problem or plex.path}")
    theirs = here.image.record if here.image else None
    if options.accept is not None:
        if plex.name == options.accept:
            return Standing(True, sentence=f"plex {plex.name} is taken as it is (--accept)")
        return Standing(False, True, Reason.FULL_BACKING_CHANGED, f"plex {plex.name} gives way to {options.accept}")
    if theirs is None:
        known = plex.reason if plex.reason.is_full else Reason.FULL_MAP_LOST
        return Standing(False, True, known, f"plex {plex.name} has no readable copy of the DCO beside it")
    assert here.image is not None
    if theirs.family != record.family or here.image.owner != plex.uuid:
        return Standing(
            False, True, Reason.REFUSED_UNKNOWN_PLEX, f"plex {plex.name} carries the DCO of another volume or plex"
        )
    if not record.knows(theirs.position) and theirs.position != plex.has:
        raise Refused(
            "foreign_plex",
            f"volume {volume.name}: plex {plex.name} was at {theirs.sequence} of lineage {theirs.lineage[:8]}, "
            f"which the home copy ({record.sequence} of {record.lineage[:8]}) does not know",
            f"import the plexes to take that line, or start --without {plex.name}",
        )
    if not plex.is_open:
        return Standing(False, reason=plex.reason)
    if plex.has is not None and not theirs.knows(plex.has):
        return Standing(False, True, Reason.FULL_BACKING_CHANGED, f"an old image of plex {plex.name} was restored")
    if volume.settled and not here.is_block and here.stamp != plex.stamp:
        return Standing(
            False, True, Reason.FULL_BACKING_CHANGED, f"plex {plex.name} was changed while the volume was stopped"
        )
    return Standing(True)
