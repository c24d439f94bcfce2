"""fmrctl talks to this unix socket: who may ask, how many at once, and what becomes of those that hang is decided here.

One request a connection. A client that goes away does not stop a verb that acts (Registry.apart carries it to its end);
one that sends garbage, half a line or nothing costs a slot for a few seconds, and a flood waits for its turns.
"""

import errno
import logging
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import trio

from fmrd.core.json_object import Json
from fmrd.engine.tasks import Task
from fmrd.engine.verbs.verbs import Verbs
from fmrd.errors import BadRequest, Failed, FmrdError, Refused
from fmrd.front.wire import REQUEST_LIMIT_BYTES, Lines, Problem, Progress, Reply, Request, Result

log = logging.getLogger(__name__)

MAX_CLIENTS = 64
REQUEST_SECONDS = 10.0
"""How long a client may take to send its line."""
SEND_SECONDS = 10.0
"""How long it may take to read an answer."""
PROGRESS_SECONDS = 0.2
REQUESTS_PER_SECOND = 200.0
"""Of all clients together, in the long run: what a flood may take of the daemon's time."""
BURST = 200
"""Requests that need not wait, after some quiet."""
CHUNK_BYTES = 64 << 10
_CREDENTIALS = struct.Struct("3i")


async def _nothing() -> None:
    pass


class RequestPace:
    """A pace makes whoever comes too often wait for its turn; nobody is refused for it."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._interval = 1 / per_second
        self._ahead = burst * self._interval
        self._next = -self._ahead

    async def turn(self) -> None:
        """Return when it is the caller's turn. Turns are handed out in the order of the calls."""
        self._next = max(self._next, trio.current_time() - self._ahead) + self._interval
        await trio.sleep_until(self._next)


class Control:
    """A control serves the socket at ``path``. ``after`` is awaited when a verb has ended, before it is answered: what
    a verb did is then to be seen.
    """

    def __init__(self, path: Path, verbs: Verbs, after: Callable[[], Awaitable[None]] = _nothing) -> None:
        self.path = path
        self.verbs = verbs
        self._after = after
        self.clients = 0
        self.pace = RequestPace(REQUESTS_PER_SECOND, BURST)
        self._allowed = {0, os.geteuid()}

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; report started when the socket answers. Refused('daemon_running') if another one does,
        Failed('socket_failed').
        """
        bound = _bind(self.path)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(bound))
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(trio.serve_listeners, self._client, [listener])
                task_status.started()
        finally:
            self.path.unlink(missing_ok=True)

    async def _client(self, stream: trio.SocketStream) -> None:
        self.clients += 1
        try:
            async with stream:
                if self.clients <= 2 * MAX_CLIENTS:  # those above MAX_CLIENTS are told so, those above this are not
                    await self._converse(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("a client went away before it was answered")
        finally:
            self.clients -= 1

    async def _converse(self, stream: trio.SocketStream) -> None:
        reply: Reply
        try:
            request = await _request(stream)
            self._may_ask(stream)
            await self.pace.turn()
            reply = Result(await self._answer(request, stream))
        except FmrdError as error:
            reply = Problem(error)
        except OSError as error:
            reply = Problem(Failed("io_error", str(error)))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise
        except Exception as bug:
            log.exception("a verb failed in a way that nobody foresaw")
            reply = Problem(Failed("failed", f"{type(bug).__name__}: {bug}", "the daemon's log says more"))
        await _send(stream, reply)

    def _may_ask(self, stream: trio.SocketStream) -> None:
        packed = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(packed)
        if uid not in self._allowed:
            raise Refused("not_allowed", f"user {uid} may not command this daemon")
        if self.clients > MAX_CLIENTS:
            raise Failed("too_many_clients", f"{MAX_CLIENTS} clients are being served already")

    async def _answer(self, request: Request, stream: trio.SocketStream) -> Json:
        if request.verb == "task_monitor":
            return await self._monitor(stream, **request.args)
        verb = getattr(self.verbs, request.verb)
        result: Json = await verb(**request.args)
        await self._after()
        return result

    async def _monitor(self, stream: trio.SocketStream, ids: Sequence[int] | None = None) -> Json:
        """Progress of these tasks, or of all that run now, until they have ended."""
        known = self.verbs.context.tasks
        tasks = [known.find(each) for each in ids] if ids is not None else known.running()
        while running := [task for task in tasks if task.ended is None]:
            await _send(stream, Progress([task.json() for task in tasks]))
            await _first_of(running, PROGRESS_SECONDS)
        return {"tasks": [task.json() for task in tasks]}


async def _first_of(tasks: list[Task], seconds: float) -> None:
    """Return when one of them has ended, at the latest after so many seconds."""

    async def wait(task: Task) -> None:
        await task.finished.wait()
        nursery.cancel_scope.cancel()

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for task in tasks:
                nursery.start_soon(wait, task)


async def _request(stream: trio.SocketStream) -> Request:
    lines = Lines(REQUEST_LIMIT_BYTES)
    with trio.move_on_after(REQUEST_SECONDS):
        while True:
            data = await stream.receive_some(CHUNK_BYTES)
            if not data:
                raise BadRequest("bad_request", "the request ends in the middle of a line")
            found = lines.feed(bytes(data))
            if found:
                return Request.decode(found[0])
    raise BadRequest("bad_request", f"no whole request within {REQUEST_SECONDS:g} s")


async def _send(stream: trio.SocketStream, reply: Reply) -> None:
    with trio.move_on_after(SEND_SECONDS) as scope:
        await stream.send_all(reply.encode())
    if scope.cancelled_caught:
        raise trio.BrokenResourceError("the client does not read")


def _bind(path: Path) -> socket.socket:
    """A listening socket, mode 0600 from its first moment; what a dead daemon left is replaced."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        old = os.lstat(path)
    except FileNotFoundError:
        pass
    else:
        if not stat.S_ISSOCK(old.st_mode):
            raise Failed("socket_failed", f"{path} exists and is not a socket")
        _must_be_dead(path)
        path.unlink()
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        bound.bind(str(path))
        bound.listen(MAX_CLIENTS)
    except OSError as error:
        bound.close()
        raise Failed("socket_failed", f"{path}: {error.strerror or error}") from error
    finally:
        os.umask(mask)
    return bound


def _must_be_dead(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError as error:
            if error.errno in (errno.ECONNREFUSED, errno.ENOENT):
                return
            raise Failed("socket_failed", f"{path}: {error}") from error
    raise Refused("daemon_running", f"another daemon answers on {path}")
