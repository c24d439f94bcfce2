"""A window is copied piece by piece, on a thread or in idle time, and no further than somebody lets it."""

import threading
import time
from collections.abc import Iterator

from fmrd.backing.protocol import Backing
from fmrd.engine.resync.windows import Window
from fmrd.engine.serving.ranges import Span

PIECE_BYTES, SHORT_PIECE_BYTES, FAR_PIECE_BYTES = 256 << 10, 128 << 10, 2 << 20
"""A window is copied in pieces: short ones in memory, long ones where each waits for an answer. After each it ends
early if somebody waits for its bytes, and while the application is served its thread rests: a copy of some milliseconds
would keep a processor from those who serve, and to wake the thread up from outside for each piece would cost them more.
"""
PAUSE_RATIO = 2
"""A rest is so many times as long as the piece took: a resync keeps a third of its speed, and gains on any load."""
LONGEST_PAUSE_SECONDS = 0.05


class Wanted:
    """This tells whether somebody waits for the bytes of a window: told on trio's thread, asked on a worker's."""

    def __init__(self) -> None:
        self.now = False
        self._told = threading.Event()

    def tell(self) -> None:
        self.now = True
        self._told.set()

    def rest(self, seconds: float) -> None:
        """Rest for so long, or until somebody waits: where a piece takes milliseconds, to be woken up costs little."""
        self._told.wait(seconds)


class Transfer:
    """A transfer is the copy of one window, piece by piece. Where it is wanted it ends after the piece under way. It
    runs on one thread at a time, and raises what Backing.copy_spans does.
    """

    def __init__(
        self, target: Backing, source: Backing, window: Window, wanted: Wanted, region_bytes: int,
        far_piece_bytes: int = FAR_PIECE_BYTES,
    ) -> None:  # fmt: skip
        self._target = target
        self._source = source
        self.window = window
        self._wanted = wanted
        self._end = window.spans[-1][1]
        most = SHORT_PIECE_BYTES if target.inline and source.inline else PIECE_BYTES
        self.is_far = bool(target.far or source.far)
        most = far_piece_bytes if self.is_far else most
        self._pieces = pieces_of(window.spans, max(1, most // region_bytes) * region_bytes)
        self.stop = 0
        """What lies before this byte is copied."""
        self.written = 0
        self.seconds = 0.0
        """Spent on copying, in so many ``steps``."""
        self.steps = 0

    def step(self) -> bool:
        """Copy a piece. Return False if there is none left, or enough is done: one is always copied, so that a resync
        gains on whatever comes between.
        """
        if self._wanted.now and self.stop:
            return False
        piece = next(self._pieces)
        began = time.perf_counter()
        self.written += self._target.copy_spans(self._source, piece)
        self.seconds += time.perf_counter() - began
        self.steps += 1
        self.stop = piece[-1][1]
        return self.stop < self._end

    def go(self) -> None:
        """Copy all of it, on a worker thread."""
        while self.step():
            pass

    def go_gently(self) -> None:
        """Copy all of it, on a worker thread, with rests between the pieces."""
        before = 0.0
        while self.step():
            pause = min(PAUSE_RATIO * (self.seconds - before), LONGEST_PAUSE_SECONDS)
            if self.is_far:
                self._wanted.rest(pause)
            else:
                time.sleep(pause)
            before = self.seconds


def pieces_of(spans: list[Span], most: int) -> Iterator[list[Span]]:
    """Yield the same bytes in the same order, at most so many at a time; a span that fits into a piece stays whole."""
    piece: list[Span] = []
    left = most
    for start, stop in spans:
        if piece and stop - start > left:
            yield piece
            piece, left = [], most
        for at in range(start, stop, most):
            end = min(stop, at + most)
            piece.append((at, end))
            left -= end - at
            if left <= 0:
                yield piece
                piece, left = [], most
    if piece:
        yield piece
