"""Reads fail over to another plex here, and are repaired. These are functions over a mirror."""

import errno
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import trio

from fmrd.backing.calls.system_calls import Began, Call
from fmrd.backing.protocol import Backing
from fmrd.core.plans import ReadPart
from fmrd.core.volume.plex import Plex
from fmrd.engine.serving.mirror import Mirror
from fmrd.engine.serving.writes_under_way import Writer
from fmrd.errors import Failed, FmrdError, PlexChanged

Bytes = bytes | memoryview
REPAIR_UNIT_BYTES = 4096
SEEK_BYTES = 1 << 30
"""A seek for data or a hole plans so far ahead."""


def plan_read(mirror: Mirror, offset: int, length: int, without: tuple[Plex, ...] = ()) -> list[ReadPart]:
    """As the volume plans it, from plexes whose bytes are settled: where a write that was given up may land yet,
    they would change under the reader. Failed('io_error') where nobody else holds them.
    """
    volume = mirror.volume
    late = [p for p in volume.open_plexes() if mirror.opened[p.uuid].lane.late and p not in without]
    whole = ((offset, offset + length),)
    spans = [span for p in late for each in mirror.opened[p.uuid].late(whole) for span in each.spans]
    if not spans:
        return volume.plan_read(offset, length, without)
    edges = sorted({*whole[0], *(at for span in spans for at in span if offset < at < offset + length)})
    parts: list[ReadPart] = []
    for start, stop in pairwise(edges):
        unsettled = [p for p in late if mirror.opened[p.uuid].may_change(start, stop)]
        parts += volume.plan_read(start, stop - start, (*without, *unsettled))
    return parts


async def read_parts(mirror: Mirror, at: int, stop: int, *, mend: bool = True) -> AsyncIterator[Bytes]:
    """Yield the bytes from ``at`` to ``stop``, part by part. Each is planned anew: while one is read, the plex that
    holds the next may leave. ``mend`` is as in read_part.
    """
    while at < stop:
        part = plan_read(mirror, at, stop - at)[0]
        yield await read_part(mirror, part, mend=mend)
        at += part.length


async def read_all(mirror: Mirror, offset: int, length: int, *, mend: bool = True) -> Bytes:
    """Read as ``read_parts`` does, and return all of it."""
    return joined([data async for data in read_parts(mirror, offset, offset + length, mend=mend)])


def joined(parts: Sequence[Bytes]) -> Bytes:
    """Return them as one; a single one is not copied."""
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def read_pieces(mirror: Mirror, pieces: Sequence[tuple[int, int]]) -> list[bytes | bytearray]:
    """Read pieces (offset, length) of which the caller holds the bytes; nothing is repaired. What is in memory is read
    in this step, for a thread each costs more than the read; all others are read side by side. Failed('io_error').
    """
    found: list[bytes | bytearray | None] = [read_now(mirror, *piece) for piece in pieces]
    errors: list[FmrdError] = []

    async def read(index: int) -> None:
        try:
            found[index] = bytes(await read_all(mirror, *pieces[index], mend=False))
        except FmrdError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        for index in [index for index, data in enumerate(found) if data is None]:
            nursery.start_soon(read, index)
    if errors:
        raise errors[0]
    return [data for data in found if data is not None]


def read_now(mirror: Mirror, offset: int, length: int) -> bytearray | None:
    """Read in this step; None where that may have to wait, or nobody can tell yet."""
    try:
        part = plan_read(mirror, offset, length)[0]
    except FmrdError:
        return None  # told by who asks again
    backing = mirror.opened[part.plex.uuid].backing
    buffer = bytearray(length)
    if part.length < length or not backing.pread_now(offset, memoryview(buffer)):
        return None
    part.plex.reads += 1
    part.plex.read_bytes += length
    return buffer


async def seek(mirror: Mirror, offset: int, *, data: bool) -> int:
    """Return where the first data (or hole) at or after ``offset`` begins; a hole begins at the end of the volume, too.
    OSError(ENXIO) where there is none. It is told by whichever plex would be read there.
    """
    length = mirror.volume.geometry.length_bytes
    if not 0 <= offset < length:
        raise OSError(errno.ENXIO, "beyond the end of the volume")
    if mirror.volume.settings.is_instant:
        return offset if data else length
    at = offset
    with mirror.load.request(mirror.volume):
        while at < length:
            part = mirror.volume.plan_read(at, min(SEEK_BYTES, length - at))[0]
            is_data, end = await _data_until(mirror, part)
            if is_data is data:
                return at
            at = end
    if data:
        raise OSError(errno.ENXIO, "no data up to the end of the volume")
    return length


async def _data_until(mirror: Mirror, part: ReadPart) -> tuple[bool, int]:
    """A plex that fails is not asked where its holes are, nor one on which a write may still land: reading there will
    tell.
    """
    stop = part.offset + part.length
    disk = mirror.opened[part.plex.uuid]
    if disk.may_change(part.offset, stop):
        return True, stop
    ask = Call(disk.lane, partial(disk.backing.data_until, part.offset, stop), changes=False)
    [outcome] = await mirror.system.in_turn([ask], mirror.timeout_seconds)
    return outcome.value if isinstance(outcome.value, tuple) else (True, stop)


@dataclass(slots=True, eq=False)
class Reader:
    """A reader fills ``buffer`` from one plex. Where it was given up, that may still happen, so it is no one else's."""

    backing: Backing
    offset: int
    buffer: memoryview

    def __call__(self) -> None:
        self.backing.pread_into(self.offset, self.buffer)

    def begin(self, ended: Began) -> None:
        self.backing.begin_pread_into(self.offset, self.buffer, ended)


async def read_part(mirror: Mirror, part: ReadPart, *, mend: bool = True, met: Exception | None = None) -> Bytes:
    """Read from that plex; others step in where it fails, and it is repaired. Failed('io_error') if nobody has it. With
    ``mend`` false nothing is repaired: the caller holds the bytes, which a repair needs. ``met``: it has just been
    read, and that failed.
    """
    tried: tuple[Plex, ...] = ()
    failures: list[tuple[Plex, Exception]] = []
    done: list[Bytes] = []
    at, stop = part.offset, part.offset + part.length
    piece = part
    while True:
        found = met if met is not None else await _pread(mirror, piece)
        met = None
        if isinstance(found, memoryview):
            done.append(found)
            at += piece.length
            if at == stop:
                break
        else:
            piece.plex.errors += 1
            failures.append((piece.plex, found))
            tried = (*tried, piece.plex)
        try:
            piece = plan_read(mirror, at, stop - at, without=tried)[0]
        except FmrdError as nobody:
            divisible = at // REPAIR_UNIT_BYTES != (stop - 1) // REPAIR_UNIT_BYTES
            if divisible and not any(isinstance(error, TimeoutError) for _, error in failures):
                # Each failed somewhere in it: who fails here may be the one that holds what the other cannot give.
                middle = max((at + stop) // 2, at + REPAIR_UNIT_BYTES) // REPAIR_UNIT_BYTES * REPAIR_UNIT_BYTES
                for start, end in ((at, middle), (middle, stop)):
                    done += [data async for data in read_parts(mirror, start, end, mend=mend)]
                return b"".join(done)
            mirror.unreadable.add(at, stop)
            what = "; ".join(f"{plex.name}: {error}" for plex, error in failures)
            sentence = f"volume {mirror.volume.name}: reading at {at} failed ({what})"
            raise Failed("io_error", sentence) from nobody
    if mirror.unreadable.spans:
        mirror.unreadable.remove(part.offset, stop)
    for plex, error in failures:
        if isinstance(error, TimeoutError | PlexChanged):
            mirror.say(mirror.volume.fail_plex(plex, error))
        elif mend:
            await repair(mirror, plex, part.offset, part.length, error)
    return joined(done)


def asking(mirror: Mirror, part: ReadPart) -> tuple[Reader, Call]:
    """Return what reads it, into memory of its own, and the call for that."""
    disk = mirror.opened[part.plex.uuid]
    part.plex.reads += 1
    part.plex.read_bytes += part.length
    reader = Reader(disk.backing, part.offset, mirror.system.memory(part.length))
    return reader, Call(
        disk.lane, reader, disk.inline, False, True, reader.begin if disk.begins else None, disk.lane.took.read
    )


async def _pread(mirror: Mirror, part: ReadPart) -> memoryview | Exception:
    reader, call = asking(mirror, part)
    [outcome] = await mirror.system.in_turn([call], mirror.timeout_seconds)
    return reader.buffer if outcome.error is None else outcome.error


async def repair(mirror: Mirror, plex: Plex, offset: int, length: int, why: Exception) -> None:
    """Write back to a plex what another one holds, with the bytes of its regions held; if that fails, the plex leaves
    or has a hole. Nothing is done where no other plex holds the regions durably.
    """
    geometry = mirror.volume.geometry
    start = offset // REPAIR_UNIT_BYTES * REPAIR_UNIT_BYTES
    stop = min(-(-(offset + length) // REPAIR_UNIT_BYTES) * REPAIR_UNIT_BYTES, geometry.length_bytes)
    regions = geometry.regions_of(start, stop - start)
    first, size = geometry.bytes_of(regions)
    async with mirror.ranges.hold((first, first + size)):
        if not mirror.volume.may_repair(plex, regions):
            return
        generation = plex.generation
        [source, *more] = plan_read(mirror, start, stop - start, without=(plex,))
        found = await _pread(mirror, source)
        if more or plex.generation != generation or not isinstance(found, memoryview):
            return
        disk = mirror.opened[plex.uuid]
        writer = Writer(disk.backing, [(start, found)])
        call = disk.writing(writer, writer.spans, inline=disk.inline)
        [written] = await mirror.system.in_turn([call], mirror.timeout_seconds)
        if plex.generation != generation:
            return
        if written.error is None:
            mirror.volume.repaired(plex, regions)
            mirror.say(f"plex {plex.name}: read error at {offset} corrected from {source.plex.name} ({why})")
            return
        sentence = mirror.volume.fail_plex(plex, written.error)
        if plex.is_open and mirror.volume.make_holes(plex, regions):
            where = f"regions {regions.start}-{regions.stop - 1}"
            sentence = f"plex {plex.name}: {where} failed and became holes ({why})"
        mirror.say(sentence)
