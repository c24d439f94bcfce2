"""What a plex and a copy of the DCO ask of the session that they lie behind: an NBD server's (session.py), or that of a
library which carries out the same requests (backing/rbd).
"""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from fmrd.backing.nbd.speaking.negotiation import Export
from fmrd.backing.nbd.speaking.replies import Request
from fmrd.backing.nbd.users import Users
from fmrd.core.far.uris import Uri


class Line(Protocol):
    """One session: requests are handed to it on any thread by ``carry_out``, and on trio's by ``begin``."""

    export: Export
    users: Users
    begins: bool
    """It lives on trio's thread; False where none runs."""
    peer: object
    """Who answers, however that was named; None: nobody can tell."""
    patience_seconds: float
    round_trips: deque[float]

    @property
    def uri(self) -> Uri:
        """Return what it was opened as."""

    @property
    def lost(self) -> OSError | None:
        """Return why it is over, once it is."""

    def own(self) -> None:
        """See to it that nothing of an earlier session is carried out any more, as far as its URI says that this can
        be had. FmrdError where it cannot. On a worker thread, before the first write.
        """

    def be_patient(self, seconds: float) -> None:
        """So long an answer may take; from any thread."""

    def carry_out(self, requests: Sequence[Request]) -> None:
        """Have them begun together, and return when all have ended; an error of them is raised."""

    def begin(self, request: Request) -> None:
        """Begin one, on trio's thread; its end is told later, or in this step."""

    def begin_all(self, requests: Sequence[Request]) -> None:
        """The same of several, which go out together."""

    def hang_up(self) -> None:
        """End it at once, on trio's thread."""

    def let_go(self, *, plex: bool = False, parks: bool = False) -> None:
        """One user less; the last one closes it."""
