"""Locks that end with the process. With a call that hangs for real: tests/e2e/test_left_behind.py."""

import contextlib
import errno
import os
import threading
from pathlib import Path

import pytest

from fmrd.backing import libc
from fmrd.backing.owning.locking import Lock
from tests.e2e.harness import until


@contextlib.contextmanager
def opened(path: Path):  # type: ignore[no-untyped-def]  # a descriptor
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def thread_of(lock: Lock) -> Path:
    return Path(f"/proc/self/task/{lock._thread.native_id}")


def test_one_owner_until_it_is_released(tmp_path: Path) -> None:
    with opened(tmp_path / "file") as descriptor:
        lock = Lock(descriptor)
    with opened(tmp_path / "file") as another:
        with pytest.raises(BlockingIOError):
            Lock(another)
        lock.release()
        Lock(another).release()
    until(lambda: not thread_of(lock).exists(), "its thread ends with it, whether it was had or not")


def test_it_shares_no_descriptor_with_other_threads(tmp_path: Path) -> None:
    """So a thread that hangs in a call keeps none of it, when the process is killed."""
    with opened(tmp_path / "file") as descriptor, opened(tmp_path / "another"):
        lock = Lock(descriptor)
        mine = [os.readlink(each) for each in (thread_of(lock) / "fd").iterdir() if int(each.name) > 2]
        others = [os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.exists()]
    assert mine == [str(tmp_path / "file")]
    assert others.count(str(tmp_path / "file")) == 1
    lock.release()


def test_a_call_that_only_the_owner_may_make(tmp_path: Path) -> None:
    with opened(tmp_path / "file") as descriptor:
        lock = Lock(descriptor)
        threads: list[int] = []
        lock.run(lambda mine: threads.append(threading.get_native_id()) or os.ftruncate(mine, 100))  # type: ignore[func-returns-value]  # both are done
        assert threads == [lock._thread.native_id]
        assert os.fstat(descriptor).st_size == 100

        def fail(_: int) -> None:
            raise OSError(errno.EIO, "no")

        with pytest.raises(OSError, match="no"):
            lock.run(fail)
        lock.release()


def test_where_the_kernel_cannot_part_them_it_is_a_lock_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libc, "part_with_descriptors", lambda: False)
    with opened(tmp_path / "file") as descriptor:
        lock = Lock(descriptor)
        with pytest.raises(BlockingIOError):
            Lock(descriptor)
        lock.release()
        Lock(descriptor).release()


def test_no_thread_for_it_is_no_fact_about_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with opened(tmp_path / "file") as descriptor, pytest.raises(OSError, match="no thread can be started") as caught:
        Lock(descriptor)
    assert caught.value.errno == errno.EAGAIN
