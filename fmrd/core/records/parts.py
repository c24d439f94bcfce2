"""These are parts of a record: columns and what ties volumes together, and what it tells of failures, snapshots, marks
and streams.
"""

from dataclasses import dataclass
from enum import StrEnum

from fmrd.core.printable import printable
from fmrd.errors import FmrdError

MOST_TOLD = 200
"""Characters of a failure's sentence that a record keeps."""


@dataclass(frozen=True)
class Position:
    """A position is a point in the life of a family: its lineage (one an opening) and its sequence (one a record)."""

    lineage: str
    sequence: int


@dataclass(frozen=True)
class Column:
    """A column says where in the DCO the pages of a bitmap lie, and which epoch these must carry to count."""

    index: int
    epoch: int


@dataclass(frozen=True)
class Failure:
    """This is why a plex is out by itself: for whoever reads it, nothing decides by it. ``code`` is empty where the
    plex's reason says it, ``errno`` None where no call failed, ``since`` (seconds since the epoch) where no clock was.
    """

    code: str
    message: str
    errno: int | None = None
    since: float | None = None

    @staticmethod
    def by(why: object) -> "Failure | None":
        """Of an exception, or a sentence; None of nothing."""
        if why is None:
            return None
        message = printable(why.message if isinstance(why, FmrdError) else str(why), MOST_TOLD)
        return Failure(
            why.code if isinstance(why, FmrdError) else "", message, why.errno if isinstance(why, OSError) else None
        )


@dataclass(frozen=True)
class Link:
    """A link ties a snapshot volume to its original by one map on each side, both empty at the instant."""

    origin: Column
    """What the original wrote since. A column of the original's."""
    own: Column
    """What the snapshot wrote since."""
    unkept: Column | None = None
    """Of an instant snapshot, whose plex holds only what either side has written over: regions of which the old data
    could not be kept. A column of the original's.
    """


class Kind(StrEnum):
    """How a snapshot was taken: plexes left with all data, or its plex was empty and gets what is written over."""

    BREAK_OFF = "break-off"
    INSTANT = "instant"


@dataclass(frozen=True)
class Taken:
    """When a snapshot was taken, in seconds since the epoch, and how: for whoever reads it."""

    at: float
    kind: Kind


@dataclass(frozen=True)
class Content:
    """What a volume holds or is to hold, by the snapshot that it came from, maybe on another machine."""

    uuid: str
    """The snapshot's."""
    name: str
    length_bytes: int
    pristine: bool
    """Nobody had written to that snapshot since its instant."""


@dataclass(frozen=True)
class Mark:
    """A mark names a moment of a volume, and the column of what was written since (core/marks.py)."""

    name: str
    uuid: str
    column: Column
    since: float
    """Seconds since 1970."""
    covers: tuple[str, ...] = ()
    """The snapshots that were taken since, by uuid, oldest first."""
    holds: Content | None = None
    """What the volume held at that moment, if a stream brought it."""


@dataclass(frozen=True)
class Receiving:
    """This is how far a stream has come that is received into a snapshot. ``chain`` is the digest of all before."""

    stream: str
    content: Content
    source: str = ""
    """What the sender needs to go on with it; nobody else reads that."""
    chunks: int = 0
    offset_bytes: int = 0
    chain: str = ""
    partial: bool = False
    """It is a part of something, put back: the volume then holds nothing that has a name."""
