"""The channel door over a descriptor that is none: every request has one answer, whatever it is."""

import errno
import logging
import os
from typing import cast

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmrd.engine.served import Served
from fmrd.engine.serving.quick import LARGE_BYTES
from fmrd.errors import Failed
from fmrd.front.doors.channel import door
from fmrd.front.doors.channel.device import Device
from fmrd.front.doors.channel.door import LOOK_SECONDS
from fmrd.front.doors.channel.protocol import FIXED, IN_HEADER, MAX_WRITE_BYTES, UNIQUE_RESEND, Op
from fmrd.front.doors.tree import ROOT
from tests.front.channel_rig import INODE, Rig, a_read, a_write


@pytest.fixture
def rig(nursery: trio.Nursery) -> Rig:
    return Rig(nursery)


@pytest.mark.parametrize("size", [1, 4096, MAX_WRITE_BYTES])
@pytest.mark.parametrize("slow", [False, True])
async def test_what_is_written_is_read(rig: Rig, size: int, slow: bool) -> None:
    handle = await rig.open()
    rig.volume.slow = slow
    rig.volume.go.set()
    data = os.urandom(size)
    error, body = await rig.ask(Op.WRITE, a_write(handle, 0, data))
    assert (error, int.from_bytes(body[:4], "little")) == (0, size)
    assert await rig.ask(Op.READ, a_read(handle, 0, size)) == (0, data)


async def test_what_is_to_be_done_in_idle_time_is_done_when_no_request_is_there(rig: Rig) -> None:
    """Its share of the time, and without a round of the event loop, which goes on only after many requests."""
    pieces: list[int] = []

    def piece() -> bool:
        pieces.append(len(rig.wire.requests))
        rig.now += 1
        return True

    handle = await rig.open()
    rig.nursery.start_soon(rig.idle.run, piece)
    while not pieces:
        await trio.lowlevel.checkpoint()
    rig.put(Op.READ, a_read(handle, 0, 4))
    assert len(pieces) == 1, "not due yet"
    rig.now = 100
    rig.put(Op.READ, a_read(handle, 0, 4))
    assert len(pieces) == 2
    rig.wire.requests.append(IN_HEADER.pack(IN_HEADER.size, Op.FORGET, 1000, INODE, 0, 0, 0, 0, 0))
    rig.now = 200
    rig.put(Op.READ, a_read(handle, 0, 4))
    assert pieces[2:] == [0], "requests go first"


async def test_the_next_request_is_looked_for_where_the_last_one_came_soon(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To be woken takes longer. However short it looked before: from then on it finds them."""
    monkeypatch.setattr(door, "perf_counter", lambda: rig.wire.now)
    handle = await rig.open()

    def looked_for(pause: float) -> float:
        """How long, after a request that came so long after the last look."""
        rig.wire.now += pause
        rig.door._woken()
        began = rig.wire.now
        rig.put(Op.READ, a_read(handle, 0, 4))
        return rig.wire.now - began

    assert looked_for(1.0) < 5e-6
    assert LOOK_SECONDS <= looked_for(LOOK_SECONDS / 2) < 2 * LOOK_SECONDS
    assert looked_for(LOOK_SECONDS / 2) >= LOOK_SECONDS
    assert looked_for(2 * LOOK_SECONDS) < 5e-6


async def test_requests_that_wait_hold_up_no_other(rig: Rig) -> None:
    handle = await rig.open()
    rig.volume.slow = True
    waiting = rig.put(Op.WRITE, a_write(handle, 0, b"late"))
    rig.volume.slow = False
    assert (await rig.ask(Op.READ, a_read(handle, 4096, 4)))[0] == 0
    assert waiting not in rig.wire.answers
    rig.volume.go.set()
    await trio.testing.wait_all_tasks_blocked()
    assert rig.answered(waiting)[0] == 0
    assert rig.volume.content[:4] == b"late"


async def test_data_of_a_write_that_waits_is_its_own(rig: Rig) -> None:
    """The buffer that it came in holds the next request by then."""
    handle = await rig.open()
    rig.volume.slow = True
    rig.put(Op.WRITE, a_write(handle, 0, b"1" * 4096))
    rig.put(Op.WRITE, a_write(handle, 4096, b"2" * 4096))
    rig.volume.go.set()
    await trio.testing.wait_all_tasks_blocked()
    assert rig.volume.content[:8192] == b"1" * 4096 + b"2" * 4096


@pytest.mark.parametrize(("opcode", "code"), [(Op.READ, errno.EINTR), (Op.FSYNC, errno.EINTR), (Op.WRITE, 0)])
async def test_an_interrupt(rig: Rig, opcode: Op, code: int) -> None:
    """Ends a wait for a read or a flush; a write is waited for. In either case there is one answer."""
    handle = await rig.open()
    rig.volume.slow = True
    bodies = {
        Op.READ: a_read(handle, 0, 4), Op.WRITE: a_write(handle, 0, b"data"),
        Op.FSYNC: FIXED[Op.FSYNC].pack(handle, 0, 0),
    }  # fmt: skip
    waiting = rig.put(opcode, bodies[opcode])
    rig.put(Op.INTERRUPT, FIXED[Op.INTERRUPT].pack(waiting))
    rig.volume.go.set()
    await trio.testing.wait_all_tasks_blocked()
    assert rig.answered(waiting)[0] == code


@pytest.mark.parametrize(
    ("failure", "code"),
    [(Failed("beyond_end", "too far", errno=errno.ENOSPC), errno.ENOSPC), (OSError(errno.EIO, "bad"), errno.EIO)],
)
async def test_a_refusal_is_the_errno_that_a_program_knows(rig: Rig, failure: Exception, code: int) -> None:
    handle = await rig.open()
    rig.volume.failure = failure
    assert (await rig.ask(Op.WRITE, a_write(handle, 0, b"data")))[0] == code
    assert (await rig.ask(Op.READ, a_read(handle, 0, 4)))[0] == code


async def test_a_bug_is_eio_and_in_the_log(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    handle = await rig.open()
    rig.volume.failure = ZeroDivisionError("a bug")
    with caplog.at_level(logging.ERROR):
        assert (await rig.ask(Op.READ, a_read(handle, 0, 4)))[0] == errno.EIO
    assert "read failed in a way that nobody foresaw" in caplog.text


@pytest.mark.parametrize("opcode", [5, 22, 25, 31, 37, 41, 47, 49, 4096, 0xFFFFFFFF])
async def test_an_opcode_that_nobody_knows_is_enosys(rig: Rig, opcode: int) -> None:
    assert (await rig.ask(opcode, bytes(64)))[0] == errno.ENOSYS


@pytest.mark.parametrize("lie", [0, 39, 84, 1 << 31])
async def test_a_request_that_lies_about_its_length_is_refused(rig: Rig, lie: int) -> None:
    handle = await rig.open()
    assert (await rig.ask(Op.WRITE, a_write(handle, 0, b"12345"), length=lie))[0] == errno.EINVAL
    assert rig.volume.content[:5] == bytes(5)


async def test_opens_are_counted_and_released(rig: Rig) -> None:
    first, second = await rig.open(), await rig.open()
    assert first != second and rig.volume.count == 2
    release = FIXED[Op.RELEASE].pack(first, 0, 0, 0)
    assert await rig.ask(Op.RELEASE, release) == (0, b"")
    await rig.ask(Op.RELEASE, release)
    assert rig.volume.count == 1
    assert (await rig.ask(Op.READ, a_read(first, 0, 4)))[0] == errno.EIO


async def test_a_volume_is_found_by_its_name_and_no_other(rig: Rig) -> None:
    error, body = await rig.ask(Op.LOOKUP, b"v\0", inode=ROOT)
    assert (error, int.from_bytes(body[:8], "little")) == (0, INODE)
    assert (await rig.ask(Op.LOOKUP, b"w\0", inode=ROOT))[0] == errno.ENOENT
    assert (await rig.ask(Op.UNLINK, b"v\0", inode=ROOT))[0] == errno.EPERM


ANSWERLESS = {Op.FORGET, Op.BATCH_FORGET, Op.INTERRUPT}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    opcode=st.one_of(st.sampled_from(sorted(Op)), st.integers(0, 60)),
    body=st.binary(max_size=200),
    lie=st.sampled_from([None, None, 0, 40, 80, 1 << 31]),
    inode=st.sampled_from([0, ROOT, INODE, 2**64 - 1]),
)
def test_whatever_comes_has_one_answer_or_none(opcode: int, body: bytes, lie: int | None, inode: int) -> None:
    async def play() -> None:
        async with trio.open_nursery() as nursery:
            rig = Rig(nursery)
            rig.volume.go.set()
            unique = rig.put(opcode, body, inode=inode, length=lie)
            await trio.testing.wait_all_tasks_blocked()
            if opcode not in ANSWERLESS:
                assert unique in rig.wire.answers
            handle = await rig.open()
            assert (await rig.ask(Op.READ, a_read(handle, 0, 4)))[0] == 0

    trio.run(play)


# Volumes that are not open yet


def still_opening(rig: Rig) -> None:
    """As if the daemon had just started, and found the home copy of the volume."""
    rig.arriving.found(["v"])
    rig.volume.number = 0
    rig.registered.clear()
    rig.nursery.start_soon(rig.door._await_arrivals)


def opens(rig: Rig) -> None:
    rig.volume.number = INODE
    rig.registered[INODE] = rig.volume
    rig.door._hear(cast(Served, rig.volume))
    rig.arriving.read("v", {})


async def test_who_asks_for_a_volume_that_is_not_open_yet_waits(rig: Rig) -> None:
    """Whatever is asked: by a handle that was open before, or by number, or by name; in the order in which it came."""
    handle = rig.handles.take(INODE, 77)
    still_opening(rig)
    asked = [
        rig.put(Op.WRITE, a_write(handle, 0, b"1" * 4096)),
        rig.put(Op.WRITE, a_write(handle, 0, b"2" * 512)),
        rig.put(Op.READ, a_read(handle, 510, 4)),
        rig.put(Op.OPEN, FIXED[Op.OPEN].pack(os.O_RDWR, 0)),
        rig.put(Op.LOOKUP, b"v\0", inode=ROOT),
    ]
    await trio.testing.wait_all_tasks_blocked()
    assert not any(each in rig.wire.answers for each in asked)
    opens(rig)
    await trio.testing.wait_all_tasks_blocked()
    assert [rig.answered(each)[0] for each in asked] == [0] * 5
    assert rig.answered(asked[2])[1] == b"2211"
    assert rig.volume.count == 2


async def test_a_volume_that_does_not_come_is_an_error_once_that_is_known(rig: Rig) -> None:
    handle = rig.handles.take(INODE, 77)
    still_opening(rig)
    asked = [rig.put(Op.READ, a_read(handle, 0, 4)), rig.put(Op.LOOKUP, b"w\0", inode=ROOT)]
    rig.arriving.read("v", {"v": INODE})
    await trio.testing.wait_all_tasks_blocked()
    assert rig.answered(asked[1])[0] == errno.ENOENT
    assert asked[0] not in rig.wire.answers
    rig.arriving.ended("v")
    await trio.testing.wait_all_tasks_blocked()
    assert rig.answered(asked[0])[0] == errno.ESTALE


async def test_a_wait_for_a_volume_can_be_interrupted_and_nothing_is_done(rig: Rig) -> None:
    handle = rig.handles.take(INODE, 77)
    still_opening(rig)
    write = rig.put(Op.WRITE, a_write(handle, 0, b"data"))
    rig.put(Op.INTERRUPT, FIXED[Op.INTERRUPT].pack(write))
    assert rig.answered(write)[0] == errno.EINTR
    opens(rig)
    await trio.testing.wait_all_tasks_blocked()
    assert rig.volume.content[:4] == bytes(4)


async def test_an_open_that_is_sent_again_counts_once(rig: Rig) -> None:
    """Its answer never went out: the handle was taken, and is found again."""
    handle = rig.handles.take(INODE, 77)
    rig.door._files.appeared(cast(Served, rig.volume))
    head = IN_HEADER.pack(IN_HEADER.size + 8, Op.OPEN, 77 | UNIQUE_RESEND, INODE, 0, 0, 0, 0, 0)
    rig.wire.requests.append(head + FIXED[Op.OPEN].pack(os.O_RDWR, 0))
    rig.door.answer_all(cast(Device, rig.wire))
    error, body = rig.answered(77 | UNIQUE_RESEND)
    assert (error, int.from_bytes(body[:8], "little"), rig.volume.count) == (0, handle, 1)


# Large writes, which end after they have begun


LARGE = LARGE_BYTES


def put_several(rig: Rig, *bodies: bytes) -> list[int]:
    """They are all there before the first is looked at."""
    uniques = []
    for body in bodies:
        rig.unique += 2
        head = IN_HEADER.pack(IN_HEADER.size + len(body), Op.WRITE, rig.unique, INODE, 0, 0, 0, 0, 0)
        rig.wire.requests.append(head + body)
        uniques.append(rig.unique)
    rig.door.answer_all(cast(Device, rig.wire))
    return uniques


async def test_large_writes_overlap_in_time_and_each_has_its_own_data_and_answer(rig: Rig) -> None:
    handle = await rig.open()
    bodies = [a_write(handle, turn * LARGE, bytes([turn + 1]) * LARGE) for turn in range(3)]
    for unique in put_several(rig, *bodies, a_write(handle, 3 * LARGE, b"small")):
        assert rig.answered(unique)[0] == 0
    assert rig.volume.began == 3
    assert [rig.volume.content[turn * LARGE] for turn in range(4)] == [1, 2, 3, ord("s")]


async def test_one_large_write_is_answered_without_another(rig: Rig) -> None:
    handle = await rig.open()
    unique = rig.put(Op.WRITE, a_write(handle, 0, b"x" * LARGE))
    assert rig.answered(unique)[0] == 0 and rig.volume.content[:LARGE] == b"x" * LARGE


async def test_what_comes_behind_a_large_write_sees_it(rig: Rig) -> None:
    handle = await rig.open()
    body = a_write(handle, 0, b"x" * LARGE)
    head = IN_HEADER.pack(IN_HEADER.size + len(body), Op.WRITE, 1000, INODE, 0, 0, 0, 0, 0)
    rig.wire.requests.append(head + body)
    assert await rig.ask(Op.READ, a_read(handle, 0, 4)) == (0, b"xxxx")


async def test_a_bug_in_a_large_write_is_an_error_of_that_one_alone(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    handle = await rig.open()
    rig.volume.failure = ZeroDivisionError("a bug")
    first = rig.put(Op.WRITE, a_write(handle, 0, b"x" * LARGE))
    assert rig.answered(first)[0] == errno.EIO
    rig.volume.failure = None
    second = rig.put(Op.WRITE, a_write(handle, 0, b"y" * LARGE))
    assert rig.answered(second)[0] == 0 and rig.volume.content[:LARGE] == b"y" * LARGE
    assert "nobody foresaw" in caplog.text


async def test_a_large_write_ends_though_the_mount_goes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = await rig.open()
    real = rig.wire.receive

    def receive() -> int:
        if not rig.wire.requests:
            raise OSError(errno.ENODEV, "unmounted")
        return real()

    monkeypatch.setattr(rig.wire, "receive", receive)
    with pytest.raises(OSError, match="unmounted"):
        put_several(rig, a_write(handle, 0, b"x" * LARGE))
    assert rig.volume.content[:LARGE] == b"x" * LARGE


async def test_a_large_write_that_came_before_its_volume_is_finished_like_any_other(rig: Rig) -> None:
    handle = rig.handles.take(INODE, 77)
    still_opening(rig)
    asked = [rig.put(Op.WRITE, a_write(handle, turn * LARGE, b"x" * LARGE)) for turn in range(2)]
    opens(rig)
    await trio.testing.wait_all_tasks_blocked()
    assert [rig.answered(each)[0] for each in asked] == [0, 0]
    assert rig.volume.content[: 2 * LARGE] == b"x" * 2 * LARGE


async def test_where_there_is_no_memory_to_receive_into_what_is_kept_is_a_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the next request would overwrite what a disk still reads."""
    ours, theirs = os.pipe()
    device = Device(theirs)
    device.data[:4] = b"kept"
    kept = device.received(4)
    device.swap()
    device.data[:4] = b"next"
    assert bytes(kept) == b"kept"

    def none() -> memoryview:
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(device._pool, "spare", none)
    kept = device.received(4)
    device.swap()
    device.data[:4] = b"last"
    assert bytes(kept) == b"next"
    device.close()
    os.close(ours)
