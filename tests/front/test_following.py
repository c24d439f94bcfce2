"""`fmrctl events` goes on where it was when the daemon is away for a while; clients hear from where they left off."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from fmrd.core.json_object import Json
from fmrd.engine.events import ring
from fmrd.engine.events.ring import Events
from fmrd.errors import BadRequest, Failed, Unreachable
from fmrd.front.arguments import VERBS
from fmrd.front.ctl.app import App
from fmrd.front.ctl.cli import run
from fmrd.front.ctl.glance import events as module
from fmrd.front.told import streaming
from fmrd.front.wire import Happened, Request, decode_reply

Told = Callable[[list[Json]], None]


def event(cursor: str) -> Json:
    return {"cursor": cursor, "time": 1.0, "kind": "verb", "level": "info", "message": "m", "action": ""}


def followed(monkeypatch: pytest.MonkeyPatch, *lives: list[list[Json]] | None) -> tuple[int, list[str | None]]:
    """The exit status, and from where each life of the daemon was asked. None: a life that never answers."""
    asked: list[str | None] = []
    left = list(lives)

    def ask(app: App, verb: str, on_events: Told, since: str | None, **more: Any) -> Json:
        asked.append(since)
        if not left:
            raise KeyboardInterrupt
        for found in left.pop(0) or []:
            on_events(found)
        raise Unreachable("unreachable", "it went away")

    monkeypatch.setattr(App, "ask", ask)
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0)
    return run(["events"]), asked


def test_it_goes_on_behind_the_last_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    status, asked = followed(monkeypatch, [[], [event("a.1"), event("a.2")]], [[], [event("b.1")]])
    assert (status, asked) == (130, [None, "a.2", "b.1"])
    assert capsys.readouterr().err.count("the daemon is away") == 2


def test_who_has_heard_nothing_yet_hears_all_of_the_next_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    assert followed(monkeypatch, [[]], None, None) == (130, [None, "0.0", "0.0", "0.0"])


def test_a_daemon_that_never_answered_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert followed(monkeypatch, None) == (4, [None])


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Events:
    monkeypatch.setattr(ring, "KEPT", 4)
    made = Events(lambda: 100.0)
    for n in range(6):
        made.tell("verb", str(n))
    return made


async def heard(events: Events, since: str | None) -> list[str]:
    found = await streaming.stream(events, None, since, follow=False)  # type: ignore[arg-type]  # nobody is sent anything
    return [each["message"] if each["kind"] == "verb" else each["kind"] for each in found["events"]]


async def test_from_where_somebody_hears(events: Events) -> None:
    assert await heard(events, None) == ["events_missed", "2", "3", "4", "5"]
    assert await heard(events, f"{events.life}.4") == ["4", "5"]
    assert await heard(events, f"{events.life}.1") == ["events_missed", "2", "3", "4", "5"], "one is gone"
    assert await heard(events, f"{events.life}.999") == []
    assert (await heard(events, "0.0"))[0] == "events_missed"
    assert await heard(events, "1m") == ["2", "3", "4", "5"]
    for wrong in ("", "yesterday", "1.", "-1m", "1w", f"{events.life}.x"):
        with pytest.raises(BadRequest):
            await heard(events, wrong)


async def test_a_verb_is_told_as_it_was_typed() -> None:
    events = Events(lambda: 100.0)
    args = {"volume": "data", "plexes": [{"path": "/a"}, {"path": "/b", "dco": "/c"}], "force": False, "rate": 0,
            "full": True, "without": []}  # fmt: skip
    streaming.tell_verb(events, 7, Request("make", args), None)
    streaming.tell_verb(events, 7, Request("stop", {"volume": "data"}), Failed("volume_missing", "it is gone", "look"))
    for quiet in (Request("print"), Request("make", args | {"dry_run": True}), Request("task_list", {"all": True})):
        streaming.tell_verb(events, 7, quiet, None)
    made, failed = events.after(0)[0]
    assert made.message == "user 7: make volume=data plexes=path=/a,path=/b,dco=/c full=true"
    assert (made.volume, made.details["uid"], made.details["verb"]) == ("data", 7, "make")
    assert (failed.kind, failed.details["code"], failed.action) == ("verb_failed", "volume_missing", "look")


async def test_each_verb_is_one_that_acts_or_none_that_is_told() -> None:
    """A new verb is decided upon here: who looks once a second, as top does, drowns the history otherwise."""
    acts = {
        "make", "import_volume", "start", "stop", "start_all", "stop_all", "rename", "remove", "grow", "set",
        "plex_add", "plex_det", "plex_att", "plex_replace", "plex_convert", "plex_dis", "plex_off", "plex_on",
        "recover", "snapstart", "snapabort", "snapshot", "snapsync", "snapback", "undo", "refresh", "snapclear", "mark",
        "receive_begin", "receive_commit", "receive_discard", "restore_begin", "verify", "task_pause", "task_resume",
        "task_abort", "task_set", "store_add", "store_resize", "store_remove", "night_note",
    }  # fmt: skip
    events = Events(lambda: 100.0)
    for verb in VERBS:
        args = {"volume": "data", "name": "night"} if verb == "mark" else {"volume": "data"}
        streaming.tell_verb(events, 7, Request(verb, args), None)
    assert {event.details["verb"] for event in events.after(0)[0]} == acts
    streaming.tell_verb(events, 7, Request("mark", {"volume": "data"}), None)
    assert events.last == len(acts), "marks were only listed"
    streaming.tell_verb(events, 7, Request("receive_progress", {"volume": "data"}), Failed("failed", "no"))
    assert events.after(len(acts))[0][0].kind == "verb_failed", "a step that fails is told"


async def test_a_listener_is_told_at_once_and_then_of_each(events: Events, tmp_path: Path) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def follow() -> None:
            await streaming.stream(events, theirs, None, follow=True)  # type: ignore[arg-type]  # a stream all the same

        nursery.start_soon(follow)
        with trio.fail_after(10):
            assert decode_reply(bytes(await ours.receive_some()).strip()) == Happened([])
            events.tell("verb", "new")
            reply = decode_reply(bytes(await ours.receive_some()).strip())
        assert isinstance(reply, Happened) and [each["message"] for each in reply.events] == ["new"]
        nursery.cancel_scope.cancel()
