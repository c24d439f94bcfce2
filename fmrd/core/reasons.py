"""Why something is copied, or is not: the codes of every decision to copy. explanations.py says what each means."""

from enum import StrEnum


class Reason(StrEnum):
    """Of a copy, of a refused one, or of what a plex waits for. Programs rely on the values: none is renamed."""

    NONE = ""
    """A plex that is as it should be."""
    NOTHING_MISSED = "nothing_missed"
    FAST = "fast"
    FULL_NEW_PLEX = "full_new_plex"
    FULL_FMR_OFF = "full_fmr_off"
    FULL_MAP_LOST = "full_map_lost"
    FULL_BACKING_CHANGED = "full_backing_changed"
    FULL_FORCED = "full_forced"
    RECOVERY = "recovery"
    HOLE = "hole"
    GROWN = "grown"
    VERIFY = "verify"
    RESTORE = "restore"
    """An open plex misses what a restore copies to it; its copies are told as FAST."""
    REFUSED_SPLIT_BRAIN = "refused_split_brain"
    REFUSED_UNKNOWN_PLEX = "refused_unknown_plex"
    REFUSED_INCOMPLETE = "refused_incomplete"

    @property
    def is_full(self) -> bool:
        """Is everything copied?"""
        return self in _FULL


_FULL = frozenset(reason for reason in Reason if reason.startswith("full_"))


def reason_of(text: str) -> Reason:
    """As a record has it. One that only a newer fmrd knows says less here, never more: a copy in full stays one."""
    try:
        return Reason(text)
    except ValueError:
        return Reason.FULL_MAP_LOST if text.startswith("full_") else Reason.NONE
