"""How far away a file is: on a local disk, or behind a session with somebody else, who may carry out what was sent
there after that session is lost, over newer bytes (PROTOCOLS, "Join", "Far").
"""

from dataclasses import dataclass
from typing import Protocol


class Reach(Protocol):
    """What a file says of that, of the data of a plex or of a copy of the DCO."""

    far: str
    """What lies on the way to its bytes, such as "NFS", where an error does not end a call; "" for a local disk. An
    error that the far side itself gave is ``Answered``, and does.
    """
    fence: str
    """What proves, by being opened anew, that nothing of an earlier session will be carried out any more: "single", its
    server takes one client at a time; "lock", one on the far side. "" where nothing does.
    """

    def hang_up(self) -> None:
        """End the session at once: calls on it were given up, and nobody comes back to them. Those under way fail soon,
        unanswered. It does not block, and does nothing where there is no session.
        """


@dataclass(frozen=True)
class Standing:
    """How a session with the far side stands. Seconds are those of the latest short requests; None before the first."""

    lost: str
    """Why it is over; "" while it is not."""
    median_seconds: float | None
    p99_seconds: float | None


class Reached(Reach, Protocol):
    """What the data of a plex says besides."""

    patience_seconds: float
    """How long an answer may take, which whoever opens it says. A session asks now and then whether its server is there
    (docs/FAR.md, "While it runs").
    """

    @property
    def standing(self) -> Standing | None:
        """Return how its session stands, from any thread; None where there is none."""
