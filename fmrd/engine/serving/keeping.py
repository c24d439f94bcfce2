"""Old data of an original is kept on the plex of an instant snapshot, in rounds (PROTOCOLS, "Instant snapshots").

A region is *owed* until its old data is on the snapshot's plex, fdatasync'ed, and the home copy knows. Who must have it
kept holds its bytes on the original. Where that fails, or takes too long, the region is *lost*, durably, in the
original's DCO, and the original goes on: a snapshot never makes it fail.

It takes three steps: the copy, the fdatasync, the page. All who came to a step while it was taken for others take it
together, next; meanwhile the others are on their way through the next step. Whoever asked goes on after the last.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from bitarray.util import ones

from fmrd.core.decisions import instant
from fmrd.core.maps.runs import Stretch, adjacent, pieces_of
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
"""Read at once, at most."""
TOGETHER_BYTES = 4 << 20
"""In memory at once, and written by one call."""
_ZEROS = bytes(PIECE_BYTES)
Given = Mapping[int, memoryview]
"""Region -> what a snapshot holds there from now on, instead of what its original holds."""


@dataclass
class _Regions(Batch):
    """They share one step of what keeping them takes."""

    regions: set[int] = field(default_factory=set)
    precious: set[int] = field(default_factory=set)
    """Those that the original is about to write: kept now or lost."""
    given: dict[int, memoryview] = field(default_factory=dict)
    why: str = ""
    """What went wrong, if anything did."""


def _steps() -> GroupCommit[_Regions]:
    return GroupCommit(_Regions)


@dataclass
class _Rounds:
    """Three steps, each for all who asked by then, and all three at once, for others. What was copied while an
    fdatasync was under way stays unsynced (Plex.begin_sync), and a page never tells of what is.
    """

    copies: GroupCommit[_Regions] = field(default_factory=_steps)
    fdatasyncs: GroupCommit[_Regions] = field(default_factory=_steps)
    pages: GroupCommit[_Regions] = field(default_factory=_steps)


class Keeper:
    """This keeps old data of one original for the instant snapshot of that uuid. It has no state of its own: who asks
    by then is served together, and what they share is the original's.
    """

    def __init__(self, origin: Mirror, uuid: str) -> None:
        self._origin = origin
        self._uuid = uuid
        self._rounds: _Rounds = origin.old_data.setdefault(uuid, _Rounds())

    @property
    def _snapshot(self) -> Volume:
        return self._origin.store.family.by_uuid(self._uuid)

    async def keep(self, regions: Iterable[int], *, or_lose: bool = True, given: Given | None = None) -> str:
        """Return when each region is kept or lost, durably; the caller holds their bytes on the original.
        Failed('home_failed') where neither can be written down. ``or_lose``: the original is to be written there;
        otherwise what cannot be kept stays owed, and what is returned says why. ``given`` is new data of the snapshot,
        of which nothing old is kept.
        """
        regions, why, rounds = list(regions), "", self._rounds
        for step, work in (
            (rounds.copies, self._copy),
            (rounds.fdatasyncs, self._sync),
            (rounds.pages, self._write_down),
        ):
            batch = step.next
            batch.regions.update(regions)
            batch.precious.update(regions if or_lose else ())
            batch.given.update(given or {})
            batch.why = batch.why or why
            if (error := await step.served(batch, work)) is not None:
                raise error
            why = batch.why
        return why

    def must_wait(self, regions: range) -> bool:
        """Tell whether the original must not write these yet."""
        volume = self._origin.volume
        return self._uuid in volume.unkept and instant.must_wait(volume, self._snapshot, regions)

    def owed(self, regions: Iterable[int]) -> list[int]:
        """Return which of these are owed: none where the snapshot went back meanwhile, or holds everything itself."""
        origin = self._origin.volume
        if self._uuid not in origin.unkept:
            return []
        snap = self._snapshot
        return [r for r in regions if instant.owed(origin, snap, range(r, r + 1))]

    async def _copy(self, batch: _Regions) -> None:
        """Have the plex take them, not durably yet."""
        regions = [r for r in self.owed(sorted(batch.regions)) if r in self._snapshot.plexes[0].map]
        batch.why = await self._at_work(regions, partial(self._copy_these, batch.given, precious=bool(batch.precious)))

    async def _sync(self, batch: _Regions) -> None:
        """Make durable what the plex took."""
        regions = [r for r in self.owed(sorted(batch.regions)) if self._snapshot.plexes[0].is_unsynced(r)]
        batch.why = await self._at_work(regions, self._make_durable) or batch.why

    async def _write_down(self, batch: _Regions) -> None:
        """Have the home copy know. What is still owed then was not taken, or was dropped: it is lost."""
        regions = [r for r in self.owed(sorted(batch.regions)) if r not in self._snapshot.plexes[0].map]
        why = batch.why = await self._at_work(regions, self._write_pages) or batch.why
        left = self.owed(sorted(batch.precious))
        if left:
            mirror = self._origin.kin.get(self._uuid)
            await self._lose(left, why or "its plex failed", rest=mirror is not None and self._hangs(mirror))
        if untold := instant.untold(self._origin.volume, self._uuid, batch.precious):  # lost by somebody else
            column = self._origin.volume.unkept[self._uuid].column.index
            await self._origin.store.write_pages((column, page) for page in sorted(untold))

    def _hangs(self, mirror: Mirror) -> bool:
        disk = mirror.opened.get(self._snapshot.plexes[0].uuid)
        return (disk is not None and disk.lane.hung > 0) or (mirror.room is not None and mirror.room.hangs)

    async def _at_work(self, regions: list[int], work: Callable[[Mirror, Plex, list[int]], Awaitable[None]]) -> str:
        """Do ``work`` with those of the regions that are owed. Return what went wrong, if anything did."""
        mirror = self._origin.kin.get(self._uuid)
        if not self.owed(regions):
            return ""
        if mirror is None:
            return "it is stopped, or its disk is away"
        if not await mirror.rest_lock.enter(mirror.timeout_seconds):
            return f"snapshot {mirror.volume.name} is at rest for too long"
        try:
            regions = self.owed(regions)
            plex = next(iter(mirror.volume.plexes), None)
            if plex is None or not regions:
                return "it went back"
            if mirror.opened[plex.uuid].lane.hung:
                return f"plex {plex.name} does not answer"
            await work(mirror, plex, regions)
        except (FmrdError, OSError) as error:
            return str(error)
        finally:
            mirror.rest_lock.leave()
        return ""

    async def _make_durable(self, mirror: Mirror, plex: Plex, _: list[int]) -> None:
        self._must_be_there(mirror)
        await mirror.sync(plex)

    async def _write_pages(self, mirror: Mirror, *_: object) -> None:
        self._must_be_there(mirror)
        await mirror.store.write_pages(mirror.volume.touched_pages())

    async def _copy_these(
        self, given: Given, mirror: Mirror, plex: Plex, regions: list[int], *, precious: bool
    ) -> None:  # fmt: skip
        """Copy those that are still the original's, in order and merged with their neighbours; OSError or FmrdError if
        one cannot be copied. Not by the kernel in one call: of that nobody could tell which end hangs, and old data
        would be lost for one plex of several.
        """
        volume, dropped = mirror.volume, plex.dropped
        lacking = [region for region in regions if region in plex.map]
        new = [region for region in lacking if region in given]
        if new:
            pieces = [volume.geometry.bytes_of(range(region, region + 1)) for region in new]
            await self._take(mirror, plex, pieces, [given[region] for region in new], precious=precious)
        runs = list(adjacent(region for region in lacking if region not in given))
        for pieces in pieces_of((volume.geometry.bytes_of(run) for run in runs), PIECE_BYTES, TOGETHER_BYTES):
            data = await reading.read_pieces(self._origin, pieces)
            await self._take(mirror, plex, pieces, data, precious=precious)
        for run in (*runs, *adjacent(new)):
            volume.copied_these(plex, run.start, ones(len(run)), dropped)

    async def _take(
        self, mirror: Mirror, plex: Plex, pieces: Sequence[Stretch], data: Sequence[bytes | bytearray | memoryview],
        *, precious: bool,
    ) -> None:  # fmt: skip
        """``_put`` them, with room in the store for them where the snapshot lies in one."""
        if mirror.room is None:
            await self._put(mirror, plex, pieces, data)
            return
        size = sum(len(each) for each in data if not _is_zero(each))
        put = partial(self._put, mirror, plex, pieces, data)
        await mirror.room.put(self._uuid, size, put, precious=precious)

    async def _put(
        self, mirror: Mirror, plex: Plex, pieces: Sequence[Stretch], data: Sequence[bytes | bytearray | memoryview]
    ) -> None:
        """Write pieces, those that are nothing but zeros so that they take no room. A call that hangs is the last."""
        self._must_be_there(mirror)
        disk, blank = mirror.opened[plex.uuid], [*map(_is_zero, data)]
        zeros = tuple([(at, at + size) for (at, size), is_zero in zip(pieces, blank, strict=True) if is_zero])
        rest = [(at, memoryview(each)) for (at, _), each, zero in zip(pieces, data, blank, strict=True) if not zero]
        for put in (Writer(disk.backing, rest), Zeroer(disk.backing, zeros, True)):
            if put.spans:
                call = disk.writing(put, put.spans, inline=False)
                [outcome] = await self._origin.system.in_turn([call], mirror.timeout_seconds)
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


def _is_zero(data: bytes | bytearray | memoryview) -> bool:
    return not data[0] and data == _ZEROS[: len(data)]  # memory that is there already: new one costs more
