"""Events: what happened to which volume, in one small ring in memory. Whoever tells one waits for nobody.

A listener is called in the same step, and must neither wait nor raise; a reader asks for what came after the last one
it knows. Sequences begin anew with each life of the daemon, so a *cursor* names both: ``LIFE.SEQUENCE``.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import trio

from fmrd.core.json_object import Json
from fmrd.core.printable import printable
from fmrd.engine.events.counts import Counts

log = logging.getLogger(__name__)

KEPT = 2000
"""Of a busy day; who comes later than that is told that something is missing."""
NOTED, NOTED_SECONDS = 20, 60.0
"""So many notes of one volume become events in that time."""
MOST_CHARACTERS = 500
"""Of a sentence."""


class Level(StrEnum):
    """A level says whether somebody should look."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


KINDS = {
    "daemon_started": Level.INFO,
    "daemon_stopping": Level.INFO,
    "volume_started": Level.INFO,
    "volume_stopped": Level.INFO,
    "volume_refused": Level.ERROR,
    "volume_noted": Level.WARNING,
    "volume_well": Level.INFO,
    "plex_failed": Level.WARNING,
    "plex_detached": Level.WARNING,
    "plex_attached": Level.INFO,
    "plex_in_sync": Level.INFO,
    "slow_plex": Level.WARNING,
    "slow_plex_over": Level.INFO,
    "copy_started": Level.INFO,
    "copy_done": Level.INFO,
    "copy_aborted": Level.WARNING,
    "copy_failed": Level.WARNING,
    "copies_differ": Level.ERROR,
    "night_done": Level.INFO,
    "night_failed": Level.WARNING,
    "night_missed": Level.WARNING,
    "snapshot_given_up": Level.WARNING,
    "store_filling": Level.WARNING,
    "store_grown": Level.INFO,
    "verb": Level.INFO,
    "verb_failed": Level.INFO,
    "hook_failed": Level.WARNING,
    "events_missed": Level.WARNING,
}
"""Each kind of event (docs/JSON.md says when it comes), and how loud it is."""


def in_log(volume: str, sentence: str) -> None:
    """Before anybody else hears of a volume."""
    log.warning("volume %s: %s", volume, sentence)


@dataclass(frozen=True)
class Event:
    """``time`` is seconds since the epoch. ``details`` are further fields of the event in docs/JSON.md; ``action`` is
    what to do, where somebody should.
    """

    life: str
    sequence: int
    time: float
    kind: str
    message: str
    volume: str | None = None
    plex: str | None = None
    action: str = ""
    details: Json = field(default_factory=dict)

    @property
    def level(self) -> Level:
        return KINDS[self.kind]

    @property
    def cursor(self) -> str:
        return f"{self.life}.{self.sequence}"

    @property
    def line(self) -> str:
        """What and what to do, in one line."""
        return f"{self.message}. What to do: {self.action}" if self.action else self.message

    def json(self) -> Json:
        """Return the event of docs/JSON.md."""
        return {
            "cursor": self.cursor, "time": self.time, "kind": self.kind, "level": self.level.value,
            "volume": self.volume, "plex": self.plex, "message": self.message, "action": self.action, **self.details,
        }  # fmt: skip


class Events:
    """The ring of one life of the daemon, used on trio's thread alone."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.life = f"{int(now() * 1000):x}"
        self._ring: deque[Event] = deque(maxlen=KEPT)
        self._next = 1
        self._more = trio.Event()
        self.counts = Counts()
        self.listeners: list[Callable[[Event], None]] = []
        self._noted: dict[str, tuple[float, int]] = {}
        self.logs = True
        """Whether what is loud goes to the log as well; not where a listener puts it there."""

    def tell(
        self, kind: str, message: str, *, volume: str | None = None, plex: str | None = None, action: str = "",
        **details: object,
    ) -> Event:  # fmt: skip
        """Tell that something happened, in the step in which it did."""
        event = Event(self.life, self._next, self.now(), kind, printable(message, MOST_CHARACTERS), volume, plex,
                      printable(action, MOST_CHARACTERS), details)  # fmt: skip
        self._next += 1
        self.counts.kinds[kind] += 1
        self._ring.append(event)
        self._more.set()
        self._more = trio.Event()
        for listener in self.listeners:
            listener(event)
        return event

    def unsaid(self, kind: str, message: str) -> Event:
        """Of one reader alone: nobody else hears of it. Its cursor is that of the last one of all."""
        return Event(self.life, self.last, self.now(), kind, message)

    def warn(self, kind: str, message: str, **more: object) -> None:
        """The same of what belongs into the log, too."""
        event = self.tell(kind, message, **more)  # type: ignore[arg-type]  # as ``tell`` takes them
        if self.logs:
            log.log(logging.ERROR if event.level is Level.ERROR else logging.WARNING, "%s", event.line)

    def note(self, volume: str, sentence: str) -> None:
        """A sentence of a volume at work: what failed on it, what was mended. A disk may fail a thousand times a
        second: the log gets all of it, and what else has happened is not to be drowned by it.
        """
        now = self.now()
        begun, count = self._noted.get(volume, (now, 0))
        if not 0 <= now - begun < NOTED_SECONDS:
            begun, count = now, 0
        self._noted[volume] = begun, count + 1
        if count < NOTED:
            self.warn("volume_noted", f"volume {volume}: {sentence}", volume=volume)
            return
        if count == NOTED:
            more = f"volume {volume}: there is more of this; the log has all of it"
            self.tell("volume_noted", more, volume=volume)
        in_log(volume, sentence)

    @property
    def last(self) -> int:
        """The sequence of the newest event, 0 before the first."""
        return self._next - 1

    def after(self, sequence: int) -> tuple[Sequence[Event], int]:
        """Return what came after that one and is still there, and how many of those are not."""
        oldest = self._ring[0].sequence if self._ring else self._next
        return [event for event in self._ring if event.sequence > sequence], max(0, oldest - sequence - 1)

    async def more(self, sequence: int) -> None:
        """Return when there is one after that."""
        while self.last <= sequence:
            await self._more.wait()
