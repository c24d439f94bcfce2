"""Requests go through a real ring, to real files: they end once, with what the kernel says of them."""

import ctypes
import errno
import fcntl
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path
from weakref import ref

import pytest

from fmrd.backing.ring import abi
from fmrd.backing.ring import ring as ring_module
from fmrd.backing.ring.buffers import address_of
from fmrd.backing.ring.ordering import barrier_of
from fmrd.backing.ring.ring import WORKERS, Ring
from tests.backing.disks import mounted
from tests.backing.ring.conftest import MakeRing

PAGE = 4096
LATE_SECONDS = 30.0


def write(ring: Ring, descriptor: int, data: bytes, offset: int, ended: Callable[[int], None]) -> None:
    ring.write(descriptor, address_of(data), len(data), offset, ended, data)


def let_end(ring: Ring) -> None:
    while ring.outstanding:
        assert ring.wait(LATE_SECONDS), "nothing ends"


def readable(ring: Ring, seconds: float = 0) -> bool:
    poll = select.poll()
    poll.register(ring.fileno(), select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def test_what_was_written_is_read(ring: Ring, file: int) -> None:
    results: list[int] = []
    write(ring, file, b"abc" * PAGE, 5, results.append)
    assert ring.outstanding == 1
    let_end(ring)
    into = bytearray(3 * PAGE)
    ring.fdatasync(file, results.append)
    ring.read(file, address_of(into), len(into), 5, results.append, into)
    let_end(ring)
    assert sorted(results) == [0, 3 * PAGE, 3 * PAGE]
    assert into == b"abc" * PAGE == os.pread(file, 9 * PAGE, 5)
    assert ring.reap() == 0


def test_nothing_begins_before_it_is_handed_over(ring: Ring, file: int) -> None:
    write(ring, file, b"later", 0, lambda _: None)
    assert ring.reap() == 0 and os.fstat(file).st_size == 0
    let_end(ring)
    assert os.fstat(file).st_size == 5


def test_more_than_the_queue_holds_are_handed_over_by_themselves(make_ring: MakeRing, file: int) -> None:
    """Also more than the queue of ends holds."""
    ring = make_ring(2)
    seen: list[int] = []
    for number in range(100):
        write(ring, file, bytes([number]) * PAGE, number * PAGE, lambda result, number=number: seen.append(number))
    assert ring.outstanding == 100
    let_end(ring)
    assert sorted(seen) == list(range(100))
    assert os.pread(file, 100 * PAGE, 0) == b"".join(bytes([number]) * PAGE for number in range(100))


def test_errors_are_those_of_the_kernel(ring: Ring, file: int, tmp_path: Path) -> None:
    reading = os.open(tmp_path / "file", os.O_RDONLY)
    closed = os.dup(file)
    os.close(closed)
    results: dict[str, int] = {}
    write(ring, closed, b"x", 0, lambda result: results.update(closed=result))
    write(ring, reading, b"x", 0, lambda result: results.update(reading=result))
    ring.write(file, 8, PAGE, 0, lambda result: results.update(memory=result), None)
    write(ring, file, b"good", 0, lambda result: results.update(good=result))
    let_end(ring)
    os.close(reading)
    assert results == {"closed": -errno.EBADF, "reading": -errno.EBADF, "memory": -errno.EFAULT, "good": 4}


def test_an_end_of_file_cuts_a_read_short(ring: Ring, file: int) -> None:
    os.pwrite(file, b"short", 0)
    into, results = bytearray(PAGE), list[int]()
    ring.read(file, address_of(into), PAGE, 2, results.append, into)
    ring.read(file, address_of(into), PAGE, 5, results.append, into)
    let_end(ring)
    assert sorted(results) == [0, 3]


def test_a_full_disk_cuts_a_write_short(make_ring: MakeRing, tmp_path: Path) -> None:
    ring = make_ring(4)
    with mounted(tmp_path, "ext4") as where:
        file = os.open(where / "file", os.O_RDWR | os.O_CREAT)
        space = os.fstatvfs(file)
        data = bytes(space.f_bfree * space.f_frsize + (1 << 20))
        results: list[int] = []
        write(ring, file, data, 0, results.append)
        let_end(ring)
        write(ring, file, data, results[0], results.append)
        let_end(ring)
        os.close(file)
    assert 0 < results[0] < len(data) and results[1] == -errno.ENOSPC


def test_a_request_that_does_not_end_holds_up_no_other(ring: Ring, file: int) -> None:
    out, into = os.pipe()
    buffer, results = bytearray(10), list[int]()
    ring.read(out, address_of(buffer), 10, 0, results.append, buffer)
    ring.submit()
    write(ring, file, b"meanwhile", 0, results.append)
    assert ring.wait(LATE_SECONDS) == 1 and results == [9]
    assert ring.wait(0.001) == 0 and ring.outstanding == 1
    with pytest.raises(AssertionError, match="1 requests under way"):
        ring.close()
    os.write(into, b"at last")
    let_end(ring)
    os.close(out)
    os.close(into)
    assert results == [9, 7] and buffer[:7] == b"at last"


def test_the_descriptor_is_readable_while_ends_wait(ring: Ring, file: int) -> None:
    assert not readable(ring)
    write(ring, file, b"x", 0, lambda _: None)
    assert not readable(ring)
    ring.submit()
    assert readable(ring, LATE_SECONDS) and readable(ring)
    assert ring.reap() == 1 and not readable(ring)


def test_who_is_told_may_push_more(ring: Ring, file: int) -> None:
    left = [50]

    def again(result: int) -> None:
        left[0] -= 1
        if left[0] > 0:
            write(ring, file, b"again", 5 * left[0], again)

    write(ring, file, b"first", 0, again)
    let_end(ring)
    assert left == [0] and os.pread(file, 1000, 5) == b"again" * 49


def test_what_one_raises_takes_no_end_from_another(ring: Ring, file: int) -> None:
    seen: list[int] = []

    def wrong(result: int) -> None:
        raise ValueError(f"wrong {result}")

    def push(*tell: Callable[[int], None]) -> None:
        for each in tell:
            write(ring, file, b"x", 0, each)
        ring.submit()
        while not readable(ring, LATE_SECONDS) or len(tell) > _ends(ring):
            pass

    push(wrong, seen.append)
    with pytest.raises(ValueError, match="wrong 1"):
        ring.reap()
    assert seen == [1] and ring.outstanding == 0
    push(wrong, seen.append, wrong)
    with pytest.raises(ExceptionGroup, match="several") as caught:
        ring.reap()
    assert len(caught.value.exceptions) == 2 and seen == [1, 1] and ring.outstanding == 0


def _ends(ring: Ring) -> int:
    return (ring._words[ring._cq_tail] - ring._head) & 0xFFFFFFFF


def test_a_buffer_lives_until_the_end_and_no_longer(ring: Ring) -> None:
    class Kept:
        pass

    out, into = os.pipe()
    buffer, keep = bytearray(1), Kept()
    alive = ref(keep)
    ring.read(out, address_of(buffer), 1, 0, lambda _: None, keep)
    del keep
    ring.submit()
    assert alive() is not None
    os.write(into, b"x")
    let_end(ring)
    os.close(out)
    os.close(into)
    assert alive() is None


def test_a_ring_that_is_forgotten_lives_until_it_is_closed() -> None:
    try:
        ring = Ring(2)
    except OSError as error:
        pytest.skip(f"needs io_uring: {error}")
    count = sys.getrefcount(ring)
    ring.close()
    ring.close()  # the second one does nothing
    assert sys.getrefcount(ring) == count - 1


def test_a_child_gets_nothing_of_it(ring: Ring) -> None:
    assert fcntl.fcntl(ring.fileno(), fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    assert {"dc"} <= _flags("io_uring")


def _flags(name: str) -> set[str]:
    """Of the memory that is mapped under that name: those that all pieces have."""
    found: list[set[str]] = []
    ours = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            ours = name in line
        elif ours and line.startswith("VmFlags:"):
            found.append(set(line.split()[1:]))
    assert found
    return set.intersection(*found)


@pytest.mark.parametrize(("machine", "needed"), [("x86_64", False), ("aarch64", True), ("riscv64", True)])
def test_loads_are_kept_in_order_where_the_processor_does_not(
    ring: Ring, file: int, monkeypatch: pytest.MonkeyPatch, machine: str, needed: bool
) -> None:
    barrier = barrier_of(machine)
    assert (barrier is not None) == needed
    monkeypatch.setattr(ring_module, "barrier", barrier)
    results: list[int] = []
    for _ in range(20):
        write(ring, file, b"in order", 0, results.append)
    let_end(ring)
    assert results == [8] * 20


def test_workers_are_as_many_as_is_said(ring: Ring) -> None:
    asked = ctypes.create_string_buffer(8)  # zeros: nothing is changed, and what holds is answered
    try:
        abi.register(ring.fileno(), abi.REGISTER_IOWQ_MAX_WORKERS, asked, 2)
    except OSError as error:
        pytest.skip(f"needs Linux 5.15: {error}")
    assert int.from_bytes(asked.raw[:4], sys.byteorder) == WORKERS


def test_what_the_kernel_does_not_take_ends(ring: Ring, file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    results: list[int] = []
    real, answers = abi.enter, [-errno.EINTR, 2, -errno.EAGAIN]

    def enter(descriptor: int, submit: int, wait_for: int, flags: int) -> int:
        answer = answers.pop(0)
        return real(descriptor, answer, wait_for, flags) if answer > 0 else answer

    monkeypatch.setattr(abi, "enter", enter)
    for number in range(5):
        write(ring, file, bytes([number]), number, results.append)
    ring.submit()
    monkeypatch.undo()
    let_end(ring)
    assert not answers and sorted(results) == [-errno.EAGAIN] * 3 + [1, 1]
    write(ring, file, b"z", 5, results.append)
    let_end(ring)
    assert os.pread(file, 10, 0) == b"\0\1\0\0\0z" and results[-1] == 1
