"""These are the codes of every decision to copy something or not to; explanations.py says what each one means."""

from enum import StrEnum


class Reason(StrEnum):
    """A reason belongs to a copy, to one that was refused, or to a plex that waits for one. Programs rely on the
    values, so none is renamed.
    """

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
    SESSION_OPEN = "session_open"
    """A call failed on a plex behind a network or a server, and may be carried out there yet."""

    @property
    def is_full(self) -> bool:
        """Tell whether this reason makes a copy of everything."""
        return self in _FULL


_FULL = frozenset(reason for reason in Reason if reason.startswith("full_"))


def reason_of(text: str) -> Reason:
    """Return the reason that a record names. What only a newer fmrd knows says less here; a full copy stays one."""
    try:
        return Reason(text)
    except ValueError:
        return Reason.FULL_MAP_LOST if text.startswith("full_") else Reason.NONE
