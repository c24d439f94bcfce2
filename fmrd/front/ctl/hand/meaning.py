"""What was meant by a verb that is not there; never one that gives something up: who is in a hurry would take it."""

import difflib
from collections.abc import Sequence

import click

from fmrd.front.ctl.glance.picking import CLOSE, meant

LOSES = {
    *("remove", "dis", "snapclear", "snapabort", "snapback", "undo", "refresh", "abort", "replace", "prune", "receive"),
    *("--erase", "--discard", "--force", "--yes", "--full", "--accept", "--without"),
    *("--delete", "--reset", "--abort"),
}
"""What gives something up is never suggested for a word that was mistyped."""


class Guessing(click.Group):
    """A group of commands that says which one may have been meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = click.utils.make_str(args[0])
        if self.get_command(ctx, word) is None and word[:1] not in ctx._opt_prefixes:
            ctx.fail(f"there is no command {word!r}{guess(word, list(self.commands))}")
        return super().resolve_command(ctx, args)


def guess(word: str, known: Sequence[str]) -> str:
    """Return ': did you mean ...?', or nothing."""
    if set(difflib.get_close_matches(word, known, n=1, cutoff=CLOSE)) & LOSES:
        return ""
    found = meant(word, [each for each in known if each not in LOSES])
    return f": {found}" if found else ""
