"""Copy on write keeps old data before the original is written (PROTOCOLS, "Instant snapshots").

A region is *owed* until its old data is on the snapshot's plex, fdatasync'ed, and the home copy knows. Who must have it
kept holds its bytes on the original. Where that fails, or takes too long, the region is *lost*, durably, in the
original's DCO, and the original goes on: a snapshot never makes it fail.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

import trio
from bitarray.util import ones

from fmrd.core.decisions import instant
from fmrd.core.maps.regionmap import RegionMap
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.dco.group_commit import Batch, GroupCommit
from fmrd.engine.serving import reading
from fmrd.engine.serving.mirror import Mirror
from fmrd.engine.serving.writes_under_way import Writer, Zeroer
from fmrd.errors import Failed, FmrdError

log = logging.getLogger(__name__)
LIMIT_SECONDS = 5.0
"""How long a call on a snapshot's plex may take, unless it is set otherwise, before what it was to keep is lost."""
PIECE_BYTES = 1 << 20
"""Copied at once."""


@dataclass
class _Regions(Batch):
    """They share one fdatasync and one page write."""

    regions: set[int] = field(default_factory=set)
    precious: set[int] = field(default_factory=set)
    """Those that the original is about to write: kept now or lost."""


class CopyOnWrite:
    """This keeps old data of one original for the instant snapshot of that uuid. It has no state of its own: who asks
    by then is served together, and what they share is the original's.
    """

    def __init__(self, origin: Mirror, uuid: str) -> None:
        self._origin = origin
        self._uuid = uuid
        self._group: GroupCommit[_Regions] = origin.old_data.setdefault(uuid, GroupCommit(_Regions))

    @property
    def _snapshot(self) -> Volume:
        return self._origin.store.family.by_uuid(self._uuid)

    async def keep(self, regions: Iterable[int], *, or_lose: bool = True) -> None:
        """Return when each region is kept or lost, durably; the caller holds their bytes on the original.
        Failed('home_failed') where neither can be written down. ``or_lose``: the original is to be written there;
        otherwise what cannot be kept stays owed.
        """
        batch = self._group.next
        regions = list(regions)
        batch.regions.update(regions)
        if or_lose:
            batch.precious.update(regions)
        error = await self._group.served(batch, self._keep)
        if error is not None:
            raise error

    def owed(self, regions: Iterable[int]) -> list[int]:
        """Return which of these are owed: none where the snapshot went back meanwhile, or holds everything itself."""
        origin = self._origin.volume
        if self._uuid not in origin.unkept:
            return []
        snap = self._snapshot
        return [r for r in regions if instant.owed(origin, snap, range(r, r + 1))]

    async def _keep(self, batch: _Regions) -> None:
        regions = sorted(batch.regions)
        if not self.owed(regions):
            return
        mirror = self._origin.kin.get(self._uuid)
        why = "it is stopped, or its disk is away"
        if mirror is not None:
            why = await self._copy(mirror, self.owed(regions))
        left = self.owed(sorted(batch.precious))
        if left:
            await self._lose(left, why, rest=mirror is not None and self._hangs(mirror))

    def _hangs(self, mirror: Mirror) -> bool:
        disk = mirror.opened.get(self._snapshot.plexes[0].uuid)
        return disk is not None and disk.lane.hung > 0

    async def _copy(self, mirror: Mirror, regions: list[int]) -> str:
        """Copy to the snapshot's plex, durably. Return what went wrong, if anything did."""
        with trio.move_on_after(mirror.timeout_seconds) as patience:
            await mirror.rest_lock.acquire()
        if patience.cancelled_caught:
            return f"snapshot {mirror.volume.name} is at rest for too long"
        try:
            return await self._copy_at_work(mirror, self.owed(regions))
        finally:
            mirror.rest_lock.release()

    async def _copy_at_work(self, mirror: Mirror, regions: list[int]) -> str:
        plex = next(iter(mirror.volume.plexes), None)
        if plex is None or not regions:
            return "it went back"
        if mirror.opened[plex.uuid].lane.hung:
            return f"plex {plex.name} does not answer"
        missing = RegionMap(len(plex.map), plex.map.page_bits)
        for region in regions:
            if region in plex.map:
                missing.mark(range(region, region + 1))
        try:
            for run in missing.runs():
                await self._copy_run(mirror, plex, run)
            self._must_be_there(mirror)
            await mirror.sync(plex)
            await mirror.store.write_pages(mirror.volume.touched_pages())
        except (FmrdError, OSError) as error:
            return str(error)
        return f"plex {plex.name} failed"

    async def _copy_run(self, mirror: Mirror, plex: Plex, run: range) -> None:
        """Copy from any plex of the original that answers; OSError if it cannot be copied. Not by the kernel in one
        call: of that nobody could tell which end hangs, and old data would be lost for one plex of several.
        """
        at, size = mirror.volume.geometry.bytes_of(run)
        stop, dropped = at + size, plex.dropped
        while at < stop:
            data = await _joined(self._origin, at, min(stop - at, PIECE_BYTES), mend=False)
            self._must_be_there(mirror)
            await self._put(mirror, plex, at, data)
            at += len(data)
        mirror.volume.copied_these(plex, run.start, ones(len(run)), dropped)

    async def _put(self, mirror: Mirror, plex: Plex, at: int, data: bytes) -> None:
        disk, spans = mirror.opened[plex.uuid], ((at, at + len(data)),)
        zeros = data == bytes(len(data))
        put = Zeroer(disk.backing, spans, True) if zeros else Writer(disk.backing, [(at, memoryview(data))])
        [outcome] = await self._origin.system.in_turn([disk.writing(put, spans, inline=False)], mirror.timeout_seconds)
        if outcome.error is not None:
            raise outcome.error

    def _must_be_there(self, mirror: Mirror) -> None:
        """Its files are closed when it stops or goes back; calls under way are waited for, new ones come too late."""
        if self._origin.kin.get(self._uuid) is not mirror or self._uuid not in self._origin.volume.unkept:
            raise Failed("volume_stopped", f"snapshot {mirror.volume.name} was stopped meanwhile")

    async def _lose(self, regions: list[int], why: str, *, rest: bool) -> None:
        """Note them as lost, durably, in the original's DCO, before it writes there; with ``rest`` all not kept yet."""
        origin, snap = self._origin, self._snapshot
        unkept = origin.volume.unkept[self._uuid]
        if not unkept.map.any():
            stopped = self._uuid not in origin.kin  # by somebody who knows what it costs
            level = logging.WARNING if stopped else logging.ERROR
            log.log(level, "snapshot %s is invalid: old data could not be kept (%s)", snap.name, why)
        instant.lose(origin.volume, snap, regions)
        if rest:
            instant.lose_the_rest(origin.volume, snap)
        await origin.store.write_pages((unkept.column.index, page) for page in sorted(unkept.due_pages))


async def before_write(mirror: Mirror, offset: int, length: int) -> None:
    """Return when these bytes, which the caller holds, may be written on the original or on an instant snapshot. Failed
    as by ``keep`` and ``fill``.
    """
    regions = mirror.volume.geometry.regions_of(offset, length)
    for uuid in list(mirror.volume.unkept):
        if CopyOnWrite(mirror, uuid).owed(regions):
            await CopyOnWrite(mirror, uuid).keep(regions)
    if mirror.volume.settings.is_instant and not all(map(mirror.volume.plexes[0].is_kept, regions)):
        await fill(mirror, regions)


async def fill(mirror: Mirror, regions: range) -> None:
    """Have an instant snapshot take these regions over from its original. Failed('snap_invalid') where they are lost,
    ('io_error') where its plex fails, ('volume_stopped') where the original is stopped.
    """
    origin = _origin_of(mirror)
    span = mirror.volume.geometry.bytes_of(regions)
    with origin.load.request(origin.volume):
        async with origin.ranges.hold((span[0], sum(span))):
            if mirror.volume.settings.is_instant:
                old_data = CopyOnWrite(origin, mirror.volume.settings.uuid)
                await old_data.keep(regions, or_lose=False)
                check_lost(mirror, origin, regions)
                if old_data.owed(regions):
                    raise Failed("io_error", f"snapshot {mirror.volume.name}: its plex does not take what it copies")


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
        return await _joined(mirror, offset, length)
    origin = _origin_of(mirror)
    with origin.load.request(origin.volume):
        at, size = mirror.volume.geometry.bytes_of(regions)
        async with origin.ranges.hold((at, at + size)):
            if region in plex.map:
                check_lost(mirror, origin, regions)
                return await _joined(origin, offset, length, mend=False)
    return await _read_region(mirror, region, offset, length)


async def _joined(mirror: Mirror, offset: int, length: int, *, mend: bool = True) -> bytes:
    return b"".join([data async for data in reading.read_parts(mirror, offset, offset + length, mend=mend)])


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
