"""A session from its opening to its end: nothing is sent twice, everything that was asked ends once, and how it ended
is told: by the server's word, or by nobody's.
"""

import errno
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from fmrd.backing.nbd.exports import Exports
from fmrd.backing.nbd.plex import NbdPlex
from fmrd.backing.nbd.session import Session
from fmrd.backing.nbd.speaking import abi
from fmrd.errors import Answered, Failed
from tests.backing.nbd import fake as server
from tests.backing.nbd.fake import SIZE, fake

T = TypeVar("T")
SHORT = 0.4
"""Patience of a session that is to run out of it."""


async def on_a_thread(call: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(call)


async def opened(uri: str, patience_seconds: float = 30.0) -> NbdPlex:
    exports = Exports(patience_seconds)
    return await on_a_thread(lambda: exports.open_plex(uri, 0))


class Ends:
    """Who is told of the ends of calls."""

    def __init__(self, count: int = 1) -> None:
        self.errors: list[Exception | None] = []
        self._count = count
        self._all = trio.Event()

    def __call__(self, error: Exception | None) -> None:
        self.errors.append(error)
        if len(self.errors) == self._count:
            self._all.set()

    async def all(self) -> list[Exception | None]:
        with trio.fail_after(30):
            await self._all.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert len(self.errors) == self._count, "each is told once"
        return self.errors


def unanswered(errors: list[Exception | None]) -> bool:
    return all(isinstance(error, OSError) and not isinstance(error, Answered) for error in errors)


async def test_a_server_that_ends_the_connection_answers_nothing(tmp_path: Path) -> None:
    with fake(tmp_path, server.request) as uri:
        plex = await opened(uri)
        ends = Ends(3)
        plex.begin_pwrite(0, b"x" * 100, ends)
        plex.begin_pread_into(0, memoryview(bytearray(10)), ends)
        plex.begin_fdatasync(ends)
        assert unanswered(await ends.all())
        assert "fake.sock" in str(ends.errors[0]) and "session" in str(ends.errors[0])
        later = Ends()
        plex.begin_pwrite(0, b"x", later)
        assert unanswered(await later.all())
        await on_a_thread(plex.close)


async def test_of_several_that_go_out_together_each_is_told_where_the_connection_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that were not handed to the socket any more, as when TLS is over in the middle."""
    with fake(tmp_path, lambda connection: connection.recv(1) and None) as uri:
        plex = await opened(uri)
        assert isinstance(plex.session, Session)
        channel, pushed = plex.session._channel, [0]
        real = channel.push

        def push(*parts: bytes | bytearray | memoryview) -> None:
            pushed[0] += 1
            if pushed[0] == 2:
                raise BrokenPipeError(errno.EPIPE, "it is over")
            real(*parts)

        monkeypatch.setattr(channel, "push", push)
        ends = Ends()
        plex.begin_pwrites([(4096 * number, b"x" * 100) for number in range(4)], ends)
        assert unanswered(await ends.all()) and pushed == [2]
        await on_a_thread(plex.close)


async def test_who_waits_on_a_thread_is_told_as_well(tmp_path: Path) -> None:
    with fake(tmp_path, server.request) as uri:
        plex = await opened(uri)
        with pytest.raises(OSError, match="session") as caught:
            await on_a_thread(lambda: plex.pwrite(0, b"x" * 100))
        assert not isinstance(caught.value, Answered)
        await on_a_thread(plex.close)


async def test_an_answer_ends_a_call_and_the_session_goes_on(tmp_path: Path) -> None:
    def script(connection: socket.socket) -> None:
        _, cookie, _, _ = server.request(connection)
        connection.sendall(server.simple(cookie, 28))
        _, cookie, offset, length = server.request(connection)
        connection.sendall(server.data(cookie, offset, b"r" * length))
        connection.recv(100)

    with fake(tmp_path, script) as uri:
        plex = await opened(uri)
        ends = Ends()
        plex.begin_pwrite(0, b"x" * 100, ends)
        [error] = await ends.all()
        assert isinstance(error, Answered) and error.errno == errno.ENOSPC
        assert await on_a_thread(lambda: plex.pread(5, 7)) == b"r" * 7
        await on_a_thread(plex.close)


async def test_a_write_of_several_requests_is_over_only_where_all_of_them_are(tmp_path: Path) -> None:
    """One is refused, and then the connection breaks: the others may be carried out yet."""

    def script(connection: socket.socket) -> None:
        cookies = [server.request(connection)[1] for _ in range(3)]
        connection.sendall(server.simple(cookies[0], 28))

    for on_a_worker in (False, True):
        where = tmp_path / str(on_a_worker)
        where.mkdir()
        with fake(where, script) as uri:
            plex = await opened(uri)
            plex.session.export = replace(plex.session.export, most=4096)
            if on_a_worker:
                with pytest.raises(OSError, match="session") as caught:
                    await on_a_thread(partial(plex.pwrite, 0, b"x" * 12288))
                assert not isinstance(caught.value, Answered)
            else:
                ends = Ends()
                plex.begin_pwrite(0, b"x" * 12288, ends)
                assert unanswered(await ends.all())
            await on_a_thread(plex.close)


@pytest.mark.parametrize("garbage", [b"x" * 40, server.simple(1 << 60), server.chunk(abi.NONE, 1, b"data")])
async def test_garbage_ends_the_session_and_all_that_is_under_way(tmp_path: Path, garbage: bytes) -> None:
    def script(connection: socket.socket) -> None:
        server.request(connection)
        server.request(connection)
        connection.sendall(garbage)
        assert not connection.recv(1), "it says no more"

    with fake(tmp_path, script) as uri:
        plex = await opened(uri)
        ends = Ends(2)
        plex.begin_pwrite(0, b"x" * 100, ends)
        plex.begin_fdatasync(ends)
        assert unanswered(await ends.all()) and "not how an NBD server speaks" in str(ends.errors[0])
        await on_a_thread(plex.close)


async def test_a_reply_that_is_cut_is_no_answer(tmp_path: Path) -> None:
    def script(connection: socket.socket) -> None:
        _, cookie, offset, length = server.request(connection)
        connection.sendall(server.data(cookie, offset, b"r" * length)[:-1])

    with fake(tmp_path, script) as uri:
        plex = await opened(uri)
        ends = Ends()
        plex.begin_pread_into(0, memoryview(bytearray(50_000)), ends)
        assert unanswered(await ends.all())
        await on_a_thread(plex.close)


async def test_what_was_given_up_is_never_sent_again(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def silent(connection: socket.socket) -> None:
        while True:
            command, _, offset, _ = server.request(connection)
            seen.append((command, offset))

    def second(connection: socket.socket) -> None:
        command, cookie, offset, _ = server.request(connection)
        seen.append((command, offset))
        connection.sendall(server.simple(cookie))
        connection.recv(100)

    with fake(tmp_path, silent, second) as uri:
        plex = await opened(uri)
        ends = Ends(2)
        plex.begin_pwrite(4096, b"A" * 100, ends)
        plex.begin_pwrite(8192, b"A" * 100, ends)
        with trio.fail_after(30):
            while len(seen) < 2:
                await trio.lowlevel.checkpoint()
        plex.hang_up()
        assert not ends.errors, "not in that step"
        assert unanswered(await ends.all())
        plex.hang_up()
        await on_a_thread(plex.close)
        again = await opened(uri)
        late = Ends()
        again.begin_pwrite(0, b"B", late)
        assert await late.all() == [None]
        await on_a_thread(again.close)
    assert seen == [(abi.WRITE, 4096), (abi.WRITE, 8192), (abi.WRITE, 0)]


async def test_a_server_that_does_not_answer_ends_the_session_in_time(tmp_path: Path) -> None:
    with fake(tmp_path, lambda connection: connection.recv(1 << 20) and connection.recv(1) and None) as uri:
        plex = await opened(uri, SHORT)
        ends = Ends()
        plex.begin_pwrite(0, b"x" * 100, ends)
        [error] = await ends.all()
        assert unanswered([error]) and isinstance(error, OSError) and error.errno == errno.ETIMEDOUT
        await on_a_thread(plex.close)


async def test_a_session_that_nobody_uses_asks_whether_somebody_is_there(tmp_path: Path) -> None:
    asked: list[tuple[int, int]] = []
    twice = threading.Event()

    def script(connection: socket.socket) -> None:
        while True:
            command, cookie, offset, length = server.request(connection)
            if command == abi.DISCONNECT:
                return
            asked.append((command, length))
            connection.sendall(server.data(cookie, offset, bytes(length)))
            if len(asked) == 2:
                twice.set()

    with fake(tmp_path, script) as uri:
        plex = await opened(uri, SHORT)
        assert await on_a_thread(lambda: twice.wait(30))
        assert set(asked) == {(abi.READ, 1)} and plex.session.lost is None
        await on_a_thread(plex.close)


async def test_what_a_full_socket_did_not_take_is_sent_when_it_does(tmp_path: Path) -> None:
    goes_on = threading.Event()
    content = os.urandom(1 << 20)
    taken: list[bytes] = []

    def script(connection: socket.socket) -> None:
        assert goes_on.wait(30)
        for _ in range(8):
            _, _, _, cookie, _, length = abi.REQUEST.unpack(server.receive(connection, abi.REQUEST.size))
            taken.append(server.receive(connection, length))
            connection.sendall(server.simple(cookie))
        connection.recv(100)

    with fake(tmp_path, script) as uri:
        plex = await opened(uri)
        ends = Ends(8)
        for _ in range(8):
            plex.begin_pwrite(0, content, ends)
        await trio.testing.wait_all_tasks_blocked()
        assert not ends.errors
        goes_on.set()
        assert await ends.all() == [None] * 8 and taken == [content] * 8
        await on_a_thread(plex.close)


async def test_an_answer_to_what_was_not_sent_yet_is_none(tmp_path: Path) -> None:
    told = threading.Event()

    def script(connection: socket.socket) -> None:
        _, _, _, cookie, _, _ = abi.REQUEST.unpack(server.receive(connection, abi.REQUEST.size))
        connection.sendall(server.simple(cookie))
        assert told.wait(30), "not before that the rest is taken"

    with fake(tmp_path, script) as uri:
        plex = await opened(uri)
        ends = Ends()
        plex.begin_pwrite(0, bytes(SIZE), ends)
        assert unanswered(await ends.all()) and "was not sent yet" in str(ends.errors[0])
        told.set()
        await on_a_thread(plex.close)


async def test_a_request_is_no_longer_than_the_server_takes(tmp_path: Path) -> None:
    lengths: list[int] = []

    def script(connection: socket.socket) -> None:
        while True:
            command, cookie, _, length = server.request(connection)
            if command == abi.DISCONNECT:
                return
            lengths.append(length)
            connection.sendall(server.simple(cookie))

    with fake(tmp_path, script) as uri:
        plex = await opened(uri)
        ends = Ends()
        plex.begin_pwrite(0, bytes(2 * SIZE + 5), ends)
        assert await ends.all() == [None] and lengths == [SIZE, SIZE, 5]
        await on_a_thread(plex.close)


@pytest.mark.parametrize("there", [True, False], ids=["on trio's thread", "on a thread of its own"])
async def test_its_requests_are_begun_wherever_it_was_made_for_trio(tmp_path: Path, there: bool) -> None:
    """The daemon makes its host on a worker thread."""
    with fake(tmp_path, lambda connection: connection.recv(1) and None) as uri:
        exports = Exports() if there else await on_a_thread(Exports)
        plex = await on_a_thread(partial(exports.open_plex, uri, 0))
        assert plex.begins
        await on_a_thread(plex.close)


def test_without_trio_nothing_is_begun(tmp_path: Path) -> None:
    with fake(tmp_path, lambda connection: connection.recv(1) and None) as uri:
        plex = Exports().open_plex(uri, 0)
        assert not plex.begins
        plex.close()


async def test_the_end_of_trio_ends_it(tmp_path: Path) -> None:
    with fake(tmp_path, server.request) as uri:

        def run() -> NbdPlex:
            async def main() -> NbdPlex:
                return await opened(uri)

            return trio.run(main)

        plex = await on_a_thread(run)
        with pytest.raises(OSError, match="fmrd ends"):
            await on_a_thread(lambda: plex.pread(0, 1))


async def test_what_is_lost_is_opened_anew_and_what_is_used_is_not_opened_twice(tmp_path: Path) -> None:
    def quiet(connection: socket.socket) -> None:
        connection.recv(1)

    with fake(tmp_path, quiet, quiet) as uri:
        exports = Exports()
        plex = await on_a_thread(lambda: exports.open_plex(uri, 0))
        for name in (uri, f"{uri}&x-fence=single"):
            with pytest.raises(Failed, match="plex_busy"):
                await on_a_thread(partial(exports.open_plex, name, 0))
        plex.hang_up()
        await on_a_thread(plex.close)
        again = await on_a_thread(lambda: exports.open_plex(uri, 0))
        assert again.session is not plex.session
        await on_a_thread(again.close)
