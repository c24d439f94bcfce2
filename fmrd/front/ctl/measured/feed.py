"""What `fmrctl top` shows is asked for here, by a thread of its own: a daemon that does not answer holds up no key."""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from fmrd.core.json_object import Json
from fmrd.errors import FmrdError
from fmrd.front.ctl.measured.intervals import Figures, by_name, intervals
from fmrd.front.ctl.measured.page import Happened, View


class Ask(Protocol):
    """App.ask."""

    def __call__(self, verb: str, **args: Any) -> Json: ...


LOOK_BACK = "1h"
"""What happened before somebody looks is shown, too."""
EVENTS = 100
"""As many as a large terminal has lines."""
Command = tuple[str, dict[str, Any]]
"""A verb over a task, and its arguments."""


class Feed:
    """A feed calls ``show`` with each new view and ``say`` with what came of a command, on its own thread. Both may
    raise RuntimeError when nobody looks any more.
    """

    def __init__(self, ask: Ask, show: Callable[[View], object], say: Callable[[str], object]) -> None:
        self._ask = ask
        self._show = show
        self._say = say
        self._commands: queue.Queue[Command | None] = queue.Queue()
        self._before: Figures = {}
        self._last = View()
        self._cursor = LOOK_BACK
        self._events: deque[Happened] = deque(maxlen=EVENTS)
        self.interval_seconds = 2.0
        self._ended = False

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True, name="fmrctl top").start()

    def command(self, verb: str, **args: Any) -> None:
        """Have this asked, and look anew."""
        self._commands.put((verb, args))

    def look(self) -> None:
        """Look anew at once."""
        self._commands.put(None)

    def end(self) -> None:
        """Ask for nothing more."""
        self._ended = True
        self._commands.put(None)

    def _run(self) -> None:
        while not self._ended:
            try:
                self._show(self.view())
                wanted = self._commands.get(timeout=self.interval_seconds)
                if wanted is not None:
                    self._say(self._done(*wanted))
            except queue.Empty:
                pass
            except RuntimeError:  # the screen is gone
                return

    def _done(self, verb: str, args: dict[str, Any]) -> str:
        try:
            self._ask(verb, **args)
        except FmrdError as error:
            return f"{error.code}: {error.message}"
        return ""

    def view(self) -> View:
        """Return what there is now; the last view, with what is wrong, where the daemon does not answer."""
        clock = time.strftime("%H:%M:%S")
        try:
            shown, now = self._ask("print"), by_name(self._ask("stat"))
            events = self._ask("events", since=self._cursor, follow=False)["events"]
        except FmrdError as error:
            return replace(self._last, problem=error.message, clock=clock, interval_seconds=self.interval_seconds)
        if events:
            self._cursor = events[-1]["cursor"]
            self._events.extendleft(map(_happened, events))
        figures = intervals(now, self._before)
        self._before = now
        self._last = View(
            shown["volumes"], shown["tasks"], figures, tuple(self._events), "", clock, self.interval_seconds
        )
        return self._last


def _happened(event: Json) -> Happened:
    return Happened(time.strftime("%H:%M:%S", time.localtime(event["time"])), event["level"], event["message"])
