"""The rules of snapshots as switches, as those of switches.py."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any
from unittest.mock import patch

from bitarray import bitarray
from bitarray.util import zeros

from fmrd.core.decisions import instant, recovery, snapback
from fmrd.core.maps.bitmap import Bitmap
from fmrd.core.maps.regionmap import RegionMap
from fmrd.core.volume.family import Family
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.engine.serving import copy_on_write, keeping, reading
from fmrd.engine.serving.mirror import Mirror
from fmrd.engine.serving.quick import Quick
from fmrd.engine.snapshots import breakoffs
from tests.sim.switches import while_cleaning, without


def _no_tracking(*, of_original: bool) -> AbstractContextManager[Any]:
    real = Volume._track

    def track(self: Volume, regions: range) -> None:
        if (self.settings.snapshot_of is None) is not of_original:
            real(self, regions)

    return patch.object(Volume, "_track", track)


@contextmanager
def _lazy_tracks() -> Iterator[None]:
    """Their pages are not written before an extent leaves the DRL."""
    real = Volume.touched_pages
    with while_cleaning() as cleaning:

        def touched(self: Volume) -> list[tuple[int, int]]:
            tracks = {track.column.index for track in self.tracks.values()}
            return [key for key in real(self) if key[0] not in tracks or not cleaning()]

        with patch.object(Volume, "touched_pages", touched):
            yield


def _no_drl_after_a_crash() -> AbstractContextManager[Any]:
    return patch.object(recovery, "_inherit", lambda track, dirty: None)


async def _nothing(*arguments: Any) -> None:
    pass


@contextmanager
def _break_off_without_fdatasync() -> Iterator[None]:
    with patch.object(breakoffs, "_make_durable", _nothing), patch.object(breakoffs, "_settle", _nothing):
        yield


@contextmanager
def _half_a_union(verb: str, *, own: bool) -> Iterator[None]:
    """In that verb the union lacks one side's map."""
    real = getattr(snapback, verb)

    def half(origin: Volume, volume: Volume) -> bitarray:
        side = origin if own else volume
        bits = side.tracks[volume.settings.uuid].map.bits
        size = origin.geometry.regions
        return bits[:size] + zeros(max(0, size - len(bits)))

    def run(*arguments: Any) -> Any:
        with patch.object(snapback, "difference", half):
            return real(*arguments)

    with patch.object(snapback, verb, run):
        yield


@contextmanager
def _nobody_gains(kind: type[Bitmap]) -> Iterator[None]:
    real = snapback._gain

    def gain(bitmap: Bitmap, changed: bitarray) -> None:
        spared = type(bitmap) is kind if kind is Bitmap else isinstance(bitmap, Plex) and not bitmap.is_open
        if not spared:
            real(bitmap, changed)

    with patch.object(snapback, "_gain", gain):
        yield


def _no_epochs() -> AbstractContextManager[Any]:
    return patch.object(Family, "renewed", lambda self, column: column)


def _original_writes_at_once() -> AbstractContextManager[Any]:
    real = copy_on_write.before_write

    async def before(mirror: Mirror, offset: int, length: int, data: memoryview | None = None) -> None:
        if not mirror.volume.unkept:
            await real(mirror, offset, length, data)

    return patch.object(copy_on_write, "before_write", before)


def _partial_writes_as_they_are() -> AbstractContextManager[Any]:
    real = copy_on_write.before_write

    async def before(mirror: Mirror, offset: int, length: int, data: memoryview | None = None) -> None:
        if mirror.volume.unkept:
            await real(mirror, offset, length, data)

    return patch.object(copy_on_write, "before_write", before)


def _given_before_the_map_tells() -> AbstractContextManager[Any]:
    """What an instant snapshot is given is held, and its map has it only as that of any other write."""
    told = (
        "if found:",
        "    volume.distrust_others(regions)",
        "    await mirror.store.write_pages(volume.touched_pages())",
    )
    return without(copy_on_write, "_given", "\n    ".join(told))


def _kept_by_memory() -> AbstractContextManager[Any]:
    def owed(origin: Volume, snap: Volume, regions: range) -> list[int]:
        lost = origin.unkept.get(snap.settings.uuid)
        return [r for r in regions if lost is not None and r in snap.plexes[0].map and r not in lost.map]

    return patch.object(instant, "owed", owed)


@contextmanager
def _lost_in_memory() -> Iterator[None]:
    async def lose(self: keeping.Keeper, regions: list[int], why: str, *, rest: bool) -> None:
        instant.lose(self._origin.volume, self._snapshot, regions)

    with patch.object(keeping.Keeper, "_lose", lose), patch.object(instant, "untold", lambda *_: set()):
        yield


def _kept_without_fdatasync() -> AbstractContextManager[Any]:
    async def make_durable(self: keeping.Keeper, mirror: Mirror, plex: Plex, regions: list[int]) -> None:
        plex.end_sync(plex.begin_sync(), succeeded=True)

    return patch.object(keeping.Keeper, "_make_durable", make_durable)


def _kept_before_the_fdatasync() -> AbstractContextManager[Any]:
    real = keeping.Keeper._make_durable

    async def make_durable(self: keeping.Keeper, mirror: Mirror, plex: Plex, regions: list[int]) -> None:
        with patch.object(Plex, "page", Bitmap.page):  # by the map alone, whatever is unsynced
            await mirror.store.write_pages(mirror.volume.touched_pages())
        await real(self, mirror, plex, regions)

    return patch.object(keeping.Keeper, "_make_durable", make_durable)


def _an_fdatasync_covers_what_comes_during_it() -> AbstractContextManager[Any]:
    real = Plex.end_sync

    def end_sync(self: Plex, batch: RegionMap | None, *, succeeded: bool) -> None:
        real(self, batch, succeeded=succeeded)
        if succeeded:
            real(self, self.begin_sync(), succeeded=True)

    return patch.object(Plex, "end_sync", end_sync)


def _reads_hold_nothing() -> AbstractContextManager[Any]:
    async def read(mirror: Mirror, regions: range, offset: int, length: int) -> bytes:
        origin = copy_on_write._origin_of(mirror)
        copy_on_write.check_lost(mirror, origin, regions)
        where = origin if regions[0] in mirror.volume.plexes[0].map else mirror
        return await reading.read_all(where, offset, length, mend=False)

    return patch.object(copy_on_write, "_read_run", read)


def _nobody_waits_for_one_that_went() -> AbstractContextManager[Any]:
    def untie(origin: Volume, snap: Volume) -> None:
        del origin.tracks[snap.settings.uuid]
        origin.unkept.pop(snap.settings.uuid, None)

    return patch.object(snapback, "_untie", untie)


@asynccontextmanager
async def _reads_go_on(mirror: Mirror) -> AsyncIterator[None]:
    yield


SWITCHES = {
    "snapshot: the original's writes are tracked": lambda: _no_tracking(of_original=True),
    "snapshot: its own writes are tracked": lambda: _no_tracking(of_original=False),
    "snapshot: both maps before the DRL clears": _lazy_tracks,
    "snapshot: both maps inherit the DRL": _no_drl_after_a_crash,
    "snapshot: fdatasync before the break-off": _break_off_without_fdatasync,
    "snapback: by the snapshot's own map too": lambda: _half_a_union("go_back", own=True),
    "snapback: by the original's map too": lambda: _half_a_union("go_back", own=False),
    "replica: by the snapshot's own map too": lambda: _half_a_union("from_replica", own=True),
    "replica: by the original's map too": lambda: _half_a_union("from_replica", own=False),
    "replica: other snapshots gain the union": lambda: _nobody_gains(Bitmap),
    "replica: detached plexes gain the union": lambda: _nobody_gains(Plex),
    "replica: reads wait for the record": lambda: patch.object(Mirror, "reads_held", _reads_go_on),
    "instant: old data before the original's": _original_writes_at_once,
    "instant: a part of a region after the rest": _partial_writes_as_they_are,
    "instant: its map tells of what it was given before it holds that": _given_before_the_map_tells,
    "instant: kept is durably kept": _kept_by_memory,
    "instant: fdatasync before it is kept": _kept_without_fdatasync,
    "instant: fdatasync before the page": _kept_before_the_fdatasync,
    "instant: an fdatasync covers what was copied before it": _an_fdatasync_covers_what_comes_during_it,
    "instant: written at once only what is kept": lambda: without(Quick, "write", "owes(self._mirror, offset, length)"),
    "instant: lost is durably lost": _lost_in_memory,
    "instant: a read holds the original's bytes": _reads_hold_nothing,
    "instant: one that went is not written over before the record": _nobody_waits_for_one_that_went,
    "epochs: a record and its maps are one": _no_epochs,
}
"""Rule -> a context manager that takes it out."""
