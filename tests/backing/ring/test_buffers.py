"""Where memory lies: what is found there is what was put there."""

import ctypes
import mmap

import pytest

from fmrd.backing.ring import buffers
from fmrd.backing.ring.buffers import Pool, address_of

TEXT = b"where it lies"


@pytest.mark.parametrize(
    "buffer",
    [TEXT, bytearray(TEXT), memoryview(TEXT), memoryview(bytearray(TEXT)), memoryview(b"not " + TEXT)[4:],
     memoryview(bytearray(b"not " + TEXT + b" any more"))[4:-9]],
    ids=["bytes", "bytearray", "read-only", "writable", "read-only part", "writable part"],
)  # fmt: skip
def test_the_address_is_that_of_the_bytes(buffer: bytes | bytearray | memoryview) -> None:
    assert ctypes.string_at(address_of(buffer), len(buffer)) == TEXT


def test_a_bytearray_may_change_its_length_afterwards() -> None:
    buffer = bytearray(TEXT)
    address_of(buffer)
    buffer += TEXT
    for view in (memoryview(buffer), memoryview(bytes(buffer))):
        address_of(view)
        view.release()  # BufferError if it were still looked at


def test_nothing_may_lie_anywhere() -> None:
    for buffer in (b"", bytearray(), memoryview(b"")):
        address_of(buffer)


def test_bytes_that_lie_apart_have_no_address() -> None:
    for buffer in (bytearray(TEXT), TEXT):
        with pytest.raises((BufferError, TypeError)):
            address_of(memoryview(buffer)[::2])


def test_memory_of_a_pool_is_used_again_when_nobody_refers_to_it() -> None:
    pool = Pool(2 * mmap.PAGESIZE, 2)
    first, second = pool.take(), pool.take()
    first[:], second[:] = b"a" * len(first), b"b" * len(second)
    where = address_of(first), address_of(second)
    part = first[100:200]
    del first
    third = pool.take()
    third[:] = b"c" * len(third)
    assert address_of(third) not in where  # for a part of the first is referred to
    assert bytes(part) == b"a" * 100
    assert bytes(second[-100:]) == b"b" * 100
    del part, third
    assert address_of(pool.take()) == where[0]
    assert all(address_of(each) % mmap.PAGESIZE == 0 for each in (second, pool.take()))


def test_memory_beyond_what_a_pool_keeps_is_given_back() -> None:
    pool = Pool(mmap.PAGESIZE, 1)
    taken = [pool.take() for _ in range(5)]
    where = [address_of(each) for each in taken]
    assert len(set(where)) == 5
    del taken
    kept = pool.take()
    assert address_of(kept) == where[0]


def test_this_python_tells_what_is_in_use() -> None:
    assert buffers._REFERENCES, "else every large write takes new memory"


def test_all_pages_of_a_pools_memory_are_there_at_once() -> None:
    """A process that is killed while the kernel looks for one would take the request with it that was to be put there
    (EIO, about one kill in forty under large writes).
    """
    for pages in (1, 3, 257):
        view = Pool(pages * mmap.PAGESIZE, 2).take()
        found = (ctypes.c_ubyte * pages)()
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.mincore(ctypes.c_void_p(address_of(view)), ctypes.c_size_t(len(view)), found) == 0
        assert all(each & 1 for each in found), "resident"
