"""Every command of fmrctl that README or a manual page shows, also in a sentence or as a form, its parser takes."""

import re
from pathlib import Path

import click
import pytest

from fmrd.front.ctl.app import App
from fmrd.front.ctl.cli import cli
from fmrd.front.daemon.daemon import main as daemon
from fmrd.front.setup.pages import PROSE
from fmrd.front.setup.sources import sources

TEXTS = [sources() / "README.md", *sorted((sources() / PROSE).glob("*.md"))]
TYPED = re.compile(r"(?:^|[|(] *|[#$] +)(fmrctl|fmrd) +([^`|;()<>#\n]+)", re.MULTILINE)
FORM = str.maketrans("", "", "[]\"'")
"""What has no meaning in a form, or in a word that has no blanks."""


def shown() -> list[tuple[str, str]]:
    """Program, and its words as they stand there, without what is said beside it."""
    found = set()
    for path in TEXTS:
        parts = path.read_text().split("```")
        quoted = re.findall(r"`([^`\n]+)`", "".join(parts[::2]))
        for text in [*parts[1::2], *quoted]:
            found |= {(program, re.split(r"   +", line)[0].strip()) for program, line in TYPED.findall(text)}
    return sorted(each for each in found if "$" not in each[1] and not each[1].endswith("="))


def _verb(words: list[str]) -> tuple[list[str], click.Command, list[str]]:
    """The words of the command, the command, and what it is given; --json may stand anywhere."""
    rest = [word for word in words if word != "--json"]
    command: click.Command = cli
    taken = []
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"no such command: {' '.join(words)}"
        command = command.commands[rest[0]]
        taken.append(rest.pop(0))
    return taken, command, rest


def test_something_is_shown() -> None:
    assert len(shown()) > 100


@pytest.mark.parametrize(("program", "line"), shown(), ids=lambda text: text.replace("/", "|"))
def test_it_is_taken(program: str, line: str) -> None:
    words = line.replace("...", "").translate(FORM).split()
    if program == "fmrd":
        options = {name for parameter in daemon.params for name in parameter.opts} | {"--help", "--version"}
        assert {word for word in words if word.startswith("--")} <= options
        return
    _, command, given = _verb(words)
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.split("=")[0] for word in given if word.startswith("--")} <= options | {"--help"}
    if "--help" not in given and [word for word in given if not word.startswith("-")]:
        _parse(command, given)


def _parse(command: click.Command, given: list[str]) -> None:
    """As it is typed; a form has words in capitals where numbers or names would be."""
    try:
        command.make_context(
            command.name,
            list(given),
            parent=click.Context(cli, info_name="fmrctl", obj=App(Path("/nowhere"), as_json=False)),
        )
    except click.UsageError as error:
        if not any(re.fullmatch(r"[A-Z:=,.+a-z_]*[A-Z]{2,}[A-Z:=,.]*", word) for word in given):
            pytest.fail(f"{' '.join(given)}: {error.format_message()}")
