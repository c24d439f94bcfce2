"""A resync drains a plex's map: runs of regions, copied in few windows at a time, application I/O first.

What is copied at a time is a window (window_copier.py). The map only drains: a write to a region not copied yet skips
the plex, or heals the region, so a resync always ends. Every CHECKPOINT_BYTES or CHECKPOINT_SECONDS the plex is
fdatasync'ed and its map written, which bounds what a crash makes it copy again (rule 2b), and the last checkpoint is
what allows the promotion (rule 6).
"""

from dataclasses import dataclass

import trio

from fmrd.core.volume.plex import Plex
from fmrd.engine.resync.window_copier import SERVED_SECONDS, WindowCopier
from fmrd.engine.resync.windows import Window
from fmrd.engine.serving.mirror import Mirror
from fmrd.engine.tasks import Task
from fmrd.errors import FmrdError

WINDOWS = 2
"""So many windows are in flight: one copies while the other looks for holes. More did not copy faster on two cores."""
CHECKPOINT_BYTES = 256 << 20
CHECKPOINT_SECONDS = 5.0
PATIENCE = 3
"""Passes without any gain after which the rest counts as unreadable."""


@dataclass
class Resync:
    """A resync is one drain of one plex, with the locks of its disks held (CopyTasks). ``run`` returns None, or (code,
    message) of what stopped it; where it left off because the task is paused, ``waits`` is true, and ``run`` goes on.
    """

    mirror: Mirror
    plex: Plex
    task: Task
    waits: bool = False
    _cut_short: bool = False
    _since: float = 0.0

    def __post_init__(self) -> None:
        self._copier = WindowCopier(self.mirror, self.plex, self.task)

    async def run(self) -> tuple[str, str] | None:
        """Drain the map, pass by pass; see the class for what it returns."""
        self._since = trio.current_time()
        self._copier.begin()
        if self._copier.generation is None:
            await self._begin()
        self.waits = False
        fruitless = 0
        while self._copier.goes_on():
            if self.task.paused:
                self.waits = True
                break
            self._cut_short = False
            before = self.plex.map.count()
            await self._pass()
            if self._copier.goes_on():
                await self.checkpoint()
            if not self._copier.goes_on() or await self._arrived():
                break
            if self.mirror.volume.relieve(self.plex):
                continue
            if self._cut_short:
                continue
            fruitless = fruitless + 1 if self.plex.map.count() >= before else 0
            if fruitless == PATIENCE:
                self._copier.fail(*self._unreadable())
        return self._copier.failure

    async def _begin(self) -> None:
        self._copier.generation = self.plex.generation
        regions = self.plex.map.count()
        self.task.total_regions = regions
        self.task.total_bytes = self.mirror.volume.geometry.bytes_in(regions, self.plex.map.has_last)
        if not self.plex.home_open:
            await self.mirror.store.commit()

    async def _pass(self) -> None:
        """One pass over the map."""
        self._copier.cursor = 0
        async with trio.open_nursery() as nursery:
            for number in range(WINDOWS):
                nursery.start_soon(self._worker, number)

    async def _worker(self, number: int) -> None:
        """All but the first rest while the application is served: it needs the processors, too."""
        try:
            while self._copier.goes_on():
                if self.task.paused:
                    self._cut_short = True
                    return
                if number and self._copier.is_busy() and self.plex.map.next_run(self._copier.cursor, 1):
                    await self.task.pause_for(SERVED_SECONDS)
                    continue
                window = self._copier.next_window()
                if window is None:
                    return
                await self._copy_at_a_pace(window)
        except FmrdError as error:  # of the home copy; out of the nursery it would come as a group
            self._copier.fail(error.code, error.message)

    async def _copy_at_a_pace(self, window: Window) -> None:
        began = trio.current_time()
        copied = await self._copier.copy_window(window)
        seconds = trio.current_time() - began
        if self._due():
            await self.checkpoint()
        await self._keep_rate(copied, seconds)

    def _unreadable(self) -> tuple[str, str]:
        volume = self.mirror.volume
        why = next(iter(self._copier.stuck.values()), "nobody holds them")
        doubtful = 0 if self.plex.suspect is None else self.plex.suspect.count()
        message = f"{self.plex.map.count()} region(s) cannot be read from any other plex: {why}"
        if doubtful:
            message = f"{doubtful} region(s) are suspect since a flush failed, and no other plex holds them yet"
        if self.plex.attaching:
            volume.fail_plex(self.plex, message)
        return "io_error", f"plex {self.plex.name}: {message}"

    def _due(self) -> bool:
        late = trio.current_time() - self._since >= CHECKPOINT_SECONDS
        return self._copier.unsynced_bytes >= CHECKPOINT_BYTES or (late and self._copier.unsynced_bytes > 0)

    async def checkpoint(self) -> None:
        """Keep what was copied so far, also after a crash: fdatasync, then the map."""
        self._copier.unsynced_bytes = 0
        self._since = trio.current_time()
        await self.mirror.sync(self.plex)
        await self.mirror.until_recorded()
        await self.mirror.store.write_pages(self.mirror.volume.touched_pages())

    async def _arrived(self) -> bool:
        """Rule 6: in sync, and recorded so, when nothing is missing and nothing unsynced."""
        volume = self.mirror.volume
        if self.plex.map.any():
            return False
        if volume.promote(self.plex):
            await self.mirror.store.commit()
            return True
        if self.plex.attaching:
            return False
        if self.plex.settled:
            volume.recovered(self.plex)
        return True

    async def _keep_rate(self, copied: int, seconds: float) -> None:
        rate = self._copier.rate()
        if rate and (pause := copied * WINDOWS / rate - seconds) > 0 and self._copier.goes_on():
            await self.task.pause_for(pause)
