"""Copy on write keeps old data before the original is written (PROTOCOLS, "Instant snapshots").

What a write, and a read or write of the snapshot, has to wait for is here; how regions are kept is keeping.py.
"""

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

from fmrd.backing.calls.system_calls import ask
from fmrd.core.decisions import instant
from fmrd.engine.serving import reading
from fmrd.engine.serving.keeping import Given, Keeper
from fmrd.engine.serving.mirror import Mirror
from fmrd.errors import Failed, FmrdError


async def before_write(mirror: Mirror, offset: int, length: int, data: memoryview | None = None) -> None:
    """Return when these bytes, which the caller holds, may be written on the original or on an instant snapshot. Failed
    as by ``keep`` and ``fill``. ``data``: what is to be written; whole regions of it need nothing of the original.
    """
    regions = mirror.volume.geometry.regions_of(offset, length)
    keepers = [Keeper(mirror, uuid) for uuid in mirror.volume.unkept]
    await _keep_by_all([keeper for keeper in keepers if keeper.must_wait(regions)], regions)
    if mirror.volume.settings.is_instant and not all(map(mirror.volume.plexes[0].is_kept, regions)):
        await fill(mirror, regions, await _given(mirror, regions, offset, data))


async def _given(mirror: Mirror, regions: range, offset: int, data: memoryview | None) -> Given:
    """Return the new data of regions that are the original's still and are written over as a whole. From the moment in
    which the snapshot holds them it holds that: so what tells of its writes has them before, durably.
    """
    volume = mirror.volume
    found: dict[int, memoryview] = {}
    for region in regions if data is not None else ():
        at, size = volume.geometry.bytes_of(range(region, region + 1))
        if at >= offset and at + size <= offset + len(data or b"") and not volume.plexes[0].is_kept(region):
            assert data is not None
            found[region] = data[at - offset : at - offset + size]
    if found:
        volume.distrust_others(regions)
        await mirror.store.write_pages(volume.touched_pages())
    return found


@asynccontextmanager
async def room_for(mirror: Mirror, offset: int, length: int) -> AsyncIterator[None]:
    """Hold room, in here, for what is written to a volume that lies in a store, unless something lies there already.
    Failed('store_full').
    """
    if mirror.room is None or not length or not mirror.volume.settings.is_instant:
        yield
        return
    disk = mirror.opened[mirror.volume.plexes[0].uuid]
    look = partial(disk.backing.data_until, offset, offset + length)
    found = await ask(mirror.system, disk.lane, look, mirror.timeout_seconds)
    async with mirror.room.taken(mirror.volume.settings.uuid, 0 if found == (True, offset + length) else length):
        yield


async def _keep_by_all(keepers: list[Keeper], regions: range) -> None:
    """For several snapshots side by side: none waits for the disk of another."""
    errors: list[FmrdError] = []

    async def keep(keeper: Keeper) -> None:
        try:
            await keeper.keep(regions)
        except FmrdError as error:
            errors.append(error)

    if len(keepers) == 1:
        await keep(keepers[0])
    elif keepers:
        async with trio.open_nursery() as nursery:
            for keeper in keepers:
                nursery.start_soon(keep, keeper)
    if errors:
        raise errors[0]


def owes(mirror: Mirror, offset: int, length: int) -> bool:
    """Tell whether a write of these bytes has to wait until old data is kept: asked by writes that begin in this very
    step. Regions that are kept or lost, and known to be, stay so.
    """
    volume, family = mirror.volume, mirror.store.family
    regions = volume.geometry.regions_of(offset, length)
    return any(instant.must_wait(volume, family.by_uuid(uuid), regions) for uuid in volume.unkept)


async def fill(mirror: Mirror, regions: range, given: Given | None = None) -> None:
    """Have an instant snapshot take these regions over from its original, or with what is ``given``.
    Failed('snap_invalid') where they are lost, ('io_error') where its plex fails, ('store_full'), ('volume_stopped')
    where the original is stopped.
    """
    origin = _origin_of(mirror)
    span = mirror.volume.geometry.bytes_of(regions)
    with origin.load.request(origin.volume):
        async with origin.ranges.hold((span[0], sum(span))):
            if mirror.volume.settings.is_instant:
                keeper = Keeper(origin, mirror.volume.settings.uuid)
                why = await keeper.keep(regions, or_lose=False, given=given)
                check_lost(mirror, origin, regions)
                if keeper.owed(regions):
                    what = f"snapshot {mirror.volume.name}: its plex does not take what it copies"
                    code, number = ("store_full", errno.ENOSPC) if why.startswith("store_full:") else ("io_error", None)
                    raise Failed(code, f"{what} ({why})" if why else what, errno=number)


async def read(mirror: Mirror, offset: int, length: int) -> bytes:
    """Read of an instant snapshot: its own data where it has some, the original's elsewhere. Failed('snap_invalid')
    where that was lost, ('volume_stopped') where the original is stopped.
    """
    geometry = mirror.volume.geometry
    data = []
    stop = offset + length
    while offset < stop:
        [region] = geometry.regions_of(offset, 1)
        end = min(sum(geometry.bytes_of(range(region, region + 1))), stop)
        data.append(await _read_region(mirror, region, offset, end - offset))
        offset = end
    return b"".join(data)


async def _read_region(mirror: Mirror, region: int, offset: int, length: int) -> bytes:
    plex = mirror.volume.plexes[0]
    regions = range(region, region + 1)
    origin = mirror.kin.get(_origin_uuid(mirror))
    if origin is not None:
        check_lost(mirror, origin, regions)
    if region not in plex.map:
        data = await reading.read_all(mirror, offset, length)
        if region not in plex.map:
            return data
        return await _read_region(mirror, region, offset, length)  # it was given up, and its room back, meanwhile
    origin = _origin_of(mirror)
    with origin.load.request(origin.volume):
        at, size = mirror.volume.geometry.bytes_of(regions)
        async with origin.ranges.hold((at, at + size)):
            if region in plex.map:
                check_lost(mirror, origin, regions)
                return await reading.read_all(origin, offset, length, mend=False)
    return await _read_region(mirror, region, offset, length)


def check_lost(mirror: Mirror, origin: Mirror, regions: range) -> None:
    """Raise Failed('snap_invalid') where the snapshot has lost one of these regions."""
    unkept = origin.volume.unkept.get(mirror.volume.settings.uuid)
    if unkept is not None and unkept.map.touches(regions):
        raise Failed("snap_invalid", f"snapshot {mirror.volume.name} has lost what was at {regions.start} (regions)")


def _origin_uuid(mirror: Mirror) -> str:
    original = mirror.store.family.original_of(mirror.volume)
    return original.settings.uuid if original is not None else ""


def _origin_of(mirror: Mirror) -> Mirror:
    origin = mirror.kin.get(_origin_uuid(mirror))
    if origin is None:
        raise Failed(
            "volume_stopped",
            f"snapshot {mirror.volume.name} reads from {mirror.volume.settings.snapshot_of}, which is stopped",
        )
    return origin
