"""Over TCP: what the kernel is told of a session, that giving up is a reset, and two names of one server."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from fmrd.backing.nbd.exports import Exports
from fmrd.errors import Failed
from tests.backing.nbd import fake as server
from tests.e2e.harness import needs_program
from tests.nbd_servers import Server, free_port, nbdkit_tcp, serving

SIZE = 4 << 20


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Server]:
    with serving(nbdkit_tcp(tmp_path, SIZE, free_port())) as made:
        yield made


@needs_program("nbdkit")
async def test_a_plex_over_tcp(far: Server) -> None:
    exports = Exports()
    plex = await trio.to_thread.run_sync(exports.open_plex, far.uri, 0)
    await trio.to_thread.run_sync(plex.pwrite, 4095, b"over the line" * 10_000)
    assert await trio.to_thread.run_sync(plex.pread, 4095, 130_000) == b"over the line" * 10_000
    await trio.to_thread.run_sync(plex.close)


def test_the_kernel_is_told_how_long_it_may_be_silent(far: Server) -> None:
    plex = Exports().open_plex(far.uri, 0)
    plex.patience_seconds = 12.0
    connection = plex.session._channel.socket
    tcp = socket.IPPROTO_TCP
    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert connection.getsockopt(tcp, socket.TCP_USER_TIMEOUT) == 6000
    idle, pause, count = (
        connection.getsockopt(tcp, option) for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    )
    assert idle + pause * count <= 6
    plex.close()


async def test_giving_up_is_a_reset(tmp_path: Path) -> None:
    """The peer does not take it for an end in order, and what this kernel still had is dropped."""
    seen: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                server.negotiate(connection)
                server.request(connection)
                asked.set()
                try:
                    while connection.recv(1 << 16):
                        pass
                    seen.append("an end in order")
                except ConnectionResetError:
                    seen.append("a reset")

        asked = threading.Event()
        thread = threading.Thread(target=serve)
        thread.start()
        port = listening.getsockname()[1]
        plex = await trio.to_thread.run_sync(Exports().open_plex, f"nbd://127.0.0.1:{port}/", 0)
        errors: list[Exception | None] = []
        over = trio.Event()

        def ended(error: Exception | None) -> None:
            errors.append(error)
            over.set()

        plex.begin_pwrite(0, b"x" * 4096, ended)
        await trio.to_thread.run_sync(asked.wait, 30)
        plex.hang_up()
        await over.wait()
        await trio.to_thread.run_sync(thread.join, 30)
        await trio.to_thread.run_sync(plex.close)
    assert seen == ["a reset"] and errors[0] is not None


def test_nobody_listens_there() -> None:
    with pytest.raises(Failed, match="Connection refused"):
        Exports().open_plex(f"nbd://127.0.0.1:{free_port()}/", 0)


@needs_program("nbdkit")
async def test_one_export_under_two_names_is_not_two_plexes(far: Server) -> None:
    exports, other_name = Exports(), far.uri.replace("127.0.0.1", "localhost")
    plex = await trio.to_thread.run_sync(exports.open_plex, far.uri, 0)
    with pytest.raises(Failed, match=r"plex_busy.*are one export"):
        await trio.to_thread.run_sync(exports.open_plex, other_name, 0)
    await trio.to_thread.run_sync(plex.close)
    other = await trio.to_thread.run_sync(exports.open_plex, other_name, 0)
    await trio.to_thread.run_sync(other.close)
