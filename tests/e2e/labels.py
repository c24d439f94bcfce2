"""Labelled blocks: a volume's file that a thread writes to at random, and a record of its own of what each block holds.

Each write has a generation, counted over all writers, and its blocks tell their number and that generation all over; a
hole punched is generation 0. A *moment* is what a snapshot taken meanwhile may hold: the file after one of the writes,
wholly, and after no other.
"""

import mmap
import os
import random
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fmrd.backing import libc
from tests.e2e.harness import open_file

BLOCK = 4096
MOST_BLOCKS = 16
"""Of one write: a region of the volume."""
PUNCHED = 20
"""One write of so many punches a hole."""
GARBAGE = -1
_LABEL = struct.Struct("<QQQQ")


def label(number: int, generation: int) -> bytes:
    """What block ``number`` holds of that generation, BLOCK bytes."""
    if not generation:
        return bytes(BLOCK)
    return _LABEL.pack(number, generation, ~number & (1 << 64) - 1, ~generation & (1 << 64) - 1) * (
        BLOCK // _LABEL.size
    )


def generation_in(content: bytes, number: int) -> int:
    """GARBAGE if it is not exactly what some write of that block wrote."""
    generation = _LABEL.unpack_from(content)[1]
    return generation if content == label(number, generation) else GARBAGE


def generations(path: Path, blocks: int, *, direct: bool = False) -> list[int]:
    """What each block of that file holds; ``direct``: past the caches."""
    with open_file(path, os.O_RDONLY | (os.O_DIRECT if direct else 0)) as file, mmap.mmap(-1, 1 << 20) as room:
        found: list[int] = []
        while len(found) < blocks:
            count = os.preadv(file, [room], len(found) * BLOCK) // BLOCK
            assert count, f"{path} ends after {len(found)} blocks of {blocks}"
            for at in range(min(count, blocks - len(found))):
                found.append(generation_in(room[at * BLOCK : (at + 1) * BLOCK], len(found)))
    return found


def must_hold(held: list[int], found: list[int], what: str) -> None:
    wrong = [(number, *pair) for number, pair in enumerate(zip(held, found, strict=True)) if pair[0] != pair[1]]
    told = ", ".join(f"block {number} must hold {want} and holds {got}" for number, want, got in wrong[:8])
    assert not wrong, f"{what}: {len(wrong)} block(s) are wrong: {told}"


@dataclass(frozen=True)
class Write:
    first: int
    count: int
    generation: int

    def onto(self, held: list[int]) -> None:
        held[self.first : self.first + self.count] = [self.generation] * self.count


@dataclass
class Moment:
    """``held`` before the writes that were still going on, or came after."""

    held: list[int]
    writes: list[Write] = field(default_factory=list)

    def settle(self, found: list[int], what: str) -> list[int]:
        """``found``, if it is the file after one of the writes; else an AssertionError."""
        held = list(self.held)
        wrong = {number for number, want in enumerate(held) if found[number] != want}
        nearest = (len(wrong), list(held))
        for write in self.writes:
            if not wrong:
                break
            write.onto(held)
            for number in range(write.first, write.first + write.count):
                (wrong.discard if found[number] == held[number] else wrong.add)(number)
            if len(wrong) < nearest[0]:
                nearest = (len(wrong), list(held))
        if wrong:
            must_hold(nearest[1], found, f"{what} is no moment of its original ({len(self.writes)} writes meanwhile)")
        return found


class Labelled:
    """Writes that file until it is told to rest. ``held``: what was written; ``moment``: begins to be kept by
    ``watch``. An error that a write met is raised by ``works`` and ``rest``.
    """

    def __init__(self, path: Path, held: list[int], counter: Iterator[int], seed: int, *, punches: bool) -> None:
        self.path = path
        self.held = held
        self.written = 0
        self._punches = punches
        self._counter = counter
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._moment: Moment | None = None
        self._going_on: Write | None = None
        self._stop = threading.Event()
        self._error: OSError | None = None
        self._thread: threading.Thread | None = None

    def go(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name=f"writes {self.path.name}")
        self._thread.start()

    def rest(self) -> None:
        """Returns when the last write has ended and the file is closed."""
        self.stop()
        self.works()

    def stop(self) -> None:
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None

    def grow(self, blocks: int) -> None:
        """By so many that hold zeros."""
        with self._lock:
            self.held.extend([0] * blocks)

    def works(self) -> None:
        assert self._error is None, f"AN I/O ERROR REACHED THE APPLICATION: {self.path.name}: {self._error}"

    def watch(self) -> Moment:
        """From now on each write is in the moment too."""
        with self._lock:
            self._moment = Moment(list(self.held), [] if self._going_on is None else [self._going_on])
            return self._moment

    def unwatch(self) -> None:
        with self._lock:
            self._moment = None

    def _run(self) -> None:
        try:
            with open_file(self.path, os.O_RDWR | os.O_DIRECT) as file, mmap.mmap(-1, MOST_BLOCKS * BLOCK) as room:
                while not self._stop.is_set():
                    self._write(file, room)
        except OSError as error:
            self._error = error

    def _write(self, file: int, room: mmap.mmap) -> None:
        with self._lock:
            write = self._next()
            self._going_on = write
            if self._moment is not None:
                self._moment.writes.append(write)
        length = write.count * BLOCK
        if write.generation:
            content = b"".join(label(write.first + at, write.generation) for at in range(write.count))
            room[:length] = content
            with memoryview(room) as view:
                written = os.pwritev(file, [view[:length]], write.first * BLOCK)
            if written != length:
                raise OSError(f"{written} of {length} bytes were written")
        else:
            libc.fallocate(file, libc.PUNCH_HOLE | libc.KEEP_SIZE, write.first * BLOCK, length)
        with self._lock:
            write.onto(self.held)
            self._going_on = None
            self.written += 1

    def _next(self) -> Write:
        count = self._random.choice((1, 1, 2, 4, MOST_BLOCKS))
        first = self._random.randrange(len(self.held) - count + 1)
        generation = 0 if self._punches and not self._random.randrange(PUNCHED) else next(self._counter)
        return Write(first, count, generation)
