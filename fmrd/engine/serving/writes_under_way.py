"""These are the calls that carry a request's bytes or zeros to a plex, and they say whether they have landed."""

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from fmrd.backing.calls.system_calls import Began
from fmrd.backing.protocol import Backing
from fmrd.engine.serving.ranges import Claim
from fmrd.errors import Answered, is_exhaustion

NOT_LANDED = "an earlier write to the same bytes was given up and may land yet"


@dataclass(slots=True, eq=False)
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
        self.landed = False
        try:
            result = self.run()
        except BaseException as error:
            self.landed = not self.far or isinstance(error, Answered)
            raise
        self.landed = True
        return result

    def begin(self, ended: Began) -> None:
        """On trio's thread, where ``run`` can be begun. What was not is run by a thread, and lands then."""
        assert isinstance(self.run, Writer), "only writes are begun"
        self.run.begin(partial(self._over, ended))

    def note(self, error: Exception | None) -> None:
        """It has ended, though perhaps nothing was begun."""
        self.landed = error is None or isinstance(error, Answered) or not (self.far or is_exhaustion(error))

    def _over(self, ended: Began, error: Exception | None) -> None:
        self.note(error)
        ended(error)


def refuse() -> None:
    """Fail in the place of a write that may not be issued yet, with ETIMEDOUT."""
    raise TimeoutError(errno.ETIMEDOUT, NOT_LANDED)


def refuse_sync() -> None:
    """The same in the place of an fdatasync."""
    raise TimeoutError(errno.ETIMEDOUT, "an earlier fdatasync was given up and has not returned yet")


@dataclass(slots=True, eq=False)
class Writer:
    """A writer is the writes of one request on one plex; it keeps the buffer alive until the call has landed."""

    backing: Backing
    parts: Sequence[tuple[int, memoryview | bytes]]

    def __call__(self) -> None:
        for offset, data in self.parts:
            self.backing.pwrite(offset, data)

    def begin(self, ended: Began) -> None:
        """All parts at once; ``ended`` is told when the last has, of one that failed if any did: of one that may land
        yet before one that was answered.
        """
        if len(self.parts) == 1:
            self.backing.begin_pwrite(*self.parts[0], ended)
        else:
            self.backing.begin_pwrites(self.parts, ended)

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
