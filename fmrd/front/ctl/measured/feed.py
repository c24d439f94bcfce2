"""What `fmrctl top` shows is asked for here, by a thread of its own: a daemon that does not answer holds up no key."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from fmrd.core.json_object import Json
from fmrd.errors import FmrdError
from fmrd.front.ctl.measured.intervals import Figures, by_name, intervals
from fmrd.front.ctl.measured.page import View


class Ask(Protocol):
    """App.ask."""

    def __call__(self, verb: str, **args: Any) -> Json: ...


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
        except FmrdError as error:
            last = self._last
            return View(last.volumes, last.tasks, last.figures, error.message, clock, self.interval_seconds)
        figures = intervals(now, self._before)
        self._before = now
        self._last = View(shown["volumes"], shown["tasks"], figures, "", clock, self.interval_seconds)
        return self._last
