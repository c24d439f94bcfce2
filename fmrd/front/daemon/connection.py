"""One connection on the control socket: who is there, what it asks, and what it is sent. None holds up the others."""

import contextlib
import os
import select
import socket
import struct
from collections.abc import Callable

import trio

from fmrd.errors import BadRequest
from fmrd.front.wire import REQUEST_LIMIT_BYTES, Lines, Progress, Reply, Request

REQUEST_SECONDS = 10.0
"""How long a client may take to send its line."""
SEND_SECONDS = 10.0
"""How long it may take to read an answer."""
ALIVE_SECONDS = 2.0
"""So often a client that waits hears that the daemon is there: a progress of no tasks."""
CHUNK_BYTES = 64 << 10
_CREDENTIALS = struct.Struct("3i")


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


def user_of(stream: trio.SocketStream) -> int:
    packed = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(packed)[1])


async def request_of(stream: trio.SocketStream) -> Request:
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


async def send(stream: trio.SocketStream, reply: Reply) -> None:
    with trio.move_on_after(SEND_SECONDS) as scope:
        await stream.send_all(reply.encode())
    if scope.cancelled_caught:
        raise trio.BrokenResourceError("the client does not read")


async def until_gone(stream: trio.SocketStream, leave: Callable[[], None]) -> None:
    """Return when the client has gone, and ``leave`` was called for it, or when it says no more: who only ends what it
    sends still waits for its answer.
    """
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while await stream.receive_some(CHUNK_BYTES):
            pass
    poll = select.poll()
    poll.register(stream.socket.fileno(), 0)
    if poll.poll(0):
        leave()
        await stream.aclose()


async def say_alive(stream: trio.SocketStream) -> None:
    """Until cancelled. A client that does not read is told nothing: the line is sent whole, or not at all."""
    line = Progress([]).encode()
    while True:
        await trio.sleep(ALIVE_SECONDS)
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(stream.socket.fileno(), line)
