"""The copies of a started volume run in the background; each drains the map of one open plex."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

import trio

from fmrd.core.decisions import snapshot
from fmrd.core.reasons import Reason
from fmrd.core.states import PlexState, TaskState, TaskType
from fmrd.core.volume.plex import Plex
from fmrd.core.volume.volume import Volume
from fmrd.engine.events import telling
from fmrd.engine.resync.resync import Resync
from fmrd.engine.running import Running
from fmrd.engine.tasks import Task
from fmrd.errors import FmrdError

log = logging.getLogger(__name__)

KINDS = {PlexState.TEMP: TaskType.PLXATT, PlexState.SNAPATT: TaskType.SNAPATT}
Then = Callable[[Plex], Awaitable[None]]


def _arrived(plex: Plex) -> bool:
    return plex.is_open and not plex.map.any() and not plex.attaching


class CopyTasks:
    """These are the copies of one started volume."""

    def __init__(self, running: Running, afterwards: Callable[[], Awaitable[None]]) -> None:
        self._running = running
        self.afterwards = afterwards
        """What each copy does besides, when its plex has arrived. It may take the verb lock."""
        self.alone: Callable[[Plex], AbstractAsyncContextManager[None]] = lambda plex: nullcontext()
        """Entered for as long as a copy works on a plex: nothing of another kind is on its way there then."""

    @property
    def _volume(self) -> Volume:
        return self._running.volume

    def unfinished(self, plex: Plex) -> tuple[Reason, str]:
        """Return (reason code, sentence): why an open plex still misses something, or is not recorded in sync."""
        count = plex.map.count()
        if not count:
            return Reason.NOTHING_MISSED, f"plex {plex.name} only has to be recorded in sync"
        if plex.reason is Reason.RECOVERY:
            return Reason.RECOVERY, f"plex {plex.name}: {count} region(s) were being written when the volume went down"
        if plex.reason is Reason.RESTORE:
            return Reason.FAST, f"plex {plex.name} goes on with the {count} region(s) that a restore has to copy to it"
        if plex.state is PlexState.ACTIVE:
            return Reason.HOLE, f"plex {plex.name}: {count} region(s) failed on it, and are copied back from the others"
        code = plex.reason if plex.reason.is_full else Reason.FAST
        return code, f"plex {plex.name} goes on with the {count} region(s) that it still misses"

    def start(
        self,
        plex: Plex,
        reason: tuple[Reason, str],
        rate: int = 0,
        kind: TaskType | None = None,
        then: Then | None = None,
    ) -> Task:
        """Start copying to an open plex what its map holds, in a task of the nursery. ``rate`` is bytes a second, 0 for
        the volume's; ``then``: what else the task does when that is done.
        """
        task = self._running.context.tasks.new(
            kind or KINDS.get(plex.state, TaskType.RDWRBACK), self._volume.name, plex.name, reason, rate
        )
        task.total_regions = plex.map.count()
        task.total_bytes = self._volume.geometry.bytes_in(task.total_regions, plex.map.has_last)
        self._running.context.nursery.start_soon(self._run, plex, task, then)
        return task

    async def _run(self, plex: Plex, task: Task, then: Then | None) -> None:
        code, sentence = task.reason
        log.info("volume %s: task %d, plex %s: %s (%s)", self._volume.name, task.id, plex.name, sentence, code)
        telling.copy_began(self._running.context.events, task)
        try:
            async with self.alone(plex):
                problem = await self._in_turns(plex, task)
            done = problem is None and _arrived(plex)
            if done:
                await self.returned()
            if done and then is not None:
                task.halted.set()
                await then(plex)
            if done:
                task.halted.set()
                await self.afterwards()
        except (FmrdError, OSError) as error:
            problem, done = (getattr(error, "code", "io_error"), str(error)), False
        if done:
            task.end(TaskState.DONE)
            telling.copied(self._running.context.events, self._volume, plex)
            self.relieve()
        elif problem is None:
            task.end(TaskState.ABORTED)
        else:
            log.warning("volume %s: task %d failed: %s", self._volume.name, task.id, problem[1])
            task.end(TaskState.FAILED, problem)

    async def returned(self) -> None:
        """Make snapshot plexes from which the others were restored SNAPDONE again, and record it.
        Failed('home_failed').
        """
        if snapshot.returned(self._volume):
            await self._running.mirror.store.commit()

    def relieve(self) -> None:
        """Copy back what a failed flush left suspect and another plex holds by now; promote what is complete by now."""
        over = not self._running.life.is_open or self._volume.settings.is_instant
        for plex in self._volume.open_plexes() if not over else ():
            if self._running.context.tasks.running(self._volume.name, plex.name):
                continue
            if (self._volume.relieve(plex) and not plex.lags) or (plex.attaching and plex.settled):
                self.start(plex, self.unfinished(plex))

    async def _in_turns(self, plex: Plex, task: Task) -> tuple[str, str] | None:
        """One copy a disk at a time; a paused one lets others go first."""
        resync = Resync(self._running.mirror, plex, task)
        while True:
            await task.while_paused()
            async with self._turn(task):
                problem = await resync.run()
            if not resync.waits:
                return problem

    @asynccontextmanager
    async def _turn(self, task: Task) -> AsyncIterator[None]:
        """The locks of every disk that the copy touches, taken in one order by all; without them if it was aborted."""
        held: list[trio.Lock] = []
        try:
            with task.unless_aborted():
                for name in sorted({disk.backing.disk for disk in self._running.mirror.opened.values()}):
                    lock = self._running.context.disks[name]
                    await lock.acquire()
                    held.append(lock)
            yield
        finally:
            for lock in held:
                lock.release()

    async def halt(self, plex: Plex) -> bool:
        """Stop the copy to this plex, if there is one, and return when it has ended; its map is kept. It is called
        under the verb lock, which no copy takes.
        """
        return await self._halt(self._running.context.tasks.running(self._volume.name, plex.name))

    async def halt_all(self) -> None:
        """Stop all copies, and begin none by itself any more: the volume stops, or goes back to its original."""
        self._running.life.leave()
        await self._halt(self._running.context.tasks.running(self._volume.name))

    def resume(self) -> None:
        """Go on: what ``halt_all`` was for did not come to be."""
        self._running.life.come_back()
        self.go_on()

    def go_on(self) -> None:
        """With every copy that is not done, and that nothing is at."""
        for plex in self._volume.open_plexes() if not self._volume.settings.is_instant else ():
            at_it = self._running.context.tasks.running(self._volume.name, plex.name)
            if (plex.map.any() or plex.attaching) and not at_it and not plex.lags:
                self.start(plex, self.unfinished(plex))

    async def _halt(self, tasks: list[Task]) -> bool:
        for task in tasks:
            task.abort()
        for task in tasks:
            await task.halted.wait()
        return bool(tasks)
