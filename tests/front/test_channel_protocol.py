"""The codec: what a kernel (6.18, protocol 7.45) really sent, and whatever else may come."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmrd.front.doors.channel import protocol, replies
from fmrd.front.doors.channel.handles import SLOTS, Handles
from fmrd.front.doors.channel.protocol import IN_HEADER, UNIQUE_RESEND, Init, Malformed, Offer, Op, Session

INIT = bytes.fromhex(
    "680000001a00000002000000000000000000000000000000000000000000000000000000000000000700"
    "00002d00000000000200fbffff73fd05000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000000000"
)
FALLOCATE = bytes.fromhex(
    "480000002b00000028000000000000008cd0ccdd577d00000000000000000000e048000000000000"
    "0100000000000000000001000000000000000100000000000300000000000000"
)
RENAME2 = bytes.fromhex("2a00000001000000060000000000000001000000000000000000000000000000ac480000000000007600")
LSEEK = bytes.fromhex(
    "400000002e00000012000000000000008cd0ccdd577d00000000000000000000de48000000000000"
    "010000000000000000000000000000000400000000000000"
)


def body(request: bytes) -> bytes:
    assert IN_HEADER.unpack_from(request)[0] == len(request)
    return request[IN_HEADER.size :]


def test_a_recorded_init_is_negotiated() -> None:
    offer = protocol.offer_of(body(INIT))
    assert (offer.major, offer.minor, offer.max_readahead) == (7, 45, 128 << 10)
    session = protocol.negotiate(offer)
    assert session is not None and session.minor == 45 and session.resends
    assert session.flags == protocol.WANTED
    answer = protocol.pack_init(session, offer, 4096)
    assert len(answer) == 64
    assert int.from_bytes(answer[20:24], "little") == 1 << 20, "max_write"
    assert int.from_bytes(answer[28:30], "little") == 256, "max_pages"


def test_recorded_requests_are_read() -> None:
    handle, offset, length, mode, _ = protocol.fixed_of(Op.FALLOCATE, body(FALLOCATE))
    assert (handle, offset, length) == (1, 65536, 65536)
    assert mode == protocol.PUNCH_HOLE | protocol.KEEP_SIZE
    assert protocol.fixed_of(Op.LSEEK, body(LSEEK))[:3] == (1, 0, os.SEEK_HOLE)
    assert protocol.name_of(body(RENAME2)) == b"v"


def test_nothing_is_taken_that_was_not_offered_and_nothing_unwanted() -> None:
    everything = Offer(7, 45, 0, (1 << 64) - 1)
    nothing = Offer(7, 45, 0, 0)
    taken, none = protocol.negotiate(everything), protocol.negotiate(nothing)
    assert taken is not None and taken.flags == protocol.WANTED
    assert none is not None and none.flags == 0 and not none.resends


@pytest.mark.parametrize(("major", "minor", "agreed"), [(6, 45, None), (7, 30, None), (7, 31, 31), (7, 99, 45)])
def test_versions(major: int, minor: int, agreed: int | None) -> None:
    session = protocol.negotiate(Offer(major, minor, 0, 0))
    assert (session.minor if session is not None else None) == agreed


def test_high_flags_count_only_with_init_ext() -> None:
    low = Init.MAX_PAGES.to_bytes(4, "little")
    request = (7).to_bytes(4, "little") + (45).to_bytes(4, "little") + bytes(4) + low + b"\xff" * 4
    assert protocol.offer_of(request).flags == Init.MAX_PAGES


@given(st.sampled_from(sorted(protocol.FIXED)), st.binary(max_size=100))
def test_a_fixed_part_is_read_or_malformed(opcode: Op, data: bytes) -> None:
    layout = protocol.FIXED[opcode]
    if len(data) < layout.size:
        with pytest.raises(Malformed):
            protocol.fixed_of(opcode, data)
    else:
        assert layout.pack(*protocol.fixed_of(opcode, data)) == data[: layout.size]


@given(st.binary(max_size=40))
def test_a_name_ends_or_is_malformed(data: bytes) -> None:
    if b"\0" not in data or data.startswith(b"\0"):
        with pytest.raises(Malformed):
            protocol.name_of(data)
    else:
        assert protocol.name_of(data) == data[: data.index(b"\0")]


@given(st.binary(max_size=255), st.integers(0, 2**64 - 1), st.integers(0, 2**63 - 1))
def test_names_of_a_listing_begin_on_eight_bytes(name: bytes, inode: int, offset: int) -> None:
    record = replies.pack_dirent(inode, offset, 8, name)
    assert len(record) % 8 == 0
    assert record[24 : 24 + len(name)] == name


# Handles: what outlives the daemon


def test_a_daemon_that_takes_over_finds_what_was_open_and_negotiated() -> None:
    first = Handles()
    first.session = Session(45, Init.HAS_RESEND | Init.MAX_PAGES, 1 << 20)
    a, b = first.take(7, 100), first.take(8, 102)
    first.give_back(a)
    second = Handles(os.dup(first.descriptor))
    assert dict(second) == {b: 8}
    assert second.session == first.session
    first.close()
    second.close()


def test_an_open_that_is_sent_again_counts_once() -> None:
    first = Handles()
    handle = first.take(7, 100)
    second = Handles(os.dup(first.descriptor))
    assert second.take(7, 100 | UNIQUE_RESEND) == handle
    assert len(second) == 1
    first.close()
    second.close()


def test_memory_of_another_size_is_refused() -> None:
    descriptor = os.memfd_create("other")
    with pytest.raises(ValueError, match="another size"):
        Handles(descriptor)
    os.close(descriptor)


def test_no_more_than_all_of_them() -> None:
    handles = Handles()
    taken = {handles.take(1, unique) for unique in range(1, SLOTS)}
    assert len(taken) == SLOTS - 1 and 0 not in taken
    assert handles.take(1, SLOTS) == 0
    handles.give_back(17)
    assert handles.take(1, SLOTS) == 17
    handles.close()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=40))
def test_memory_and_table_always_agree(steps: list[tuple[bool, int]]) -> None:
    handles, model, unique = Handles(), dict[int, int](), 1
    for opens, which in steps:
        if opens:
            unique += 1
            model[handles.take(which + 1, unique)] = which + 1
        elif model:
            handle = sorted(model)[which % len(model)]
            assert handles.give_back(handle) == model.pop(handle)
            assert handles.give_back(handle) is None
    again = Handles(os.dup(handles.descriptor))
    assert dict(handles) == dict(again) == model
    handles.close()
    again.close()
