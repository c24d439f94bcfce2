"""Quick requests begin in the step in which they are asked for: no task, no lock (CONCURRENCY, "Quick requests").

They may where nothing has to be waited for: the extents are durable in the DRL, nobody holds the bytes, every plex that
takes part holds them and lies on a disk that does not block, nothing is to be recorded first. All of it is asked and
done between two checkpoints, so no rule can be broken in between. Where a disk may block, but tells of an end by a
callback, a write begins here as well (flights.py). Whatever is not so takes the way of requests.py.

This is the hot path: what is asked is asked flat, cheapest first, and a volume at peace pays for nothing else.

A large write is shared out to two threads, and may end later in the same step: whoever asks for something that could
see it half done ends it first. What becomes of a write is told by a callback, once.
"""

from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter_ns

from fmrd.core.measures.latency import SAMPLE
from fmrd.core.plans import ReadPart
from fmrd.core.volume.plex import Plex
from fmrd.engine.serving.copy_on_write import owes
from fmrd.engine.serving.flights import Flights, Flushed, Read, Start, Written
from fmrd.engine.serving.mirror import Mirror
from fmrd.engine.serving.open_plex import OpenPlex

BEGUN = -1
"""Told by a callback, in this step or later."""
NOW_BYTES = 8 << 10
"""Up to here a write is tried in place where a file system never waits; a larger one gains nothing by that."""
LARGE_BYTES = 256 << 10
"""From here on two threads write; below, waking one up costs more than it saves."""


class Quick:
    """This is the quick way into one open volume, on trio's thread. ``start`` has a task do what waits on failure."""

    def __init__(self, mirror: Mirror, start: Start, changed: Callable[[], None]) -> None:
        self._mirror = mirror
        self._flights = Flights(mirror, start, changed)
        self._volume = mirror.volume
        self._drl = mirror.volume.drl
        self._extent_bytes = mirror.volume.geometry.extent_bytes
        self._disks = mirror.opened
        self._ranges = mirror.ranges
        self._load = mirror.load
        self._reads, self._writes = mirror.load.reads, mirror.load.writes
        self._large: tuple[int, int] | None = None
        """[start, stop) in bytes of the large write that is under way."""

    def read(self, offset: int, buffer: memoryview, done: Read) -> int | None:
        """Fill ``buffer`` from ``offset`` on, in bytes, and return how many there were, 0 beyond the end. BEGUN: a disk
        was asked, and ``done`` will be called. None: take the way of requests.py. In either case what is in ``buffer``
        counts for nothing.
        """
        if self._large is not None:
            self._mirror.system.finish_share()
        reads = self._reads
        began = 0 if reads.count % SAMPLE else perf_counter_ns()
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
            or (volume.settings.link is not None and volume.settings.is_instant)
        ):
            return None
        candidates = volume.holders(offset, length)
        if not candidates:
            return None
        plex = volume.policy.choose(candidates, offset, length)
        disk = self._disks[plex.uuid]
        if disk.lane.late and disk.may_change(offset, offset + length):
            return None  # what may still land there is not read as if it were settled
        asked = perf_counter_ns() if began else 0
        if not disk.inline:
            if not disk.backing.pread_now(offset, buffer):
                return BEGUN if self._flights.read(ReadPart(plex, offset, length), done) else None
        else:
            try:
                disk.backing.pread_into(offset, buffer)
            except OSError:
                return None  # met again on the other way, where another plex steps in
        if began:
            ended = perf_counter_ns()
            disk.lane.took.read.add(ended - asked, SAMPLE)
            reads.latency.add(ended - began, SAMPLE)
        plex.reads += 1
        plex.read_bytes += length
        reads.count += 1
        reads.bytes += length
        return length

    def write(self, offset: int, data: bytes | memoryview, done: Written) -> bool | None:
        """Write, and return None where nothing was done and the way of requests.py is to be taken. Else ``done`` was
        called, or will be; True: ``data`` is referred to until it is written, and must stay as it is.
        """
        writes = self._writes
        began = 0 if writes.count % SAMPLE else perf_counter_ns()
        volume = self._volume
        length = len(data)
        stop = offset + length
        large = self._large
        if large is not None and (length < LARGE_BYTES or (offset < large[1] and large[0] < stop)):
            self._mirror.system.finish_share()
        if (
            not length
            or stop > volume.geometry.length_bytes
            or self._load.closed
            or volume.demotions_recorded < volume.demotions
            or volume.demotions_recorded < volume.held_until
            or (volume.unkept and owes(self._mirror, offset, length))
            or self._mirror.unreadable.spans
            or (volume.settings.link is not None and volume.settings.is_instant)
            or (self._ranges.held and not self._ranges.is_free(offset, stop))
            or not (self._is_hot(offset, length) or self._drl.touch(offset, length))
        ):
            return None
        waits = False
        for disk in self._disks.values():
            if not disk.inline:
                waits = True
                if not disk.now or length > NOW_BYTES:
                    return self._flights.begin(offset, data, done)
        targets = volume.plain_targets(offset, length)
        if targets is None:
            return self._flights.begin(offset, data, done) if waits else None
        disks = [self._disks[plex.uuid] for plex in targets]
        for disk in disks:
            if disk.lane.late and disk.late(((offset, stop),)):
                return None
        if length >= LARGE_BYTES:
            return self._write_large(targets, disks, offset, data, done)
        errors: dict[str, Exception] = {}
        for plex, disk in zip(targets, disks, strict=True):
            asked = perf_counter_ns() if began else 0
            if disk.inline:
                try:
                    disk.backing.pwrite(offset, data)
                except OSError as error:
                    errors[plex.uuid] = error
            elif not (taken := disk.backing.pwrite_now(offset, data)):
                disk.now = taken is not None
                return self._begin(offset, data, done, first=not disk.lane.outstanding)
            if began:
                disk.lane.took.write.add(perf_counter_ns() - asked, SAMPLE)
        for plex in targets:
            plex.writes += 1
            plex.write_bytes += length
        if errors:
            self._failed(offset, length, errors, done)
        else:
            if began:
                writes.latency.add(perf_counter_ns() - began, SAMPLE)
            writes.count += 1
            writes.bytes += length
            done(length)
        return False

    def _begin(self, offset: int, data: bytes | memoryview, done: Written, *, first: bool) -> bool:
        """Some plex must be waited for, and others perhaps have it by now: it is under way from this very step on, and
        all of them are asked (anew). Mostly its file's time of change is due, once a tick of the kernel, and nobody
        else is let in before that: so the first one does not wait for the end of this step.
        """
        begun = self._flights.begin(offset, data, done)
        assert begun is not None, "whoever can be asked now can be asked to begin"
        if first:
            self._mirror.system.submit()
        return begun

    def flush(self, done: Flushed) -> bool:
        """Begin to make durable what was answered before now, and return whether ``done`` will be called, or was. Else
        nothing was done, and the way of requests.py is to be taken.
        """
        return not self._load.closed and bool(self._disks) and self._flights.flush(done)

    def _write_large(
        self, targets: list[Plex], disks: list[OpenPlex], offset: int, data: bytes | memoryview, done: Written
    ) -> bool:
        length = len(data)
        span = offset, offset + length
        began = perf_counter_ns()

        def ended(raised: Sequence[BaseException | None]) -> None:
            if self._large is span:
                self._large = None
            took = perf_counter_ns() - began  # two threads share all of it: nobody can say who took which part
            errors: dict[str, Exception] = {}
            for plex, disk, error in zip(targets, disks, raised, strict=True):
                plex.writes += 1
                plex.write_bytes += length
                disk.lane.took.write.add(took)
                if isinstance(error, OSError):
                    errors[plex.uuid] = error
                elif isinstance(error, Exception):  # no failure of a disk: a bug, told to whoever asked
                    done(error)
                    return
                elif error is not None:
                    raise error
            if errors:
                self._failed(offset, length, errors, done)
            else:
                self._writes.ended(length, took)
                done(length)

        # The one before it ends while this one begins, and may ask which one is under way now.
        self._large = span
        return self._mirror.system.share([partial(disk.backing.pwrite, offset, data) for disk in disks], ended)

    def _is_hot(self, offset: int, length: int) -> bool:
        """Tell whether rule 1 is kept and nothing is to be noted: mostly it is so."""
        size = self._extent_bytes
        return offset % size + length <= size and offset // size in self._drl.hot

    def _failed(self, offset: int, length: int, errors: dict[str, Exception], done: Written) -> None:
        """Only now it is under way: until its bytes are judged."""
        plan, span = self._volume.choose_targets(offset, length), ((offset, offset + length),)
        self._flights.hold(plan, span)
        self._flights.failed(plan, span, errors, done, perf_counter_ns())
