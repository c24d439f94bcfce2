"""VxVM's words for plexes and volumes, as tables. A plex's *gate* decides whether I/O reaches it."""

from enum import StrEnum


class PlexState(StrEnum):
    """What a plex is to its volume. SNAPTMP and SNAPDIS of VxVM have no use here: each verb is one commit."""

    ACTIVE = "ACTIVE"
    TEMP = "TEMP"
    STALE = "STALE"
    IOFAIL = "IOFAIL"
    OFFLINE = "OFFLINE"
    SNAPATT = "SNAPATT"
    SNAPDONE = "SNAPDONE"


class KState(StrEnum):
    """What reaches an object: all I/O, only plex operations, nothing."""

    ENABLED = "ENABLED"
    DETACHED = "DETACHED"
    DISABLED = "DISABLED"


class VolumeState(StrEnum):
    """CLEAN: stopped in order. SYNC: recovering from a crash. NEEDSYNC: stopped, and not in order."""

    CLEAN = "CLEAN"
    ACTIVE = "ACTIVE"
    SYNC = "SYNC"
    NEEDSYNC = "NEEDSYNC"


class TaskType(StrEnum):
    """What a task does: attach a plex, recover or heal one, fill a snapshot plex, return, complete, undo, compare."""

    PLXATT = "PLXATT"
    RDWRBACK = "RDWRBACK"
    SNAPATT = "SNAPATT"
    SNAPBACK = "SNAPBACK"
    SNAPSYNC = "SNAPSYNC"
    UNDO = "UNDO"
    VERIFY = "VERIFY"


class TaskState(StrEnum):
    """How far it is. Only the first two may change."""

    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    ABORTED = "aborted"


OPEN_GATE = (PlexState.ACTIVE, PlexState.TEMP, PlexState.SNAPATT, PlexState.SNAPDONE)
"""In the order of their frequency: asked with every request, and a tuple does not hash."""
IN_SYNC = frozenset({PlexState.ACTIVE, PlexState.SNAPDONE})

PROMOTED = {PlexState.TEMP: PlexState.ACTIVE, PlexState.SNAPATT: PlexState.SNAPDONE}
"""Where an attaching plex arrives when its map is empty and durable."""

KSTATE = {
    PlexState.ACTIVE: KState.ENABLED,
    PlexState.TEMP: KState.ENABLED,
    PlexState.SNAPATT: KState.ENABLED,
    PlexState.SNAPDONE: KState.ENABLED,
    PlexState.STALE: KState.DETACHED,
    PlexState.IOFAIL: KState.DETACHED,
    PlexState.OFFLINE: KState.DISABLED,
}

READ_WRITE = frozenset({PlexState.ACTIVE})
"""Shown as RW; the others with an open gate are WO, though regions they hold already may be read from them."""


def mode(state: PlexState) -> str:
    """The MODE column of vxprint: RW, WO, or - for a closed gate."""
    if state in READ_WRITE:
        return "RW"
    return "WO" if state in OPEN_GATE else "-"
