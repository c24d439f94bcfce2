"""``look``: what lies at a path, before it is taken for a plex or a copy of the DCO."""

import errno
import os
import stat
from dataclasses import replace

from fmrd.backing.holes import is_hole
from fmrd.backing.looking import access, contents
from fmrd.backing.looking.findings import Finding, Kind, Place, Seen, identity_of
from fmrd.backing.looking.machine import Machine, number_of
from fmrd.backing.looking.trail import Resolved, Trail, in_words
from fmrd.backing.looking.users import Users
from fmrd.core.printable import printable

SIDECAR_SUFFIX = ".dco"

_PLACES = {
    stat.S_IFREG: Place.FILE,
    stat.S_IFBLK: Place.DEVICE,
    stat.S_IFDIR: Place.DIRECTORY,
    stat.S_IFCHR: Place.CHARACTER,
    stat.S_IFIFO: Place.FIFO,
    stat.S_IFSOCK: Place.SOCKET,
}


def look(path: str, mount: str | None = None, *, sidecar: bool = True, machine: Machine | None = None) -> Seen:
    """Look at ``path`` (absolute) and change nothing.

    ``mount``: fmrd's own mount point; what leads back to it is told (OWN_MOUNT), and not looked at any further.
    ``sidecar``: also at PATH.dco, where a plex that is no device has its copy of the DCO; False where that goes
    elsewhere, or where ``path`` itself is to be a copy of the DCO: then only a DCO of fmrd counts there.

    Blocks as long as the disk does. OSError where the path cannot be followed or opened: that is no fact about what
    is there.
    """
    machine = machine or Machine()
    trail = Trail(machine, mount)
    chain = trail.chain_of_path(path)
    resolved = trail.resolve(path)
    if chain:
        finding = Finding(Kind.OWN_MOUNT, in_words(chain), where=chain[-1])
        return Seen(path, Place.UNSEEN, resolved.path, in_use=(finding,))
    place = _place(resolved)
    if place is Place.DEVICE:
        return _with_identity(_device(path, resolved, machine, trail), resolved)
    if place in (Place.FILE, Place.MISSING):
        return _with_identity(_file(path, resolved, place, machine, trail, sidecar=sidecar), resolved)
    finding = Finding(Kind.NOT_A_PLEX, f"a {place}, neither a regular file nor a block device", type=place)
    return Seen(path, place, resolved.path, impossible=(finding,))


def _with_identity(seen: Seen, resolved: Resolved) -> Seen:
    return seen if resolved.status is None else replace(seen, identity=identity_of(resolved.status))


def _place(resolved: Resolved) -> Place:
    if resolved.status is None:
        return Place.DANGLING if resolved.dangling else Place.MISSING
    return _PLACES[stat.S_IFMT(resolved.status.st_mode)]


def _device(path: str, resolved: Resolved, machine: Machine, trail: Trail) -> Seen:
    assert resolved.status is not None, "a device has one"
    users = Users(machine, trail)
    block = machine.block(number_of(resolved.status.st_rdev))
    in_use = users.of_device(block) if block is not None else []
    if not in_use and _is_owned(resolved.path):
        in_use.append(Finding(Kind.BUSY, "somebody has it for himself (a mount elsewhere, another fmrd, a pool)"))
    if block is not None and (below := block.backing_file) is not None:
        in_use += _beneath(trail.resolve(below), users)
    try:
        descriptor = _open(resolved)
    except OSError:
        if in_use:  # who has it is known, and that is enough
            return Seen(path, Place.DEVICE, resolved.path, in_use=tuple(in_use), zeros=False)
        raise
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        has_data, members, zeros = contents.of_device(descriptor, block)
    finally:
        os.close(descriptor)
    return Seen(path, Place.DEVICE, resolved.path, size, tuple(in_use + members), tuple(has_data), zeros=zeros)


def _beneath(file: Resolved, users: Users) -> list[Finding]:
    """A loop device over a plex of fmrd, or over a file that somebody locked, is no free disk."""
    if file.status is None or not stat.S_ISREG(file.status.st_mode):
        return []
    found = [*users.locks(file), *contents.of_sidecar(file.path + SIDECAR_SUFFIX)[1]]
    words = f"it lies on the file {printable(file.path)}"
    return [replace(each, sentence=f"{words}: {each.sentence}") for each in found]


def _file(path: str, resolved: Resolved, place: Place, machine: Machine, trail: Trail, *, sidecar: bool) -> Seen:
    in_use: list[Finding] = []
    has_data: list[Finding] = []
    impossible = access.below_dev(machine, resolved)
    size, hole = 0, True
    if resolved.stops_at:
        words = f"{resolved.stops_at} is no directory"
        impossible.append(Finding(Kind.NO_DIRECTORY, words, where=resolved.stops_at))
    elif place is Place.FILE:
        in_use += Users(machine, trail).of_file(resolved)
        descriptor = _open(resolved)
        try:
            size = os.fstat(descriptor).st_size
            hole = is_hole(descriptor)
            if not hole:
                has_data, members = contents.of_file(descriptor)
                in_use += members
        finally:
            os.close(descriptor)
    if not impossible:
        asked = os.path.join(trail.resolve(os.path.dirname(path)).path, os.path.basename(path))
        for base in dict.fromkeys((asked, resolved.path)):  # of a link, beside it and beside what it names
            beside, wanted = base + SIDECAR_SUFFIX, sidecar and base == asked
            try:
                chain = trail.chain_of_path(beside)
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                words = f"the name of its copy of the DCO is too long ({printable(beside)}); ,dco= gives another"
                impossible += [Finding(Kind.NOT_A_PLEX, words, where=beside)] if wanted else []
                continue
            if chain:
                in_use += [Finding(Kind.OWN_MOUNT, in_words(chain), where=beside)] if wanted else []
                continue
            strange, members = contents.of_sidecar(beside)
            in_use += members
            has_data += strange if wanted else []
    unsafe = access.of_file(resolved, place)
    return Seen(
        path, place, resolved.path, size, tuple(in_use), tuple(has_data), tuple(impossible), tuple(unsafe), zeros=hole
    )  # fmt: skip


def _is_owned(path: str) -> bool:
    """O_EXCL of a device fails where somebody opened it so, or mounted it; here it lasts for a moment only."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        raise
    return False


def _open(resolved: Resolved) -> int:
    """For reading; O_NONBLOCK, so that a fifo that was put there meanwhile does not hold us up."""
    descriptor = os.open(resolved.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if resolved.status is None or identity_of(os.fstat(descriptor)) != identity_of(resolved.status):
        os.close(descriptor)
        raise OSError(errno.ESTALE, f"{resolved.path} was replaced while it was looked at")
    return descriptor
