"""Who scrapes asks here, by HTTP: GET /metrics, one request a connection. Nobody is trusted, and nothing is changed.

A scraper costs a bounded line of memory and, once a second for all of them, the writing of the text (text.py). One that
says nothing, or does not read, is left alone with a task of its own until its time is up.
"""

import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from fmrd.errors import BadRequest, Failed, FmrdError
from fmrd.front.daemon.listening import accept_all, bind

log = logging.getLogger(__name__)

HEAD_BYTES = 8192
"""The longest head of a request."""
MOST_CLIENTS = 32
REQUEST_SECONDS = 10.0
SEND_SECONDS = 30.0
AGAIN_SECONDS = 5.0
FRESH_SECONDS = 1.0
"""So long an answer is given again: a flood of scrapers costs no more than one."""
DEFAULT_PORT = 9723
PATH = "/metrics"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
"""What who wants that accepts."""

Write = Callable[[str], Awaitable[tuple[bytes, str]]]
"""Given the header Accept, this returns the text and its content type."""


@dataclass(frozen=True)
class Where:
    """Where it listens: at a unix socket, or at a port of an address ('' is every one)."""

    path: Path | None = None
    host: str = ""
    port: int = 0

    @staticmethod
    def parse(text: str) -> "Where":
        """Read ADDRESS:PORT, [ADDRESS]:PORT or unix:PATH; BadRequest('bad_request')."""
        if text.startswith("unix:"):
            path = Path(text.removeprefix("unix:"))
            if path.is_absolute():
                return Where(path=path)
        host, colon, port = text.rpartition(":")
        if colon and port.isdecimal() and port.isascii() and int(port) < 1 << 16 and "/" not in host:
            return Where(host=host.removeprefix("[").removesuffix("]"), port=int(port))
        raise BadRequest(
            "bad_request", f"--metrics {text!r} is neither ADDRESS:PORT nor unix:PATH", "such as 127.0.0.1:9723"
        )

    def text(self) -> str:
        """Return what ``parse`` makes this of."""
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def listen(self) -> list[trio.SocketListener]:
        """Return listeners that are bound; Failed('metrics_failed')."""
        if self.path is not None:
            try:
                return [trio.SocketListener(trio.socket.from_stdlib_socket(bind(self.path, MOST_CLIENTS)))]
            except FmrdError as error:
                raise Failed("metrics_failed", error.message) from error
        try:
            return await trio.open_tcp_listeners(self.port, host=self.host or None, backlog=MOST_CLIENTS)
        except OSError as error:
            place = f"{self.host or '*'}:{self.port}"
            raise Failed("metrics_failed", f"{place}: {error.strerror or error}", "another --metrics") from error


class Server:
    """A server answers with what ``write`` gives."""

    def __init__(self, where: Where, write: Write) -> None:
        self._where = where
        self._write = write
        self._clients = 0
        self._told_started = False
        """Though it could not listen."""
        self._one_at_a_time = trio.Lock()
        self._last: dict[bool, tuple[float, bytes, str]] = {}
        """By whether it is OpenMetrics: when it was written, and what."""

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; report started when it listens, or that failed once. It is tried again and again: a
        process that was left behind while a disk hangs keeps its port, and volumes are served meanwhile.
        """
        async with contextlib.AsyncExitStack() as open_ones, trio.open_nursery() as nursery:
            for listener in await self._listeners(task_status):
                await open_ones.enter_async_context(listener)
                log.info("metrics on %s", _name_of(listener))
                nursery.start_soon(partial(accept_all, listener, self._client))
            try:
                if not self._told_started:
                    task_status.started()
                await trio.sleep_forever()
            finally:
                if self._where.path is not None:
                    self._where.path.unlink(missing_ok=True)

    async def _listeners(self, task_status: trio.TaskStatus[None]) -> list[trio.SocketListener]:
        while True:
            try:
                return await self._where.listen()
            except Failed as error:
                if not self._told_started:
                    log.error("no metrics yet, trying again every %g s: %s", AGAIN_SECONDS, error)
                    task_status.started()
                self._told_started = True
                await trio.sleep(AGAIN_SECONDS)

    async def _client(self, stream: trio.SocketStream) -> None:
        self._clients += 1
        try:
            async with stream:
                if self._clients <= MOST_CLIENTS:
                    await self._converse(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("a scraper went away before it was answered")
        finally:
            self._clients -= 1

    async def _converse(self, stream: trio.SocketStream) -> None:
        head = await _head(stream)
        if head is None:
            return
        method, path, accept = head
        if method not in ("GET", "HEAD"):
            answer = _answer("405 Method Not Allowed", b"only GET\n")
        elif path != PATH:
            answer = _answer("404 Not Found", b"see /metrics\n")
        else:
            try:
                body, kind = await self._text(accept)
            except Exception:  # a bug here ends no daemon
                log.exception("metrics could not be written")
                body, kind = b"the log of fmrd says more\n", ""
            answer = _answer("200 OK", body, kind) if kind else _answer("500 Internal Server Error", body)
            if method == "HEAD":
                answer = answer.removesuffix(body)
        with trio.move_on_after(SEND_SECONDS):
            await stream.send_all(answer)

    async def _text(self, accept: str) -> tuple[bytes, str]:
        modern = OPENMETRICS.partition(";")[0] in accept
        async with self._one_at_a_time:
            written, body, kind = self._last.get(modern, (-FRESH_SECONDS, b"", ""))
            if not body or trio.current_time() - written >= FRESH_SECONDS:
                body, kind = await self._write(OPENMETRICS if modern else "")
                self._last[modern] = trio.current_time(), body, kind
            return body, kind


def _name_of(listener: trio.SocketListener) -> str:
    name = listener.socket.getsockname()
    if listener.socket.family == socket.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http://{host}:{name[1]}{PATH}"


async def _head(stream: trio.SocketStream) -> tuple[str, str, str] | None:
    """Return method, path and the header Accept of a request; None where it is none, too long, or comes too slowly."""
    data = bytearray()
    with trio.move_on_after(REQUEST_SECONDS):
        while b"\r\n\r\n" not in data and b"\n\n" not in data:
            more = await stream.receive_some(HEAD_BYTES)
            data += more
            if not more or len(data) > HEAD_BYTES:
                return None
        first, *headers = data.decode("latin-1").splitlines()
        words = first.split()
        if len(words) != 3 or not words[2].startswith("HTTP/"):
            return None
        accepts = [value for name, _, value in (each.partition(":") for each in headers) if name.lower() == "accept"]
        return words[0], words[1].partition("?")[0], ",".join(accepts)
    return None


def _answer(status: str, body: bytes, kind: str = "text/plain; charset=utf-8") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode("latin-1") + body
