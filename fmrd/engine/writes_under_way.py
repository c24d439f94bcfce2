"""A plex's data as a mirror sees it: the open backing, its lane, and the writes on their way to it."""

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fmrd.backing.protocol import Backing
from fmrd.backing.system_calls import Call, Lane
from fmrd.engine.ranges import Claim, overlap

NOT_LANDED = "an earlier write to the same bytes was given up and may land yet"


@dataclass(eq=False)
class Landing:
    """A call that writes, on its way. One that was given up may land yet."""

    run: Callable[[], object]
    spans: Claim
    landed: bool = False

    def __call__(self) -> object:
        """On a worker thread."""
        try:
            return self.run()
        finally:
            self.landed = True


@dataclass
class Disk:
    """A plex's open backing and its lane."""

    backing: Backing
    lane: Lane
    landings: list[Landing] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.inline = self.backing.inline

    def writing(self, run: Callable[[], object], spans: Claim, *, inline: bool) -> Call:
        """The call of a write to these [start, stop) in bytes, which whoever asks holds. Where one that was given up
        has not landed yet, it fails at once with ETIMEDOUT: the late one would overwrite it.
        """
        if self.late(spans):
            return Call(self.lane, _refuse, inline=True)
        landing = Landing(run, spans)
        self.landings.append(landing)
        return Call(self.lane, landing, inline)

    def late(self, spans: Claim) -> list[Landing]:
        """What was given up there and has not landed."""
        self.landings = [each for each in self.landings if not each.landed]
        return [each for each in self.landings if overlap(each.spans, spans)]


def _refuse() -> None:
    raise TimeoutError(errno.ETIMEDOUT, NOT_LANDED)


@dataclass(frozen=True)
class Writer:
    """The writes of one request on one plex; it keeps the buffer alive until the call has landed."""

    backing: Backing
    parts: Sequence[tuple[int, memoryview]]

    def __call__(self) -> None:
        for offset, data in self.parts:
            self.backing.pwrite(offset, data)

    @property
    def spans(self) -> Claim:
        return tuple([(offset, offset + len(data)) for offset, data in self.parts])


@dataclass(frozen=True)
class Zeroer:
    """The same for zeros: [start, stop) each."""

    backing: Backing
    spans: Claim
    punch: bool

    def __call__(self) -> None:
        for start, stop in self.spans:
            self.backing.make_zero(start, stop - start, punch=self.punch)
