"""Every verb of fmrctl shares this: asking the daemon, waiting for tasks, and saying the outcome."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fmrd.core.json_object import Json
from fmrd.errors import Failed, FmrdError
from fmrd.front.client import TIMEOUT_SECONDS, Client
from fmrd.front.ctl.tables import Out, decision_line, print_plex, print_tasks, print_volumes, task_line
from fmrd.front.tags import BEGINS_TASKS
from fmrd.front.wire import error_json

OUTPUT_VERSION = 1
"""This is the version of what --json prints (docs/JSON.md). It is raised when a field changes its meaning or goes, not
where one is added.
"""


@dataclass
class App:
    """An app is one run of fmrctl: whom it asks, and how it answers."""

    socket: Path
    as_json: bool
    timeout_seconds: float = TIMEOUT_SECONDS
    tag: str | None = None
    """Of all tasks that it begins."""
    out: Out = field(default_factory=Out)
    err: Out = field(default_factory=lambda: Out(stderr=True))

    @property
    def is_watched(self) -> bool:
        """Would somebody see on standard error how far it is?"""
        return sys.stderr is not None and sys.stderr.isatty()

    def ask(
        self, verb: str, on_progress: Callable[[list[Json]], None] | None = None,
        on_events: Callable[[list[Json]], None] | None = None, **args: Any,
    ) -> Json:  # fmt: skip
        """Return the result of a verb, or raise its FmrdError."""
        client = Client(self.socket, self.timeout_seconds)
        if self.tag is not None and verb in BEGINS_TASKS:
            args["tag"] = self.tag
        try:
            return client.ask(verb, on_progress, on_events, **args)
        except FmrdError as error:
            from fmrd.front.ctl.hand.helping import helped

            raise helped(error, client, verb, args) from error.__cause__

    def show(self, result: Json, people: Callable[[Json], None] | None = None) -> None:
        """Print one JSON object on standard output, or the same for people; notices go to standard error."""
        if "notice" in result:
            self.err.print(f"fmrctl: {result['notice']}")
        if self.as_json:
            print_json(result)
        else:
            (people or self._for_people)(result)

    def tell_gone(self, result: Json) -> None:
        """Of a volume or a plex that is no more, for people: shown as it was, it would look as if it were there."""
        for kind in ("volume", "plex"):
            if kind in result:
                self.out.print(f"{kind} {result[kind]['name']} is gone")

    def _for_people(self, result: Json) -> None:
        if "volume" in result:
            print_volumes(self.out, [result["volume"]])
        if result.get("volumes"):
            print_volumes(self.out, result["volumes"])
        for each in result.get("plexes", []):
            print_plex(self.out, each, str(each["name"]).rpartition("-")[0])
        if "plex" in result:
            print_plex(self.out, result["plex"], str(result["plex"]["name"]).rpartition("-")[0])
        for decision in result.get("decisions") or ([result["decision"]] if "decision" in result else []):
            self.out.print(decision_line(decision))
        for task in _tasks_in(result):
            self.out.print(task_line(task))
        for failed in result.get("failed", []):
            self.err.print(f"fmrctl: {failed['code']}: {failed['message']}")

    def conclude(self, result: Json, *, wait: bool, people: Callable[[Out, Json], None] | None = None) -> None:
        """Show what a verb answered; with ``wait`` first wait for its tasks, and raise Told if one of them failed."""
        show = None if people is None else partial(people, self.out)
        tasks = _tasks_in(result)
        if wait and tasks:
            ended = self.wait([task["id"] for task in tasks])
            result |= {"tasks": ended} if "tasks" in result else {}
            result |= {"task": ended[0]} if "task" in result else {}
            if "volume" in result:
                result["volume"] = self.ask("print", volume=result["volume"]["name"])["volumes"][0]
            problem = problem_of(ended)
            if problem is not None and self.as_json:
                result["error"] = error_json(problem)
            self.show(result, show)
            if problem is not None:
                raise Told(problem)
        else:
            self.show(result, show)

    def wait(self, ids: list[int] | None) -> list[Json]:
        """Return these tasks (None: all that run now) when they have ended; a terminal shows their progress."""
        if self.is_watched:
            from fmrd.front.ctl.glance.bars import Bars

            with Bars() as draw:
                ended = list(self.ask("task_monitor", draw, ids=ids)["tasks"])
                draw(ended)
                return ended
        return list(self.ask("task_monitor", ids=ids)["tasks"])

    def show_tasks(self, result: Json) -> None:
        self.show(result, lambda shown: print_tasks(self.out, shown["tasks"]))


class Told(Exception):
    """This failure is told already, by the JSON object on standard output."""

    def __init__(self, error: FmrdError) -> None:
        super().__init__(str(error))
        self.error = error


def problem_of(ended: list[Json]) -> FmrdError | None:
    """Return the first task that did not do what it was for, as an error."""
    for task in ended:
        if task["state"] != "done":
            why = task["error"]["message"] if task["error"] else "somebody aborted it"
            hint = f"fmrctl plex att {task['volume']} {task['plex']} goes on from its map"
            if task["type"] == "VERIFY":
                hint = f"fmrctl verify {task['volume']} begins anew"
            elif task["type"] == "SNAPSYNC":
                hint = f"fmrctl snapsync {task['volume']} goes on with the rest"
            return Failed("task_failed", f"task {task['id']} {task['state']}: {why}", hint)
    return None


def print_json(value: Json) -> None:
    """Print the one JSON object; this is the only place that does."""
    sys.stdout.write(json.dumps({"output_version": OUTPUT_VERSION, **value}) + "\n")
    sys.stdout.flush()


def _tasks_in(result: Json) -> list[Json]:
    return list(result.get("tasks", [result["task"]] if "task" in result else []))
