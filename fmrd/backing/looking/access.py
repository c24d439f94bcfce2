"""Whose a file is, who may read it, and who may put something else in its place. Facts; the engine decides."""

import os
import shlex
import stat

from fmrd.backing.looking.findings import Finding, Kind, Place
from fmrd.backing.looking.machine import Machine
from fmrd.backing.looking.trail import Resolved, Step
from fmrd.core.printable import printable

_ROOT = 0


def below_dev(machine: Machine, resolved: Resolved) -> list[Finding]:
    """A regular file there would lie in memory, under a device's name. What is mounted below /dev (shm) is no part of
    it.
    """
    dev = os.path.realpath(machine.dev)
    if not resolved.path.startswith(f"{dev}/"):
        return []
    home = machine.mounts.holding(dev)
    here = resolved.mount
    if here is not None and home is not None and here.number != home.number and here.type != "devtmpfs":
        return []
    what = "there is no such device, and" if resolved.status is None else "it is no device, and"
    return [Finding(Kind.BELOW_DEV, f"{what} no plex is a file below {dev}", where=dev)]


def of_file(resolved: Resolved, place: Place) -> list[Finding]:
    """Of a regular file, or of where one would be made."""
    found = []
    status = resolved.status
    name = shlex.quote(resolved.path)
    if place is Place.FILE and status is not None:
        if status.st_uid != os.geteuid():
            words = f"it belongs to the user {status.st_uid}"
            found.append(Finding(Kind.FOREIGN_OWNER, words, mend=f"chown {os.geteuid()} {name}"))
        if mode := stat.S_IMODE(status.st_mode) & 0o077:
            who = " and ".join(w for w, bits in (("its group", 0o070), ("others", 0o007)) if mode & bits)
            words = f"{who} may use it (mode {stat.S_IMODE(status.st_mode):04o})"
            found.append(Finding(Kind.OPEN_MODE, words, mend=f"chmod 600 {name}"))
    by_directory = {step.directory: finding for step in resolved.steps if (finding := _of_step(step)) is not None}
    return [*found, *by_directory.values()]


def _of_step(step: Step) -> Finding | None:
    mode, owner = stat.S_IMODE(step.holds.st_mode), step.holds.st_uid
    trusted = (_ROOT, os.geteuid())
    who = ""
    if mode & 0o002:
        who = "others"
    elif owner not in trusted:
        who = "owner"
    elif mode & 0o020:
        who = "group"
    if not who:
        return None
    directory = printable(step.directory)
    mend = f"chmod go-w {shlex.quote(step.directory)}" if who != "owner" else ""
    if mode & stat.S_ISVTX and owner in trusted:
        # What is there and belongs to whom we trust is safe; what is made there, others may have made before.
        if step.entry is not None and step.entry.st_uid in trusted and not stat.S_ISREG(step.entry.st_mode):
            return None
        words, mend = f"{_WHO[who]} may make files in {directory} first", ""
    else:
        words = f"{_WHO[who]} may put something in its place, in {directory}"
    return Finding(Kind.UNSAFE_DIRECTORY, words, type=who, where=step.directory, mend=mend)


_WHO = {"others": "everybody", "group": "a group", "owner": "another user"}
