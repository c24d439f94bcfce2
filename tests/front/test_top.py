"""fmrctl top: pages of whatever size, and the screen with its keys."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from textual.pilot import Pilot

from fmrd.core.json_object import Json
from fmrd.errors import Failed, Unreachable
from fmrd.front.ctl.cli import run
from fmrd.front.ctl.measured import top
from fmrd.front.ctl.measured.feed import Feed
from fmrd.front.ctl.measured.intervals import KINDS
from fmrd.front.ctl.measured.page import Happened, Place, View, page
from fmrd.front.ctl.measured.screen import Screen

CAPTURES = Path(__file__).parent / "captures"
SIZES = [(80, 24), (200, 60)]


def plex(name: str, state: str = "ACTIVE", **others: Any) -> Json:
    return {
        "name": name,
        "state": state,
        "path": f"/srv/{name}.plex",
        "dirty_bytes": 0,
        "slow": None,
        "reason": None,
    } | others


def volume(name: str, *plexes: Json, **others: Any) -> Json:
    return {"name": name, "state": "ACTIVE", "kstate": "ENABLED", "error": None, "lost": [], "plexes": list(plexes),
            "path": f"/run/fmrd/volumes/{name}"} | others  # fmt: skip


def figure(of: str, name: str | None = None, **others: Any) -> Json:
    return {"volume": of, "plex": name, "seconds": 2.0, "reads": 2400, "writes": 1281, "flushes": 24, "errors": 0,
            "read_bytes": 19660800, "write_bytes": 10485760, "read_seconds": 81e-6, "write_seconds": 1.3e-3,
            "flush_seconds": 4.2e-3, "read_p99_seconds": 250e-6, "write_p99_seconds": 4.1e-3, "queue": 1.06,
            } | others  # fmt: skip


def task(number: int, name: str, **others: Any) -> Json:
    return {"id": number, "type": "PLXATT", "volume": "data", "plex": name, "state": "running", "total_bytes": 8 << 30,
            "done_bytes": 3 << 30, "rate_bytes_per_second": 500 << 20, "eta_seconds": 10.2,
            "reason": {"code": "fast", "message": "missed writes"}} | others  # fmt: skip


EVENTS = [
    Happened("13:58:00", "info", "fmrd (process 812) has begun"),
    Happened("13:58:01", "info", "volume data is served"),
    Happened("13:58:01", "info", "volume mail is served"),
    Happened("14:01:10", "warning", "volume data is DEGRADED: plex data-02 (/srv/data-02.plex) failed: [Errno 5] "
             "Input/output error: 1 of 2 plexes left in sync"),
    Happened("14:02:59", "info", "user 0: plex_att volume=data plex=data-02"),
    Happened("14:02:59", "info", "volume data: task 7 (PLXATT) begins: missed writes (fast)"),
    Happened("14:03:05", "info", "user 0: task_pause id=9"),
]  # fmt: skip


def view(volumes: int = 3) -> View:
    shown = [
        volume("data", plex("data-01"), plex("data-02", "TEMP", dirty_bytes=5 << 30)),
        volume("mail", plex("mail-01"), plex("mail-02", slow="a write takes 120 ms there, and 1.1 ms on its peers")),
        volume("old", kstate="DISABLED", state="CLEAN"),
        *(volume(f"vol{n:02}", plex(f"vol{n:02}-01"), plex(f"vol{n:02}-02")) for n in range(volumes - 3)),
    ]
    names = [(each["name"], None) for each in shown] + [(v["name"], p["name"]) for v in shown for p in v["plexes"]]
    return View(shown, [task(7, "data-02"), task(9, "mail-03", state="paused", eta_seconds=None)],
                [figure(*name) for name in names if name[0] != "old"], EVENTS[::-1], "", "14:03:22")  # fmt: skip


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_page_is_as_it_was_captured(width: int, height: int) -> None:
    """After a change on purpose: look at what is drawn, and put it there."""
    drawn = "\n".join(line.text for line in page(view(), width, height, Place(7))) + "\n"
    assert drawn == (CAPTURES / f"top-{width}x{height}.txt").read_text()


@pytest.mark.parametrize(("width", "height"), [*SIZES, (80, 10), (40, 12), (132, 43), (20, 4), (500, 200)])
@pytest.mark.parametrize("volumes", [3, 40])
def test_a_page_has_the_size_of_the_terminal(width: int, height: int, volumes: int) -> None:
    lines = page(view(volumes), width, height, Place())
    assert len(lines) == height and max(cell_len(line.text) for line in lines) <= width


def test_who_is_not_well_comes_first_among_many() -> None:
    shown = view(30)
    shown.volumes[-1]["plexes"][1]["state"] = "IOFAIL"
    lines = [line for line in page(shown, 80, 24, Place()) if line.style == "bad"]
    assert [line.text.split()[0] for line in lines[1:]][:6] == [
        "data",
        "data-02",
        "mail",
        "mail-02",
        "vol26",
        "vol26-02",
    ]
    assert "3 not well" in lines[0].text and "rows more" in lines[0].text


def test_what_is_below_can_be_scrolled_to_and_no_further() -> None:
    def names(passed: int) -> list[str]:
        return [line.text.split()[0] for line in page(view(30), 80, 24, Place(None, passed)) if line.text[:3] == "vol"]

    assert names(0)[0] == "vol00" and names(1000)[-1] == "vol26"


def test_the_last_events_have_what_room_is_left() -> None:
    def told(volumes: int, height: int) -> list[str]:
        lines = [line.text for line in page(view(volumes), 80, height, Place())]
        return lines[lines.index("LAST EVENTS") + 1 : -1] if "LAST EVENTS" in lines else []

    assert told(3, 60)[0].startswith("14:03:05 user 0: task_pause")
    assert [line for line in told(3, 60) if line] == [f"{e.clock} {e.message}"[:80] for e in EVENTS[::-1]]
    assert len(told(40, 24)) == 3 and told(40, 12) == []
    loud = [line for line in page(view(), 80, 24, Place()) if line.text.startswith("14:01:10")]
    assert [line.style for line in loud] == ["bad"]


def test_of_events_only_new_ones_are_asked_for() -> None:
    asked = []

    def ask(verb: str, **args: Any) -> Json:
        if verb != "events":
            return {"volumes": [], "tasks": [], "figures": []}
        asked.append(args)
        number = len(asked)
        told = [{"cursor": f"a.{number}", "time": 0, "level": "info", "message": f"event {number}"}]
        return {"events": told if number < 3 else []}

    feed = Feed(ask, lambda view: None, lambda text: None)
    seen = [[event.message for event in feed.view().events] for _ in range(3)]
    assert seen == [["event 1"], ["event 2", "event 1"], ["event 2", "event 1"]]
    assert [args["since"] for args in asked] == ["1h", "a.1", "a.2"] and not any(args["follow"] for args in asked)


def test_hostile_names_are_escaped() -> None:
    shown = View([volume("data", plex("data-01", "IOFAIL", reason={"code": "io_error", "message": "a\x1b[2J\nb"}))])
    text = "".join(line.text for line in page(shown, 80, 24, Place()))
    assert text.isprintable() and "\\x1b[2J" in text


def test_a_volume_that_does_not_start_says_why() -> None:
    failed = volume("data", kstate="DISABLED", error={"code": "no_current_plex", "message": "its disks are away"})
    lines = [line.text for line in page(View([failed]), 80, 24, Place())]
    assert any(line.startswith("data") and "failed" in line for line in lines)
    assert "data: no_current_plex: its disks are away" in lines


def test_figures_are_those_of_the_last_interval() -> None:
    def counted(at: int) -> Json:
        kinds = {kind: {"count": 100 * at, "bytes": 0, "total_ns": 0, "buckets": [0] * 64} for kind in KINDS}
        return {"volume": "data", "plex": None, "state": "ACTIVE", "errors": 0, "under_way": 0, "slow": None,
                "at_ns": at * 10**9, "began_ns": 0, "kinds": kinds}  # fmt: skip

    seconds = iter((10, 12))

    def ask(verb: str, **args: Any) -> Json:
        if verb == "events":
            return {"events": []}
        return {"volumes": [], "tasks": []} if verb == "print" else {"figures": [counted(next(seconds))]}

    feed = Feed(ask, lambda view: None, lambda text: None)
    found = [(figure["writes"], figure["seconds"]) for figure in (feed.view().figures[0], feed.view().figures[0])]
    assert found == [(1000, 10.0), (200, 2.0)]


# The screen


class Daemon:
    """What the daemon would answer; what it was asked for besides."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.away = False
        self.refuses = False
        self.hangs = threading.Event()
        self.hangs.set()

    def __call__(self, verb: str, **args: Any) -> Json:
        self.hangs.wait()
        if self.away:
            raise Unreachable("unreachable", "no daemon answers on /x: Connection refused")
        if verb in ("print", "stat"):
            shown = view()
            return {"volumes": shown.volumes, "tasks": shown.tasks} if verb == "print" else {"figures": []}
        if verb == "events":
            return {"events": [{"cursor": "a.1", "time": 0, "level": "info", "message": "volume mail is served"}]}
        self.asked.append((verb, args))
        if self.refuses:
            raise Failed("task_ended", "task 7 has ended already (done)")
        return {}


Steps = Callable[[Screen, Pilot[None], Daemon], Awaitable[None]]


def on_a_screen(steps: Steps, size: tuple[int, int] = (80, 24)) -> None:
    daemon = Daemon()

    async def play() -> None:
        screen = Screen(daemon, 1000.0)
        async with screen.run_test(size=size) as pilot:
            await seen(screen, pilot, "data-02")
            await steps(screen, pilot, daemon)

    try:
        asyncio.run(asyncio.wait_for(play(), 60))
    finally:
        daemon.hangs.set()


async def seen(screen: Screen, pilot: Pilot[None], text: str) -> None:
    """Return when it is drawn."""
    while not any(text in line for line in screen.lines()):
        await pilot.pause()


async def asked(pilot: Pilot[None], daemon: Daemon, *wanted: tuple[str, dict[str, Any]]) -> None:
    while len(daemon.asked) < len(wanted):
        await pilot.pause()
    assert daemon.asked == list(wanted)


@pytest.mark.parametrize("size", SIZES)
def test_the_screen_shows_the_page(size: tuple[int, int]) -> None:
    async def steps(screen: Screen, pilot: Pilot[None], daemon: Daemon) -> None:
        await pilot.pause()
        strips = screen.screen._compositor.render_strips()
        shown = ["".join(segment.text for segment in strip).rstrip() for strip in strips]
        assert shown == screen.lines() and len(shown) == size[1]
        assert any(line.startswith("  data-02") and "TEMP" in line for line in shown)

    on_a_screen(steps, size)


def test_keys_steer_the_copy_that_is_chosen() -> None:
    async def steps(screen: Screen, pilot: Pilot[None], daemon: Daemon) -> None:
        await pilot.press("p", "down", "r", "down", "p", "up", "up", "r")
        await asked(
            pilot, daemon, ("task_pause", {"id": 7}), ("task_resume", {"id": 9}), ("task_pause", {"id": 9}),
            ("task_resume", {"id": 7}),
        )  # fmt: skip

    on_a_screen(steps)


def test_a_rate_is_typed() -> None:
    async def steps(screen: Screen, pilot: Pilot[None], daemon: Daemon) -> None:
        await pilot.press("l", "5", "0", "M", "enter")
        await asked(pilot, daemon, ("task_set", {"id": 7, "rate": 50 << 20}))
        await pilot.press("l", "9", "escape", "p")
        await asked(pilot, daemon, ("task_set", {"id": 7, "rate": 50 << 20}), ("task_pause", {"id": 7}))
        await pilot.press("l", "x", "enter")
        await seen(screen, pilot, "'x' is not a size")
        assert len(daemon.asked) == 2

    on_a_screen(steps)


def test_what_the_daemon_refuses_is_said() -> None:
    async def steps(screen: Screen, pilot: Pilot[None], daemon: Daemon) -> None:
        daemon.refuses = True
        await pilot.press("p")
        await seen(screen, pilot, "task_ended: task 7 has ended already (done)")

    on_a_screen(steps)


def test_a_daemon_that_goes_away_is_said_and_what_was_seen_stays() -> None:
    async def steps(screen: Screen, pilot: Pilot[None], daemon: Daemon) -> None:
        daemon.away = True
        await pilot.press("plus")
        await seen(screen, pilot, "no daemon answers on /x: Connection refused")
        assert any("data-02" in line for line in screen.lines())
        daemon.away = False
        await pilot.press("minus")
        await seen(screen, pilot, "fmrctl top")

    on_a_screen(steps)


def test_a_daemon_that_hangs_holds_up_no_key() -> None:
    async def steps(screen: Screen, pilot: Pilot[None], daemon: Daemon) -> None:
        daemon.hangs.clear()
        await pilot.press("p", "down")
        chosen = [line.text for line in page(view(), 80, 24, screen._place) if line.style == "chosen"]
        assert chosen and "mail-03" in chosen[0]
        await pilot.press("q")
        while screen.is_running:
            await pilot.pause()

    on_a_screen(steps)


# The command


def test_without_its_library_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fmrd.front.ctl.measured.screen", None)
    assert run(["top"]) == 1
    said = capsys.readouterr().err
    assert "fmrctl: top_missing: fmrctl top needs the library textual" in said
    assert "hint: pip install 'fmrd[top]'" in said


def test_without_a_terminal_it_says_what_else_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert top.top is not None and run(["top"]) == 2
    assert "hint: fmrctl stat 2" in capsys.readouterr().err
