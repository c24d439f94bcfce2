"""States of plexes, volumes and tasks are tables, in VxVM's words. A plex's *gate* decides whether I/O reaches it."""

from enum import StrEnum


class PlexState(StrEnum):
    """This is what a plex is to its volume. SNAPTMP and SNAPDIS of VxVM have no use, since each verb is one commit."""

    ACTIVE = "ACTIVE"
    TEMP = "TEMP"
    STALE = "STALE"
    IOFAIL = "IOFAIL"
    OFFLINE = "OFFLINE"
    SNAPATT = "SNAPATT"
    SNAPDONE = "SNAPDONE"


class KState(StrEnum):
    """A KState says what reaches an object: all I/O, only plex operations, or nothing."""

    ENABLED = "ENABLED"
    DETACHED = "DETACHED"
    DISABLED = "DISABLED"


class VolumeState(StrEnum):
    """A volume is CLEAN when it was stopped in order, NEEDSYNC when it was not, SYNC while it recovers from a crash."""

    CLEAN = "CLEAN"
    ACTIVE = "ACTIVE"
    SYNC = "SYNC"
    NEEDSYNC = "NEEDSYNC"


class TaskType(StrEnum):
    """A task attaches a plex, recovers or heals one, fills a snapshot plex, returns, completes, undoes, or compares."""

    PLXATT = "PLXATT"
    RDWRBACK = "RDWRBACK"
    SNAPATT = "SNAPATT"
    SNAPBACK = "SNAPBACK"
    SNAPSYNC = "SNAPSYNC"
    UNDO = "UNDO"
    VERIFY = "VERIFY"


class TaskState(StrEnum):
    """A state says how far a task is. Only RUNNING and PAUSED may change."""

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
    """Return the MODE column of vxprint: RW, WO, or - for a closed gate."""
    if state in READ_WRITE:
        return "RW"
    return "WO" if state in OPEN_GATE else "-"
