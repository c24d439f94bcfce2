"""A machine without python3-rbd, or with one that this Python cannot use, says so; the rest of fmrd goes on."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from fmrd.backing.nbd.exports import Exports
from fmrd.backing.rbd import library
from fmrd.errors import Failed, FmrdError


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the system's packages would be, empty yet. What is loaded from there is nobody else's."""
    with patch.dict(sys.modules):
        for name in ("rados", "rbd"):
            sys.modules.pop(name, None)
        monkeypatch.setattr(library, "WHERE", (str(tmp_path),))
        yield tmp_path


def refused() -> Failed:
    with pytest.raises(Failed, match="plex_missing") as failed:
        Exports().open_plex("rbd:rbd/disk", 0)
    assert "rbd:rbd/disk" in failed.value.message
    return failed.value


def test_without_the_package_it_is_named(modules: Path) -> None:
    assert "python3-rbd" in refused().hint


@pytest.mark.parametrize("raised", ["ImportError('librados.so.2')", "SystemError('for another Python')"])
def test_one_that_cannot_be_loaded_says_why_and_can_be_mended_while_fmrd_runs(modules: Path, raised: str) -> None:
    (modules / "rados.py").write_text(f"raise {raised}\n")
    failed = refused()
    assert raised.partition("'")[2].partition("'")[0] in failed.message and "python3-rbd" in failed.hint
    assert "rados" not in sys.modules


def test_where_no_thread_can_be_had_that_is_told(modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a limit of the machine, no fact about the image, and no bug that ends fmrd."""
    for name in ("rados", "rbd"):
        (modules / f"{name}.py").write_text("")

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(FmrdError, match="exhausted"):
            Exports().open_plex("rbd:rbd/disk", 0)
