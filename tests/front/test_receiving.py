"""What fmrctl writes to the file of a stream that it receives, or puts back, while others do the same."""

import errno
import io
import threading
import zlib
from base64 import b64encode
from pathlib import Path
from typing import Any, cast

import pytest

from fmrd.core.json_object import Json
from fmrd.errors import Failed
from fmrd.front.ctl.app import App
from fmrd.front.maps import restoring
from fmrd.front.maps.receiving import Options, Receiving, Writers
from tests.front.test_stream import INCREMENT, LENGTH, SMALL, WHOLE, written
from tests.waiting import LATE_SECONDS

OURS, OTHERS = WHOLE.stream, WHOLE.snapshot


def bits(value: int) -> str:
    return b64encode(zlib.compress(bytes([value] * (LENGTH // 4096 // 8)))).decode()


class Daemon:
    """Answers as one that was asked to begin anew by somebody else, before the file was opened."""

    def __init__(self, path: Path) -> None:
        self.is_watched = False
        self.asked: list[tuple[str, Json]] = []
        self._path = str(path)

    def ask(self, verb: str, **arguments: Any) -> Json:
        self.asked.append((verb, arguments))
        begun = {"path": self._path, "into": "RECV-data", "stream": OURS, "volume": "data", "blank": bits(0),
                 "turn": "t.0", "region_size_bytes": 4096}  # fmt: skip
        changed = {"volume": "s", "version": 1, "length_bytes": LENGTH, "region_size_bytes": 4096, "path": self._path,
                   "changed": bits(255), "zero": bits(0), "behind": []}  # fmt: skip
        answers: dict[str, Json] = {
            "receive_begin": begun, "restore_begin": begun, "changed": changed, "receive_token": {"stream": OTHERS},
        }  # fmt: skip
        return answers.get(verb, {})


@pytest.fixture
def others(tmp_path: Path) -> Path:
    path = tmp_path / "RECV-data"
    path.write_bytes(b"x" * LENGTH)
    return path


def test_nothing_is_written_to_what_another_stream_comes_into(others: Path) -> None:
    daemon = Daemon(others)
    stream = io.BytesIO(written(WHOLE, [(0, b"y" * LENGTH)]))
    with pytest.raises(Failed) as caught:
        Receiving(cast(App, daemon), "data", stream, Options()).run()
    assert caught.value.code == "receive_missing"
    assert others.read_bytes() == b"x" * LENGTH
    assert "receive_commit" not in [verb for verb, _ in daemon.asked]


def test_who_puts_back_neither_writes_to_anothers_nor_gives_it_up(others: Path) -> None:
    daemon = Daemon(others)
    with pytest.raises(Failed) as caught:
        restoring.restore(cast(App, daemon), [restoring.Wish("data", "s")])
    assert caught.value.code == "receive_missing"
    assert others.read_bytes() == b"x" * LENGTH
    assert daemon.asked[-1] == ("receive_discard", {"volume": "data", "stream": OURS})


class Taking(Daemon):
    """Takes the stream that comes, and says what was asked of it."""

    def ask(self, verb: str, **arguments: Any) -> Json:
        answer = super().ask(verb, **arguments)
        shown: dict[str, Json] = {"receive_token": {"stream": OURS}, "print": {"volumes": [{"open_count": 0}]}}
        return shown.get(verb, answer)

    def verbs(self) -> list[str]:
        return [verb for verb, _ in self.asked]


END = 24 + 32
HEADER = len(written(INCREMENT, [])) - END
FIRST = len(written(INCREMENT, [(0, b"abc" * 20)])) - END
"""Where the header of SMALL ends, and its first record."""


def ended(others: Path, stream: bytes) -> tuple[Taking, str]:
    """What was asked of the daemon, and the code of the failure, empty for none."""
    daemon = Taking(others)
    try:
        Receiving(cast(App, daemon), "data", io.BytesIO(stream), Options()).run()
    except Failed as error:
        return daemon, error.code
    return daemon, ""


def test_a_stream_that_is_cut_at_any_byte_is_never_taken_over(others: Path) -> None:
    """What was verified before the cut lies beside the volume, and where it goes on is noted; nothing else happens."""
    assert ended(others, SMALL)[0].verbs()[-1] == "receive_commit"
    for at in range(len(SMALL)):
        others.write_bytes(b"x" * LENGTH)
        daemon, code = ended(others, SMALL[:at])
        assert code == "stream_cut" and "receive_commit" not in daemon.verbs(), at
        assert others.read_bytes()[:60] == (b"abc" * 20 if at >= FIRST else b"x" * 60)
        assert ("receive_progress" in daemon.verbs()) is (at >= FIRST)
        assert bool(daemon.asked) is (at >= HEADER)


def test_a_header_with_any_bit_turned_never_reaches_the_daemon(others: Path) -> None:
    for bit in range(8 * HEADER):
        damaged = bytearray(SMALL)
        damaged[bit // 8] ^= 1 << bit % 8
        daemon, code = ended(others, bytes(damaged))
        assert code in ("stream_damaged", "stream_cut") and daemon.asked == [], bit
    assert others.read_bytes() == b"x" * LENGTH


def test_a_note_waits_for_all_before_it_and_holds_up_none_behind_it() -> None:
    first, done = threading.Event(), list[str]()
    with Writers() as writers:
        writers.begin(lambda: done.append("first") if first.wait(LATE_SECONDS) else None)
        writers.begin_after_all(lambda: done.append("noted"))
        behind = threading.Event()
        writers.begin(behind.set)
        assert behind.wait(LATE_SECONDS) and done == []
        first.set()
        writers.wait()
        assert done == ["first", "noted"]


def test_nothing_is_noted_where_one_before_it_failed() -> None:
    done = list[str]()

    def fail() -> None:
        raise OSError(errno.EIO, "gone")

    with Writers() as writers:
        writers.begin(fail)
        writers.begin_after_all(lambda: done.append("noted"))
        with pytest.raises(OSError, match="gone"):
            writers.wait()
    assert done == []


def test_no_note_overtakes_another() -> None:
    first, done = threading.Event(), list[int]()
    with Writers() as writers:
        writers.begin_after_all(lambda: done.append(1) if first.wait(LATE_SECONDS) else None)
        writers.begin_after_all(lambda: done.append(2))
        writers.begin(first.set)
        writers.wait()
    assert done == [1, 2]
