"""The control socket under clients that behave badly; the verbs behind it are a stand-in."""

import errno
import json
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from fmrd.engine.events.ring import Events
from fmrd.engine.tasks import TaskList
from fmrd.engine.verbs.verbs import Verbs
from fmrd.errors import Failed, FmrdError, Refused
from fmrd.front.daemon import connection, control
from fmrd.front.daemon.connection import RequestPace
from fmrd.front.daemon.control import Control
from fmrd.front.daemon.listening import accept_all
from fmrd.front.wire import REQUEST_LIMIT_BYTES, Request
from tests.waiting import until


class StandIn:
    """Verbs that do what a test needs."""

    def __init__(self) -> None:
        self.context = SimpleNamespace(tasks=TaskList(lambda: 0.0), events=Events(lambda: 0.0))
        self.entered = trio.Event()
        self.go_on = trio.Event()
        self.done: list[str] = []
        self.working = 0

    async def print(self, *, volume: str | None = None) -> dict[str, Any]:
        return {"volumes": [], "tasks": []}

    async def stop(self, *, volume: str) -> dict[str, Any]:
        self.entered.set()
        self.working += 1
        await self.go_on.wait()
        self.done.append(volume)
        return {"volume": {"name": volume}}

    async def snapwait(self, *, volume: str) -> dict[str, Any]:
        await self.context.tasks.running()[0].finished.wait()
        return {"plex": {}}

    async def start(self, *, volume: str) -> dict[str, Any]:
        raise {
            "refused": Refused("last_plex", "no", "do not"),
            "io": OSError(5, "disk on fire"),
            "bug": ZeroDivisionError("oops"),
        }[volume]


class Turns:
    count = 0

    async def turn(self) -> None:
        self.count += 1


@pytest.fixture
def verbs() -> StandIn:
    return StandIn()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "fmrd.sock"


@asynccontextmanager
async def serving(path: Path, verbs: StandIn) -> AsyncIterator[Control]:
    made = Control(path, cast(Verbs, verbs))
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(made.run)
            yield made
            nursery.cancel_scope.cancel()


async def said(path: Path, sent: bytes, *, end: bool = False) -> list[Any]:
    """All that is answered to these bytes."""
    async with await trio.open_unix_socket(str(path)) as stream:
        await stream.send_all(sent)
        if end:
            await stream.send_eof()
        answer = b"".join([bytes(chunk) async for chunk in stream])
    alive = {"progress": {"tasks": []}}  # of a daemon that is slow on a busy machine
    return [said for line in answer.splitlines() if (said := json.loads(line)) != alive]


async def code(path: Path, sent: bytes, *, end: bool = False) -> str:
    [answer] = await said(path, sent, end=end)
    return str(answer["error"]["code"])


PRINT = Request("print").encode()


async def test_a_verb_is_answered(path: Path, verbs: StandIn) -> None:
    async with serving(path, verbs):
        assert await said(path, PRINT) == [{"result": {"volumes": [], "tasks": []}}]


@pytest.mark.parametrize(
    "sent",
    [b"\n", b"GET / HTTP/1.1\r\n", b"\xff\xfe\n", b"[]\n", b'{"verb": "apart"}\n', b'{"verb": "print", "x": 1}\n'],
)
async def test_garbage_is_a_bad_request(path: Path, verbs: StandIn, sent: bytes) -> None:
    async with serving(path, verbs):
        assert await code(path, sent) == "bad_request"
        assert await said(path, PRINT)


async def test_a_request_that_ends_in_the_middle_is_a_bad_one(path: Path, verbs: StandIn) -> None:
    async with serving(path, verbs):
        assert await code(path, b'{"verb": "pri', end=True) == "bad_request"


async def test_a_request_without_end_is_cut_off(path: Path, verbs: StandIn) -> None:
    async with serving(path, verbs):
        assert await code(path, b"x" * (REQUEST_LIMIT_BYTES + 1)) == "bad_request"


async def test_half_a_line_holds_nobody_else_up_and_ends(
    path: Path, verbs: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(path, verbs) as served, await trio.open_unix_socket(str(path)) as half:
        await half.send_all(b'{"verb": ')
        assert await said(path, PRINT)
        assert served.clients == 1
    monkeypatch.setattr(connection, "REQUEST_SECONDS", 0.01)
    async with serving(path, verbs):
        assert await code(path, b'{"verb": ') == "bad_request"


async def test_clients_are_bounded(path: Path, verbs: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MAX_CLIENTS", 2)
    monkeypatch.setattr(control, "RESERVE", 0)
    async with serving(path, verbs) as served:
        idle = [await trio.open_unix_socket(str(path)) for _ in range(2)]
        assert await code(path, PRINT) == "too_many_clients"
        for stream in idle:
            await stream.aclose()
        await until(lambda: served.clients == 0)
        assert await said(path, PRINT) == [{"result": {"volumes": [], "tasks": []}}]


class FullListener(trio.abc.Listener[trio.SocketStream]):
    """It never has a descriptor to spare."""

    tries = 0

    async def accept(self) -> trio.SocketStream:
        self.tries += 1
        raise OSError(errno.EMFILE, "Too many open files")

    async def aclose(self) -> None:
        pass


async def test_without_descriptors_clients_wait_and_the_log_says_so_once(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def nobody(stream: trio.SocketStream) -> None:
        raise AssertionError("nobody was accepted")

    listener = FullListener()
    with trio.move_on_after(60):
        await accept_all(listener, nobody)
    assert listener.tries <= 61
    assert caplog.text.count("clients have to wait") == len(caplog.records) == 1


async def asked(path: Path, verb: str, **args: Any) -> trio.SocketStream:
    stream = await trio.open_unix_socket(str(path))
    await stream.send_all(Request(verb, args).encode())
    return stream


async def test_who_only_waits_takes_nobodys_place(path: Path, verbs: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MAX_CLIENTS", 2)
    monkeypatch.setattr(control, "MAX_WAITING", 6)
    task = verbs.context.tasks.new("PLXATT", "data", "data-02", ("fast", "one region"))
    async with serving(path, verbs) as served:
        waiting = []
        for _ in range(3):
            for verb, args in (("task_monitor", {}), ("snapwait", {"volume": "data"})):
                waiting.append(await asked(path, verb, **args))
                await until(lambda: served.waiting == len(waiting))
        assert served.clients == 0 and "result" in (await said(path, PRINT))[0]
        assert await code(path, Request("snapwait", {"volume": "data"}).encode()) == "too_many_clients"
        await waiting.pop(1).aclose()  # the verb waits on, and counts no more
        await until(lambda: served.waiting == 5)
        ending = await asked(path, "snapwait", volume="data")
        await ending.send_eof()  # which still wants its answer
        await until(lambda: served.waiting == 6)
        task.end("done")
        assert b'"plex"' in b"".join([bytes(chunk) async for chunk in ending])
        for stream in (*waiting, ending):
            await stream.aclose()
        await until(lambda: served.waiting == served.clients == 0)


async def test_a_verb_that_waits_and_fails_is_told(path: Path, verbs: StandIn) -> None:
    async with serving(path, verbs) as served:
        assert await code(path, Request("task_monitor", {"ids": [7]}).encode()) == "task_missing"
        await until(lambda: served.waiting == served.clients == 0)


async def test_where_all_places_are_taken_what_helps_still_gets_in(
    path: Path, verbs: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "MAX_CLIENTS", 2)
    stop = Request("stop", {"volume": "data"}).encode()
    async with serving(path, verbs):
        working = [await asked(path, "stop", volume="data") for _ in range(2)]
        await until(lambda: verbs.working == 2)
        assert await code(path, stop) == "too_many_clients"
        assert "result" in (await said(path, PRINT))[0]
        verbs.go_on.set()
        for stream in working:
            await stream.aclose()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be the guest of a user")
async def test_root_always_gets_into_a_users_daemon(
    path: Path, verbs: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "MAX_CLIENTS", 0)
    monkeypatch.setattr(control, "RESERVE", 0)
    async with serving(path, verbs):
        assert await code(path, PRINT) == "too_many_clients"
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert [set(answer) for answer in await said(path, PRINT)] == [{"result"}]


async def test_a_flood_waits_for_its_turns(autojump_clock: trio.testing.MockClock) -> None:
    pace, began = RequestPace(10.0, burst=5), trio.current_time()
    times = []
    for _ in range(8):
        await pace.turn()
        times.append(round(trio.current_time() - began, 3))
    assert times == [0, 0, 0, 0, 0, 0.1, 0.2, 0.3]
    await trio.sleep(100)
    began = trio.current_time()
    for _ in range(6):
        await pace.turn()
    assert trio.current_time() - began == pytest.approx(0.1), "the burst again, and no more than that"


async def test_each_request_takes_a_turn_and_garbage_none(path: Path, verbs: StandIn) -> None:
    async with serving(path, verbs) as served:
        served.pace = cast(RequestPace, Turns())
        for _ in range(3):
            await said(path, Request("print", {}).encode())
        await said(path, b"garbage\n")
    assert cast(Turns, served.pace).count == 3


async def test_a_client_that_goes_away_does_not_stop_the_verb(path: Path, verbs: StandIn) -> None:
    async with serving(path, verbs):
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(Request("stop", {"volume": "data"}).encode())
            await verbs.entered.wait()
        verbs.go_on.set()
        await until(lambda: verbs.done == ["data"])
        assert await said(path, PRINT)


async def test_a_client_that_does_not_read_is_left(path: Path, verbs: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SEND_SECONDS", 0.01)

    async def much(*, volume: str | None = None) -> dict[str, Any]:
        return {"volumes": ["x" * (8 << 20)], "tasks": []}

    monkeypatch.setattr(verbs, "print", much)
    async with serving(path, verbs) as served, await trio.open_unix_socket(str(path)) as deaf:
        await deaf.send_all(PRINT)
        await until(lambda: served.clients == 1)
        await until(lambda: served.clients == 0)


@pytest.mark.parametrize(("volume", "expected", "status"), [("refused", "last_plex", 3), ("io", "io_error", 1)])
async def test_failures_are_told(path: Path, verbs: StandIn, volume: str, expected: str, status: int) -> None:
    async with serving(path, verbs):
        [answer] = await said(path, Request("start", {"volume": volume}).encode())
    assert (answer["error"]["code"], answer["exit_status"]) == (expected, status)


async def test_a_bug_in_a_verb_is_told_logged_and_survived(
    path: Path, verbs: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(path, verbs):
        with caplog.at_level(logging.ERROR):
            assert await code(path, Request("start", {"volume": "bug"}).encode()) == "failed"
        assert "ZeroDivisionError" in caplog.text
        assert await said(path, PRINT)


async def test_progress_is_streamed_until_the_tasks_have_ended(path: Path, verbs: StandIn) -> None:
    task = verbs.context.tasks.new("PLXATT", "data", "data-02", ("fast", "one region"))
    async with serving(path, verbs), await trio.open_unix_socket(str(path)) as stream:
        await stream.send_all(Request("task_monitor").encode())
        first = json.loads(await stream.receive_some())
        assert [t["state"] for t in first["progress"]["tasks"]] == ["running"]
        task.end("done")
        rest = b"".join([bytes(chunk) async for chunk in stream]).splitlines()
        assert [t["state"] for t in json.loads(rest[-1])["result"]["tasks"]] == ["done"]


async def test_a_task_that_is_unknown_cannot_be_watched(path: Path, verbs: StandIn) -> None:
    async with serving(path, verbs):
        assert await code(path, Request("task_monitor", {"ids": [7]}).encode()) == "task_missing"


async def test_the_socket_is_private_and_goes_with_the_daemon(path: Path, verbs: StandIn) -> None:
    async with serving(path, verbs):
        assert [os.stat(each).st_mode & 0o777 for each in (path, path.parent)] == [0o600, 0o700]
    assert os.listdir(path.parent) == []


async def refused(path: Path, verbs: StandIn) -> FmrdError:
    with pytest.raises((FmrdError, ExceptionGroup)) as caught:
        async with serving(path, verbs):
            pass
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, FmrdError)
    return error


async def test_a_socket_that_a_dead_daemon_left_is_replaced(path: Path, verbs: StandIn) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serving(path, verbs):
        assert await said(path, PRINT)


async def test_a_socket_that_answers_is_another_daemons(path: Path, verbs: StandIn) -> None:
    async with serving(path, verbs):
        assert (await refused(path, verbs)).code == "daemon_running"
        assert await said(path, PRINT)


async def test_a_file_in_the_place_of_the_socket_is_left_alone(tmp_path: Path, verbs: StandIn) -> None:
    path = trio.Path(tmp_path / "fmrd.sock")
    await path.write_text("precious")
    assert (await refused(Path(path), verbs)).code == "socket_failed"
    assert await path.read_text() == "precious"


async def test_a_path_that_no_socket_can_have_is_a_clear_error(tmp_path: Path, verbs: StandIn) -> None:
    error = await refused(tmp_path / ("long" * 40), verbs)
    assert isinstance(error, Failed) and error.code == "socket_failed" and "too long" in error.message
    assert os.listdir(tmp_path) == []
