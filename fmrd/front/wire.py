"""The control protocol is JSON objects, one a line, over a unix socket. This module is pure; both ends use it.

A client sends one request, ``{"verb": ..., "args": {...}}``. The daemon answers with any number of
``{"progress": {"tasks": [TASK...]}}`` (of no tasks: a sign of life) or ``{"events": [EVENT...]}``,
and ends with ``{"result": {...}}`` or
``{"error": {"code", "message", "hint"}, "exit_status": N}``; then it closes the connection.
"""

import json
from dataclasses import dataclass, field

from fmrd.core.json_object import Json
from fmrd.errors import EXPLANATIONS, BadRequest, Failed, FmrdError, Refused, Unreachable
from fmrd.front.arguments import check_arguments

REQUEST_LIMIT_BYTES = 2 << 20
"""The longest request line: 64 plexes with two paths of 4 KiB each, of which JSON makes three times as much."""
REPLY_LIMIT_BYTES = 64 << 20
STATUSES = {kind.exit_status: kind for kind in (Failed, BadRequest, Refused, Unreachable)}


@dataclass(frozen=True)
class Request:
    """A request asks for one verb; its arguments are those of arguments.py."""

    verb: str
    args: Json = field(default_factory=dict)

    def encode(self) -> bytes:
        return _line({"verb": self.verb, "args": self.args})

    @staticmethod
    def decode(line: bytes) -> "Request":
        """Return a request that is checked to the last argument; BadRequest says what is wrong."""
        parsed = _parsed(line)
        verb, args = parsed.get("verb"), parsed.get("args", {})
        if not isinstance(verb, str) or not isinstance(args, dict) or not parsed.keys() <= {"verb", "args"}:
            raise BadRequest("bad_request", 'a request is {"verb": ..., "args": {...}}')
        return Request(verb, check_arguments(verb, args))


@dataclass(frozen=True)
class Progress:
    """This tells how far tasks are; more follows."""

    tasks: list[Json]

    def encode(self) -> bytes:
        return _line({"progress": {"tasks": self.tasks}})


@dataclass(frozen=True)
class Result:
    """This is what a verb gave; it is the last line."""

    value: Json

    def encode(self) -> bytes:
        return _line({"result": self.value})


@dataclass(frozen=True)
class Problem:
    """This is why a verb failed; it is the last line."""

    error: FmrdError

    def encode(self) -> bytes:
        return _line({"error": error_json(self.error), "exit_status": self.error.exit_status})


@dataclass(frozen=True)
class Happened:
    """This is what has happened; more follows."""

    events: list[Json]

    def encode(self) -> bytes:
        return _line({"events": self.events})


Reply = Progress | Happened | Result | Problem


def decode_reply(line: bytes) -> Reply:
    """Return what the daemon said; BadRequest where the other end does not speak this protocol."""
    match _parsed(line):
        case {"progress": {"tasks": list(tasks)}} if all(isinstance(task, dict) for task in tasks):
            return Progress(tasks)
        case {"events": list(events)} if all(isinstance(event, dict) for event in events):
            return Happened(events)
        case {"result": dict(value)}:
            return Result(value)
        case {"error": {"code": str(code), "message": str(message), "hint": str(hint)}, "exit_status": int(status)}:
            kind = STATUSES.get(status, Failed)
            return Problem(kind(code if code in EXPLANATIONS else "failed", message, hint))
    raise BadRequest("bad_request", "the answer is none that this fmrctl knows")


def error_json(error: FmrdError) -> Json:
    """Return the error of docs/JSON.md."""
    return {"code": error.code, "message": error.message, "hint": error.hint}


class Lines:
    """This cuts what arrives into lines of at most ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that ``data`` completes, without their ends; BadRequest when one grows too long."""
        *ended, rest = data.split(b"\n")
        lines = []
        for piece in ended:
            lines.append(bytes(self._buffer) + piece)
            self._buffer.clear()
        self._buffer += rest
        if any(len(line) > self._limit for line in [*lines, self._buffer]):
            raise BadRequest("bad_request", f"a line is longer than {self._limit} bytes")
        return lines


def _line(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _parsed(line: bytes) -> Json:
    try:
        value = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise BadRequest("bad_request", "this is not JSON") from None
    if not isinstance(value, dict):
        raise BadRequest("bad_request", "this is JSON, but not an object")
    return value


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is not JSON")
