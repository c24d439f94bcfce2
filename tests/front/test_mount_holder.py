"""The keeper: whose words it heeds, what it keeps, and when it starts another child. For real in tests/e2e."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fmrd.front.daemon.mount_holder import LEFT_LOOKS, LONGEST_PAUSE_SECONDS, MountHolder
from fmrd.front.daemon.supervisor import Supervisor
from tests.processes import end_first_thread, left_behind

ME = os.getpid()


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> Iterator[MountHolder]:
    """As if this very process were its child."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    made = MountHolder(["/bin/true"])
    made.child = ME
    yield made
    made._socket.close()
    for each in (*made.store.values(), made._signals, made._wakeup):
        os.close(each)


@pytest.fixture
def child(keeper: MountHolder) -> Supervisor:
    return Supervisor(keeper._address, stores=True)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_what_its_child_gives_is_kept_under_its_name_until_it_is_forgotten(
    keeper: MountHolder, child: Supervisor, pipe: tuple[int, int]
) -> None:
    assert child.keep("volume", pipe[0])
    keeper._hear()
    os.write(pipe[1], b"kept")
    assert os.read(keeper.store["volume"], 10) == b"kept"
    child.forget("volume")
    keeper._hear()
    assert keeper.store == {}


def test_one_descriptor_a_name(keeper: MountHolder, child: Supervisor, pipe: tuple[int, int]) -> None:
    child.keep("volume", 0)
    child.keep("volume", pipe[0])
    keeper._hear()
    os.write(pipe[1], b"the later one")
    assert os.read(keeper.store["volume"], 20) == b"the later one"


def test_a_stranger_is_not_heard(keeper: MountHolder, child: Supervisor, pipe: tuple[int, int]) -> None:
    keeper.child = ME + 1
    before = len(os.listdir("/proc/self/fd"))
    child.keep("volume", pipe[0])
    child.notify("READY=1")
    keeper._hear()
    assert (keeper.store, keeper.ready) == ({}, False)
    assert len(os.listdir("/proc/self/fd")) == before, "what came with it is closed"


@pytest.mark.parametrize("message", ["", "FDSTORE=1", "FDSTORE=1\nFDNAME=", "FDSTORE=1\nFDNAME=a:b", "=\n=", "\0\xff"])
def test_words_that_make_no_sense_keep_nothing(
    keeper: MountHolder, child: Supervisor, pipe: tuple[int, int], message: str
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    child.notify(message, [pipe[0], pipe[1]])
    child.notify(message, [pipe[0]] if "FDNAME=" not in message or message.endswith(("=", "b")) else [])
    keeper._hear()
    assert keeper.store == {} and len(os.listdir("/proc/self/fd")) == before


AGAIN = None


@pytest.mark.parametrize(
    ("kept", "was_ready", "told", "status", "then"),
    [
        (False, False, False, 1, 1),  # it never ran: the keeper fails as it did
        (False, False, False, -9, 137),
        (False, True, False, 0, 0),  # it unmounted and ended in order
        (True, True, False, 0, AGAIN),  # it left the mount to the next one
        (True, True, False, -9, AGAIN),
        (True, False, False, -9, AGAIN),  # died after it had mounted, before it was ready
        (True, True, False, 1, AGAIN),
        (False, True, False, 1, AGAIN),  # somebody took its mount away
        (True, True, True, 0, 0),
        (True, True, True, -15, 143),
        (False, True, True, 3, 3),
        (True, True, False, -34, AGAIN),  # a signal without a name
    ],
)
def test_what_comes_after_the_end_of_a_child(
    keeper: MountHolder, kept: bool, was_ready: bool, told: bool, status: int, then: int | None
) -> None:
    if kept:
        keeper.store["volume"] = os.open("/dev/null", os.O_RDONLY)
    keeper._ever_ready, keeper._told = was_ready, told
    assert keeper._after(status) == then


def test_pauses_grow_while_nothing_works_and_end_when_it_does(keeper: MountHolder) -> None:
    keeper._ever_ready = True
    pauses = []
    for _ in range(9):
        keeper._after(1)
        pauses.append(keeper._pause)
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS]
    keeper.ready, keeper._began = True, 0.0
    keeper._after(-9)
    assert keeper._pause == 0.0


def test_no_child_can_be_had_for_a_moment(keeper: MountHolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError(11, "no more processes")

    monkeypatch.setattr(os, "fork", fork)
    keeper.child = 0
    keeper._start()
    assert keeper._watch() is AGAIN
    assert keeper._pause > 0


def test_it_needs_nothing_but_the_standard_library() -> None:
    """It must stay small, and have nothing that can fail."""
    heavy = "{m.split('.')[0] for m in sys.modules} & {'trio', 'click'}"
    script = f"import sys, fmrd.front.daemon.mount_holder; print(sorted({heavy}))"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_child_whose_last_call_hangs_is_left_behind(keeper: MountHolder, tmp_path: Path) -> None:
    """No signal tells of it: its first thread has ended, and its end is not reported before that of all others."""
    with left_behind(tmp_path) as (process, _):
        keeper.child = process.pid
        assert [keeper._reaped() for _ in range(LEFT_LOOKS + 2)] == [None] * (LEFT_LOOKS + 2)
        end_first_thread(process)
        looks = [keeper._reaped() for _ in range(LEFT_LOOKS + 1)]
        assert looks == [None] * LEFT_LOOKS + [-signal.SIGKILL]
        assert (keeper.child, keeper._left) == (0, [process.pid])
        keeper.child = another = os.fork()
        if not another:
            os._exit(3)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        os.waitid(os.P_PID, another, os.WEXITED | os.WNOWAIT)
        assert keeper._reaped() == 3
        assert keeper._left == [], "and it is no zombie any more"
        process.returncode = -signal.SIGKILL  # it was waited for
