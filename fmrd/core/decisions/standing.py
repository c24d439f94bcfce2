"""This module judges who is on-line at a start, by what was found of the plexes and of their copies of the DCO.

It takes steps 1 to 3 of PROTOCOLS, "Start at home". Nothing is opened here; recovery.py goes on with the verdicts.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fmrd.core.images import CopyImage, ahead
from fmrd.core.reasons import Reason
from fmrd.core.record import PlexRecord, Record, VolumeRecord
from fmrd.core.stamps import Stamp, changed
from fmrd.errors import Refused

SETTLE = "see to it that nothing is under way there (restart its server, mount it anew)"
"""What is to be done where nothing proves it."""


@dataclass(frozen=True)
class Found:
    """What is there of one plex. ``image``: the travelling copy that lies there, whosever it is. None: none."""

    present: bool
    image: CopyImage | None = None
    stamp: Stamp | None = None
    is_block: bool = False
    problem: str = ""
    """Why it is not present, or not usable."""
    fenced: bool = False
    """That it could be opened proves that nothing of an earlier session will be carried out there any more."""

    def is_plex(self, record: Record, plex_uuid: str) -> bool:
        """Does the DCO that lies there name that plex? A path alone names nobody: another disk may lie there."""
        return self.present and self.image is not None and self.image.names(record.family, plex_uuid)


@dataclass(frozen=True)
class Standing:
    """This is the verdict over one plex: it is on-line, or it is out, with a reason code and a sentence; ``full`` says
    that everything will be copied to it.
    """

    online: bool
    full: bool = False
    reason: Reason = Reason.NONE
    sentence: str = ""
    left_out: bool = False
    """By the administrator, who is not asked again."""
    accepted: bool = False
    """The administrator takes it as it is, though others changed it."""


@dataclass(frozen=True)
class StartOptions:
    """These are a start's options as the administrator gave them: plexes by name; ``force`` takes an older record;
    ``settled`` says that nothing of an earlier session will be carried out on any plex.
    """

    without: frozenset[str] = frozenset()
    accept: str | None = None
    force: bool = False
    settled: bool = False


def choose_record(home: CopyImage, found: Mapping[str, Found], options: StartOptions) -> Record:
    """Take step 1: return the home copy's newest valid record, or, if its other slot is bad, what its open plexes know
    better. Refused('home_damaged') where no slot is valid, ('home_torn') where a plex that might know more is absent.
    """
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
        if here is None or not here.is_plex(record, plex.uuid):
            if not options.force and plex.uuid not in snapshots:
                raise Refused(
                    "home_torn",
                    f"volume {record.volume.name}: a record slot of the home copy is damaged, and plex {plex.name}, "
                    "which might hold the newest record, is absent",
                    f"bring {plex.name} back, or start --force with what is here",
                )
            continue
        theirs = here.image.record if here.image else None
        if theirs and theirs.lineage == record.lineage:
            best = max(best, theirs, key=lambda r: r.sequence)
    return best


def judge_plexes(
    record: Record, volume: VolumeRecord, found: Mapping[str, Found], options: StartOptions
) -> dict[str, Standing]:
    """Take steps 2 and 3 (PROTOCOLS, "Stamps"): return the verdicts by plex uuid, or raise Refused('foreign_plex')."""
    return {p.uuid: _judge(record, volume, p, found.get(p.uuid, Found(False)), options) for p in volume.plexes}


def _judge(record: Record, volume: VolumeRecord, plex: PlexRecord, here: Found, options: StartOptions) -> Standing:
    if plex.name in options.without or plex.excluded:
        return Standing(False, sentence=f"plex {plex.name} is left out (--without)", left_out=True)
    if not here.present:
        return Standing(False, sentence=f"plex {plex.name} cannot be had: {here.problem or plex.path}")
    theirs = here.image.record if here.image else None
    named = here.is_plex(record, plex.uuid)
    if theirs is not None and not named:
        whose = f"the DCO of another plex (volume {theirs.volume.name}, family {theirs.family[:8]})"
        if options.accept == plex.name:
            raise Refused(
                Reason.REFUSED_UNKNOWN_PLEX,
                f"plex {plex.name}: at {plex.path} lies {whose}",
                "put the plex there first",
            )
        return _stranger(plex, whose)
    unproven = plex.session and not (here.fenced or options.settled)
    if options.accept is not None:
        if plex.name == options.accept:
            if unproven:
                raise Refused(Reason.SESSION_OPEN, _session_open(plex), f"{SETTLE}, then start --settled")
            return Standing(True, sentence=f"plex {plex.name} is taken as it is (--accept)", accepted=True)
        return Standing(False, named, Reason.FULL_BACKING_CHANGED, f"plex {plex.name} gives way to {options.accept}")
    if not named:
        return _stranger(plex, "no DCO that names it")
    if theirs is None:
        known = plex.reason if plex.reason.is_full else Reason.FULL_MAP_LOST
        return Standing(False, True, known, f"plex {plex.name} has no readable record in its copy of the DCO")
    if not record.knows(theirs.position) and theirs.position != plex.has:
        raise Refused(
            "foreign_plex",
            f"volume {volume.name}: plex {plex.name} was at {theirs.sequence} of lineage {theirs.lineage[:8]}, "
            f"which the home copy ({record.sequence} of {record.lineage[:8]}) does not know",
            f"import the plexes to take that line, or start --without {plex.name}",
        )
    if not plex.is_open:
        return Standing(False, reason=plex.reason)
    if unproven:
        return Standing(False, reason=Reason.SESSION_OPEN, sentence=_session_open(plex))
    if plex.has is not None and not theirs.knows(plex.has):
        return Standing(False, True, Reason.FULL_BACKING_CHANGED, f"an old image of plex {plex.name} was restored")
    if volume.settled and (how := changed(plex.stamp, here.stamp, is_block=here.is_block)):
        sentence = f"plex {plex.name} was changed while the volume was stopped: it {how}"
        return Standing(False, True, Reason.FULL_BACKING_CHANGED, sentence)
    return Standing(True)


def judge_pages(
    record: Record, volume: VolumeRecord, home: CopyImage, found: Mapping[str, Found], standing: Mapping[str, Standing]
) -> None:
    """Step 2, of what lies between two records. All pages that are written at once bear one sequence, and the next are
    written when the home copy has these: so a crash leaves the others ahead of it by one sequence. By two, and the home
    copy was put back as it was under the same record. Refused('foreign_plex').
    """
    columns = record.columns_of(volume)
    newer: set[int] = set()
    for plex in volume.plexes:
        image = found.get(plex.uuid, Found(False)).image
        if image is None or not standing[plex.uuid].online or not plex.is_open:
            continue
        newer |= ahead(columns, home, image)
        if len(newer) > 1:
            raise Refused(
                "foreign_plex",
                f"volume {volume.name}: the copy of the DCO of plex {plex.name} knows of writes after which the home "
                "copy was put back as it had been before",
                f"import the plexes to take what they know, or start --without {plex.name}",
            )


def _session_open(plex: PlexRecord) -> str:
    return (
        f"plex {plex.name}: what the fmrd before had under way at {plex.path} may be carried out there yet, over newer "
        "bytes, and nothing there proves that it is over"
    )


def _stranger(plex: PlexRecord, what: str) -> Standing:
    """As if the plex were absent: what lies there tells nothing of it, and it may come back as it was."""
    return Standing(
        False, reason=Reason.REFUSED_UNKNOWN_PLEX,
        sentence=f"plex {plex.name} is not there: at {plex.path} lies {what}; nothing is written to it",
    )  # fmt: skip
