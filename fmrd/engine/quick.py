"""Requests that end in the step in which they begin: no task, no lock, no wait (CONCURRENCY, "Quick requests").

They may where nothing has to be waited for: the extents are durable in the DRL, nobody holds the bytes, every plex
that takes part holds them and lies on a disk that does not block, nothing is to be recorded first. All of it is asked
and done between two checkpoints, so no rule can be broken in between; whatever is not so takes the way of mirror.py.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from fmrd.core.instant import is_instant
from fmrd.core.plans import WritePlan
from fmrd.engine.ranges import Claim

if TYPE_CHECKING:
    from fmrd.engine.mirror import Mirror

Rest = Callable[[], Awaitable[None]]


def read(mirror: "Mirror", offset: int, buffer: memoryview) -> int | None:
    """Fill ``buffer`` from [offset, ...), in bytes; how many there were, 0 beyond the end. None: take the other way."""
    volume = mirror.volume
    length = min(len(buffer), volume.geometry.length_bytes - offset)
    if length <= 0:
        return 0
    if mirror.load.closed or mirror.rests is not None or is_instant(volume):
        return None
    regions = volume.geometry.regions_of(offset, length)
    candidates = [p for p in volume.plexes if p.is_open and (p.map.blank or not p.map.touches(regions))]
    if not candidates:
        return None
    plex = volume.policy.choose(candidates, offset, length)
    disk = mirror.disks[plex.uuid]
    if not disk.inline:
        return None
    try:
        disk.backing.pread_into(offset, buffer[:length])
    except OSError:
        return None  # met again on the other way, where another plex steps in
    plex.reads += 1
    plex.read_bytes += length
    mirror.load.served += 1
    return length


def write(mirror: "Mirror", offset: int, data: bytes | memoryview) -> bool | Rest:
    """True: done. False: nothing was done, take the other way. Else what is left to be waited for, after an error."""
    volume = mirror.volume
    geometry, length = volume.geometry, len(data)
    stop = offset + length
    extents = geometry.extents_of(offset, length)
    if (
        not extents
        or stop > geometry.length_bytes
        or mirror.load.closed
        or not mirror.ranges.is_free(offset, stop)
        or volume.recorded < max(volume.demotions, volume.held_until)
        or not volume.drl.is_durable(extents)
        or volume.lost
        or is_instant(volume)
    ):
        return False
    disks = [(p, mirror.disks[p.uuid]) for p in volume.plexes if p.is_open]
    if not all(disk.inline and disk.is_quiet(offset, stop) for _, disk in disks):
        return False
    if volume.plain_targets(geometry.regions_of(offset, length)) is None:
        return False
    volume.drl.touch(extents)
    errors: dict[str, Exception] = {}
    for plex, disk in disks:
        try:
            disk.backing.pwrite(offset, data)
        except OSError as error:
            errors[plex.uuid] = error
        plex.writes += 1
        plex.write_bytes += length
    if errors:
        return _failed(mirror, offset, length, errors)
    mirror.load.served += 1
    return True


def _failed(mirror: "Mirror", offset: int, length: int, errors: dict[str, Exception]) -> Rest:
    """The bytes stay held, and the extents pending, until that is judged."""
    volume, span = mirror.volume, ((offset, offset + length),)
    plan = volume.choose_targets(offset, length)
    volume.drl.enter(plan.extents)
    mirror.ranges.take(span)
    mirror.load.requests += 1
    return partial(_judged, mirror, plan, errors, span)


async def _judged(mirror: "Mirror", plan: WritePlan, errors: dict[str, Exception], span: Claim) -> None:
    with mirror.load.entered():
        try:
            verdict = await mirror.judge(plan, errors)
        finally:
            mirror.volume.drl.leave(plan.extents)
            mirror.ranges.release(span)
        await mirror.answer(verdict)
