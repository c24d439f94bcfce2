"""Copy on write keeps old data before the original is written (PROTOCOLS, "Instant snapshots").

What a write, and a read or write of the snapshot, has to wait for is here; how regions are kept is keeping.py.
"""

import errno
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import trio

from fmrd.backing.calls.system_calls import ask
from fmrd.core.decisions import instant
from fmrd.core.volume.volume import Volume
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
    if mirror.volume.settings.is_instant:
        for part in _to_take_over(mirror.volume, regions, offset, length):
            await fill(mirror, part, await _given(mirror, part, offset, data))


def _to_take_over(volume: Volume, regions: range, offset: int, length: int) -> list[range]:
    """Return which regions an instant snapshot must hold, durably, before these bytes of it are written. Of what a
    stream brings none of those that it covers whole, nor any that is there: what came counts when it is noted, after a
    flush, and not before.
    """
    plex = volume.plexes[0]
    if not volume.settings.by_stream:
        return [] if all(map(plex.is_kept, regions)) else [regions]
    whole = volume.geometry.whole_regions_of(offset, length)
    parts = [range(regions.start, whole.start), range(whole.stop, regions.stop)] if whole else [regions]
    return [part for part in parts if plex.map.touches(part)]


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
async def in_place(mirror: Mirror, offset: int, length: int, *, takes_room: bool) -> AsyncIterator[None]:
    """Hold, in here, what a write to an instant snapshot needs elsewhere: room, where it lies in a store, unless
    something lies there already; and the original's bytes, where a stream brings what is not the snapshot's yet, so
    that no old data is kept there meanwhile. Failed('store_full'), ('volume_stopped').
    """
    if not mirror.volume.settings.is_instant:
        yield
        return
    async with AsyncExitStack() as stack:
        if mirror.volume.settings.by_stream:
            origin = _origin_of(mirror)
            stack.enter_context(origin.load.request(origin.volume))
            await stack.enter_async_context(origin.ranges.hold((offset, offset + length)))
        if mirror.room is not None and takes_room:
            size = await _new_bytes(mirror, offset, length)
            await stack.enter_async_context(mirror.room.taken(mirror.volume.settings.uuid, size))
        yield


async def _new_bytes(mirror: Mirror, offset: int, length: int) -> int:
    """Return how many of these bytes may take room that they do not have yet."""
    disk = mirror.opened[mirror.volume.plexes[0].uuid]
    look = partial(disk.backing.data_until, offset, offset + length)
    found = await ask(mirror.system, disk.lane, look, mirror.timeout_seconds)
    return 0 if found == (True, offset + length) else length


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


async def read(mirror: Mirror, offset: int, length: int) -> reading.Bytes:
    """Read of an instant snapshot: its own data where it has some, the original's elsewhere. Failed('snap_invalid')
    where that was lost, ('volume_stopped') where the original is stopped.
    """
    geometry, data, stop = mirror.volume.geometry, [], offset + length
    while offset < stop:
        regions = geometry.regions_of(offset, stop - offset)
        missing = mirror.volume.plexes[0].map.these(regions)
        if (others := missing.find(not missing[0])) != -1:
            regions = regions[:others]
        end = min(sum(geometry.bytes_of(regions)), stop)
        data.append(await _read_run(mirror, regions, offset, end - offset))
        offset = end
    return reading.joined(data)


async def _read_run(mirror: Mirror, regions: range, offset: int, length: int) -> reading.Bytes:
    """All of them were the snapshot's own, or none was, when that was asked."""
    plex = mirror.volume.plexes[0]
    origin = mirror.kin.get(_origin_uuid(mirror))
    if origin is not None:
        check_lost(mirror, origin, regions)
    if not plex.map.touches(regions):
        data = await reading.read_all(mirror, offset, length)
        if not plex.map.touches(regions):
            return data
        return await read(mirror, offset, length)  # it was given up, and its room back, meanwhile
    origin = _origin_of(mirror)
    with origin.load.request(origin.volume):
        at, size = mirror.volume.geometry.bytes_of(regions)
        async with origin.ranges.hold((at, at + size)):
            if plex.map.these(regions).all():
                check_lost(mirror, origin, regions)
                return await reading.read_all(origin, offset, length, mend=False)
    return await read(mirror, offset, length)


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
