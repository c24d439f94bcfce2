"""Replies become the ends of requests: each once, with its own bytes, however they are cut; and nothing else does."""

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmrd.backing.nbd.speaking import abi
from fmrd.backing.nbd.speaking.negotiation import Malformed
from fmrd.backing.nbd.speaking.replies import Over, Replies, Request
from fmrd.errors import Answered
from tests.backing.nbd.fake import CONTEXT, chunk, data, simple

LENGTH = 10_000


def nobody(error: Exception | None) -> None:
    raise AssertionError("replies tell nobody by themselves")


class Asking:
    """A read with cookie 1, a write with 2, a flush with 3, a question for holes with 4."""

    def __init__(self, *, structured: bool = True) -> None:
        self.buffer = bytearray(LENGTH)
        self.read = Request(abi.READ, 500, LENGTH, nobody, buffer=memoryview(self.buffer))
        self.write = Request(abi.WRITE, 0, 100, nobody, data=bytes(100))
        self.flush = Request(abi.FLUSH, 0, 0, nobody)
        self.status = Request(abi.BLOCK_STATUS, 0, 1 << 20, nobody)
        self.under_way: dict[int, Request] = {}
        for cookie, request in enumerate((self.read, self.write, self.flush, self.status), 1):
            request.cookie = cookie
            self.under_way[cookie] = request
        self.replies = Replies(self.under_way, structured=structured, context=CONTEXT if structured else None)

    def hear(self, said: bytes, most: int = 1 << 20) -> list[Over]:
        """At most so many bytes at a time."""
        over: list[Over] = []
        while said:
            room = self.replies.room()
            count = min(len(room), len(said), most)
            assert count
            room[:count] = said[:count]
            said = said[count:]
            try:
                self.replies.took(count)
            finally:
                over += self.replies.over()
        return over


CONTENT = bytes(range(250)) * 40


@pytest.mark.parametrize("most", [1, 3, 17, 4096, 1 << 20])
def test_each_ends_once_with_its_own_bytes_however_they_are_cut(most: int) -> None:
    asking = Asking()
    said = (
        chunk(abi.NONE, 3)
        + data(1, 500 + 6000, CONTENT[6000:], done=False)
        + simple(2)
        + chunk(abi.OFFSET_HOLE, 1, struct.pack(">QI", 500, 1000), done=False)
        + data(1, 1500, CONTENT[1000:6000])
        + chunk(abi.STATUS, 4, struct.pack(">IIIII", CONTEXT, 4096, 3, 1 << 21, 0))
    )
    over = asking.hear(said, most)
    assert over == [(asking.flush, None), (asking.write, None), (asking.read, None), (asking.status, None)]
    assert bytes(asking.buffer) == bytes(1000) + CONTENT[1000:]
    assert asking.status.extents == [(4096, True), (1 << 21, False)]
    assert not asking.under_way


def test_simple_answers_carry_data_where_nothing_else_was_agreed_on() -> None:
    asking = Asking(structured=False)
    assert asking.hear(simple(1) + CONTENT + simple(2, 28))[0] == (asking.read, None)
    assert bytes(asking.buffer) == CONTENT


@pytest.mark.parametrize(
    ("said", "number"),
    [
        (simple(2, 28), errno.ENOSPC), (simple(2, 5), errno.EIO), (simple(2, 99), errno.EIO),
        (simple(2, 12), errno.EIO),
        (chunk(abi.ERROR, 2, struct.pack(">IH", 1, 4) + b"\x1b[1m"), errno.EPERM),
        (chunk(abi.ERROR_OFFSET, 2, struct.pack(">IHQ", 5, 0, 17)), errno.EIO),
        (chunk(abi.IS_ERROR | 77, 2, struct.pack(">IH", 95, 2) + b"no" + b"more"), errno.EOPNOTSUPP),
    ],
)  # fmt: skip
def test_an_error_is_an_answer_and_its_words_are_made_safe(said: bytes, number: int) -> None:
    asking = Asking()
    [(request, error)] = asking.hear(said)
    assert request is asking.write and isinstance(error, Answered) and error.errno == number
    assert "\x1b" not in str(error) and "write at 0" in str(error)


def test_a_read_that_fails_in_the_middle_has_failed() -> None:
    asking = Asking()
    said = data(1, 500, CONTENT[:100], done=False) + chunk(abi.ERROR, 1, struct.pack(">IH", 5, 0))
    [(request, error)] = asking.hear(said)
    assert request is asking.read and isinstance(error, Answered)


@pytest.mark.parametrize(
    "said",
    [
        b"garbage of some length",
        simple(9),
        simple(4),
        simple(1),
        chunk(abi.NONE, 2, b"x"),
        chunk(abi.NONE, 2, done=False),
        chunk(abi.NONE, 1),
        chunk(abi.NONE, 4),
        chunk(6, 2, b"1234"),
        data(1, 499, b"x"),
        data(1, 500, bytes(LENGTH + 1)),
        data(1, 500 + LENGTH, b"x"),
        data(1, 500, CONTENT[:-1]),
        data(1, 500, b""),
        data(2, 0, b"x"),
        data(1, 500, CONTENT, done=False) + data(1, 500, b"x"),
        data(1, 500, CONTENT[:100], done=False) + data(1, 550, CONTENT[50:-1]),
        chunk(abi.OFFSET_HOLE, 1, struct.pack(">QI", 500, LENGTH + 1)),
        chunk(abi.OFFSET_HOLE, 1, struct.pack(">QI", 500, 0)),
        chunk(abi.OFFSET_HOLE, 1, b"x" * 11),
        chunk(abi.STATUS, 4, struct.pack(">III", CONTEXT + 1, 4096, 0)),
        chunk(abi.STATUS, 4, struct.pack(">III", CONTEXT, 0, 0)),
        chunk(abi.STATUS, 4, struct.pack(">I", CONTEXT)),
        chunk(abi.STATUS, 4, struct.pack(">I", CONTEXT) + b"12345"),
        chunk(abi.STATUS, 3, struct.pack(">III", CONTEXT, 4096, 0)),
        abi.CHUNK.pack(abi.CHUNK_MAGIC, abi.DONE, abi.STATUS, 4, 1 << 31),
        abi.CHUNK.pack(abi.CHUNK_MAGIC, abi.DONE, abi.ERROR, 2, 1 << 31),
        chunk(abi.ERROR, 2, struct.pack(">IH", 0, 0)),
        chunk(abi.ERROR, 2, struct.pack(">IH", 5, 9) + b"short"),
        chunk(abi.ERROR, 2, b"x"),
        chunk(abi.OFFSET_HOLE, 1, struct.pack(">QI", 500, 1), done=False) * 1000,
    ],
)
def test_what_fits_no_request_is_not_believed(said: bytes) -> None:
    asking = Asking()
    with pytest.raises(Malformed):
        asking.hear(said)
    assert asking.under_way, "it has not ended by that"


def test_chunks_are_no_answers_where_they_were_not_agreed_on() -> None:
    with pytest.raises(Malformed):
        Asking(structured=False).hear(chunk(abi.NONE, 3))


def test_what_ended_before_the_garbage_has_ended() -> None:
    asking = Asking()
    asking.replies.room()[:32] = simple(2) + b"g" * 16
    with pytest.raises(Malformed):
        asking.replies.took(32)
    assert asking.replies.over() == [(asking.write, None)]


@given(st.lists(st.one_of(
    st.binary(max_size=40),
    st.builds(simple, st.integers(0, 5), st.integers(0, 200)),
    st.builds(chunk, st.sampled_from([0, 1, 2, 5, 32769, 32770, 40000]), st.integers(0, 5), st.binary(max_size=40)),
    st.builds(data, st.integers(0, 5), st.integers(400, 11_000), st.binary(max_size=600)),
), max_size=8), st.integers(1, 300))  # fmt: skip
def test_no_bytes_break_it(said: list[bytes], most: int) -> None:
    asking = Asking()
    before = set(asking.under_way.values())
    over: list[Over] = []
    try:
        over = asking.hear(b"".join(said), most)
    except Malformed:
        return
    ended = [request for request, _ in over]
    assert len(set(ended)) == len(ended) and set(ended) == before - set(asking.under_way.values())
