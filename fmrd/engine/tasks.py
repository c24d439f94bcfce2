"""Tasks are what runs in the background, and its history, as `fmrctl task` shows them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from fmrd.core.json_object import Json
from fmrd.core.reasons import Reason
from fmrd.core.states import TaskState, TaskType
from fmrd.engine.steering.tags import tag_given
from fmrd.errors import Failed

HISTORY = 200
"""How many ended tasks are remembered."""
LONGEST_PAUSE_SECONDS = 0.05
"""Who gives way rests no longer than this, unless a rate asks for more."""


@dataclass
class Task:
    """A task is one copy, or one verify. Times are seconds since the epoch, rates bytes per second (0: unlimited). It
    is used on trio's thread alone. ``changed`` is set, and replaced, whenever it was told something.
    """

    id: int
    type: TaskType
    volume: str
    plex: str
    reason: tuple[Reason, str]
    now: Callable[[], float]
    told: Callable[["Task"], None] = lambda task: None
    """Called once, when it has ended."""
    total_regions: int = 0
    total_bytes: int = 0
    rate: int = 0
    tag: str = ""
    """What whoever asked for it calls it, where he does; several tasks may have the same."""
    state: TaskState = TaskState.RUNNING
    done_regions: int = 0
    done_bytes: int = 0
    copied_bytes: int = 0
    ended: float | None = None
    error: tuple[str, str] | None = None
    report: list[Json] | None = None
    """What a verify found."""
    not_compared: int = 0
    """Regions that only one plex held when a verify came by."""
    aborting: bool = False
    started: float = 0.0
    halted: trio.Event = field(default_factory=trio.Event)
    """Its copy has ended; what belongs to the task besides may still be under way."""
    finished: trio.Event = field(default_factory=trio.Event)
    changed: trio.Event = field(default_factory=trio.Event)
    _wait: trio.CancelScope = field(default_factory=trio.CancelScope)

    def __post_init__(self) -> None:
        self.started = self.now()

    def end(self, state: TaskState, error: tuple[str, str] | None = None) -> None:
        """End it: done, failed or aborted; only the first end counts."""
        if self.ended is None:
            self.state, self.error, self.ended = state, error, self.now()
            if state is TaskState.DONE:  # what the application wrote meanwhile needed no copy any more
                self.done_regions, self.done_bytes = self.total_regions, self.total_bytes
            self.halted.set()
            self.finished.set()
            self._notify()
            self.told(self)

    def pause(self) -> None:
        """Hold it at the next window. Failed('task_ended'), as for whatever else it is told after its end."""
        self._must_run()
        self.state = TaskState.PAUSED
        self._notify()

    def resume(self) -> None:
        self._must_run()
        self.state = TaskState.RUNNING
        self._notify()

    def abort(self) -> None:
        """Ask it to stop; ``finished`` is set when it has."""
        self._must_run()
        self.aborting = True
        self._wait.cancel()
        self._notify()

    def set_rate(self, rate: int) -> None:
        """Keep it to so many bytes a second from now on; 0 is no limit of its own."""
        self._must_run()
        self.rate = rate
        self._notify()

    @property
    def paused(self) -> bool:
        """Tell whether it should wait; one that is being aborted should not."""
        return self.state is TaskState.PAUSED and not self.aborting

    async def while_paused(self) -> None:
        """Return when it is not paused, or is being aborted."""
        while self.paused:
            await self.changed.wait()

    async def give_way(self, copied: int, seconds: float, rate: int) -> None:
        """After so many bytes in so many seconds, rest: keep to its rate, or else to ``rate``, and leave the
        application as much time as this took.
        """
        rate = self.rate or rate
        await self.pause_for(max(copied / rate - seconds if rate else 0.0, min(seconds, LONGEST_PAUSE_SECONDS)))

    async def pause_for(self, seconds: float) -> None:
        """Rest, unless it is told something meanwhile; not at all once it is aborted."""
        changed = self.changed
        with trio.move_on_after(0 if self.aborting else seconds):
            await changed.wait()

    @contextmanager
    def unless_aborted(self) -> Iterator[None]:
        """Wait in here for what others hold: such a wait is given up when the task is aborted."""
        with trio.CancelScope() as self._wait:
            if self.aborting:
                self._wait.cancel()
            yield

    def _must_run(self) -> None:
        if self.ended is not None:
            raise Failed("task_ended", f"task {self.id} has ended already ({self.state})")

    def _notify(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    def progressed(self, regions: int, byte_count: int, copied: int) -> None:
        """Count regions and bytes that are done, and of these the bytes that really had to be copied."""
        self.done_regions += regions
        self.done_bytes += byte_count
        self.copied_bytes += copied

    def json(self) -> Json:
        """Return the task of docs/JSON.md."""
        until = self.ended if self.ended is not None else self.now()
        seconds = max(until - self.started, 1e-6)
        speed = self.done_bytes / seconds
        left = max(self.total_bytes - self.done_bytes, 0)
        running = self.ended is None
        return {
            "id": self.id,
            "type": self.type,
            "tag": self.tag,
            "volume": self.volume,
            "plex": self.plex,
            "state": self.state,
            "reason": {"code": self.reason[0], "message": self.reason[1]},
            "total_regions": self.total_regions,
            "done_regions": self.done_regions,
            "total_bytes": self.total_bytes,
            "done_bytes": self.done_bytes,
            "copied_bytes": self.copied_bytes,
            "rate_bytes_per_second": int(speed),
            "eta_seconds": round(left / speed, 1) if running and speed > 0 else None if running else 0,
            "started": self.started,
            "ended": self.ended,
            "error": None if self.error is None else {"code": self.error[0], "message": self.error[1]},
        }


class TaskList:
    """This is all tasks of the daemon's life, oldest first; ended ones leave when there are too many."""

    def __init__(self, now: Callable[[], float], ended: Callable[[Task], None] = lambda task: None) -> None:
        self._now = now
        self._ended = ended
        self._tasks: dict[int, Task] = {}
        self._next = 1

    def new(self, kind: TaskType, volume: str, plex: str, reason: tuple[Reason, str], rate: int = 0) -> Task:
        """Return a new task, with the tag of the verb that is under way. It runs from now on; whoever asks for it
        starts what it stands for.
        """
        task = Task(self._next, kind, volume, plex, reason, self._now, self._ended, rate=rate, tag=tag_given())
        self._next += 1
        self._tasks[task.id] = task
        ended = [t.id for t in self._tasks.values() if t.ended is not None]
        for old in ended[:-HISTORY]:
            del self._tasks[old]
        return task

    def ended(self, kind: TaskType, volume: str, plex: str, reason: tuple[Reason, str]) -> Task:
        """Return a task that had nothing to do, and is done."""
        task = self.new(kind, volume, plex, reason)
        task.end(TaskState.DONE)
        return task

    def find(self, task_id: int) -> Task:
        """Return the task of that number; Failed('task_missing')."""
        try:
            return self._tasks[task_id]
        except KeyError:
            raise Failed("task_missing", f"there is no task {task_id}") from None

    def all(self) -> list[Task]:
        return list(self._tasks.values())

    def running(self, volume: str | None = None, plex: str | None = None) -> list[Task]:
        """Return the tasks that have not ended, of one volume and plex or of all."""
        return [
            t for t in self._tasks.values() if t.ended is None and volume in (None, t.volume) and plex in (None, t.plex)
        ]

    def wake(self, volume: str) -> None:
        """Its rate is another now: a copy may rest for as long as the old one wanted."""
        for task in self.running(volume):
            task.set_rate(task.rate)

    def last(self, volume: str, plex: str) -> Task | None:
        """Return the latest task of a plex, ended or not; None where nothing was done on it."""
        return next((t for t in reversed(self._tasks.values()) if (t.volume, t.plex) == (volume, plex)), None)
