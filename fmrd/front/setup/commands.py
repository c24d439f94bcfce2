"""Commands as click knows them become parts of manual pages: a page says what --help says, and cannot fall behind."""

from collections.abc import Iterator

import click

from fmrd.front.setup.mdoc import escaped, line, paragraph


def leaves(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Each command below a group, with the words that call it."""
    if isinstance(command, click.Group):
        for name in command.commands:
            yield from leaves(command.commands[name], (*words, name))
    else:
        yield words, command


def synopsis(program: str, words: tuple[str, ...], command: click.Command) -> Iterator[str]:
    """How a command is typed."""
    yield f".Nm {program}"
    if words:
        yield f".Cm {' '.join(words)}"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield f".Op {_typed(parameter)}"
        else:
            name = _name_of(parameter)
            more = " ..." if parameter.nargs == -1 else ""
            yield f".Ar {name}{more}" if parameter.required else f".Op Ar {name}{more}"


def description(words: tuple[str, ...], command: click.Command, *, heading: bool = True) -> Iterator[str]:
    """What a command does, and its options."""
    if heading:
        yield f".Ss {' '.join(words)}"
    first = True
    for part in (command.help or "").replace("\b", "").split("\n\n"):
        if not first:
            yield ".Pp"
        first = False
        yield from paragraph(part)
    options = [each for each in command.params if isinstance(each, click.Option)]
    if options:
        yield ".Bl -tag -width Ds"
        for option in options:
            yield f".It {_typed(option)}"
            yield from paragraph(_told(option))
        yield ".El"


def short_list(commands: list[tuple[tuple[str, ...], click.Command, str]]) -> Iterator[str]:
    """A line for each: its words, its first sentence, and the page that has more."""
    yield ".Bl -tag -width Ds -compact"
    for words, command, page in commands:
        yield f".It Cm {' '.join(words)}"
        yield from paragraph(command.get_short_help_str(200))
        yield f"See {page}." if page.startswith("below") else f".Xr {page} 8"
    yield ".El"


def _typed(option: click.Option) -> str:
    names = [name for name in (*option.opts, *option.secondary_opts) if name.startswith("--")] or option.opts
    typed = " | ".join(f"Fl {escaped(name[1:])}" for name in names)
    if option.is_flag:
        return typed
    return f"{typed} Ar {_name_of(option)}"


def _name_of(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Option) and isinstance(parameter.type, click.Choice):
        return escaped("|".join(map(str, parameter.type.choices)))
    if isinstance(parameter.type, click.IntRange):
        return "N"
    name = parameter.metavar or (parameter.type.name if isinstance(parameter, click.Option) else parameter.name) or ""
    return escaped(name.strip("[]").upper())


def _told(option: click.Option) -> str:
    told = option.help or ""
    if isinstance(option.envvar, str):
        told += f" In the environment: `{option.envvar}`."
    if option.show_default and not option.is_flag:
        told += f" Default: `{option.default}`."
    return told.strip() or line("As its name says.")
