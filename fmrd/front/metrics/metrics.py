"""Metrics as the daemon has them: what was asked for on its command line, and what then runs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio

from fmrd.engine.registry import Registry
from fmrd.errors import BadRequest
from fmrd.front.metrics.server import DEFAULT_PORT, Server, Where
from fmrd.front.metrics.textfile import TextFile


@dataclass(frozen=True)
class Metrics:
    """Where they are told: by HTTP, in a file, or nowhere."""

    where: Where | None = None
    file: Path | None = None

    async def run(self, registry: Registry, task_status: trio.TaskStatus[None]) -> None:
        """Tell them until cancelled; report started when they can be asked for, or cannot yet."""
        if self == Metrics():
            task_status.started()
            return
        from fmrd.front.metrics.text import written  # its library costs memory that most daemons need not have

        write = partial(written, registry)
        async with trio.open_nursery() as nursery:
            if self.where is not None:
                await nursery.start(Server(self.where, write).run)
            if self.file is not None:
                nursery.start_soon(TextFile(self.file, write).run)
            task_status.started()

    def words(self) -> list[str]:
        """Return what would ask for the same on a command line."""
        found = [] if self.where is None else ["--metrics", self.where.text()]
        return found + ([] if self.file is None else ["--metrics-file", str(self.file)])


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that make Metrics, as ``metrics`` and ``metrics_file``."""
    by_http = click.option(
        "--metrics", "metrics", type=_where, metavar="[ADDRESS:PORT|unix:PATH]", envvar="FMRD_METRICS",
        is_flag=False, flag_value=f"127.0.0.1:{DEFAULT_PORT}",
        help=f"Give metrics to whoever asks there by HTTP. Alone: at port {DEFAULT_PORT} of this machine only.",
    )  # fmt: skip
    in_a_file = click.option(
        "--metrics-file", type=Path, metavar="PATH", envvar="FMRD_METRICS_FILE",
        help="Write metrics there every 15 s, for a collector of text files.",
    )  # fmt: skip
    return by_http(in_a_file(command))


def _where(text: str) -> Where:
    try:
        return Where.parse(text)
    except BadRequest as error:
        raise click.BadParameter(error.message) from error
