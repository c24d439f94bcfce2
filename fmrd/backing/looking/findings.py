"""What a look finds, as values, and in words that are safe wherever they are printed.

Labels and names come from disks, and anybody may have written those: every text of a ``Finding`` has its control
characters, line ends, escape sequences and marks of direction spelled out, and has an end.
"""

import os
from dataclasses import dataclass, fields
from enum import StrEnum

from fmrd.core.printable import PATH_CHARACTERS, printable

LABEL_CHARACTERS = 80
SENTENCE_CHARACTERS = 1200


class Kind(StrEnum):
    """What was found. ``SWAP``, ``MD``, ``LVM`` and ``LUKS`` are signatures among what is on a disk, and owners among
    those who use it.
    """

    FILESYSTEM = "filesystem"
    PARTITION_TABLE = "partition_table"
    SWAP = "swap"
    MD = "md"
    LVM = "lvm"
    LUKS = "luks"
    ZFS = "zfs"
    SIGNATURE = "signature"
    """Anything else that libblkid knows: bcache, DRBD, BitLocker, hardware RAID..."""
    FMRD_MEMBER = "fmrd_member"
    NOT_EMPTY = "not_empty"
    SIDECAR = "sidecar"
    """Beside a file lies PATH.dco, and that is no copy of the DCO."""
    UNREADABLE = "unreadable"
    """What lies there could not be looked at, so that nobody can say that it is blank."""
    MOUNTED = "mounted"
    HOLDER = "holder"
    LOOP_BACKING = "loop_backing"
    LOCKED = "locked"
    BUSY = "busy"
    OWN_MOUNT = "own_mount"
    BELOW_DEV = "below_dev"
    NO_DIRECTORY = "no_directory"
    NOT_A_PLEX = "not_a_plex"
    FOREIGN_OWNER = "foreign_owner"
    OPEN_MODE = "open_mode"
    UNSAFE_DIRECTORY = "unsafe_directory"


class Place(StrEnum):
    """What is at the path, links followed."""

    MISSING = "missing"
    FILE = "regular file"
    DEVICE = "block device"
    DIRECTORY = "directory"
    CHARACTER = "character device"
    FIFO = "fifo"
    SOCKET = "socket"
    DANGLING = "link that leads nowhere"
    UNSEEN = "not looked at"
    """It leads to fmrd's own mount, where a look might wait for fmrd itself."""


@dataclass(frozen=True)
class Finding:
    """One fact. ``sentence`` completes "PATH: ..."; every text is ``printable``."""

    kind: Kind
    sentence: str
    type: str = ""
    """ext4, gpt, LVM2_member, raid1; of an unsafe directory who may write there: others, group, owner."""
    label: str = ""
    uuid: str = ""
    """Of the file system, the table, the array; of a DCO its family."""
    where: str = ""
    """Where it is mounted, who holds it, which file was meant."""
    mend: str = ""
    """A command that would mend it, where one would."""

    def __post_init__(self) -> None:
        most = {"sentence": SENTENCE_CHARACTERS, "where": PATH_CHARACTERS, "mend": 2 * PATH_CHARACTERS}
        for each in fields(self):
            if each.name != "kind":
                text = printable(getattr(self, each.name), most.get(each.name, LABEL_CHARACTERS))
                object.__setattr__(self, each.name, text)


@dataclass(frozen=True)
class Seen:
    """What ``look`` saw."""

    path: str
    """As it was asked for. Not escaped, like ``real``: for calls, not for people."""
    place: Place
    real: str
    """Without links; of what is missing, where it would be made."""
    size: int = 0
    """In bytes, of a file or a device."""
    in_use: tuple[Finding, ...] = ()
    """Somebody has it, or it is a plex of fmrd: no option makes it free."""
    has_data: tuple[Finding, ...] = ()
    """What would be lost."""
    impossible: tuple[Finding, ...] = ()
    """Why it cannot be a plex at all."""
    unsafe: tuple[Finding, ...] = ()
    """Others may read it, change it, or put something in its place."""
    zeros: bool = True
    """A device's first and last MiB read as zeros; a file is all hole, or empty. Where nothing is recognised and this
    is False, something that nobody marked lies there (a raw database, dm-crypt without a header).
    """

    identity: tuple[int, int, int] | None = None
    """Of a file or device; see ``is_same``."""

    def is_same(self, status: os.stat_result) -> bool:
        """Is what was opened later what was looked at? It is not, where nothing was there."""
        return self.identity == identity_of(status)

    @property
    def exists(self) -> bool:
        return self.place not in (Place.MISSING, Place.UNSEEN)

    @property
    def blank(self) -> bool:
        """Nothing there is recognised, and nobody has it. Whether unmarked bytes lie there ``zeros`` tells."""
        return not (self.in_use or self.has_data or self.impossible)


def identity_of(status: os.stat_result) -> tuple[int, int, int]:
    """What stays the same for as long as it is the same file, or node of the same device."""
    return status.st_dev, status.st_ino, status.st_rdev
