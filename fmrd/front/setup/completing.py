"""Completion in a shell: volumes, plexes, snapshots and tasks as the daemon has them now, and codes and keys.

Who presses a key waits for at most a moment: a daemon that does not answer completes nothing.
"""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from fmrd.core.json_object import Json
from fmrd.errors import EXPLANATIONS, FmrdError
from fmrd.front.conf.reading import read_conf
from fmrd.front.places import default_places
from fmrd.front.wire import REPLY_LIMIT_BYTES, Lines, Request, Result, decode_reply

PATIENCE_SECONDS = 0.5
KEYS = ("fmr=on", "fmr=off", "rdpol=select", "rdpol=round", "rdpol=prefer:", "io_timeout=", "rate=", "auto_attach=on",
        "auto_attach=off", "drl_extents=")  # fmt: skip
Words = Iterator[tuple[str, str]]
"""What may stand there, and what is said beside it."""


def asked(verb: str, where: Path, **args: object) -> Json:
    """Return a verb's answer, or {} where there is none within a moment: completion never complains."""
    lines = Lines(REPLY_LIMIT_BYTES)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PATIENCE_SECONDS)
            connection.connect(str(where))
            connection.sendall(Request(verb, dict(args)).encode())
            while data := connection.recv(1 << 16):
                for line in lines.feed(data):
                    reply = decode_reply(line)
                    return reply.value if isinstance(reply, Result) else {}
    except (OSError, FmrdError):
        pass
    return {}


def _where(ctx: click.Context) -> Path:
    """What --socket or the environment says; completion knows the words before the one that is typed."""
    given = ctx.find_root().params.get("socket") or os.environ.get("FMRD_SOCKET")
    with contextlib.suppress(FmrdError):
        given = given or read_conf().daemon.get("socket")
    return Path(given) if given else default_places().socket


def _volumes(ctx: click.Context) -> list[Json]:
    return list(asked("print", _where(ctx)).get("volumes", []))


def _all_volumes(ctx: click.Context) -> Words:
    yield from ((volume["name"], f"{volume['kstate']} {volume['state']}") for volume in _volumes(ctx))


def _snapshots(ctx: click.Context) -> Words:
    for volume in _volumes(ctx):
        if volume.get("snapshot_of"):
            yield volume["name"], f"of {volume['snapshot_of']}"


def _plexes(ctx: click.Context) -> Words:
    """Those of the volume that is named before, else all."""
    named = ctx.params.get("volume") or ctx.params.get("snapshot")
    for volume in _volumes(ctx):
        if named in (None, (), volume["name"]):
            yield from ((plex["name"], f"{plex['state']} {plex['path']}") for plex in volume["plexes"])


def _tasks(ctx: click.Context) -> Words:
    for task in asked("task_list", _where(ctx)).get("tasks", []):
        yield str(task["id"]), f"{task['type']} {task['volume']} {task['plex']}"
    yield from _tags(ctx)


def _tags(ctx: click.Context) -> Words:
    tags = [task["tag"] for task in asked("task_list", _where(ctx), all=True).get("tasks", []) if task["tag"]]
    yield from ((tag, f"{tags.count(tag)} task(s)") for tag in sorted(set(tags)))


def _stores(ctx: click.Context) -> Words:
    for store in asked("store_print", _where(ctx)).get("stores", []):
        yield store["name"], store["directory"]


def _codes(ctx: click.Context) -> Words:
    yield from ((code, text.split(". ")[0]) for code, text in EXPLANATIONS.items())


def _keys(ctx: click.Context) -> Words:
    yield from ((key, "") for key in (("rate=",) if ctx.info_name == "set" and "task_id" in _names(ctx) else KEYS))


def _measures(ctx: click.Context) -> Words:
    yield from ((key, "") for key in ("size=", "autogrow=", "high_water="))


def _names(ctx: click.Context) -> set[str | None]:
    return {parameter.name for parameter in ctx.command.params}


KINDS: Mapping[str, Callable[[click.Context], Words]] = {
    "volume": _all_volumes, "snapshot": _snapshots, "plex": _plexes, "plex_id": _plexes, "without": _plexes,
    "accept": _plexes, "prefer": _plexes, "from_plex": _plexes, "task_id": _tasks, "tag": _tags,
    "code": _codes, "setting": _keys,
    "store": _stores, "store_name": _stores, "measures": _measures,
}  # fmt: skip
"""Name of a parameter -> what completes it. Paths complete as the shell itself does it."""


def complete(command: click.Command) -> None:
    """Let every parameter of a command, and of all below it, complete by its name."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            complete(each)
    for parameter in command.params:
        name = parameter.name or ""
        if name in KINDS:
            parameter._custom_shell_complete = _completer(KINDS[name])
        elif "path" in name or name in ("instant", "freeze", "file", "directory"):
            parameter._custom_shell_complete = _of_the_shell


def _completer(kind: Callable[[click.Context], Words]) -> Callable[..., list[CompletionItem]]:
    def completed(ctx: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        there = ctx.params.get(parameter.name or "")
        typed = set(there) if isinstance(there, tuple) else set()
        return [
            CompletionItem(word, help=told or None)
            for word, told in kind(ctx)
            if word.startswith(begun) and word not in typed
        ]

    return completed


def _of_the_shell(ctx: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    return [CompletionItem(begun, type="file")]


def script(command: click.Command, shell: str, program: str = "fmrctl") -> str:
    """Return what a shell (bash, zsh, fish) reads to complete a program."""
    kind = get_completion_class(shell)
    assert kind is not None
    return kind(command, {}, program, f"_{program.upper().replace('-', '_')}_COMPLETE").source()
