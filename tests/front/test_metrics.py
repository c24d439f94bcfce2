"""Metrics: what is told, that Prometheus understands it, and that no scraper holds anything up."""

import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

import pytest
import trio
from prometheus_client.openmetrics.parser import text_string_to_metric_families as modern
from prometheus_client.parser import text_string_to_metric_families as plain

from fmrd.core.states import PlexState
from fmrd.engine.events.ring import KINDS
from fmrd.errors import BadRequest, Failed
from fmrd.front.daemon.listening import bind
from fmrd.front.metrics import server, textfile
from fmrd.front.metrics.metrics import Metrics
from fmrd.front.metrics.server import OPENMETRICS, Server, Where
from fmrd.front.metrics.text import PIECE_SAMPLES, written
from fmrd.front.metrics.textfile import TextFile
from tests.engine.rig import REGION, Rig, daemon
from tests.waiting import until

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with daemon(tmp_path) as running:
        yield running


async def samples(rig: Rig) -> Samples:
    """Every sample, by its name and labels; OpenMetrics is parsed strictly."""
    text, kind = await written(rig.registry, OPENMETRICS)
    assert kind.startswith("application/openmetrics-text")
    found = [sample for family in modern(text.decode()) for sample in family.samples]
    named = {(sample.name, tuple(sorted(sample.labels.items()))): float(sample.value) for sample in found}
    assert len(named) == len(found), "each once"
    return named


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


async def test_what_a_volume_and_its_plexes_are(rig: Rig) -> None:
    await rig.make()
    await rig.det("b")
    await rig.write_regions(1, 2, 3)
    found = await samples(rig)
    assert value(found, "fmrd_volume_started", volume="data") == 1
    assert value(found, "fmrd_volume_size_bytes", volume="data") == 64 * REGION
    assert value(found, "fmrd_volume_plexes", volume="data") == 2
    assert value(found, "fmrd_volume_plexes_in_sync", volume="data") == 1
    assert value(found, "fmrd_drl_dirty_extents", volume="data") == 1
    of_b = {"volume": "data", "plex": "data-02"}
    assert value(found, "fmrd_plex_missing_bytes", **of_b) == 3 * REGION
    states = {state: value(found, "fmrd_plex_state", state=state, **of_b) for state in PlexState}
    assert [state for state, here in states.items() if here] == [PlexState.STALE]
    writes = {"volume": "data", "plex": "data-01", "operation": "write"}
    assert value(found, "fmrd_plex_operations_total", **writes) == 3
    assert value(found, "fmrd_plex_operation_bytes_total", **writes) == 3 * 512
    assert value(found, "fmrd_plex_operation_seconds_count", **writes) == 3
    assert value(found, "fmrd_plex_operation_seconds_sum", **writes) > 0
    assert value(found, "fmrd_plex_operation_seconds_bucket", le="+Inf", **writes) == 3


async def test_errors_slow_plexes_and_copies(rig: Rig) -> None:
    await rig.make("abc")
    with rig.host.failing(rig.path("b"), "pwrite"):
        await rig.write_regions(1)
    await rig.service.releaser.wait(rig.plex("b"))
    rig.service.running.home.lanes_of(rig.plex("c").uuid, "data-03").slow = "a write takes 1 s there"
    found = await samples(rig)
    assert value(found, "fmrd_plex_errors_total", volume="data", plex="data-02") == 1
    assert value(found, "fmrd_plex_state", volume="data", plex="data-02", state="IOFAIL") == 1
    assert value(found, "fmrd_plex_slow", volume="data", plex="data-03") == 1
    with rig.host.hanging(rig.path("b"), "copy_from") as hang:
        await rig.att("b", full=True)
        of_copy = {"volume": "data", "plex": "data-02", "type": "PLXATT"}
        found = await samples(rig)
        assert value(found, "fmrd_task_total_bytes", **of_copy) == 64 * REGION
        assert value(found, "fmrd_task_done_bytes", **of_copy) == 0
        assert value(found, "fmrd_task_paused", **of_copy) == 0
        hang.let_go()
        await rig.end_all()
    assert not [name for name, _ in await samples(rig) if name == "fmrd_task_done_bytes"], "it runs no more"


async def test_volumes_that_are_not_started(rig: Rig) -> None:
    await rig.make()
    await rig.stop()
    found = await samples(rig)
    assert value(found, "fmrd_volume_started", volume="data") == 0
    assert not [name for name, _ in found if name in ("fmrd_volume_failed", "fmrd_plex_state")]
    rig.registry.units["data"].failure = Failed("home_failed", "no")
    assert value(await samples(rig), "fmrd_volume_failed", volume="data", code="home_failed") == 1


async def test_how_much_a_snapshot_differs(rig: Rig) -> None:
    await rig.make("ab")
    await rig.verbs.snapshot(volumes=["data"], instant=str(rig.path("i")), name="old")
    await rig.write_regions(1, 2)
    assert value(await samples(rig), "fmrd_snapshot_differing_bytes", volume="data", snapshot="old") == 2 * REGION


async def test_events_are_counted_by_kind_and_runs_of_hooks_by_their_ends(rig: Rig) -> None:
    assert value(await samples(rig), "fmrd_events_total", kind="plex_failed") == 0, "from 0 on"
    await rig.make()
    with rig.host.failing(rig.path("b"), "pwrite"):
        await rig.write_regions(1)
    await rig.service.releaser.wait(rig.plex("b"))
    rig.registry.context.events.counts.runs["mail", "killed"] += 2
    found = await samples(rig)
    assert value(found, "fmrd_events_total", kind="plex_failed") == 1
    assert value(found, "fmrd_hook_runs_total", hook="mail", outcome="killed") == 2
    assert {dict(labels)["kind"] for name, labels in found if name == "fmrd_events_total"} == set(KINDS)


async def test_both_texts_tell_the_same(rig: Rig) -> None:
    await rig.make("abc")
    await rig.write_regions(1)
    text, kind = await written(rig.registry, "")
    assert kind.startswith("text/plain; version=0.0.4")
    names = {sample.name for family in plain(text.decode()) for sample in family.samples}
    assert names == {name for name, _ in await samples(rig)}
    body = text.decode().splitlines()
    assert len(body) > 3 * PIECE_SAMPLES, "it was written in pieces"
    heads = [line for line in body if line.startswith("# HELP")]
    assert len(heads) == len(set(heads)), "and each family says once what it is"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
async def test_promtool_finds_nothing_wrong_with_them(rig: Rig) -> None:
    await rig.make("ab")
    await rig.write_regions(1)
    text, _ = await written(rig.registry, "")
    done = await trio.run_process(
        ["promtool", "check", "metrics"], stdin=text, capture_stdout=True, capture_stderr=True
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


# The server


@asynccontextmanager
async def serving(
    write: Callable[[str], Awaitable[tuple[bytes, str]]],
) -> AsyncIterator[Callable[[], Awaitable[trio.SocketStream]]]:
    """Opens a connection to a server that gives what ``write`` does."""
    where = Where(host="127.0.0.1", port=0)
    [listener] = await where.listen()
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    async with trio.open_nursery() as nursery:
        await nursery.start(Server(Where(host="127.0.0.1", port=port), write).run)
        yield partial(trio.open_tcp_stream, "127.0.0.1", port)
        nursery.cancel_scope.cancel()


class Text:
    """What is given, and how often it was asked for."""

    def __init__(self, body: bytes = b"fmrd 1\n") -> None:
        self.asked: list[str] = []
        self.body = body

    async def __call__(self, accept: str) -> tuple[bytes, str]:
        self.asked.append(accept)
        return self.body, accept or "text/plain"


async def answer(connect: Callable[[], Awaitable[trio.SocketStream]], request: bytes) -> bytes:
    with trio.fail_after(30):
        stream = await connect()
        async with stream:
            await stream.send_all(request)
            return b"".join([bytes(part) async for part in stream])


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /metrics HTTP/1.1", b"200 OK"),
        (b"GET /metrics?name[]=a HTTP/1.0", b"200 OK"),
        (b"GET / HTTP/1.1", b"404 Not Found"),
        (b"GET /metrics/../etc/passwd HTTP/1.1", b"404 Not Found"),
        (b"POST /metrics HTTP/1.1", b"405 Method Not Allowed"),
    ],
)
async def test_requests_and_answers(request_line: bytes, status: bytes) -> None:
    async with serving(Text()) as connect:
        said = await answer(connect, request_line + b"\r\nHost: here\r\n\r\n")
        head, _, body = said.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 " + status)
        assert f"Content-Length: {len(body)}".encode() in head
        assert (body == b"fmrd 1\n") == (status == b"200 OK")


async def test_a_bug_in_it_is_told_and_ends_nothing(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    text = Text()

    async def write(accept: str) -> tuple[bytes, str]:
        if not text.asked:
            text.asked.append(accept)
            raise KeyError("bug")
        return await text(accept)

    async with serving(write) as connect:
        assert b"500 Internal" in await answer(connect, b"GET /metrics HTTP/1.1\r\n\r\n")
        assert b"fmrd 1" in await answer(connect, b"GET /metrics HTTP/1.1\r\n\r\n")
    assert [record.levelname for record in caplog.records if record.levelname != "INFO"] == ["ERROR"]


async def test_head_has_no_body() -> None:
    async with serving(Text()) as connect:
        said = await answer(connect, b"HEAD /metrics HTTP/1.1\r\n\r\n")
        assert b"Content-Length: 7" in said and said.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\r\n\r\n", b"GET /metrics\r\n\r\n", b"x" * 9000, b"GET /metrics HTTP/1.1\r\n"]
)
async def test_garbage_is_not_answered(garbage: bytes) -> None:
    async with serving(Text()) as connect:
        stream = await connect()
        async with stream:
            await stream.send_all(garbage)
            await stream.send_eof()
            with contextlib.suppress(trio.BrokenResourceError):  # closed while some of it was still unread
                assert await stream.receive_some(100) == b""
        assert b"200 OK" in await answer(connect, b"GET /metrics HTTP/1.1\r\n\r\n"), "others are"


async def test_a_head_without_an_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 1000.0)
    async with serving(Text()) as connect:
        stream = await connect()
        with trio.fail_after(30), contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(b"GET /metrics HTTP/1.1\r\n" + b"X-Y: z\r\n" * 2000)
            assert await stream.receive_some(100) == b""
        await stream.aclose()


async def test_who_wants_openmetrics_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    text = Text()
    async with serving(text) as connect:
        accept = b"Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n\r\n"
        assert b"openmetrics" in await answer(connect, b"GET /metrics HTTP/1.1\r\n" + accept)
        assert b"openmetrics" not in await answer(connect, b"GET /metrics HTTP/1.1\r\n\r\n")
    assert text.asked == [OPENMETRICS, ""]


async def test_a_flood_costs_no_more_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FRESH_SECONDS", 1000.0)
    text = Text()
    async with serving(text) as connect:
        for _ in range(20):
            assert b"200 OK" in await answer(connect, b"GET /metrics HTTP/1.1\r\n\r\n")
    assert len(text.asked) == 1


async def test_who_does_not_read_or_says_nothing_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(Text(b"x" * (32 << 20))) as connect:
        idle = [await connect() for _ in range(5)]
        greedy = [await connect() for _ in range(5)]
        for stream in greedy:
            await stream.send_all(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert len(await answer(connect, b"GET /metrics HTTP/1.1\r\n\r\n")) > 32 << 20
        for stream in (*idle, *greedy):
            await stream.aclose()


async def test_too_many_are_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_CLIENTS", 2)
    monkeypatch.setattr(server, "REQUEST_SECONDS", 1000.0)
    async with serving(Text()) as connect:
        first, second, third = [await connect() for _ in range(3)]
        with trio.fail_after(30):
            assert await third.receive_some(1) == b""
        for stream in (first, second, third):
            await stream.aclose()

        async def answered() -> bool:
            return b"200 OK" in await answer(connect, b"GET /metrics HTTP/1.1\r\n\r\n")

        with trio.fail_after(30):
            while not await answered():
                pass


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [(b"GET /metrics", server.REQUEST_SECONDS), (b"GET /metrics HTTP/1.1\r\n\r\n", server.SEND_SECONDS)],
)
async def test_who_is_slow_to_ask_or_to_read_is_left_alone(
    autojump_clock: trio.testing.MockClock, asked: bytes, seconds: float
) -> None:
    """Its time is up after a while; the clock of this test jumps there."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Server(Where(), Text())._client, theirs)
        await ours.send_all(asked)
    assert trio.current_time() - began == pytest.approx(seconds)


async def test_a_unix_socket_is_its_owners_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.sock"
    async with trio.open_nursery() as nursery:
        await nursery.start(Server(Where.parse(f"unix:{path}"), Text()).run)
        assert path.stat().st_mode & 0o777 == 0o600
        assert b"fmrd 1" in await answer(partial(trio.open_unix_socket, path), b"GET /metrics HTTP/1.1\r\n\r\n")
        nursery.cancel_scope.cancel()
    assert not path.exists()


async def test_a_place_that_cannot_be_had(tmp_path: Path) -> None:
    async with serving(Text()) as connect:
        stream = await connect()
        port = stream.socket.getpeername()[1]
        with pytest.raises(Failed, match=rf"127.0.0.1:{port}") as caught:
            await Where.parse(f"127.0.0.1:{port}").listen()
        assert caught.value.code == "metrics_failed"
        await stream.aclose()
    (tmp_path / "file").touch()
    with pytest.raises(Failed, match="not a socket"):
        await Where.parse(f"unix:{tmp_path / 'file'}").listen()


async def test_a_place_of_somebody_who_lives_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "AGAIN_SECONDS", 0.001)
    path = tmp_path / "sock"
    async with trio.open_nursery() as nursery:
        with closing(bind(path, 1)):
            await nursery.start(Server(Where(path=path), Text()).run)
            await until(lambda: len(caplog.records) == 1)
        path.unlink()
        await until(path.exists)
        assert b"fmrd 1" in await answer(partial(trio.open_unix_socket, path), b"GET /metrics HTTP/1.1\r\n\r\n")
        nursery.cancel_scope.cancel()
    assert [record.levelname for record in caplog.records if record.levelname != "INFO"] == ["ERROR"]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("127.0.0.1:9723", Where(host="127.0.0.1", port=9723)), ("[::1]:1", Where(host="::1", port=1)),
        (":80", Where(port=80)), ("name:65535", Where(host="name", port=65535)),
        ("unix:/run/x", Where(path=Path("/run/x"))),
    ],
)  # fmt: skip
def test_places_as_people_write_them(text: str, where: Where) -> None:
    assert Where.parse(text) == where and Where.parse(where.text()) == where


@pytest.mark.parametrize("text", ["", "9723", "a:b", "a:65536", "a:-1", "unix:", "unix:x", "/run/x:1", "a:\u0663"])
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(BadRequest, match="neither ADDRESS:PORT nor unix:PATH"):
        Where.parse(text)


# The file


async def test_a_text_file_is_whole_and_goes_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textfile, "PERIOD_SECONDS", 0.001)
    path, text = tmp_path / "fmrd.prom", Text()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(TextFile(path, text).run)
        await until(path.exists)
        assert path.read_bytes() == b"fmrd 1\n" and path.stat().st_mode & 0o777 == 0o644
        text.body = b"fmrd 2\n"
        await until(lambda: path.read_bytes() == b"fmrd 2\n")
        nursery.cancel_scope.cancel()
    assert os.listdir(tmp_path) == []


async def test_a_thread_that_writes_late_leaves_no_file_behind(tmp_path: Path) -> None:
    path, text = tmp_path / "fmrd.prom", Text()
    late = TextFile(path, text)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(late.run)
        await until(path.exists)
        nursery.cancel_scope.cancel()
    late._replace(b"late")
    assert os.listdir(tmp_path) == []


async def test_all_may_read_it_whatever_the_umask(tmp_path: Path) -> None:
    """That of fmrd's unit is 0077, and a collector runs as a user of its own."""
    mask = os.umask(0o077)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(TextFile(tmp_path / "fmrd.prom", Text()).run)
            await until((tmp_path / "fmrd.prom").exists)
            assert (tmp_path / "fmrd.prom").stat().st_mode & 0o777 == 0o644
            nursery.cancel_scope.cancel()
    finally:
        os.umask(mask)


async def test_a_file_that_cannot_be_written_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(textfile, "PERIOD_SECONDS", 0.001)
    text = Text()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(TextFile(tmp_path / "away" / "fmrd.prom", text).run)
        await until(lambda: len(text.asked) > 3)
        (tmp_path / "away").mkdir()
        await until((tmp_path / "away" / "fmrd.prom").exists)
        nursery.cancel_scope.cancel()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_without_options_nothing_runs(rig: Rig) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(Metrics().run, rig.registry)
    assert Metrics().words() == []


def test_a_child_of_the_keeper_is_told_the_same() -> None:
    asked = Metrics(Where.parse("127.0.0.1:9723"), Path("/x"))
    assert asked.words() == ["--metrics", "127.0.0.1:9723", "--metrics-file", "/x"]
