"""What goes to a plex that lags in one flight: what it lacks of many regions, read from plexes that hold it.

What nobody holds, and can be read without a wait, is read in one step, and is on its way in that same step: no lock, no
task, no thread for each region. What somebody writes to just now, or has to be read from a disk, is put off: that is
read a run of regions at a time, with all of its bytes held.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from time import perf_counter

from fmrd.backing.calls.system_calls import Call
from fmrd.core.volume import lagging
from fmrd.core.volume.plex import Plex
from fmrd.engine.serving import reading
from fmrd.engine.serving.mirror import Mirror
from fmrd.engine.serving.open_plex import OpenPlex
from fmrd.engine.serving.ranges import Ranges, Span
from fmrd.engine.serving.writes_under_way import Writer, Zeroer

FLIGHT_BYTES = 512 << 10
FLIGHT_PIECES = 64
"""So much goes in one flight, about."""
LOOKED_AT = 256
"""So many regions are looked at in one step."""
ZEROS_BYTES = 16 << 10
"""From here on zeros are asked for, not sent."""


@dataclass
class Cargo:
    """What was read, and what the plex was then: what of it counts when it arrives depends on that."""

    generation: int
    dropped: int
    sent: lagging.Sent
    pieces: list[tuple[int, memoryview]] = field(default_factory=list)
    zeros: list[Span] = field(default_factory=list)
    seconds: float = 0.0
    """It took so long to load."""

    def add(self, offset: int, data: bytes | bytearray, least: int) -> None:
        """Take these bytes along."""
        if len(data) >= least and data == _zeros(len(data)):
            self.zeros.append((offset, offset + len(data)))
        else:
            self.pieces.append((offset, memoryview(data)))

    @property
    def length(self) -> int:
        return sum(len(data) for _, data in self.pieces) + sum(stop - start for start, stop in self.zeros)

    def calls(self, disk: OpenPlex) -> list[Call]:
        """Return what writes it. On the far side zeros keep their blocks, as in every copy (docs/FAR.md): it must not
        run out of room later.
        """
        found = []
        if self.pieces:
            writer = Writer(disk.backing, self.pieces)
            found.append(disk.writing(writer, writer.spans, inline=disk.inline))
        if self.zeros:
            spans = tuple(self.zeros)
            zeroer = Zeroer(disk.backing, spans, punch=not disk.backing.far)
            found.append(disk.writing(zeroer, spans, inline=False))
        return found


class Round:
    """One look at all that a plex lacks, in order. ``put_off`` is what it passed over."""

    def __init__(self, mirror: Mirror, plex: Plex) -> None:
        self.put_off: list[range] = []
        self._mirror = mirror
        self._plex = plex
        self._cursor = 0

    def load(self) -> Cargo | None:
        """Load what comes next, in this step; it may be nothing. None: that was all."""
        began, mirror, plex = perf_counter(), self._mirror, self._plex
        ranges, size = mirror.ranges, mirror.volume.geometry.region_bytes
        cargo = Cargo(plex.generation, plex.dropped, {})
        taken: list[int] = []
        left, looks, run = FLIGHT_BYTES, LOOKED_AT, None
        read = self._reader()
        while left > 0 and looks > 0 and len(cargo.pieces) < FLIGHT_PIECES:
            run = self._next(max(1, left // size))
            if run is None:
                break
            looks -= len(run)
            spans = list(spans_of(plex, run))
            data: list[bytes | bytearray] = []
            for start, stop in spans:
                found = read(start, stop - start) if _is_free(ranges, start, stop) else None
                if found is None:
                    break
                data.append(found)
            if len(data) < len(spans):
                self.put_off.append(run)
                continue
            for (start, stop), each in zip(spans, data, strict=True):
                cargo.add(start, each, min(size, ZEROS_BYTES))
                left -= stop - start
            taken += run
        if run is None and not taken:
            return None
        cargo.sent = lagging.lacked(plex, taken)
        lagging.send(plex, cargo.sent)
        cargo.seconds = perf_counter() - began
        return cargo

    def _reader(self) -> Callable[[int, int], bytearray | None]:
        """Return what reads in this step. Mostly there is a plex that holds everything: nothing has to be planned."""
        mirror = self._mirror
        for other in mirror.volume.plexes:
            holds_all = other is not self._plex and other.is_open and other.map.blank and not other.session
            disk = mirror.opened.get(other.uuid) if holds_all else None
            if disk is not None and not disk.lane.late:
                return partial(_read, other, disk)
        return partial(reading.read_now, mirror)

    def _next(self, most: int) -> range | None:
        """The next run of regions that are lacked whole, or one that is lacked in part."""
        missing = self._plex.map
        run = missing.next_run(self._cursor, most)
        if run is None:
            return None
        stop = run.stop
        if missing.blocks:
            stop = next((region for region in run if region in missing.blocks), stop)
        run = range(run.start, max(stop, run.start + 1))
        self._cursor = run.stop
        return run


def _read(plex: Plex, disk: OpenPlex, offset: int, length: int) -> bytearray | None:
    buffer = bytearray(length)
    if not disk.backing.pread_now(offset, memoryview(buffer)):
        return None
    plex.reads += 1
    plex.read_bytes += length
    return buffer


def _is_free(ranges: Ranges, start: int, stop: int) -> bool:
    """Does nobody write there, so that all plexes that hold it hold the same?"""
    return not ranges.held or ranges.is_free(start, stop)


def spans_of(plex: Plex, run: range) -> Iterator[Span]:
    """Yield the bytes that it lacks of these regions, all of which are in its map."""
    geometry, blocks = plex.geometry, plex.map.blocks
    whole = range(0)
    for region in run:
        if region not in blocks:
            whole = range(whole.start if whole else region, region + 1)
            continue
        if whole:
            start, length = geometry.bytes_of(whole)
            yield start, start + length
            whole = range(0)
        start = region * geometry.region_bytes
        for first, stop in plex.map.spans(region):
            yield start + first, min(start + stop, geometry.length_bytes)
    if whole:
        start, length = geometry.bytes_of(whole)
        yield start, start + length


async def load_held(mirror: Mirror, plex: Plex, run: range) -> Cargo:
    """Load what is lacked of these regions, with all of their bytes held; ``lagging.send`` is the caller's. FmrdError
    where nobody gives them.
    """
    size = mirror.volume.geometry.region_bytes
    cargo = Cargo(plex.generation, plex.dropped, lagging.lacked(plex, run))
    spans = list(spans_of(plex, run))
    data = await reading.read_pieces(mirror, [(start, stop - start) for start, stop in spans])
    for (start, _), each in zip(spans, data, strict=True):
        cargo.add(start, each, min(size, ZEROS_BYTES))
    return cargo


@lru_cache(maxsize=32)
def _zeros(length: int) -> bytes:
    return bytes(length)
