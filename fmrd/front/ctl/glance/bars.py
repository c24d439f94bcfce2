"""Bars on a terminal: of tasks, and of bytes that go by. Who draws none does not load this: it takes a tenth of the
time in which fmrctl starts.
"""

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import TransferSpeedColumn as SpeedColumn

from fmrd.core.json_object import Json
from fmrd.front.ctl.tables import task_name


def columns_of_bytes() -> Progress:
    """Return bars that show how many bytes of how many went by."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), SpeedColumn(),
               TimeRemainingColumn())  # fmt: skip
    return Progress(*columns, console=Console(stderr=True, highlight=False, markup=False, emoji=False))


class Bars:
    """A bar for each task, until the block ends."""

    def __init__(self) -> None:
        self._progress = columns_of_bytes()
        self._bars: dict[int, TaskID] = {}

    def __enter__(self) -> Callable[[list[Json]], None]:
        self._progress.start()
        return self._draw

    def __exit__(self, *details: object) -> None:
        self._progress.stop()

    def _draw(self, tasks: list[Json]) -> None:
        for task in tasks:
            if task["id"] not in self._bars:
                name = f"task {task_name(task)} {task['plex']} ({task['reason']['code']})"
                self._bars[task["id"]] = self._progress.add_task(name, total=task["total_bytes"] or None)
            self._progress.update(
                self._bars[task["id"]], total=task["total_bytes"] or None, completed=task["done_bytes"]
            )
