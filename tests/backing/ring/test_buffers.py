"""Where memory lies: what is found there is what was put there."""

import ctypes
import mmap

import pytest

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


def test_a_pool_has_so_many_buffers_on_pages_of_their_own() -> None:
    pool = Pool(2 * mmap.PAGESIZE, 3)
    taken = [pool.take() for _ in range(3)]
    assert pool.take() is None
    buffers = [each for each in taken if each is not None]
    for number, each in enumerate(buffers):
        assert each.address % mmap.PAGESIZE == 0
        each.memory[:] = bytes([number]) * len(each.memory)
    assert [ctypes.string_at(each.address, 2 * mmap.PAGESIZE) for each in buffers] == [
        bytes([number]) * 2 * mmap.PAGESIZE for number in range(3)
    ]
    pool.give_back(buffers[1])
    assert pool.take() is buffers[1]


def test_a_pool_is_of_whole_pages() -> None:
    with pytest.raises(AssertionError, match="no whole pages"):
        Pool(1000, 1)
