"""The history is bounded, survives what is wrong in its files, and never holds up who tells an event."""

import json
import logging
import os
import socket
from pathlib import Path

import pytest

from fmrd.engine.events.ring import Events
from fmrd.front.told import history, journal
from fmrd.front.told.history import History
from fmrd.front.told.journal import Journal, connected


@pytest.fixture
def events() -> Events:
    return Events(lambda: 1000.0)


def kept(where: Path, events: Events, count: int, **options: int) -> None:
    """So many events are told to a history, which is closed again."""
    made = History(where, **options)
    events.listeners.append(made.add)
    for n in range(count):
        events.tell("verb", f"event {n}", volume="data" if n % 2 else "mail")
    events.listeners.remove(made.add)
    made.close()


def messages(made: History, **wanted: object) -> list[str]:
    return [event["message"] for event in made.found(**wanted)]  # type: ignore[arg-type]  # as found takes them


def test_it_is_there_after_a_restart_by_volume_and_number(tmp_path: Path, events: Events) -> None:
    kept(tmp_path, events, 6)
    made = History(tmp_path)
    assert messages(made) == [f"event {n}" for n in range(6)]
    assert messages(made, volume="data") == ["event 1", "event 3", "event 5"]
    assert messages(made, most=2) == ["event 4", "event 5"]
    assert (tmp_path / "history").stat().st_mode & 0o777 == 0o600


def test_one_that_cannot_be_read_is_said_and_nothing_more(
    tmp_path: Path, events: Events, caplog: pytest.LogCaptureFixture
) -> None:
    """A bad block in the history is no reason not to serve volumes."""
    (tmp_path / "history").mkdir()
    assert messages(History(tmp_path)) == []
    assert "cannot be read" in caplog.text


def test_two_files_bound_it(tmp_path: Path, events: Events) -> None:
    kept(tmp_path, events, 200, file_bytes=4096)
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2 and max(sizes) <= 4096
    found = messages(History(tmp_path, file_bytes=4096))
    assert found[-1] == "event 199" and 20 < len(found) < 200


@pytest.mark.parametrize(
    "line",
    [b"", b"\xff\xfe", b"{", b"[]", b'{"cursor": 1}', b"[" * 5000, b"null", b'{"kind": "verb", "time": NaN}'],
)
def test_what_is_no_event_is_passed_over(tmp_path: Path, events: Events, line: bytes) -> None:
    kept(tmp_path, events, 1)
    with open(tmp_path / "history", "ab") as file:
        file.write(line + b"\n")
    kept(tmp_path, events, 1)
    assert messages(History(tmp_path)) == ["event 0", "event 0"]


def test_a_line_that_a_power_loss_tore_takes_one_event_with_it(tmp_path: Path, events: Events) -> None:
    kept(tmp_path, events, 2)
    path = tmp_path / "history"
    path.write_bytes(path.read_bytes()[:-20])
    assert messages(History(tmp_path)) == ["event 0"]
    kept(tmp_path, events, 1)
    assert messages(History(tmp_path)) == ["event 0", "event 0"], "and not the one that is written next"


def test_a_disk_that_is_full_tears_one_line_and_no_other(
    tmp_path: Path, events: Events, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write, left = os.write, [False, True, False, False]
    monkeypatch.setattr(
        history.os, "write", lambda fd, data: write(fd, data[:9] if b"cursor" in data and left.pop(0) else data)
    )
    kept(tmp_path, events, 4)
    monkeypatch.undo()
    assert messages(History(tmp_path)) == ["event 0", "event 2", "event 3"]
    assert caplog.text.count("cannot be written") == 1


def test_a_disk_that_takes_nothing_costs_events_and_that_is_told(
    tmp_path: Path, events: Events, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "history").mkdir()
    with caplog.at_level(logging.WARNING):
        made = History.__new__(History)
        (tmp_path / "history").rmdir()
        made.__init__(tmp_path)  # type: ignore[misc]  # the directory comes after it has been read
        (tmp_path / "history").mkdir()
        events.listeners.append(made.add)
        events.tell("verb", "one")
        events.tell("verb", "two")
        made.close()
    assert caplog.text.count("cannot be written") == 1
    assert messages(made) == ["one", "two"], "in memory"


def test_what_the_queue_does_not_hold_is_counted(
    tmp_path: Path, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "WAITING", 1)
    made = History(tmp_path)
    monkeypatch.setattr(made, "_begin", lambda: None)  # no thread takes anything
    events.listeners.append(made.add)
    for n in range(4):
        events.tell("verb", f"event {n}")
    assert made._queue.get_nowait() is not None
    made._queue.maxsize = 2
    events.tell("verb", "event 4")
    lines = [made._queue.get_nowait() for _ in range(2)]
    assert [json.loads(line or b"")["message"] for line in lines] == ["3 event(s) were not written", "event 4"]


def test_the_journal_gets_fields(tmp_path: Path, events: Events) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "journal"))
        made = Journal(tmp_path / "journal")
        events.listeners.append(made.add)
        events.tell("plex_failed", "it\nfailed", volume="data", plex="data-02", action="mend it", errno=5)
        fields = dict(line.split("=", 1) for line in listening.recv(4096).decode().splitlines())
        made.close()
    assert fields == {
        "MESSAGE": "it\\x0afailed. What to do: mend it", "PRIORITY": "4", "SYSLOG_IDENTIFIER": "fmrd",
        "FMRD_EVENT": "plex_failed", "FMRD_CURSOR": events.after(0)[0][0].cursor, "FMRD_VOLUME": "data",
        "FMRD_PLEX": "data-02", "FMRD_ACTION": "mend it", "FMRD_ERRNO": "5",
    }  # fmt: skip


def test_a_journal_that_is_away_costs_events_and_they_are_counted(tmp_path: Path, events: Events) -> None:
    made = Journal(tmp_path / "journal")
    events.listeners.append(made.add)
    events.tell("verb", "nobody hears it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "journal"))
        events.tell("verb", "somebody does")
        assert b"FMRD_LOST=1\n" in listening.recv(4096)
    made.close()


def test_the_journal_is_told_from_a_file() -> None:
    ours, theirs = os.pipe()
    status = os.fstat(theirs)
    assert connected({"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}, theirs)
    assert not connected({"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"}, theirs)
    assert not connected({}, theirs)
    os.close(ours)
    os.close(theirs)
    assert journal.SOCKET.is_absolute()
