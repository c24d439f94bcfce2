"""One pass goes over a volume: every copy that counts is read and compared, a window at a time.

A window is read first without its lock, so that nobody waits for that; only where the copies differ is it read again
under the lock, where no write is under way, and what differs then differs.
"""

import logging
from collections.abc import Callable
from functools import partial

import trio

from fmrd.backing.calls.system_calls import Call, Lane, ask
from fmrd.core.decisions.comparing import Mismatch, mismatches_in
from fmrd.core.json_object import Json
from fmrd.core.states import TaskState
from fmrd.core.volume.plex import Plex
from fmrd.engine.running import Running
from fmrd.engine.serving import reading
from fmrd.engine.tasks import Task
from fmrd.engine.verify.checksums import Checksums
from fmrd.engine.verify.rewrite import repair
from fmrd.errors import Failed, FmrdError, PlexChanged

log = logging.getLogger(__name__)


WINDOW_BYTES = 1 << 20


MOST_FOUND = 10_000
"""Ranges after which a verify gives up: a plex that differs everywhere is no copy, and not listed sector by sector."""


NOTE_SECONDS = 2.0
"""So much of a verify a crash may cost."""


class Verify:
    """A verify is one pass over a volume, which ``run`` makes from the region that its task has come to; what it finds
    is in the task's report. ``changed`` is called when data was repaired.
    """

    def __init__(
        self,
        running: Running,
        checksums: Checksums,
        task: Task,
        changed: Callable[[], None],
        *,
        repair: bool,
        source: Plex | None,
    ) -> None:
        self._running = running
        self._checksums = checksums
        self._task = task
        self._changed = changed
        self._repairs = repair or source is not None
        self._source = source
        self._judging = Lane("verify")
        self._next = task.done_regions
        self._noted = trio.current_time()
        self._mended = False
        """Something was written and not fdatasync'ed yet."""

    async def run(self) -> None:
        """Make the pass, and end the task: done, failed, or aborted. Nothing is raised."""
        volume = self._running.volume
        try:
            await self._windows()
            await self._make_durable()
        except (FmrdError, OSError) as error:
            log.warning("volume %s: verify failed: %s", volume.name, error)
            await self._checksums.note(None)
            self._task.end(TaskState.FAILED, (getattr(error, "code", "io_error"), str(error)))
            return
        cut_off = self._task.aborting and not self._running.life.is_open
        await self._checksums.note(self._progress() if cut_off else None)
        if self._task.aborting:
            self._task.end(TaskState.ABORTED)
            return
        report = self._task.report or []
        if report:
            log.warning("volume %s: verify found %d range(s) where its copies differ", volume.name, len(report))
        self._task.end(TaskState.DONE)

    async def _windows(self) -> None:
        task = self._task
        while (first := self._next) < self._running.volume.geometry.regions and not task.aborting:
            if task.paused:
                await task.while_paused()
                continue
            geometry = self._running.volume.geometry
            window = range(first, min(geometry.regions, first + max(1, WINDOW_BYTES // geometry.region_bytes)))
            began = trio.current_time()
            for regions in self._evenly_held(window):
                await self._verify(regions)
            size = geometry.bytes_of(window)[1]
            task.progressed(len(window), size, 0)
            self._next = window.stop
            if trio.current_time() >= self._noted + NOTE_SECONDS:
                self._noted = trio.current_time()
                await self._make_durable()
                await self._checksums.note(self._progress())
            await self._task.give_way(size, trio.current_time() - began, self._running.volume.settings.rate)

    async def _make_durable(self) -> None:
        """What is told to be repaired stays so, also if the power fails."""
        if self._mended:
            self._mended = False
            await self._running.mirror.settle()

    def _progress(self) -> Json:
        """For who goes on later."""
        source = self._source.name if self._source is not None else None
        return {
            "next": self._next, "repair": self._repairs, "from": source, "rate": self._task.rate,
            "tag": self._task.tag, "report": self._task.report,
        }  # fmt: skip

    def _evenly_held(self, window: range) -> list[range]:
        """In one go where each plex holds all of it or nothing; else region by region."""
        opened = self._running.volume.open_plexes()
        if all(p.is_current(window) or p.map.these(window).all() for p in opened):
            return [window]
        return [range(region, region + 1) for region in window]

    async def _verify(self, regions: range) -> None:
        glance = self._checksums.glance
        if not self._in_flight(regions):
            contents, errors = await self._read(regions)
            if errors and len(regions) > 1:  # each plex may fail in another of them
                for region in regions:
                    await self._verify(range(region, region + 1))
                return
            for plex, error in errors.items():
                await self._mend(plex, regions, error)
            if len(contents) + len(errors) < 2:
                self._task.not_compared += len(regions)
            if not errors and len(set(contents.values())) < 2:
                if len(contents) > 1:
                    await self._checksums.record(regions, next(iter(contents.values())), glance)
                return
        offset, length = self._running.volume.geometry.bytes_of(regions)
        async with self._running.mirror.ranges.hold((offset, offset + length)):
            if self._in_flight(regions):  # given up, and not landed: what they will hold there is not known yet
                return
            repaired = await self._judge(regions)
        if repaired:
            self._mended = True
            self._changed()

    async def _judge(self, regions: range) -> bool:
        """Under the lock; was anything repaired?"""
        contents, errors = await self._read(regions)
        offset, length = self._running.volume.geometry.bytes_of(regions)
        found = [Mismatch(offset, length, (plex.name,)) for plex in errors]
        if len(set(contents.values())) > 1:
            # A thread, for a MiB that differs everywhere takes 50 ms, which nobody should wait for.
            trusted = self._source.name if self._source is not None else ""
            judge = partial(mismatches_in, offset, contents, trusted, await self._pieces(regions))
            found += await ask(self._running.mirror.system, self._judging, judge, self._running.timeout_seconds)
        fixed = False
        for mismatch in found:
            repaired = self._may_repair(mismatch) and await repair(
                self._running.mirror, self._checksums, mismatch, offset, contents
            )
            self._found(mismatch, repaired=repaired)
            fixed = fixed or repaired
        return fixed

    async def _pieces(self, regions: range) -> list[tuple[int, int | None]]:
        """(length, checksum) of each region; all of them in one where nothing is known."""
        geometry = self._running.volume.geometry
        known = await self._checksums.known(regions) if self._source is None else []
        if not any(crc is not None for crc in known):
            return [(geometry.bytes_of(regions)[1], None)]
        sizes = [geometry.bytes_of(range(region, region + 1))[1] for region in regions]
        return list(zip(sizes, known, strict=True))

    def _in_flight(self, regions: range) -> bool:
        offset, length = self._running.volume.geometry.bytes_of(regions)
        disks = [self._running.mirror.opened[p.uuid] for p in self._running.volume.open_plexes()]
        return any(disk.late(((offset, offset + length),)) for disk in disks)

    async def _read(self, regions: range) -> tuple[dict[str, bytes], dict[Plex, Exception]]:
        """What each plex holds that should hold all of it, by its name; and those that could not be read."""
        running = self._running
        offset, length = running.volume.geometry.bytes_of(regions)
        plexes = [p for p in running.volume.open_plexes() if p.is_current(regions)]
        disks = [running.mirror.opened[p.uuid] for p in plexes]
        calls = [Call(disk.lane, partial(disk.backing.pread_there, offset, length), changes=False) for disk in disks]
        outcomes = await running.mirror.system.at_once(calls, running.timeout_seconds)
        contents, errors = {}, {}
        for plex, outcome in zip(plexes, outcomes, strict=True):
            if isinstance(outcome.value, bytes):
                contents[plex.name] = outcome.value
            elif outcome.error is not None and plex.is_open:
                errors[plex] = outcome.error
        return contents, errors

    async def _mend(self, plex: Plex, regions: range, error: Exception) -> None:
        """As any reader would, while the region lock is free for it."""
        mirror = self._running.mirror
        plex.errors += 1
        if isinstance(error, TimeoutError | PlexChanged):
            mirror.say(mirror.volume.fail_plex(plex, error))
        else:
            await reading.repair(mirror, plex, *mirror.volume.geometry.bytes_of(regions), error)

    def _may_repair(self, mismatch: Mismatch) -> bool:
        """What the administrator decides for is never decided by others, where that plex holds nothing."""
        decides = self._source is None or mismatch.right == self._source.name
        return self._repairs and bool(mismatch.right) and decides

    def _found(self, mismatch: Mismatch, *, repaired: bool) -> None:
        """Failed('plexes_differ') when there are too many: what is not listed would seem to be right."""
        assert self._task.report is not None
        proven = bool(mismatch.right)
        span = {"offset_bytes": mismatch.offset, "length_bytes": mismatch.length}
        self._task.report.append(span | {"plexes": list(mismatch.odd), "proven": proven, "repaired": repaired})
        if len(self._task.report) >= MOST_FOUND:
            names = ", ".join(mismatch.odd)
            raise Failed(
                "plexes_differ", f"{MOST_FOUND} ranges differ, up to byte {mismatch.offset}, the last on {names}",
                "a plex that differs everywhere is better copied in full: plex det, then plex att --full",
            )  # fmt: skip
