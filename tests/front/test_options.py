"""The options of fmrctl, seen over all its verbs."""

from collections import defaultdict
from collections.abc import Iterator

import click

from fmrd.front.ctl.cli import cli

OF_THE_VERB = {"--force", "--from", "--plex", "--all"}
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
