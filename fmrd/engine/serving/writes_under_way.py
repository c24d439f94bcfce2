"""These are the calls that carry a request's bytes or zeros to a plex, and they say whether they have landed."""

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fmrd.backing.protocol import Backing
from fmrd.engine.serving.ranges import Claim

NOT_LANDED = "an earlier write to the same bytes was given up and may land yet"


@dataclass(eq=False)
class Landing:
    """A landing is a call that writes, on its way. One that was given up may land yet, and one that failed where an
    error does not end a call (``far``).
    """

    run: Callable[[], object]
    spans: Claim
    far: bool = False
    landed: bool = False

    def __call__(self) -> object:
        """On a worker thread."""
        try:
            result = self.run()
        except BaseException:
            self.landed = not self.far
            raise
        self.landed = True
        return result


def refuse() -> None:
    """Fail in the place of a write that may not be issued yet, with ETIMEDOUT."""
    raise TimeoutError(errno.ETIMEDOUT, NOT_LANDED)


@dataclass(frozen=True)
class Writer:
    """A writer is the writes of one request on one plex; it keeps the buffer alive until the call has landed."""

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
    """A zeroer makes zeros of the spans, [start, stop) in bytes each, on one plex."""

    backing: Backing
    spans: Claim
    punch: bool

    def __call__(self) -> None:
        for start, stop in self.spans:
            self.backing.make_zero(start, stop - start, punch=self.punch)
