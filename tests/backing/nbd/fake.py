"""A server as a test wants it: what it says in the negotiation is right, and then a script has the connection."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fmrd.backing.nbd.speaking import abi

SIZE = 1 << 20
FLAGS = abi.HAS_FLAGS | abi.SEND_FLUSH | abi.SEND_FUA | abi.SEND_WRITE_ZEROES
CONTEXT = 77

Script = Callable[[socket.socket], None]


def reply(option: int, kind: int, body: bytes = b"") -> bytes:
    return abi.OPTION_REPLY.pack(abi.OPTION_REPLY_MAGIC, option, kind, len(body)) + body


GREETING = abi.GREETING.pack(abi.NBD_MAGIC, abi.OPTION_MAGIC, abi.FIXED_NEWSTYLE | abi.NO_ZEROES)
TRANSCRIPT = [
    GREETING,
    reply(abi.STRUCTURED_REPLY, abi.ACK),
    reply(abi.SET_META_CONTEXT, abi.META_CONTEXT, struct.pack(">I", CONTEXT) + b"base:allocation")
    + reply(abi.SET_META_CONTEXT, abi.ACK),
    reply(abi.GO, abi.INFO, abi.EXPORT.pack(abi.INFO_EXPORT, SIZE, FLAGS))
    + reply(abi.GO, abi.INFO, abi.BLOCK_SIZE.pack(abi.INFO_BLOCK_SIZE, 1, 4096, 1 << 20))
    + reply(abi.GO, abi.ACK),
]
"""What a server says to nothing, and to each of the options in turn."""


def chunk(kind: int, cookie: int, body: bytes = b"", *, done: bool = True) -> bytes:
    return abi.CHUNK.pack(abi.CHUNK_MAGIC, abi.DONE if done else 0, kind, cookie, len(body)) + body


def data(cookie: int, offset: int, content: bytes, *, done: bool = True) -> bytes:
    return chunk(abi.OFFSET_DATA, cookie, struct.pack(">Q", offset) + content, done=done)


def simple(cookie: int, error: int = 0) -> bytes:
    return abi.SIMPLE.pack(abi.SIMPLE_MAGIC, error, cookie)


def receive(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        more = connection.recv(count - len(found))
        if not more:
            raise EOFError
        found += more
    return found


def request(connection: socket.socket) -> tuple[int, int, int, int]:
    """(command, cookie, offset, length) of the next one; what a write carries is taken, too."""
    _, _, command, cookie, offset, length = abi.REQUEST.unpack(receive(connection, abi.REQUEST.size))
    if command == abi.WRITE:
        receive(connection, length)
    return command, cookie, offset, length


def negotiate(connection: socket.socket) -> None:
    connection.sendall(TRANSCRIPT[0])
    receive(connection, 4)
    for said in TRANSCRIPT[1:]:
        _, _, length = abi.OPTION.unpack(receive(connection, abi.OPTION.size))
        receive(connection, length)
        connection.sendall(said)


@contextmanager
def fake(where: Path, *scripts: Script, negotiates: bool = True) -> Iterator[str]:
    """Yield its URI. Each client in turn has a script; what a script does not expect to be over ends it quietly."""
    path = where / "fake.sock"
    problems: list[BaseException] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            for script in scripts:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    try:
                        if negotiates:
                            negotiate(connection)
                        script(connection)
                    except (OSError, EOFError):
                        pass
                    except BaseException as error:
                        problems.append(error)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"nbd+unix:///?socket={path}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(30)
            assert not thread.is_alive()
    assert not problems, problems
