"""This is what a door sees of a started volume: the file behind it, and what can be asked of that.

Every request begins in the step in which it is asked for, and is answered by a callback, once: in that very step where
nothing has to be waited for, else by a task of the engine's. The callback is told what came of it, or the exception.
Whoever would rather wait awaits ``answer_to``.
"""

import errno
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter_ns, time_ns
from typing import TypeVar
from uuid import UUID

import trio

from fmrd.core.measures.latency import Requests
from fmrd.engine.running import Running
from fmrd.engine.serving import reading, requests
from fmrd.engine.serving.flights import KEPT_BYTES
from fmrd.engine.serving.quick import BEGUN, Quick
from fmrd.errors import Failed

T = TypeVar("T")
Done = Callable[[T | Exception], None]


class Served:
    """This is one volume as its door has it. Offsets and lengths are bytes; exceptions are FmrdError or OSError with an
    errno, unless there is a bug. Every method is called on trio's thread, and never waits.
    """

    def __init__(self, name: str, running: Running) -> None:
        self.name = name
        self.number = number_of(running.volume.settings.uuid)
        self.withdrawn = False
        """It serves nobody any more."""
        self.changed_ns = time_ns()
        """When it was last written, since 1970; since it is served nobody can tell of a time before."""
        self.start = running.context.nursery.start_soon
        """This starts what has to be waited for, in the registry's nursery; a test has it done in its own way."""
        self._running = running
        self._load = running.mirror.load
        self._quick = Quick(running.mirror, lambda work: self.start(work), self.changed)

    @property
    def length_bytes(self) -> int:
        return self._running.volume.geometry.length_bytes

    def opened(self) -> None:
        """Its file was opened; Failed('volume_stopped') where that comes too late."""
        self._must_serve()
        self._running.open_count += 1

    def released(self) -> None:
        """Its file was closed, once for each time that it was opened."""
        self._running.open_count -= 1

    def read_now(self, offset: int, buffer: memoryview, done: Done[memoryview | bytes]) -> None:
        """Read as many bytes as ``buffer`` has, fewer at the end of the volume. ``done`` is told that part of
        ``buffer`` where they are there at once, else bytes of their own.
        """
        count = None if self.withdrawn else self._quick.read(offset, buffer, done)
        if count is None:
            work = partial(requests.read, self._running.mirror, offset, len(buffer))
            self._later(work, done, self._load.reads, len(buffer))
        elif count != BEGUN:
            done(buffer if count == len(buffer) else buffer[:count])

    def write_now(self, offset: int, data: bytes | memoryview, done: Done[int]) -> bool:
        """Write as on a device, up to the end of the volume; ``done`` is told how many bytes, or ENOSPC where nothing
        fits. True: ``data`` is referred to until it is written, in this step or later, and must stay so.
        """
        now = time_ns()
        self.changed_ns = now if now > self.changed_ns else self.changed_ns + 1
        under_way = None if self.withdrawn else self._quick.write(offset, data, done)
        if under_way is not None:
            return under_way
        room = max(0, self.length_bytes - offset)
        kept = data[:room] if room else data
        keeps = len(kept) >= KEPT_BYTES
        if not keeps:
            kept = bytes(kept)
        self._later(partial(self._write, offset, kept), done, self._load.writes, len(kept))
        return keeps

    def changed(self) -> None:
        """Its bytes are others from now on. Said before a write, and again when it has ended: whoever copied the file
        meanwhile sees that this was not all.
        """
        self.changed_ns = max(time_ns(), self.changed_ns + 1)

    def make_zero_now(self, offset: int, length: int, done: Done[None], *, punch: bool) -> None:
        """Write zeros; with ``punch`` their blocks are given back where that can be."""
        self.changed()
        self._later(partial(self._make_zero, offset, length, punch=punch), done, self._load.writes, length)

    def seek_now(self, offset: int, done: Done[int], *, data: bool) -> None:
        """Find where the first data (or hole) at or after ``offset`` begins; OSError(ENXIO) where there is none."""
        self._later(partial(reading.seek, self._running.mirror, offset, data=data), done)

    def flush_now(self, done: Done[None]) -> None:
        """Call ``done`` when every write that was answered before now is durable on every open plex."""
        if self.withdrawn or not self._quick.flush(done):
            self._later(partial(requests.flush, self._running.mirror), done, self._load.flushes)

    async def _write(self, offset: int, data: bytes | memoryview) -> int:
        try:
            await requests.write(self._running.mirror, offset, data)
        finally:
            self.changed()
        return len(data)

    async def _make_zero(self, offset: int, length: int, *, punch: bool) -> None:
        try:
            await requests.make_zero(self._running.mirror, offset, length, punch=punch)
        finally:
            self.changed()

    def _later(
        self, work: Callable[[], Awaitable[T]], done: Done[T], kind: Requests | None = None, size: int = 0
    ) -> None:
        """``kind``: where it is counted, with so many bytes."""
        began = perf_counter_ns()

        async def run() -> None:
            try:
                self._must_serve()
                result = await work()
            except Exception as error:
                if kind is not None:
                    kind.ended(size, perf_counter_ns() - began, failed=True)
                done(error)
            else:
                if kind is not None:
                    kind.ended(size, perf_counter_ns() - began)
                done(result)

        self.start(run)

    def _must_serve(self) -> None:
        if self.withdrawn:
            raise Failed("volume_stopped", f"volume {self.name} is stopped", errno=errno.ENODEV)


async def answer_to(begin: Callable[[Done[T]], object]) -> T:
    """Begin a request, and return what it is told, or raise it: this is for doors that await."""
    results: list[T | Exception] = []
    answered = trio.Event()

    def done(result: T | Exception) -> None:
        results.append(result)
        answered.set()

    begin(done)
    if not results:
        await answered.wait()
    [result] = results
    if isinstance(result, Exception):
        raise result
    return result


def number_of(uuid: str) -> int:
    """Return what a door calls a volume in its inodes: the same through renaming and restarts, and never that of
    another. 1 is the root of the mount.
    """
    return UUID(uuid).node + 2
