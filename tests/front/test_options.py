"""The options of fmrctl, seen over all its verbs."""

import re
from collections import defaultdict
from collections.abc import Iterator

import click
import pytest

from fmrd.front.ctl.cli import cli, run
from fmrd.front.ctl.hand.meaning import LOSES

OF_THE_VERB = {"--tag", "--force", "--from", "--plex", "--all", "--since"}
"""What these mean is another thing with each verb that takes one."""


def commands(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        yield command
        if isinstance(command, click.Group):
            yield from commands(command)


def test_an_option_is_one_thing_whatever_verb_takes_it() -> None:
    said = defaultdict(set)
    taken = defaultdict(int)
    for command in commands(cli):
        for option in (parameter for parameter in command.params if isinstance(parameter, click.Option)):
            for name in set(option.opts) - OF_THE_VERB:
                said[name].add((option.help, option.type.name, option.multiple))
                taken[name] += 1
    assert taken["--wait"] > 5 and taken["--dry-run"] > 5 and taken["--rate"] > 5
    assert {name: each for name, each in said.items() if len(each) > 1} == {}


@pytest.mark.parametrize(
    "typed",
    ["remvoe a", "remov a", "snapclea x", "plex diss a b", "task abrt 1", "remove a --eras", "plex att a --discad"],
)
def test_what_gives_something_up_is_never_suggested(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(typed.split()) == 2
    error = capsys.readouterr().err.splitlines()[0]
    assert error.startswith("fmrctl: bad_request: No such")
    assert not LOSES & set(re.findall(r"'([a-z-]+)'", error))


def test_what_gives_nothing_up_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sotp", "data"]) == 2
    assert "Did you mean 'stop'?" in capsys.readouterr().err
