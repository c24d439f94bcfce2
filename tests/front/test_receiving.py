"""What fmrctl writes to the file of a stream that it receives, or puts back, while others do the same."""

import io
import zlib
from base64 import b64encode
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from fmrd.core.json_object import Json
from fmrd.errors import Failed
from fmrd.front.ctl.app import App
from fmrd.front.maps import restoring
from fmrd.front.maps.receiving import Options, Receiving
from tests.front.test_stream import LENGTH, WHOLE, written

OURS, OTHERS = WHOLE.stream, WHOLE.snapshot


def bits(value: int) -> str:
    return b64encode(zlib.compress(bytes([value] * (LENGTH // 4096 // 8)))).decode()


class Daemon:
    """Answers as one that was asked to begin anew by somebody else, before the file was opened."""

    def __init__(self, path: Path) -> None:
        self.err = Console(file=io.StringIO())
        self.asked: list[tuple[str, Json]] = []
        self._path = str(path)

    def ask(self, verb: str, **arguments: Any) -> Json:
        self.asked.append((verb, arguments))
        begun = {"path": self._path, "into": "RECV-data", "stream": OURS, "volume": "data", "blank": bits(0),
                 "region_size_bytes": 4096}  # fmt: skip
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
        restoring.restore(cast(App, daemon), restoring.Wish("data", "s"))
    assert caught.value.code == "receive_missing"
    assert others.read_bytes() == b"x" * LENGTH
    assert daemon.asked[-1] == ("receive_discard", {"volume": "data", "stream": OURS})
