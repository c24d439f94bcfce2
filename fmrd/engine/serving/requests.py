"""A door asks these of an open volume where something has to be waited for: they are functions over a mirror.

quick.py has what is tried first. Offsets and lengths are bytes; failures are FmrdError with an errno. Each request
counts in the volume's load from its arrival to its answer; a volume that closes takes none, Failed('volume_stopped').
"""

import errno

from fmrd.backing.calls.system_calls import Call
from fmrd.core.volume import flushing
from fmrd.dco.group_commit import Batch
from fmrd.engine.serving import copy_on_write, reading
from fmrd.engine.serving.mirror import Mirror
from fmrd.engine.serving.open_plex import OpenPlex, Parts, ToCall
from fmrd.engine.serving.writes_under_way import Writer, Zeroer
from fmrd.errors import Failed

ZERO_BYTES = 16 << 20
"""Zeros made in one go: where a device must be written, that takes well under io_timeout."""


async def read(mirror: Mirror, offset: int, length: int) -> bytes | memoryview:
    """Return what was read: less at the end of the volume, nothing beyond. Failed('io_error') where no plex has it."""
    length = min(length, mirror.volume.geometry.length_bytes - offset)
    if length <= 0:
        return b""
    with mirror.load.request(mirror.volume):
        while mirror.reads_held_until is not None:
            await mirror.reads_held_until.wait()
        if mirror.volume.settings.is_instant:
            return await copy_on_write.read(mirror, offset, length)
        part = reading.plan_read(mirror, offset, length)[0]
        if part.length == length:
            return await reading.read_part(mirror, part)
        return await reading.read_all(mirror, offset, length)


async def write(mirror: Mirror, offset: int, data: bytes | memoryview) -> None:
    """Return when the data is on every plex that should have it (rule 1 before, rule 5 after). Failed('beyond_end'),
    ('io_error') where the last copy of something failed, ('home_failed') where the mark or the record did.
    """
    view = memoryview(data)

    def writer(plex: OpenPlex, parts: Parts) -> Call:
        work = Writer(plex.backing, [(at, view[at - offset : at - offset + size]) for at, size in parts])
        return plex.writing(work, work.spans, inline=plex.inline, latency=plex.lane.took.write)

    await _change(mirror, offset, len(data), writer, view)


async def make_zero(mirror: Mirror, offset: int, length: int, *, punch: bool) -> None:
    """Write zeros as ``write`` does (with ``punch``, a discard), by stretches: who has the next waits for no more."""

    def zeroer(plex: OpenPlex, parts: Parts) -> Call:
        work = Zeroer(plex.backing, tuple([(at, at + size) for at, size in parts]), punch)
        return plex.writing(work, work.spans, inline=False, latency=plex.lane.took.write)

    for at in range(offset, offset + length, ZERO_BYTES):
        await _change(mirror, at, min(ZERO_BYTES, offset + length - at), zeroer, takes_room=not punch)


async def _change(
    mirror: Mirror, offset: int, length: int, call: ToCall, data: memoryview | None = None, *, takes_room: bool = True
) -> None:  # fmt: skip
    volume, stop = mirror.volume, offset + length
    if stop > volume.geometry.length_bytes:
        raise Failed("beyond_end", f"volume {volume.name} ends before byte {stop}", errno=errno.ENOSPC)
    if not length:
        return
    with mirror.load.request(volume):
        async with mirror.ranges.hold((offset, stop)):
            if volume.unkept or volume.settings.is_instant:
                await copy_on_write.before_write(mirror, offset, length, data)
            if volume.demotions_recorded < volume.held_until:
                await mirror.until_recorded()
            async with copy_on_write.in_place(mirror, offset, length, takes_room=takes_room):
                verdict = await mirror.write_held(offset, length, call)
            if mirror.unreadable.spans and verdict.error is None:
                mirror.unreadable.remove(offset, stop)
        await mirror.answer(verdict)


async def flush(mirror: Mirror) -> None:
    """Return when every write that ended before now is durable on every open plex but one that lags, and on that one
    where no other has it. Failed('suspect') while some region may have been lost by an fdatasync that failed on its
    last copy.
    """

    async def sync(batch: Batch) -> None:
        batch.error = flushing.to_tell(mirror.volume, (await mirror.sync(lagging=False)).error)

    batch = mirror.flushes.next
    with mirror.load.request(mirror.volume):
        error = await mirror.flushes.served(batch, sync)
        await mirror.until_recorded()
        if error is not None:
            raise error
