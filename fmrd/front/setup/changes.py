"""What a command that brings something to a wanted state did, or would do: one line each, and whether there was any."""

from collections.abc import Iterable
from dataclasses import dataclass

from fmrd.core.json_object import Json
from fmrd.front.ctl.tables import Out


@dataclass(frozen=True)
class Change:
    """``name``: a file, a volume; ``action``: one word; ``message``: a sentence for people."""

    name: str
    action: str
    message: str

    def json(self) -> Json:
        return {"name": self.name, "action": self.action, "message": self.message}


def answer(changes: Iterable[Change]) -> Json:
    """Return it as docs/JSON.md has it."""
    told = [change.json() for change in changes]
    return {"changed": bool(told), "changes": told}


def show(out: Out, result: Json, *, dry_run: bool) -> None:
    for change in result["changes"]:
        out.print(f"{'would: ' if dry_run else ''}{change['message']}")
    if not result["changes"]:
        out.print("nothing to change")
