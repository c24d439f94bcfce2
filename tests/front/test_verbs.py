"""fmrctl's verbs: each is where it is said to be, and none waits for the import of another's."""

import subprocess
import sys

import click
import pytest

from fmrd.front.ctl.cli import ROOMS, cli

LOADED = """
import sys
from fmrd.front.ctl import cli
cli.run(sys.argv[1:])
print(*sorted(name for name in sys.modules if name.startswith(("fmrd.", "rich.", "trio."))), file=sys.stderr)
"""
ROOM_OF = {word: f"fmrd.front.{room}" for room, verbs in ROOMS.items() for word in verbs}


@pytest.mark.parametrize("word", cli.commands)
def test_each_is_the_command_of_that_name(word: str) -> None:
    command = cli.commands[word]
    assert isinstance(command, click.Command) and command.name == word
    assert command.callback is not None and command.callback.__module__ == ROOM_OF[word]


def test_what_is_no_verb_is_none() -> None:
    assert "snapsot" not in cli.commands and cli.commands.get("snapsot") is None


@pytest.mark.parametrize("word", ["send", "receive", "changed", "print", "stat"])
def test_one_imports_neither_the_others_nor_what_draws(word: str) -> None:
    done = subprocess.run([sys.executable, "-c", LOADED, word, "--help"], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert ROOM_OF[word] in loaded
    others = {ROOM_OF[each] for each in ("plex", "verify", "top", "apply", "nightly", "explain")}
    assert not loaded & others
    if word in ("send", "receive", "changed"):
        assert not {each for each in loaded if each.startswith(("rich.console", "trio.", "fmrd.engine."))}
