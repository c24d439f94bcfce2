"""The screen of `fmrctl top`: keys in, pages out. This is the one module that needs textual."""

from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input, Static

from fmrd.errors import BadRequest
from fmrd.front.ctl.measured.feed import Ask, Feed
from fmrd.front.ctl.measured.page import Place, View, page
from fmrd.front.ctl.words import parse_size

STYLES = {"": "", "title": "bold", "head": "bold reverse", "bad": "bold red", "chosen": "reverse"}
INTERVALS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Screen(App[None]):
    """The screen shows what ``ask`` gives, until q."""

    CSS = "#page { height: 1fr; } #rate { dock: bottom; display: none; height: 1; border: none; }"
    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = ""
    """Keys are for the page, until a rate is asked for."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("down,j", "choose(1)", "next copy"),
        Binding("up,k", "choose(-1)", "previous copy"),
        Binding("p", "steer('task_pause')", "pause"),
        Binding("r", "steer('task_resume')", "resume"),
        Binding("l", "limit", "limit the rate"),
        Binding("plus", "interval(1)", "look less often"),
        Binding("minus", "interval(-1)", "look more often"),
        Binding("pagedown", "scroll(1)", "further down"),
        Binding("pageup", "scroll(-1)", "back up"),
        Binding("escape", "leave_input", "back", show=False),
    ]

    class Seen(Message):
        """There is another view."""

        def __init__(self, view: View) -> None:
            super().__init__()
            self.view = view

    class Said(Message):
        """A command was answered."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, ask: Ask, interval_seconds: float = 2.0) -> None:
        super().__init__()
        self._view = View()
        self._place = Place()
        self._feed = Feed(
            ask, lambda view: self.post_message(self.Seen(view)), lambda text: self.post_message(self.Said(text))
        )
        self._feed.interval_seconds = interval_seconds

    def compose(self) -> ComposeResult:
        yield Static(id="page", markup=False)
        yield Input(placeholder="bytes a second, such as 50M; 0 is no limit", id="rate")

    def on_mount(self) -> None:
        self._feed.start()

    def on_unmount(self) -> None:
        self._feed.end()

    def on_resize(self) -> None:
        self._draw()

    @on(Seen)
    def show(self, message: Seen) -> None:
        """Draw another view. A copy is chosen as long as there is one."""
        self._view = message.view
        ids = self._ids()
        if self._place.task not in ids:
            self._place = Place(ids[0] if ids else None, self._place.passed, self._place.said)
        self._draw()

    @on(Said)
    def answered(self, message: Said) -> None:
        self.say(message.text)

    def say(self, text: str) -> None:
        """Say what came of the last key."""
        self._place = Place(self._place.task, self._place.passed, text)
        self._draw()

    def lines(self) -> list[str]:
        """Return what is drawn."""
        return [line.text for line in page(self._view, self.size.width, self.size.height, self._place)]

    def _draw(self) -> None:
        text = Text(no_wrap=True, overflow="crop", end="")
        for number, line in enumerate(page(self._view, self.size.width, self.size.height, self._place)):
            text.append(("\n" if number else "") + line.text, STYLES[line.style])
        self.query_one("#page", Static).update(text)

    def _ids(self) -> list[int]:
        return sorted(int(task["id"]) for task in self._view.tasks)

    def action_choose(self, step: int) -> None:
        ids = self._ids()
        if ids:
            at = ids.index(self._place.task) if self._place.task in ids else 0
            self._place = Place(ids[max(0, min(len(ids) - 1, at + step))], self._place.passed)
            self._draw()

    def action_scroll(self, step: int) -> None:
        self._place = Place(self._place.task, max(0, self._place.passed + step * max(1, self.size.height // 2)))
        self._draw()

    def action_steer(self, verb: str) -> None:
        if self._place.task is None:
            self.say("no copy runs")
        else:
            self._feed.command(verb, id=self._place.task)

    def action_limit(self) -> None:
        if self._place.task is None:
            self.say("no copy runs")
            return
        rate = self.query_one("#rate", Input)
        rate.value = ""
        rate.display = True
        self.set_focus(rate)  # in this very step: the next key is its own

    def action_leave_input(self) -> None:
        self.query_one("#rate", Input).display = False
        self.set_focus(None)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.action_leave_input()
        try:
            size = parse_size(event.value)
        except BadRequest as error:
            self.say(error.message)
            return
        self._feed.command("task_set", id=self._place.task, rate=size)

    def action_interval(self, step: int) -> None:
        now = min(range(len(INTERVALS)), key=lambda n: abs(INTERVALS[n] - self._feed.interval_seconds))
        self._feed.interval_seconds = INTERVALS[max(0, min(len(INTERVALS) - 1, now + step))]
        self._feed.look()
