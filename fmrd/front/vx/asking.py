"""What every form needs: the daemon asked, a plex's volume found, copies waited for, and words beside the output."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fmrd.core.json_object import Json
from fmrd.core.printable import escaped
from fmrd.errors import BadRequest, Failed
from fmrd.front.conf.reading import Conf
from fmrd.front.ctl.app import App, problem_of
from fmrd.front.ctl.tables import task_line

Row = Sequence[str]


@dataclass(frozen=True)
class Vx:
    """One run of fmrd-vx. What VxVM prints goes to standard output, all else to standard error, so that scripts that
    read the first are not disturbed.
    """

    app: App
    conf: Conf

    def ask(self, verb: str, **args: Any) -> Json:
        """Return the result of a verb of the daemon; what it has to say beside that is told."""
        result = self.app.ask(verb, **args)
        if "notice" in result:
            self.tell(result["notice"])
        return result

    def line(self, text: str = "") -> None:
        self.app.out.print(text)

    def tell(self, text: str) -> None:
        self.app.err.print(f"fmrd-vx: {text}")

    def volumes(self, name: str | None = None) -> list[Json]:
        """All volumes, or the one of that name; Failed('volume_missing')."""
        return list(self.ask("print", volume=name)["volumes"])

    def volume(self, name: str) -> Json:
        return self.volumes(name)[0]

    def volume_of(self, plex: str) -> str:
        """Return the volume that has a plex, which VxVM's commands do not name. Failed('plex_missing')."""
        for volume in self.volumes():
            for each in volume["plexes"]:
                if plex in (each["name"], each["path"]):
                    return str(volume["name"])
        raise Failed("plex_missing", f"no volume has a plex {plex}", "vxprint -ht")

    def original_of(self, snapshot: str, named: str | None) -> str:
        """Return a snapshot's original, which must be the one that was named. BadRequest, Failed('volume_missing')."""
        original = self.volume(snapshot)["snapshot_of"]
        if original is None or (named is not None and named != original):
            of = "no snapshot" if original is None else f"a snapshot of {original}, not of {named}"
            raise BadRequest("bad_request", f"volume {snapshot} is {of}", "vxsnap print")
        return str(original)

    def conclude(self, result: Json, *, background: bool) -> None:
        """Say why it copies what, and return when that has ended, or at once. Failed('task_failed')."""
        tasks = list(result.get("tasks", [result["task"]] if "task" in result else []))
        for task in tasks:
            self.tell(task_line(task))
        if not background:
            self.wait([task["id"] for task in tasks])

    def wait(self, ids: Sequence[int]) -> None:
        problem = problem_of(self.app.wait(list(ids))) if ids else None
        if problem is not None:
            raise problem


def show(
    vx: Vx, heads: Sequence[Row], rows: Sequence[Row], widths: Sequence[int] = (), *, apart: bool = True
) -> None:  # fmt: skip
    """Print headers, an empty line (``apart``), and rows, of which one that is empty is one, too. ``widths`` are VxVM's
    of the columns: a longer word moves the rest of its own line. Without them columns are as wide as what is in them.
    """
    shown = [[escaped(cell) for cell in row] for row in [*heads, *rows]]
    wide = list(widths)
    for row in [] if widths else shown:
        wide += [0] * (len(row) - len(wide))
        wide[: len(row)] = [max(have, len(cell)) for have, cell in zip(wide, row, strict=False)]
    for number, row in enumerate(shown):
        if apart and heads and number == len(heads):
            vx.line()
        padded = [*wide, *[0] * len(row)]
        vx.line(" ".join(cell.ljust(width) for cell, width in zip(row, padded, strict=False)).rstrip())
