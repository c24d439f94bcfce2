"""What comes slowly is fetched while what came before is looked at: in order, bounded, and nobody is left waiting."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fmrd.front.streams import files
from fmrd.front.streams.ahead import MOST, ahead
from tests.waiting import LATE_SECONDS


def numbers(count: int, fetched: list[int], more: threading.Semaphore | None = None) -> Iterator[int]:
    for number in range(count):
        fetched.append(number)
        if more is not None:
            more.release()
        yield number


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "fmrctl ahead"]


def ended() -> bool:
    for thread in threading.enumerate():
        if thread.name == "fmrctl ahead":
            thread.join(LATE_SECONDS)
    return not names()


def test_all_of_it_comes_in_order() -> None:
    assert list(ahead(numbers(100, []))) == list(range(100))
    assert list(ahead(iter(()))) == [] and ended()


def test_a_few_are_there_before_they_are_asked_for_and_no_more() -> None:
    fetched, more = list[int](), threading.Semaphore(0)
    source = ahead(numbers(100, fetched, more))
    assert next(source) == 0
    for _ in range(MOST + 2):  # what was taken, what waits, and one in its hand
        assert more.acquire(timeout=LATE_SECONDS)
    assert not more.acquire(timeout=0) and len(fetched) == MOST + 2
    assert next(source) == 1
    assert more.acquire(timeout=LATE_SECONDS) and not more.acquire(timeout=0)
    source.close()  # type: ignore[attr-defined]  # it is a generator
    assert ended()


@pytest.mark.parametrize("error", [OSError("gone"), KeyboardInterrupt(), StopIteration("odd")])
def test_what_it_raises_is_raised_behind_what_came(error: BaseException) -> None:
    class Failing:
        def __init__(self) -> None:
            self.left = iter((1, 2))

        def __iter__(self) -> "Failing":
            return self

        def __next__(self) -> int:
            for each in self.left:
                return each
            raise error

    source = ahead(Failing())
    if isinstance(error, StopIteration):
        assert list(source) == [1, 2]
    else:
        assert (next(source), next(source)) == (1, 2)
        with pytest.raises(type(error)):
            next(source)
    assert ended()


def test_who_stops_leaves_no_thread_that_waits_for_room() -> None:
    fetched = list[int]()
    for each in ahead(numbers(1000, fetched)):
        if each == 3:
            break
    assert ended() and len(fetched) < 20


def test_nobody_waits_to_close_what_a_thread_waits_for(tmp_path: Path) -> None:
    """A stream through a pipe with a name, whose sender is idle while somebody interrupts."""
    os.mkfifo(tmp_path / "pipe")
    left = threading.Event()

    def look() -> None:
        with files.opened(str(tmp_path / "pipe")) as source:
            first = next(ahead(iter(lambda: source.read(1), b"")))
            assert first == b"x"
        left.set()

    threading.Thread(target=look, daemon=True).start()
    with open(tmp_path / "pipe", "wb", buffering=0) as sender:
        sender.write(b"x")
        assert left.wait(LATE_SECONDS)
    assert ended()
