"""Hooks: programs of the administrator's that are run with each event. The daemon waits for none of them.

Each hook has its own worker and its own short queue, so that one which hangs holds up nothing but itself; what its
queue does not hold is dropped, and told. Verbs are no events for hooks, nor is what hooks themselves do.
"""

import json
import re
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import trio

from fmrd.core.printable import printable
from fmrd.engine.events.ring import Event, Events
from fmrd.front.told.hook_run import LATE, carry_out
from fmrd.front.told.trusted import why_not

UNHEARD = frozenset({"verb", "verb_failed", "hook_failed", "daemon_stopping", "events_missed"})
QUEUED = 64
"""Events that wait to be handed to the hooks, and as many for each of them."""
MOST_HOOKS = 16
HOOK_SECONDS = 30.0
"""How long a hook may take before it is killed, with all that it has started."""
OUTCOMES = ("done", "failed", "killed", "dropped")
"""How runs are counted."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
"""As run-parts has it: what an editor or a package leaves beside a file is no hook."""


class Queue:
    """Events for one who takes them one by one; what does not fit is dropped."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._more = trio.Event()
        self.behind = False
        """Something was dropped since it was empty last."""

    def put(self, event: Event) -> bool:
        """Return whether it fits."""
        if len(self._events) >= QUEUED:
            return False
        self._events.append(event)
        self._more.set()
        return True

    async def get(self) -> Event:
        while not self._events:
            self.behind = False
            self._more = trio.Event()
            await self._more.wait()
        return self._events.popleft()


@dataclass
class Hooks:
    """``add`` is a listener of Events; ``run`` lasts as long as the daemon."""

    directory: Path
    events: Events
    seconds: float = HOOK_SECONDS
    _queue: Queue = field(default_factory=Queue)
    _workers: dict[str, Queue] = field(default_factory=dict)
    _said: dict[str, str] = field(default_factory=dict)
    """Hook -> what was wrong with it last."""

    def add(self, event: Event) -> None:
        if event.kind not in UNHEARD:
            self._hand(self._queue, event, "")

    async def run(self) -> None:
        """Until cancelled; then what still runs is killed."""
        async with trio.open_nursery() as nursery:
            while True:
                event = await self._queue.get()
                found = await self._found()
                for name, why in found.refused.items():
                    self._complain(name, why)
                for path in found.hooks:
                    if path.name not in self._workers:
                        self._workers[path.name] = Queue()
                        for outcome in OUTCOMES:  # from 0 on, so that a rise can be told from a beginning
                            self.events.counts.runs[path.name, outcome] += 0
                        nursery.start_soon(self._work, path, self._workers[path.name])
                    self._hand(self._workers[path.name], event, path.name)

    async def _found(self) -> "Found":
        try:
            return await trio.to_thread.run_sync(_hooks_in, self.directory)
        except Exception as error:  # no more threads, say: that must not end the daemon
            return Found([], {"": f"cannot be looked at: {error}"})

    async def _work(self, path: Path, queue: Queue) -> None:
        while True:
            event = await queue.get()
            try:
                problem = await trio.to_thread.run_sync(why_not, path)
                problem = problem or await carry_out(path, environment_of(event), _stdin(event), self.seconds)
            except Exception as error:  # no more descriptors, threads or memory: that must not end the daemon
                problem = f"cannot be run: {error}"
            outcome = "done" if problem is None else "killed" if problem.startswith(LATE) else "failed"
            self.events.counts.runs[path.name, outcome] += 1
            if problem is None:
                self._said.pop(path.name, None)
            else:
                self._complain(path.name, problem, f"; the event was {event.kind} of {event.volume or 'the daemon'}")

    def _hand(self, queue: Queue, event: Event, name: str) -> None:
        if queue.put(event):
            return
        self.events.counts.runs[name or "all", "dropped"] += 1
        if not queue.behind:
            queue.behind = True
            self._tell(name, "is behind: until it is not, events are not given to it")

    def _complain(self, name: str, why: str, more: str = "") -> None:
        """Once, until it is another complaint, or all is well: what always fails would drown what it is for."""
        if self._said.get(name) != why:
            self._said[name] = why
            self._tell(name, why + more)

    def _tell(self, name: str, sentence: str) -> None:
        what = f"hook {self.directory / name}" if name else f"hooks: {self.directory}"
        self.events.warn("hook_failed", f"{what} {sentence}", action=f"mend it, or take it out of {self.directory}")


@dataclass(frozen=True)
class Found:
    hooks: list[Path]
    refused: dict[str, str]


def _hooks_in(directory: Path) -> Found:
    """In a thread. A directory that is not there has none."""
    try:
        names = sorted(path.name for path in directory.iterdir() if _NAME.fullmatch(path.name))
    except FileNotFoundError:
        return Found([], {})
    except OSError as error:
        return Found([], {"": f"cannot be looked at: {error.strerror}"})
    refused = {name: why for name in names if (why := why_not(directory / name))}
    hooks = [directory / name for name in names if name not in refused]
    if len(hooks) > MOST_HOOKS:
        refused |= {path.name: f"is one too many: {MOST_HOOKS} are run" for path in hooks[MOST_HOOKS:]}
    return Found(hooks[:MOST_HOOKS], refused)


def environment_of(event: Event) -> dict[str, str]:
    """Return what a hook finds of an event in its environment: each value in one line, at most 4096 characters."""
    known = {
        "EVENT": event.kind, "LEVEL": event.level.value, "VOLUME": event.volume, "PLEX": event.plex,
        "MESSAGE": event.message, "ACTION": event.action, "CURSOR": event.cursor, "TIME": f"{event.time:.0f}",
        "CODE": event.details.get("code"),
    }  # fmt: skip
    path = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    return path | {f"FMRD_{name}": printable(str(value), 4096) for name, value in known.items() if value}


def _stdin(event: Event) -> bytes:
    return json.dumps(event.json()).encode() + b"\n"
