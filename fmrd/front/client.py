"""This is fmrctl's end of the control socket: plain blocking calls."""

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fmrd.core.json_object import Json
from fmrd.errors import Unreachable
from fmrd.front.wire import REPLY_LIMIT_BYTES, Happened, Lines, Problem, Progress, Request, Result, decode_reply

CHUNK_BYTES = 256 << 10
TIMEOUT_SECONDS = 30.0
"""After so long without a word the daemon is given up. While it works on a verb it says something every now and then
(control.ALIVE_SECONDS), so that a verb may take as long as it must.
"""


class Client:
    """A client asks one request, on one connection. Failures are FmrdError: the daemon's own, or Unreachable."""

    def __init__(self, path: Path, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.path = path
        self.timeout_seconds = timeout_seconds

    def ask(
        self, verb: str, on_progress: Callable[[list[Json]], None] | None = None,
        on_events: Callable[[list[Json]], None] | None = None, **args: Any,
    ) -> Json:  # fmt: skip
        """Return the result of a verb, or raise its error; arguments that are None are left to the daemon's default.
        ``on_progress`` is called with tasks as they go on, ``on_events`` with what happens.
        """
        request = Request(verb, {name: value for name, value in args.items() if value is not None})
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(self.timeout_seconds)
                connection.connect(str(self.path))
                with contextlib.suppress(BrokenPipeError):  # it may have answered before it had read everything
                    connection.sendall(request.encode())
                return self._result(connection, on_progress, on_events)
        except TimeoutError:
            said = f"the daemon on {self.path} has said nothing for {self.timeout_seconds:g} s"
            hint = "is it stopped (kill -CONT), or does its machine stand still? What was asked for may be done yet"
            raise Unreachable("unreachable", said, hint) from None
        except OSError as error:
            what = error.strerror or str(error)
            hint = "is fmrd running, and is this its --socket?"
            raise Unreachable("unreachable", f"no daemon answers on {self.path}: {what}", hint) from error

    def _result(
        self, connection: socket.socket, on_progress: Callable[[list[Json]], None] | None,
        on_events: Callable[[list[Json]], None] | None,
    ) -> Json:  # fmt: skip
        lines = Lines(REPLY_LIMIT_BYTES)
        while data := connection.recv(CHUNK_BYTES):
            for line in lines.feed(data):
                match decode_reply(line):
                    case Result(value):
                        return value
                    case Problem(error):
                        raise error
                    case Happened(events):
                        if on_events is not None:
                            on_events(events)
                    case Progress(tasks):  # of no tasks: a sign of life
                        if on_progress is not None and tasks:
                            on_progress(tasks)
        raise Unreachable("unreachable", "the daemon went away before it answered", "its log says why")
