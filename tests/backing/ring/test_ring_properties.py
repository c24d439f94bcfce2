"""Whatever is pushed ends once, with its own result: on files and a model, or on a kernel that does as it likes."""

import errno
import os
from collections import Counter
from tempfile import TemporaryFile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmrd.backing.ring.buffers import Pool, address_of
from fmrd.backing.ring.ring import Ring
from tests.backing.ring.conftest import MakeRing
from tests.backing.ring.kernel import REFUSALS, Kernel

PAGE = 4096
PAGES = 8
LATE_SECONDS = 30.0

requests = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["write", "read"]), st.integers(0, PAGES - 1), st.booleans()),
        st.tuples(st.sampled_from(["fdatasync", "submit", "reap", "let end"]), st.just(0), st.just(False)),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(entries=st.sampled_from([1, 2, 4, 16]), steps=requests)
def test_files_hold_what_was_written(entries: int, steps: list[tuple[str, int, bool]]) -> None:
    """No two requests are under way on a page at once: the mirror sees to that (rule 10), and so does this."""
    try:
        ring = Ring(entries)
    except OSError as error:
        pytest.skip(f"needs io_uring: {error}")
    pool = Pool(PAGE, PAGES)
    busy: set[int] = set()
    model = bytearray(PAGE * PAGES)
    flushes = [0, 0]
    with TemporaryFile() as file:
        file.truncate(PAGE * PAGES)

        def flushed(result: int) -> None:
            assert result == 0
            flushes[1] += 1

        def begin(kind: str, page: int, in_worker: bool, mark: int) -> None:
            at, buffer = page * PAGE, pool.take()
            busy.add(page)

            def ended(result: int) -> None:
                assert result == PAGE
                assert bytes(buffer) == model[at : at + PAGE]
                busy.remove(page)

            buffer[:] = bytes([mark]) * PAGE
            if kind == "write":
                model[at : at + PAGE] = buffer
            call = ring.write if kind == "write" else ring.read
            call(file.fileno(), address_of(buffer), PAGE, at, ended, buffer, in_worker)

        for mark, (kind, page, in_worker) in enumerate(steps, 1):
            if kind in ("write", "read"):
                while page in busy:
                    assert ring.wait(LATE_SECONDS)
                begin(kind, page, in_worker, mark)
            elif kind == "fdatasync":
                flushes[0] += 1
                ring.fdatasync(file.fileno(), flushed)
            elif kind == "submit":
                ring.submit()
            elif kind == "reap":
                ring.reap()
            else:
                _let_end(ring)
        _let_end(ring)
        assert not busy and flushes[0] == flushes[1]
        assert os.pread(file.fileno(), PAGE * PAGES, 0) == model
    ring.close()


def _let_end(ring: Ring) -> None:
    while ring.outstanding:
        assert ring.wait(LATE_SECONDS)


STARTS = (0, 0xFFFFFFFF, 0xFFFFFFF0, 0x7FFFFFFE)
actions = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.integers(1, 9)),
        st.tuples(st.just("end"), st.integers(0, 1000)),
        st.tuples(st.just("answer"), st.sampled_from([*REFUSALS, 1, 2])),
        st.tuples(st.sampled_from(["submit", "reap"]), st.just(0)),
    ),
    max_size=120,
)


@settings(max_examples=300, deadline=None)
@given(
    entries=st.sampled_from([1, 2, 8]), start=st.sampled_from([0, 0xFFFFFFFF, 0xFFFFFFF0, 0x7FFFFFFE]), steps=actions
)
def test_each_ends_once_whatever_the_kernel_does(entries: int, start: int, steps: list[tuple[str, int]]) -> None:
    kernel = Kernel(entries, start)
    with pytest.MonkeyPatch.context() as patch:
        kernel.install(patch)
        ring = Ring(entries)
        given_by_kernel: dict[int, int] = {}
        told: Counter[int] = Counter()
        pushed = 0

        def push() -> None:
            nonlocal pushed
            pushed += 1
            number = pushed  # as the ring numbers them, too

            def ended(result: int) -> None:
                told[number] += 1
                assert result == given_by_kernel.get(number, -errno.EAGAIN)

            ring.write(0, 0, 1, 0, ended, None)

        def end(which: int) -> None:
            if kernel.under_way:
                index = which % len(kernel.under_way)
                given_by_kernel[kernel.under_way[index]] = which
                kernel.end(index, which)

        for action, argument in steps:
            if action == "push":
                for _ in range(argument):
                    push()
            elif action == "end":
                end(argument)
            elif action == "answer":
                kernel.takes.append(argument)
            elif action == "submit":
                ring.submit()
            else:
                ring.reap()
            assert ring.outstanding == pushed - told.total()
        kernel.takes.clear()
        ring.submit()
        while kernel.under_way:
            end(7)
        ring.reap()
        assert ring.outstanding == 0
        assert told == Counter(range(1, pushed + 1))
        ring.close()


def test_ends_that_found_no_place_are_not_lost(make_ring: MakeRing) -> None:
    """The kernel's queue of ends overflows for real: nobody reaps while many more end than it holds."""
    ring = make_ring(1)
    count = 8 * ring._cq_entries
    seen: list[int] = []
    for _ in range(count):
        ring.write(-1, 0, 1, 0, seen.append, None)
        ring.submit()
    assert ring._words[ring._sq_flags] & 2, "the queue of ends did not overflow"
    assert ring.reap() == count and seen == [-errno.EBADF] * count
