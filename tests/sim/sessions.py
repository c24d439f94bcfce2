"""Plexes behind servers: sessions that are lost, what was sent in them and lands later, and who proves that it is over.

What was under way in a session that ended, by an error, by hand or with the daemon, may be carried out at any later
moment, over newer bytes, or never. A server with a fence lets a new session in only when nothing of an earlier one is
left; until then it says that it is busy. Any other server lets it in at once.
"""

import errno
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fmrd.errors import Failed

FENCES = ("", "single", "lock")
LANDING = 0.01
"""How probable it is that something lands, with each call of the machine."""


class Late(Protocol):
    """What may be carried out yet."""

    def __call__(self) -> None: ...


@dataclass(frozen=True)
class Server:
    """``far``: as of a Backing."""

    far: str = ""
    fence: str = ""


class Sessions:
    """The far sides of a machine, by the path of a plex; its copy of the DCO lies on the same server."""

    proves = True
    """A fence proves what it says."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.fences: tuple[str, ...] = ()
        """Of the servers that there are; none: every plex lies on a local disk."""
        self.refused: Callable[[], None] = lambda: None
        """Called when a server is busy."""
        self._servers: dict[str, Server] = {}
        self._numbers: dict[str, int] = {}
        """Of the session that a path has."""
        self._lost: set[str] = set()
        self.late: list[tuple[str, Late]] = []

    def server(self, path: str) -> Server:
        """The first plex is near, mostly, so that a session that is lost is not all there is."""
        if path not in self._servers:
            near = not self.fences or self.rng.random() < (0.8 if path == "/a" else 0.1)
            self._servers[path] = Server() if near else Server("NBD", self.rng.choice(self.fences))
        return self._servers[path]

    def begin(self, path: str) -> int:
        """A new session; its number."""
        server = self.server(path)
        if server.fence and self.proves and any(where == path for where, _ in self.late):
            if self.rng.random() < 0.5:
                self.refused()
                raise Failed("plex_busy", f"the server of {path} has a client")
            self.end(path)
        self._lost.discard(path)
        self._numbers[path] = self._numbers.get(path, 0) + 1
        return self._numbers[path]

    def lose(self, path: str) -> None:
        if self.server(path).far:
            self._lost.add(path)

    def is_lost(self, path: str, number: int | None = None) -> bool:
        """``number``: of a session. Where there is a newer one, it is over."""
        return path in self._lost or (number is not None and self.is_newer(path, number))

    def number(self, path: str) -> int | None:
        """Of the latest session; None before the first."""
        return self._numbers.get(path)

    def is_newer(self, path: str, number: int | None) -> bool:
        """Is there a later session than that one?"""
        return number != self._numbers.get(path)

    def must_be_there(self, path: str, number: int | None = None) -> None:
        if self.is_lost(path, number):
            raise OSError(errno.ECONNRESET, f"the session with the server of {path} is lost")

    def cut_off(self, path: str, late: Late) -> None:
        """Sent, and not known to be carried out: now, later or never."""
        fate = self.rng.randrange(3)
        if fate == 0:
            late()
        elif fate == 1:
            self.late.append((path, late))

    def tick(self) -> None:
        if self.late and self.rng.random() < LANDING:
            self.late.pop(self.rng.randrange(len(self.late)))[1]()

    def end(self, path: str | None = None) -> None:
        """Of one path, or of all: what is under way is carried out now, in any order, or never."""
        ending = [late for where, late in self.late if path in (None, where)]
        self.late = [(where, late) for where, late in self.late if path not in (None, where)]
        self.rng.shuffle(ending)
        for late in ending:
            if self.rng.random() < 0.5:
                late()
