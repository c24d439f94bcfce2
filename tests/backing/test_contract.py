"""What the rest of fmrd asks of storage (backing/protocol.py), asked of each kind that there is: the same tests for a
file, a device and all the servers.
"""

import errno
import os
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import TypeVar

import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fmrd.backing.host import LinuxHost
from fmrd.backing.protocol import DCO_BLOCK_BYTES, LOCATOR_BYTES, Backing, Kind
from fmrd.errors import Failed, Refused
from tests.backing.storages import ALL, SIZE, storage

T = TypeVar("T")
KIB = 1024
MIB = 1 << 20
DCO_BYTES = 512 * KIB

Asked = tuple[str, int, int]
"""What is done, where, and how long."""


@pytest.fixture(params=ALL)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    where = tmp_path / "storage"
    where.mkdir()
    with storage(request.param, where) as found:
        yield found


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


async def on_a_thread(call: Callable[[], T]) -> T:
    """As all of these calls are run."""
    return await trio.to_thread.run_sync(call)


def filled(length: int) -> bytes:
    return os.urandom(length)


async def test_what_is_written_is_read_and_nothing_else_changes(path: str, state: Path) -> None:
    host = LinuxHost(state)

    def run() -> None:
        plex = host.open_plex(path, 0)
        for offset, length in product((0, 1, 4095, 65_000), (1, 4096, 70_001, MIB + 3)):
            plex.pwrite(0, b"\xff" * 2 * MIB)
            data = filled(length)
            plex.pwrite(offset, data)
            buffer = bytearray(length)
            plex.pread_into(offset, memoryview(buffer))
            assert buffer == data == plex.pread(offset, length) == plex.pread_there(offset, length)
            assert plex.pread(0, offset) == b"\xff" * offset
            assert plex.pread(offset + length, 100) == b"\xff" * 100
        plex.close()

    await on_a_thread(run)


async def test_what_was_written_is_there_when_it_is_opened_again(path: str, state: Path) -> None:
    host = LinuxHost(state)

    def run() -> None:
        plex = host.open_plex(path, 0)
        assert plex.length == SIZE
        plex.pwrite(12_345, b"kept")
        plex.fdatasync()
        plex.fsync()
        plex.close()
        again = host.open_plex(path, 0)
        assert again.pread(12_345, 4) == b"kept"
        again.close()

    await on_a_thread(run)


async def test_beyond_the_end_is_an_error_and_the_next_call_is_none(path: str, state: Path) -> None:
    host = LinuxHost(state)

    def run() -> None:
        plex = host.open_plex(path, 0)
        with pytest.raises(OSError, match=r"\[Errno") as caught:
            plex.pread(SIZE - 10, 20)
        assert caught.value.errno in (errno.EIO, errno.EINVAL)
        assert plex.pread(SIZE - 10, 10) == bytes(10)
        plex.close()

    await on_a_thread(run)


@pytest.mark.parametrize("punch", [True, False])
async def test_zeros_are_zeros(path: str, state: Path, punch: bool) -> None:
    host = LinuxHost(state)

    def run() -> None:
        plex = host.open_plex(path, 0)
        plex.pwrite(0, b"x" * 3 * MIB)
        plex.make_zero(100 * KIB, 2 * MIB, punch=punch)
        assert plex.pread(0, 100 * KIB) == b"x" * 100 * KIB
        assert plex.pread(100 * KIB, 2 * MIB) == bytes(2 * MIB)
        assert plex.pread(2 * MIB + 100 * KIB, 1000) == b"x" * 1000
        plex.close()

    await on_a_thread(run)


async def test_what_is_called_a_hole_reads_as_zeros_and_data_is_data(path: str, state: Path) -> None:
    host = LinuxHost(state)

    def run() -> None:
        plex = host.open_plex(path, 0)
        plex.pwrite(MIB, b"d" * 128 * KIB)
        plex.pwrite(5 * MIB, b"d")
        plex.fdatasync()
        at, told = 0, []
        while at < SIZE:
            is_data, end = plex.data_until(at, SIZE)
            assert at < end <= SIZE
            told.append((at, end, is_data))
            if not is_data:
                assert plex.pread(at, end - at) == bytes(end - at)
            at = end
        for written in (MIB, MIB + 128 * KIB - 1, 5 * MIB):
            assert any(start <= written < end and is_data for start, end, is_data in told)
        plex.close()

    await on_a_thread(run)


async def test_many_that_are_begun_end_each_once_and_with_their_own_bytes(path: str, state: Path) -> None:
    plex = await on_a_thread(partial(LinuxHost(state).open_plex, path, 0))
    if not plex.begins:
        await on_a_thread(plex.close)
        pytest.skip("its calls are not begun without a ring")
    blocks = [filled(4096 * (1 + n % 5)) for n in range(200)]
    buffers = [memoryview(bytearray(len(block))) for block in blocks]
    ends: list[Exception | None] = []
    over = trio.Event()

    def ended(error: Exception | None) -> None:
        ends.append(error)
        if len(ends) in (len(blocks), len(blocks) + 1, 2 * len(blocks) + 1):
            over.set()

    for number, block in enumerate(blocks):
        plex.begin_pwrite(number * 32 * KIB, block, ended)
    await over.wait()
    over = trio.Event()
    plex.begin_fdatasync(ended)
    await over.wait()
    over = trio.Event()
    for number, buffer in enumerate(buffers):
        plex.begin_pread_into(number * 32 * KIB, buffer, ended)
    await over.wait()
    assert not any(ends) and [bytes(buffer) for buffer in buffers] == blocks
    await on_a_thread(plex.close)


@pytest.mark.parametrize("way", ["to it", "from it"])
async def test_a_copy_is_equal_and_holes_cost_nothing(path: str, state: Path, tmp_path: Path, way: str) -> None:
    host = LinuxHost(state)

    def run() -> None:
        here = host.create_plex(str(tmp_path / "here"), SIZE)
        there = host.open_plex(path, 0)
        source, target = (here, there) if way == "to it" else (there, here)
        content = filled(MIB) + bytes(MIB) + filled(300_000)
        source.pwrite(0, content)
        source.make_zero(MIB, MIB, punch=True)
        target.pwrite(MIB + 4096, b"old" * 1000)
        target.pwrite(4 * MIB, b"stays" * 1000)
        written = target.copy_from(source, 0, 3 * MIB)
        written += target.copy_spans(source, [(6 * MIB, 6 * MIB + 64 * KIB), (7 * MIB, SIZE)])
        assert target.pread(0, 3 * MIB) == content + bytes(3 * MIB - len(content))
        assert target.pread(4 * MIB, 5000) == b"stays" * 1000
        assert MIB + 300_000 <= written <= 5 * MIB
        here.close()
        there.close()

    await on_a_thread(run)


@settings(
    max_examples=12, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(
    asked=st.lists(
        st.tuples(
            st.sampled_from(["write", "zero", "punch", "copy", "fetch", "sync"]),
            st.integers(0, SIZE - 1),
            st.integers(1, 300_000),
        ),
        max_size=12,
    )
)
def test_it_is_as_a_row_of_bytes_would_be(path: str, tmp_path: Path, asked: list[Asked]) -> None:
    """Whatever is done in whatever order. No trio runs here, as in fmrctl dump."""
    if "@127.0.0.1:" in path:
        pytest.skip("that is nbdkit by ssh, as above, and each example takes a second")
    host = LinuxHost(tmp_path / "state")
    (tmp_path / "other").unlink(missing_ok=True)
    other = host.create_plex(str(tmp_path / "other"), SIZE)
    plex = host.open_plex(path, 0)
    plex.make_zero(0, SIZE, punch=True)
    rows = bytearray(SIZE), bytearray(SIZE)
    try:
        for number, (what, offset, length) in enumerate(asked):
            _do(what, offset, min(length, SIZE - offset), number, (plex, other), rows)
        assert plex.pread(0, SIZE) == rows[0]
        assert other.pread(0, SIZE) == rows[1]
    finally:
        plex.close()
        other.close()


def _do(
    what: str, offset: int, length: int, number: int, plexes: tuple[Backing, Backing], rows: tuple[bytearray, bytearray]
) -> None:  # fmt: skip
    plex, other = plexes
    span = slice(offset, offset + length)
    if what == "write":
        rows[0][span] = bytes([number + 1]) * length
        plex.pwrite(offset, bytes(rows[0][span]))
    elif what == "sync":
        plex.fdatasync()
    elif what == "copy":
        plex.copy_from(other, offset, length)
        rows[0][span] = rows[1][span]
    elif what == "fetch":
        other.copy_spans(plex, [(offset, offset + length)])
        rows[1][span] = rows[0][span]
    else:
        plex.make_zero(offset, length, punch=what == "punch")
        rows[0][span] = bytes(length)


async def test_a_stamp_tells_of_other_bytes(path: str, state: Path) -> None:
    host = LinuxHost(state)
    pieces = [(0, 4096), (MIB, 64 * KIB)]

    def run() -> None:
        plex = host.open_plex(path, 0)
        plex.pwrite(MIB, b"left like this")
        plex.fsync()
        left = plex.stamp(pieces)
        assert [each.crc for each in left.content] == [zlib.crc32(plex.pread(*piece)) for piece in pieces]
        plex.pwrite(MIB, b"found like that")
        plex.fsync()
        assert plex.stamp(pieces).content != left.content
        plex.close()

    await on_a_thread(run)


async def test_it_grows_or_says_that_it_cannot(path: str, state: Path) -> None:
    host = LinuxHost(state)

    def run() -> None:
        plex = host.open_plex(path, 0)
        plex.extend(SIZE)
        if plex.is_block:
            with pytest.raises(OSError, match="needed") as caught:
                plex.extend(SIZE + 4096)
            assert caught.value.errno == errno.ENOSPC
        else:
            plex.extend(SIZE + 4096)
            assert plex.pread(SIZE, 4096) == bytes(4096)
        plex.close()

    await on_a_thread(run)


async def test_it_is_one_plex_at_a_time(path: str, state: Path) -> None:
    host = LinuxHost(state)

    def run() -> None:
        plex = host.open_plex(path, 0)
        with pytest.raises(Failed, match="plex_busy"):
            host.open_plex(path, 0)
        plex.close()
        host.open_plex(path, 0).close()

    await on_a_thread(run)


async def test_its_copy_of_the_dco_is_found_again_and_forgotten(path: str, state: Path) -> None:
    host = LinuxHost(state)

    def run() -> None:
        block = filled(DCO_BLOCK_BYTES)
        dco = host.create_dco(path, None, DCO_BYTES)
        assert dco.length >= DCO_BYTES and dco.read(0, DCO_BYTES) == bytes(DCO_BYTES)
        dco.write(2 * DCO_BLOCK_BYTES, block * 3)
        with pytest.raises(OSError, match=r"\[Errno") as caught:
            dco.write(dco.length, block)
        assert caught.value.errno == errno.ENOSPC
        dco.close()
        tail = host.tail_bytes(path)
        plex = host.open_plex(path, tail or 0)
        assert plex.length == SIZE - (tail or 0) and tail in (None, DCO_BYTES + LOCATOR_BYTES)
        found = host.open_dco(path, None)
        assert found is not None and found.read(2 * DCO_BLOCK_BYTES + 100, 5000) == (block * 3)[100:5100]
        assert found.read(dco.length, 10) == bytes(10)
        found.close()
        plex.close()
        host.remove_dco(path, None)
        assert host.open_dco(path, None) is None and host.tail_bytes(path) is None

    await on_a_thread(run)


async def test_it_is_looked_at_before_it_is_taken(path: str, state: Path) -> None:
    host = LinuxHost(state)

    def run() -> None:
        blank = host.look(path, None)
        assert blank.blank and blank.exists and blank.size == SIZE and blank.zeros
        plex = host.take_plex(path, 0, blank)
        plex.pwrite(1024, (1).to_bytes(4, "little") + (255).to_bytes(4, "little"))
        plex.pwrite(4086, b"SWAPSPACE2")
        plex.fsync()
        plex.close()
        seen = host.look(path, None)
        assert Kind.SWAP in {finding.kind for finding in seen.has_data} and not seen.zeros
        host.open_plex(path, 0).close()
        host.create_dco(path, None, DCO_BYTES).close()
        if host.tail_bytes(path) is not None:
            assert Kind.FMRD_MEMBER in {finding.kind for finding in host.look(path, None).in_use}

    await on_a_thread(run)


async def test_what_was_replaced_after_the_look_is_not_taken(path: str, state: Path, tmp_path: Path) -> None:
    host = LinuxHost(state)

    def run() -> None:
        (tmp_path / "another").write_bytes(bytes(SIZE + 4096))
        seen = host.look(str(tmp_path / "another"), None)
        with pytest.raises(Refused, match="refused_in_use"):
            host.take_plex(path, 0, seen)
        host.open_plex(path, 0).close()

    await on_a_thread(run)
