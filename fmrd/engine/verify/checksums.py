"""A verify remembers what it saw: a checksum of each region that was the same on all copies, until it is written.

Where only two copies are left and they differ, it tells which one still is what it was. The dirty region log says how
long it counts: a write marks its extent there first, durably; while an extent is marked its checksums mean nothing, and
before it leaves the log they are wiped, durably. So a crash costs nothing but those of marked extents, as of anything.

They lie in the state directory, in VOLUME.sums (sums_file.py), whose header says whose they are, and how far a verify
has come. They are not in the DCO: it is no loss when such a file is lost, torn, or not understood.
"""

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import trio
from bitarray import bitarray
from bitarray.util import ones, zeros

from fmrd.backing.calls.system_calls import Lane, ask
from fmrd.backing.protocol import Notes
from fmrd.core.json_object import Json
from fmrd.core.records.parts import Position
from fmrd.engine.context import Context
from fmrd.engine.serving.mirror import Mirror
from fmrd.engine.verify import sums_file
from fmrd.errors import Failed

log = logging.getLogger(__name__)
T = TypeVar("T")


class Checksums:
    """These are one started volume's, and fail no verify: what cannot be kept is given up. Only where what is wrong by
    now can be neither wiped nor removed, ``void`` raises Failed('home_failed'): its extents stay in the log.
    """

    def __init__(self, context: Context, mirror: Mirror) -> None:
        self._context = context
        self._mirror = mirror
        self._lane = Lane(f"checksums of {mirror.volume.name}")
        self._lock = trio.Lock()
        self._file: Notes | None = None
        self._looked = not context.checksums
        self._have: bitarray = bitarray()
        """Extents, some region of which may have one."""
        self._header: Json = {}
        self._voids = 0

    # What a verify does

    @property
    def glance(self) -> int:
        """Return, before regions are read, what ``record`` wants to know."""
        return self._voids

    async def record(self, regions: range, content: bytes, glance: int) -> None:
        """Note that all copies held this, in a read since that glance; whatever was written since is not noted."""
        if not self._context.checksums:
            return
        async with self._lock:
            try:
                await self._look()
                if self._file is None:
                    await self._make()
                # Whoever wrote there since marked the extent first; that leaves through ``void`` alone, which wipes.
                if self._voids != glance or self._file is None:
                    return
                self._fit()
                for extent in self._extents(regions):
                    self._have[extent] = 1
                size = self._mirror.volume.geometry.region_bytes
                await self._ask(partial(sums_file.write_sums, self._file, regions.start, content, size))
            except OSError as error:
                await self._give_up(error)

    async def known(self, regions: range) -> list[int | None]:
        """Return the checksum of each region, None for one that has none that counts."""
        async with self._lock:
            try:
                await self._look()
                if (file := self._file) is not None:
                    found = await self._ask(lambda: list(sums_file.read_sums(file, regions)))
                    if not self._marked(regions):
                        return found
            except OSError as error:
                await self._give_up(error)
        return [None] * len(regions)

    async def note(self, verify: Json | None) -> None:
        """Note how far a verify has come; None: it has ended."""
        async with self._lock:
            try:
                await self._look()
                if self._file is None and verify is not None:
                    await self._make()
                if self._file is not None:
                    self._header["verify"] = verify
                    await self._write_header()
            except OSError as error:
                await self._give_up(error)

    async def noted(self) -> Json | None:
        """Return what was noted of a verify that a stop or a crash cut off, or None."""
        async with self._lock:
            try:
                await self._look()
            except OSError as error:
                log.warning("volume %s: its checksums cannot be read: %s", self._mirror.volume.name, error)
            found = self._header.get("verify")
        return found if isinstance(found, dict) else None

    # How long they count

    async def void(self, extents: Iterable[int]) -> None:
        """Wipe those of extents that are about to leave the log (Mirror.leaving), durably. Failed('home_failed')."""
        self._fit()
        wiped = [extent for extent in extents if self._have[extent] or not self._looked]
        await self._wipe([self._mirror.volume.geometry.regions_of_extent(extent) for extent in wiped])
        for extent in wiped:
            self._have[extent] = 0

    async def forget(self, regions: range) -> None:
        """Wipe those of regions that become other data, but not by a write. Failed('home_failed') as above."""
        await self._wipe([regions])

    async def _wipe(self, spans: Sequence[range]) -> None:
        self._voids += 1
        if not spans or not self._context.checksums:
            return
        async with self._lock:
            try:
                await self._look()
                if self._file is not None:
                    await self._ask(partial(sums_file.wipe, self._file, spans))
            except OSError as error:
                try:
                    await self._remove(error)
                except OSError as again:
                    raise self._failed(again) from again

    @asynccontextmanager
    async def becoming_other(self) -> AsyncIterator[None]:
        """Remove all of them while, in here, the volume becomes other data without a write. Failed('home_failed')."""
        if not self._context.checksums:
            yield
            return
        async with self._lock:
            self._voids += 1
            try:
                await self._look()
                if self._file is not None:
                    await self._remove(None)
            except OSError as error:
                raise self._failed(error) from error
            try:
                yield
            finally:
                self._voids += 1

    async def close(self) -> None:
        """Close, at a stop or a snapback. If that comes to nothing after all, whoever is next looks again."""
        async with self._lock:
            file, self._file, self._looked = self._file, None, not self._context.checksums
            if file is not None:
                try:
                    await self._ask(file.close)
                except OSError as error:
                    log.warning("volume %s: its checksums are not closed: %s", self._mirror.volume.name, error)

    def _failed(self, error: OSError) -> Failed:
        name = self._mirror.volume.name
        sentence = f"volume {name}: the checksums of its last verify can be neither wiped nor removed: {error}"
        return Failed("home_failed", sentence, "make room in the state directory, or remove its .sums file")

    # The file

    async def _look(self) -> None:
        """Look once: what an earlier start left counts if it is this volume's, of a past that this one has."""
        if self._looked:
            return
        host, volume = self._context.host, self._mirror.volume
        name = volume.name
        file = await self._ask(lambda: host.open_checksums(name, make=False))
        if file is None:
            self._looked = True
            return
        try:
            header = await self._ask(partial(sums_file.read_header, file))
        except OSError:
            await self._ask(file.close)  # not looked at: whoever comes next tries again
            raise
        family = self._mirror.store.family
        ours = header.get("volume") == volume.settings.uuid
        known = family.record(family.sequence).knows(Position(str(header.get("lineage")), 0))
        self._file, self._looked = file, True
        self._header, self._have = header, ones(volume.geometry.extents)
        if not ours or not known:
            await self._remove(None)
            return
        try:
            await self._write_header()
        except OSError as error:
            await self._remove(error)

    async def _make(self) -> None:
        host, name = self._context.host, self._mirror.volume.name
        self._file = await self._ask(lambda: host.open_checksums(name, make=True))
        self._have = zeros(self._mirror.volume.geometry.extents)
        self._header = {"volume": self._mirror.volume.settings.uuid}
        await self._write_header()

    async def _write_header(self) -> None:
        """Write with the lineage of now: a home copy of before, put back, does not know it: then nothing counts."""
        assert self._file is not None
        self._header["lineage"] = self._mirror.store.family.lineage
        await self._ask(partial(sums_file.write_header, self._file, self._header))

    async def _give_up(self, error: OSError) -> None:
        """Give them up, while a verify goes on without them."""
        try:
            await self._remove(error)
        except OSError as again:
            log.warning("volume %s: its checksums cannot be removed: %s", self._mirror.volume.name, again)

    async def _remove(self, why: OSError | None) -> None:
        host, name, file = self._context.host, self._mirror.volume.name, self._file
        if why is not None:
            log.warning("volume %s: the checksums of its last verify are given up: %s", name, why)
        await self._ask(lambda: host.remove_checksums(name))
        self._file, self._header = None, {}
        if file is not None:
            await self._ask(file.close)

    async def _ask(self, run: Callable[[], T]) -> T:
        return await ask(self._mirror.system, self._lane, run, self._context.io_timeout_seconds)

    # Measures

    def _extents(self, regions: range) -> range:
        geometry = self._mirror.volume.geometry
        return geometry.extents_of(*geometry.bytes_of(regions))

    def _marked(self, regions: range) -> bool:
        """Tell whether a write marked one of these; the simulation takes this out."""
        return self._mirror.volume.drl.marked.touches(self._extents(regions))

    def _fit(self) -> None:
        self._have.extend(zeros(max(0, self._mirror.volume.geometry.extents - len(self._have))))
