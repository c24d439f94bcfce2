"""What fmrctl prints for people is whole and in columns, on a terminal and in a pipe."""

import json
import sys
from pathlib import Path

import pytest

from fmrd.core.json_object import Json
from fmrd.front.ctl.app import App
from fmrd.front.ctl.tables import Out, print_volumes

LONG = "/srv/" + "/".join(["d" * 200] * 15)


def volume(name: str, *paths: str) -> Json:
    plexes = [
        {
            "name": f"{name}-{n:02d}",
            "kstate": "ENABLED",
            "state": "ACTIVE",
            "dirty_bytes": 0,
            "mode": "RW",
            "path": path,
        }
        for n, path in enumerate(paths, 1)
    ]
    return {
        "name": name, "fmr": True, "kstate": "ENABLED", "state": "ACTIVE", "length_bytes": 1 << 30, "rdpol": "select",
        "open_count": 0, "path": f"/run/{name}", "plexes": plexes, "snapshots": [], "lost": [],
    }  # fmt: skip


@pytest.fixture(params=["", "40"], ids=["no terminal", "narrow"])
def _columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        monkeypatch.setenv("COLUMNS", request.param)
    else:
        monkeypatch.delenv("COLUMNS", raising=False)


@pytest.mark.usefixtures("_columns")
def test_names_and_paths_are_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    name = "n" * 100
    print_volumes(Out(), [volume(name, "/a", LONG)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines] == ["PATH", "PATH", f"/run/{name}", "/a", LONG]
    assert lines[2].split()[1] == name


def test_columns_stand_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    print_volumes(Out(), [volume("a", "/a"), volume("データ", "/b")])
    lines = capsys.readouterr().out.splitlines()
    wide = [sum(1 + ("ァ" <= letter <= "ー") for letter in line[: line.index("/")]) for line in lines[2:]]
    assert len(set(wide)) == 1 and lines[0].index("PATH") == lines[1].index("PATH") == wide[0]


def test_a_plex_that_failed_says_why_and_since_when(capsys: pytest.CaptureFixture[str]) -> None:
    shown = volume("data", "/a", "/b")
    shown["plexes"][1] |= {
        "state": "IOFAIL",
        "reason": {"code": "io_error", "message": "[Errno 5] Input/output error: '/b'", "errno": 5, "since": 86400.0},
    }
    print_volumes(Out(), [shown])
    [told] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("plex ")]
    assert told.startswith("plex data-02 is IOFAIL since 1970-01-") and told.endswith("'/b' (io_error)")


@pytest.mark.usefixtures("_columns")
def test_a_notice_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    sentence = "nothing to change: " + "volume data is started already, " * 10
    Out(stderr=True).print(sentence)
    assert capsys.readouterr().err == sentence + "\n"


HOSTILE = "/srv/\x1b]0;title\x07\x1b[31mred\n\rv  other  ENABLED\u202e"
"""As a record from elsewhere, or the name of a file, may have it."""


def test_nothing_that_is_printed_reaches_the_terminal_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    out = Out()
    plain, odd = volume("data", "/a", "/b"), volume("data", HOSTILE, "/b")
    odd["error"] = {"code": "io_error", "message": HOSTILE, "hint": HOSTILE}
    print_volumes(out, [plain])
    usual = capsys.readouterr().out.splitlines()
    print_volumes(out, [odd])
    out.print(f"fmrctl: {HOSTILE}")
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == len(usual) + 2
    assert all(line.isprintable() for line in shown)
    assert shown[3].endswith(r"/srv/\x1b]0;title\x07\x1b[31mred\x0a\x0dv  other  ENABLED\u202e")


def test_nor_does_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    from fmrd.front.ctl.cli import run

    assert run(["dump", f"/nowhere{HOSTILE}"]) == 1
    told = capsys.readouterr()
    assert told.out == "" and all(line.isprintable() for line in told.err.splitlines())
    assert len(told.err.splitlines()) == 1
    assert run(["--json", "dump", f"/nowhere{HOSTILE}"]) == 1
    [line] = capsys.readouterr().out.splitlines()
    assert HOSTILE in json.loads(line)["error"]["message"]


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colours_are_for_terminals_that_have_them(
    environment: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    Out().print("well", style="green")
    Out().print("well")
    assert capsys.readouterr().out == ("\x1b[32mwell\x1b[0m\nwell\n" if coloured else "well\nwell\n")


def test_what_is_closed_takes_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A notice for a standard error that is closed does not go where the stream goes."""
    monkeypatch.setattr(sys, "stderr", None)
    Out(stderr=True).print("sent", style="red")
    assert App(Path("/nowhere"), as_json=False).is_watched is False
    monkeypatch.undo()
    told = capsys.readouterr()
    assert told.out == told.err == ""
