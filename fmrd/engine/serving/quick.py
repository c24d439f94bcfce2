"""Requests that end in the step in which they begin: no task, no lock, no wait (CONCURRENCY, "Quick requests").

They may where nothing has to be waited for: the extents are durable in the DRL, nobody holds the bytes, every plex
that takes part holds them and lies on a disk that does not block, nothing is to be recorded first. All of it is asked
and done between two checkpoints, so no rule can be broken in between; whatever is not so takes the way of mirror.py.

This is the hot path: what is asked is asked flat, cheapest first, and a volume at peace pays for nothing else.
"""

import contextlib
from collections.abc import Awaitable, Callable
from functools import partial

from fmrd.backing.calls.system_calls import SystemCalls
from fmrd.core.decisions.instant import is_instant
from fmrd.core.plans import WritePlan
from fmrd.core.volume.plex import Plex
from fmrd.engine.serving.mirror import Mirror
from fmrd.engine.serving.open_plex import OpenPlex
from fmrd.engine.serving.ranges import Claim

LARGE_BYTES = 256 << 10
"""From here on two threads write; below, waking one up costs more than it saves."""
Rest = Callable[[], Awaitable[None]]


class Quick:
    """Of one open volume."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._volume = mirror.volume
        self._drl = mirror.volume.drl
        self._extent_bytes = mirror.volume.geometry.extent_bytes
        self._disks = mirror.opened
        self._ranges = mirror.ranges
        self._load = mirror.load
        self._half: Half | None = None
        """The last large write, if it was not finished."""

    @property
    def system(self) -> SystemCalls:
        return self._mirror.system

    def finished(self, half: "Half") -> None:
        if self._half is half:
            self._half = None

    def read(self, offset: int, buffer: memoryview) -> int | None:
        """Fill ``buffer`` from [offset, ...), in bytes; how many there were, 0 beyond the end. None: the other way."""
        if self._half is not None:
            self._finish_half()
        volume = self._volume
        length, room = len(buffer), volume.geometry.length_bytes - offset
        if length > room:
            length = max(0, room)
            buffer = buffer[:length]
        if not length:
            return 0
        if (
            self._load.closed
            or self._mirror.reads_held_until is not None
            or self._mirror.unreadable.spans
            or is_instant(volume)
        ):
            return None
        candidates = volume.holders(offset, length)
        if not candidates:
            return None
        plex = volume.policy.choose(candidates, offset, length)
        disk = self._disks[plex.uuid]
        if not disk.inline:
            if not disk.backing.pread_now(offset, buffer):
                return None
        else:
            try:
                disk.backing.pread_into(offset, buffer)
            except OSError:
                return None  # met again on the other way, where another plex steps in
        plex.reads += 1
        plex.read_bytes += length
        self._load.served += 1
        return length

    def write(self, offset: int, data: bytes | memoryview, *, by_halves: bool = False) -> "bool | Rest | Half":
        """True: done. False: nothing was done, take the other way. Else what is left to be waited for (an error).
        ``by_halves``: a large one may be under way when this returns, and must be finished before the next checkpoint.
        """
        if self._half is not None and (len(data) < LARGE_BYTES or self._half.overlaps(offset, offset + len(data))):
            self._finish_half()
        volume = self._volume
        length = len(data)
        stop = offset + length
        if (
            not length
            or stop > volume.geometry.length_bytes
            or self._load.closed
            or volume.demotions_recorded < volume.demotions
            or volume.demotions_recorded < volume.held_until
            or volume.unkept
            or self._mirror.unreadable.spans
            or is_instant(volume)
            or (self._ranges.held and not self._ranges.is_free(offset, stop))
            or not (self._is_hot(offset, length) or self._drl.touch(offset, length))
        ):
            return False
        targets = volume.plain_targets(offset, length)
        if targets is None:
            return False
        disks = [self._disks[plex.uuid] for plex in targets]
        for disk in disks:
            if not disk.inline or (disk.landings and disk.late(((offset, stop),))):
                return False
        if length >= LARGE_BYTES:
            self._half = half = Half(self, targets, disks, offset, memoryview(data))
            return half if by_halves else half.finish()
        errors: dict[str, Exception] = {}
        for plex, disk in zip(targets, disks, strict=True):
            try:
                disk.backing.pwrite(offset, data)
            except OSError as error:
                errors[plex.uuid] = error
        return self.written(targets, offset, length, errors)

    def written(self, targets: list[Plex], offset: int, length: int, errors: dict[str, Exception]) -> bool | Rest:
        """What came of it, in the step in which it was done."""
        for plex in targets:
            plex.writes += 1
            plex.write_bytes += length
        if errors:
            return self._failed(offset, length, errors)
        self._load.served += 1
        return True

    def _finish_half(self) -> None:
        """Before something that could see it half done. What went wrong with it is for whoever began it."""
        if self._half is not None:
            with contextlib.suppress(Exception):
                self._half.finish()

    def _is_hot(self, offset: int, length: int) -> bool:
        """Mostly it is: rule 1 is kept, and nothing is to be noted."""
        size = self._extent_bytes
        return offset % size + length <= size and offset // size in self._drl.hot

    def _failed(self, offset: int, length: int, errors: dict[str, Exception]) -> Rest:
        """The bytes stay held, and the extents pending, until that is judged."""
        volume, span = self._volume, ((offset, offset + length),)
        plan = volume.choose_targets(offset, length)
        volume.drl.enter(plan.extents)
        self._ranges.take(span)
        self._load.requests += 1
        return partial(self._judged, plan, errors, span)

    async def _judged(self, plan: WritePlan, errors: dict[str, Exception], span: Claim) -> None:
        with self._load.entered():
            try:
                verdict = await self._mirror.judge(plan, errors)
            finally:
                self._drl.leave(plan.extents)
                self._ranges.release(span)
            await self._mirror.answer(verdict)


class Half:
    """A large write under way on two threads, between the two halves of one step: ``begin`` and ``finish``. So nobody
    sees it half done; what else is asked of the volume in that step waits for it, unless it is a large write elsewhere.
    """

    def __init__(self, quick: Quick, targets: list[Plex], disks: list[OpenPlex], offset: int, view: memoryview) -> None:
        self._quick = quick
        self._targets = targets
        self._offset, self._length = offset, len(view)
        self._result: bool | Rest | None = None
        self._share = quick.system.share([partial(disk.backing.pwrite, offset, view) for disk in disks])

    def overlaps(self, start: int, stop: int) -> bool:
        return start < self._offset + self._length and self._offset < stop

    def finish(self) -> bool | Rest:
        """True, or what is left to be waited for; the same when asked again. Raises what is no failure of a disk."""
        if self._result is None:
            self._quick.finished(self)
            self._share.finish()
            self._result = self._quick.written(self._targets, self._offset, self._length, self._errors())
        return self._result

    def _errors(self) -> dict[str, Exception]:
        errors: dict[str, Exception] = {}
        for plex, error in zip(self._targets, self._share.errors, strict=True):
            if isinstance(error, OSError):
                errors[plex.uuid] = error
            elif error is not None:
                raise error
        return errors
